#!/usr/bin/python3
"""boot.py — boot a guest that runs `true`, with ec1 beside qemu: medians and ratio.

Both start the same kernel with the same initramfs and command line, alternating; each ends when its guest
resets the machine.  qemu gets the kernel twice: as the distribution ships it (the guest unpacks it) and
unpacked (entered by PVH); the ratio is to the faster of the two.

With --engine kvm (where /dev/kvm works, or in tests/nested/outer) the peer is microvm without PIT and PIC.
Under TCG, with --engine soft, a guest of microvm finds no clock to rely on, so the peer is q35.

Usage: boot.py [--engine kvm|soft] [--runs N] [--json FILE] BUILD_DIR
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

MIB = 256
# reboot=t: the guest ends by a triple fault, which both understand at once.
CMDLINE = "quiet loglevel=1 reboot=t panic=-1 cryptomgr.notests random.trust_cpu=on tsc=reliable rdinit=/init"
# Under TCG the TSC is not what it says.
CMDLINES = {"kvm": CMDLINE, "soft": CMDLINE.replace("tsc=reliable ", "")}


def newc(entries):
    """A cpio archive of (name, mode, bytes)."""
    out = bytearray()
    for ino, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        raw = name.encode() + b"\0"
        fields = [ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0]
        out += b"070701" + b"".join(b"%08x" % f for f in fields) + raw
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)


def seconds(argv):
    start = time.monotonic()
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
    took = time.monotonic() - start
    if done.returncode != 0:
        sys.exit(f"{argv[0]}: {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}")
    return took


def prepare(work, build):
    """Copies on this machine's own memory, so that no run pays for a slow file system."""
    folder = pathlib.Path(os.path.expanduser("~/.cache/ec1/kernels/default/boot"))
    (image,) = folder.glob("vmlinuz*")
    shutil.copy(image, work / "vmlinuz")
    guest = (build / "bench" / "guest_init").read_bytes()
    dev = ("dev", 0o040755, b"")
    (work / "initrd").write_bytes(newc([dev, ("init", 0o100755, guest), ("true", 0o100755, guest)]))
    shutil.copy(build / "bench" / "boot", work / "boot")


def commands(work, engine):
    boot = [str(work / "boot"), engine, str(work / "vmlinuz"), str(work / "initrd"), CMDLINES[engine], str(MIB), str(work / "cache")]
    seconds(boot)  # unpacks the kernel into the cache
    (vmlinux,) = (work / "cache").iterdir()

    how = {
        "kvm": ["-M", "microvm,pit=off,pic=off,rtc=off,isa-serial=off", "-accel", "kvm", "-cpu", "host"],
        "soft": ["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off"],
    }[engine]

    def qemu(kernel):
        return [
            "qemu-system-x86_64", *how, "-smp", "1", "-m", str(MIB), "-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
            "-kernel", str(kernel), "-initrd", str(work / "initrd"), "-append", CMDLINES[engine],
        ]

    return {"ec1": boot, "qemu_bzimage": qemu(work / "vmlinuz"), "qemu_vmlinux": qemu(vmlinux)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="kvm")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json")
    parser.add_argument("build")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ec1-bench-", dir="/tmp") as folder:
        work = pathlib.Path(folder)
        prepare(work, pathlib.Path(args.build))
        todo = commands(work, args.engine)
        times = {name: [] for name in todo}
        for argv in todo.values():
            seconds(argv)  # programs and libraries into the page cache
        for _ in range(args.runs):
            for name, argv in todo.items():
                times[name].append(seconds(argv))
    out = {f"{name}_s": statistics.median(t) for name, t in times.items()}
    out["all_s"] = times
    out["ratio"] = out["ec1_s"] / min(out["qemu_bzimage_s"], out["qemu_vmlinux_s"])
    out["nested"] = "EC1_IN_OUTER" in os.environ
    machine = {"kvm": "microvm", "soft": "q35"}[args.engine]
    peer = {"kvm": "KVM", "soft": "software engine, TCG"}[args.engine]
    print(f"boot, true, reset; {peer}{' in an emulated machine' if out['nested'] else ''}, medians of {args.runs}")
    for name, text in [
        ("ec1_s", "ec1"),
        ("qemu_bzimage_s", f"qemu {machine}, kernel as shipped"),
        ("qemu_vmlinux_s", f"qemu {machine}, kernel unpacked (PVH)"),
    ]:
        print(f"  {text:52} {out[name]:>22.2f} s")
    print(f"  {'ec1 / the faster qemu':52} {out['ratio']:>24.2f}")
    if args.json:
        path = pathlib.Path(args.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        old = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(old | {"boot": out}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
