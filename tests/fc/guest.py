"""Guest files, made on the spot without root privileges and kept below build/fc-guest.

kernel()        what guests boot: debian(), or with EC1_FC_GUEST=own kernel_own(), whose boot costs a quarter
debian()        Debian's cloud kernel: virtio drivers and ext4 are modules
initrd()        busybox and the kernel's modules; mounts root= and goes there, else stays: a shell on the console
rootfs(copy)    an ext4 root with busybox; `copy` gets one of its own to write to
vmlinux()       the ELF inside it; None where it cannot be unpacked
kernel_own()    the ELF of a kernel with everything built in, as Firecracker's users build theirs; None if it was not
                built here (tools/build-kernel microvm)
"""

import functools
import os
import pathlib
import shutil
import struct
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "fc-guest"

# What a guest of the microVM may meet, dependencies are added.
MODULES = [
    "virtio_mmio", "virtio_pci", "virtio_blk", "ext4", "virtio_net", "virtio_balloon", "virtio_rng",
    "vmw_vsock_virtio_transport", "virtio_pmem", "nd_pmem", "virtio_mem", "i8042", "atkbd", "ptp_kvm",
]

# The first program of both: the initrd and the root.
INIT = r"""#!/bin/busybox sh
bb=/bin/busybox
export PATH=/bin:/sbin
[ -c /dev/null ] || $bb mount -t devtmpfs dev /dev
$bb mkdir -p /proc /sys /dev /tmp /run /new 2>/dev/null
$bb mount -t proc proc /proc 2>/dev/null
$bb mount -t sysfs sys /sys 2>/dev/null
[ -x /bin/ls ] || $bb --install -s /bin
if [ -f /modules/list ]; then
    while read name; do insmod /modules/$name 2>/dev/null; done </modules/list
fi
for word in $(cat /proc/cmdline); do
    case $word in
    root=*) root=${word#root=} ;;
    ro) mode=ro ;;
    rw) mode=rw ;;
    --) break ;;
    esac
done
if [ -n "$root" ] && [ -d /modules ]; then
    case $root in PARTUUID=*) root=$(findfs $root) ;; esac
    n=0
    while [ ! -b $root ] && [ $n -lt 100 ]; do sleep 0.05; n=$((n + 1)); done
    if mount -t ext4 -o ${mode:-ro} $root /new; then
        umount /proc /sys /dev
        exec switch_root /new /sbin/init "$@"
    fi
    echo "cannot mount $root"
fi
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
ip link set lo up
hostname guest
export PS1= HOME=/
echo "$@" >/run/init-args
for word in $(cat /proc/cmdline); do
    case $word in guest_echo=*) guest_tool vsock-echo ${word#guest_echo=} </dev/null & ;; esac
done
stty -echo 2>/dev/null
echo GUEST-READY
# Not interactive: busybox takes the end of a job for the end of its input then.
exec setsid cttyhack sh -c 'sh -s 2>&1 | cat'
"""


def _newer(target, *sources):
    return target.exists() and all(target.stat().st_mtime >= s.stat().st_mtime for s in sources)


@functools.cache
def _kernel_dir():
    out = subprocess.run([ROOT / "tools" / "fetch-kernel"], capture_output=True, text=True, check=True)
    return pathlib.Path(out.stdout.strip().splitlines()[-1])


def debian():
    return next((_kernel_dir() / "boot").glob("vmlinuz-*"))


def kernel():
    return kernel_own() if has_own() else debian()


def has_own():
    return os.environ.get("EC1_FC_GUEST") == "own" and kernel_own() is not None


@functools.cache
def vmlinux():
    """The ELF inside the Debian kernel, as a file of its own; None without what unpacks it."""
    out = BUILD / "vmlinux"
    if not _newer(out, debian()):
        data = debian().read_bytes()
        sects = data[0x1F1] or 4
        start = (sects + 1) * 512 + struct.unpack_from("<I", data, 0x248)[0]
        length = struct.unpack_from("<I", data, 0x24C)[0]
        payload = data[start : start + length]
        tools = ((b"\xfd7zXZ", "xz"), (b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\x02!L\x18", "lz4"))
        for magic, tool in tools:
            if payload.startswith(magic) and shutil.which(tool):
                # Its last four bytes are the length that it has unpacked.
                done = subprocess.run([tool, "-dc"], input=payload[:-4], capture_output=True)
                BUILD.mkdir(parents=True, exist_ok=True)
                out.write_bytes(done.stdout)
                return out if done.stdout.startswith(b"\x7fELF") else None
        return None
    return out


def kernel_own():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    return next((cache / "ec1" / "kernels" / "microvm" / "boot").glob("vmlinux-*"), None)


def _module_files():
    """Dependencies first."""
    base = next((_kernel_dir() / "lib" / "modules").iterdir())
    needs = {}
    for line in (base / "modules.dep").read_text().splitlines():
        name, _, rest = line.partition(":")
        needs[name] = rest.split()
    by_name = {pathlib.Path(p).name.split(".ko")[0].replace("-", "_"): p for p in needs}
    order = []
    for module in MODULES:
        path = by_name.get(module)
        for each in (*reversed(needs.get(path, [])), path) if path else ():
            if each not in order:
                order.append(each)
    return [base / p for p in order]


def _module_bytes(path):
    if path.name.endswith(".xz"):
        return subprocess.run(["xz", "-dc", path], capture_output=True, check=True).stdout
    return path.read_bytes()


def _cpio(files):
    """A newc archive of {name: (mode, bytes)}."""
    out = bytearray()

    def add(name, mode, data):
        name = name.encode() + b"\0"
        fields = [add.ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0]
        add.ino += 1
        out.extend(b"070701" + b"".join(b"%08X" % f for f in fields) + name)
        out.extend(b"\0" * (-len(out) % 4))
        out.extend(data)
        out.extend(b"\0" * (-len(out) % 4))

    add.ino = 1
    for name, (mode, data) in files.items():
        add(name, mode, data)
    add("TRAILER!!!", 0, b"")
    return bytes(out)


@functools.cache
def tool():
    """Static helper of the guest: vsock, memory, CPUs."""
    source = pathlib.Path(__file__).with_name("guest_tool.c")
    out = BUILD / "guest_tool"
    if not _newer(out, source):
        BUILD.mkdir(parents=True, exist_ok=True)
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-pthread", "-s", "-o", out, source], check=True)
    return out


def _busybox():
    return pathlib.Path(shutil.which("busybox") or "/bin/busybox")


@functools.cache
def initrd(for_kernel=None):
    has_modules = (for_kernel or kernel()) != kernel_own()
    out = BUILD / ("initrd" if has_modules else "initrd-own")
    me = pathlib.Path(__file__)
    if not _newer(out, me, kernel(), tool()):
        files = {"dev": (0o40755, b""), "bin": (0o40755, b""), "modules": (0o40755, b"")}
        for folder in ("proc", "sys", "tmp", "run", "new", "sbin"):
            files[folder] = (0o40755, b"")
        files["bin/busybox"] = (0o100755, _busybox().read_bytes())
        files["bin/sh"] = (0o120777, b"busybox")
        files["bin/guest_tool"] = (0o100755, tool().read_bytes())
        files["init"] = (0o100755, INIT.encode())
        names = []
        for path in _module_files() if has_modules else ():
            name = path.name.split(".ko")[0] + ".ko"
            files["modules/" + name] = (0o100644, _module_bytes(path))
            names.append(name)
        files["modules/list"] = (0o100644, "".join(n + "\n" for n in names).encode())
        data = _cpio(files)
        # The console that /init gets as its own must exist before devtmpfs is mounted.
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(_with_console(data))
    return out


def _with_console(archive):
    """Put /dev/console (character device 5:1) in front: an archive of its own."""
    name = b"dev/console\0"
    head = b"070701" + b"".join(b"%08X" % f for f in [721, 0o20600, 0, 0, 1, 0, 0, 0, 0, 5, 1, len(name), 0])
    folder = b"dev\0"
    first = b"070701" + b"".join(b"%08X" % f for f in [720, 0o40755, 0, 0, 2, 0, 0, 0, 0, 0, 0, len(folder), 0])

    def pad(data):
        return data + b"\0" * (-len(data) % 4)

    return pad(pad(first + folder) + head + name) + archive


@functools.cache
def _rootfs_master():
    out = BUILD / "rootfs.ext4"
    me = pathlib.Path(__file__)
    if not _newer(out, me, tool()):
        tree = BUILD / "root"
        shutil.rmtree(tree, ignore_errors=True)
        for folder in ("bin", "sbin", "proc", "sys", "dev", "tmp", "run", "new", "etc", "root"):
            (tree / folder).mkdir(parents=True)
        shutil.copy(_busybox(), tree / "bin" / "busybox")
        applets = subprocess.run([_busybox(), "--list"], capture_output=True, text=True, check=True).stdout
        for applet in applets.split():
            if applet != "busybox":
                (tree / "bin" / applet).symlink_to("busybox")
        shutil.copy(tool(), tree / "bin" / "guest_tool")
        (tree / "sbin" / "init").write_text(INIT)
        (tree / "sbin" / "init").chmod(0o755)
        (tree / "etc" / "hostname").write_text("guest\n")
        out.unlink(missing_ok=True)
        mke2fs = shutil.which("mke2fs") or "/sbin/mke2fs"
        subprocess.run(
            [mke2fs, "-q", "-t", "ext4", "-d", tree, "-E", "root_owner=0:0", "-m", "0", out, "32M"],
            check=True, capture_output=True,
        )
    return out


def rootfs(copy=None):
    """The master is shared and only to be read."""
    if copy is None:
        return _rootfs_master()
    shutil.copyfile(_rootfs_master(), copy)
    return pathlib.Path(copy)


if __name__ == "__main__":  # ahead of a run where compilers take long
    initrd(), initrd(debian()), rootfs(), vmlinux()
