"""The jailer: what it refuses, what is in a jail, whose it is, and what runs in it."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import time

import pytest
import requests

import guest
import microvm
from microvm import BINARY, ENGINE, MicroVm, ok

JAILER = microvm.beside("jailer")
UID, GID = 61234, 61235

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="must be root")


class Jail:
    """A jail in a folder of its own, with the words to run the jailer with."""

    def __init__(self, folder, name="vm"):
        self.base = folder / "jails"
        self.base.mkdir(exist_ok=True)
        self.name = name
        self.root = self.base / pathlib.Path(BINARY).resolve().name / name / "root"
        self.pid_file = self.root / (pathlib.Path(BINARY).resolve().name + ".pid")

    def words(self, *flags, rest=("--version",)):
        return [JAILER, "--id", self.name, "--exec-file", BINARY, "--uid", str(UID), "--gid", str(GID),
                "--chroot-base-dir", str(self.base), *flags, "--", *rest]

    def run(self, *flags, rest=("--version",), **kwargs):
        return subprocess.run(self.words(*flags, rest=rest), capture_output=True, text=True, timeout=60, check=False,
                              **kwargs)

    def pid(self):
        return int(self.pid_file.read_text())


@pytest.fixture
def jail(folder):
    return Jail(folder)


class Jailed(MicroVm):
    """A microVM whose process is the jail's, and whose paths are as outside."""

    def __init__(self, jail, *flags, rest=()):
        self.jail = jail
        self.folder = jail.root
        self.socket = str(jail.root / "run" / "firecracker.socket")
        self.log_path = jail.base / "stdout"
        self.out_path = self.log_path
        self.fifo = None
        self.seen = 0
        with open(self.log_path, "wb") as out, open(jail.base / "stderr", "wb") as err:
            self.process = subprocess.Popen(
                jail.words(*flags, rest=("--engine", ENGINE, *rest)), stdin=subprocess.DEVNULL, stdout=out, stderr=err)

    def state(self):
        return f"status {self.process.poll()}\n{self.log()[-1000:]}\n{(self.jail.base / 'stderr').read_text()[-500:]}"

    def until_it_answers(self):
        deadline = time.monotonic() + 60
        while not self.answers():
            assert time.monotonic() < deadline, self.state()
            time.sleep(0.01)
        return self


@pytest.fixture
def jailed(jail):
    """Run a microVM in the jail; it is killed at the end, also as a daemon."""
    made = []

    def make(*flags, **kwargs):
        made.append(Jailed(jail, *flags, **kwargs))
        return made[-1]

    yield make
    for vm in made:
        with contextlib.suppress(OSError, ValueError):
            os.kill(jail.pid(), signal.SIGKILL)
        vm.kill()


def status(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


# --- what is refused ---


def refused(done, text):
    assert (done.returncode, text in done.stderr) == (1, True), (done.returncode, done.stderr)


@pytest.mark.parametrize("flag,value,text", [
    ("--id", "", "Invalid instance ID: Invalid len (0);  the length must be between 1 and 64"),
    ("--id", "x" * 65, "Invalid instance ID: Invalid len (65);  the length must be between 1 and 64"),
    ("--id", "a_b", "Invalid instance ID: Invalid char (_) at position 1"),
    ("--exec-file", "/tmp/no-such", "Failed to canonicalize path /tmp/no-such: No such file or directory (os error 2)"),
    ("--exec-file", "/etc", "/etc is not a file"),
    ("--uid", "-1", "Invalid uid: -1"),
    ("--gid", "4294967296", "Invalid gid: 4294967296"),
    ("--chroot-base-dir", "/tmp/no-such", "Failed to canonicalize path /tmp/no-such: "),
    ("--chroot-base-dir", "/etc/passwd", "/etc/passwd is not a directory"),
    ("--cgroup", "cpu.shares", "Invalid format for cgroups: cpu.shares"),
    ("--cgroup", "cpu.shares=", "Invalid format for cgroups: cpu.shares="),
    ("--cgroup", "../cpu.shares=1", "Cgroup invalid file: ../cpu.shares"),
    ("--cgroup", "nosuch.thing=1", "Hierarchy not found: nosuch"),
    ("--cgroup-version", "3", "3 is an invalid cgroup version specifier"),
    ("--parent-cgroup", "/a", "Parent cgroup path is invalid. Path should not be absolute or contain '..' or '.'"),
    ("--parent-cgroup", "a/../b", "Parent cgroup path is invalid."),
    ("--resource-limit", "fsize", "Invalid format for resources limits: fsize"),
    ("--resource-limit", "core=1", "Invalid resource argument: core"),
    ("--resource-limit", "no-file=x", "Invalid limit value for resource: no-file: invalid digit found in string"),
    ("--netns", "/tmp/no-such", "Failed to join network namespace: netns: No such file or directory (os error 2)"),
    ("--nothing", "x", "Failed to parse arguments: Found argument 'nothing' which wasn't expected"),
])
def test_bad_words(jail, flag, value, text):
    words = jail.words()
    if flag in words:
        words[words.index(flag) + 1] = value
    else:
        words[1:1] = [flag, value]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    refused(done, text)


def test_links_in_the_place_of_the_program(jail):
    jail.root.mkdir(parents=True)
    place = jail.root / pathlib.Path(BINARY).resolve().name
    victim = jail.base / "victim"
    victim.write_text("precious")
    place.symlink_to(victim)
    refused(jail.run(), f"Failed to open {place}: ")
    place.unlink()
    place.hardlink_to(victim)
    refused(jail.run(), f"Detected hard link at: {place}")
    assert victim.read_text() == "precious"


def test_links_of_an_earlier_inmate_lead_nowhere(jail, folder):
    """They are followed in the jail alone, if at all."""
    outside = folder / "outside"
    outside.mkdir()
    jail.root.mkdir(parents=True)
    for name in ("lib", "dev", "run"):
        (jail.root / name).symlink_to(outside)
    jail.run()
    assert list(outside.iterdir()) == []
    assert stat.S_IMODE(outside.stat().st_mode) == 0o755 and outside.stat().st_uid == 0


# --- what there is ---


def test_default_chroot_hierarchy(jailed, jail):
    jailed().until_it_answers()
    name = pathlib.Path(BINARY).resolve().name
    for path, kind, mode in (
        ("", stat.S_IFDIR, 0o700), (name, stat.S_IFREG, 0o755), ("dev", stat.S_IFDIR, 0o700),
        ("dev/net", stat.S_IFDIR, 0o700), ("run", stat.S_IFDIR, 0o700), ("dev/net/tun", stat.S_IFCHR, 0o600),
        ("dev/kvm", stat.S_IFCHR, 0o600), ("dev/urandom", stat.S_IFCHR, 0o600),
        ("run/firecracker.socket", stat.S_IFSOCK, 0o755),
    ):
        found = (jail.root / path).stat()
        assert (stat.S_IFMT(found.st_mode), stat.S_IMODE(found.st_mode)) == (kind, mode), path
        assert (found.st_uid, found.st_gid) == (UID, GID), path
    assert (jail.root / "dev/net/tun").stat().st_rdev == os.makedev(10, 200)
    assert (jail.root / "dev/kvm").stat().st_rdev == os.makedev(10, 232)
    assert (jail.root / "dev/urandom").stat().st_rdev == os.makedev(1, 9)
    assert not (jail.root / "old_root").exists()


def test_the_process_is_the_users(jailed, jail):
    vm = jailed(rest=("--api-sock", "/run/other.socket"))
    vm.socket = str(jail.root / "run" / "other.socket")
    vm.until_it_answers()
    pid = jail.pid()
    found = status(pid)
    assert (found["Uid"].split(), found["Gid"].split(), found["Groups"].strip()) == ([str(UID)] * 4, [str(GID)] * 4, "")
    assert os.path.samefile(f"/proc/{pid}/root", jail.root)
    assert pathlib.Path(f"/proc/{pid}/environ").read_bytes() == b""
    command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    assert command[:3] == ["/" + pathlib.Path(BINARY).resolve().name, "--id", "vm"]
    assert {"--start-time-us", "--start-time-cpu-us", "--parent-cpu-time-us"} < set(command)
    assert vm.get("/").json()["id"] == "vm"
    assert vm.put("/boot-source", {"kernel_image_path": "/etc/passwd"}).status_code == 400  # not in sight


def test_descriptors_and_variables_of_the_caller_are_not_passed_on(jailed, jail):
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    try:
        jailed().until_it_answers()
        links = [os.readlink(f) for f in pathlib.Path(f"/proc/{jail.pid()}/fd").iterdir()]
        assert not [one for one in links if one.startswith("pipe:")], links
    finally:
        os.close(reader)
        os.close(writer)


def test_a_jailed_guest_boots(jailed, jail):
    """Files are put into the jail, and named as they are there.  A snapshot is larger than files may be."""
    # The software engine keeps its translated code in a file without a name, of 64 MiB.
    vm = jailed("--resource-limit", f"fsize={100 << 20}").until_it_answers()
    for source, name in ((guest.kernel(), "kernel"), (guest.initrd(), "initrd")):
        shutil.copy(source, jail.root / name)
        os.chown(jail.root / name, UID, GID)
    ok(vm.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 128}))
    ok(vm.put("/boot-source", {"kernel_image_path": "kernel", "initrd_path": "initrd",
                               "boot_args": microvm.BOOT_ARGS}))
    vm.start()
    vm.wait_for(lambda: "GUEST-READY" in vm.console(), "the guest", microvm.BOOT_TIMEOUT)
    assert {one["Seccomp"] for one in map(status, os.listdir(f"/proc/{jail.pid()}/task"))} == {"2"}
    ok(vm.patch("/vm", {"state": "Paused"}))
    with pytest.raises(requests.exceptions.ConnectionError):
        vm.put("/snapshot/create", {"snapshot_path": "state", "mem_file_path": "memory"})
    assert vm.wait(60) == 151
    vm.has_log("Shutting down VM after intercepting signal 25")


def test_mounts_in_the_jail_stay_visible(jailed, jail, folder):
    (folder / "shared").mkdir()
    (folder / "shared" / "kernel").write_bytes(b"no kernel")
    (jail.root / "mnt").mkdir(parents=True)
    subprocess.run(["mount", "--bind", str(folder / "shared"), str(jail.root / "mnt")], check=True)
    try:
        vm = jailed().until_it_answers()
        assert vm.put("/boot-source", {"kernel_image_path": "/mnt/kernel"}).status_code == 204
    finally:
        subprocess.run(["umount", "-l", str(jail.root / "mnt")], check=True)


# --- processes ---


@pytest.mark.parametrize("flags", [(), ("--daemonize",), ("--new-pid-ns",), ("--daemonize", "--new-pid-ns")])
def test_killed_by_the_pid_that_is_written(jailed, jail, flags):
    vm = jailed(*flags).until_it_answers()
    pid = jail.pid()
    if flags:
        assert vm.process.wait(30) == 0  # the launcher's child is done
        assert pid != vm.process.pid
    else:
        assert pid == vm.process.pid
    inside = status(pid)["NStgid"].split()[-1]
    assert (inside == "1") == ("--new-pid-ns" in flags)
    if "--daemonize" in flags:
        assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)} <= {"/dev/null", "/null"}
        assert os.getsid(pid) != os.getsid(0)
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while vm.answers():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_network_namespace(jailed, jail):
    holder = subprocess.Popen(["unshare", "--net", "sleep", "600"])
    try:
        mine, path = os.readlink("/proc/self/ns/net"), f"/proc/{holder.pid}/ns/net"
        deadline = time.monotonic() + 30
        while os.readlink(path) == mine:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        jailed("--netns", path).until_it_answers()
        assert os.readlink(f"/proc/{jail.pid()}/ns/net") == os.readlink(path)
    finally:
        holder.kill()
        holder.wait()


# --- limits ---


def limits(pid, name):
    """Soft and hard."""
    for line in pathlib.Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith(name):
            return tuple(line[len(name):].split()[:2])
    return None


@pytest.mark.parametrize("flags", [(), ("--new-pid-ns",)])
def test_resource_limits(jailed, jail, flags):
    jailed(*flags, "--resource-limit", "no-file=1024", "--resource-limit", "fsize=2097152").until_it_answers()
    assert limits(jail.pid(), "Max open files") == ("1024", "1024")
    assert limits(jail.pid(), "Max file size") == ("2097152", "2097152")


def test_default_resource_limits(jailed, jail):
    jailed().until_it_answers()
    assert limits(jail.pid(), "Max open files") == ("2048", "2048")
    assert limits(jail.pid(), "Max file size") == limits("self", "Max file size")


def test_too_few_files(jail):
    """Not even the loop's descriptors: the start fails, in words."""
    done = jail.run("--resource-limit", "no-file=3", rest=("--engine", ENGINE))
    assert done.returncode != 0
    assert "No file descriptors available (os error 24)" in done.stderr


# --- cgroups ---


def mounted(controller):
    """Where the tree of a controller of version 1 is; None: not here."""
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, path, kind, flags, *_ = line.split()
        if (kind == "cgroup" and controller in flags.split(",")) or (kind == "cgroup2" and controller is None):
            return pathlib.Path(path)
    return None


@contextlib.contextmanager
def cleaned(*folders):
    try:
        yield
    finally:
        for folder in folders:
            deadline = time.monotonic() + 10
            while folder.exists() and time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    folder.rmdir()
                time.sleep(0.05)


def test_cgroups_of_version_1(jailed, jail):
    cpu, cpuset = mounted("cpu"), mounted("cpuset")
    if not cpu or not cpuset:
        pytest.skip("this host has no cgroups of version 1 for cpu and cpuset")
    parents = [cpu / "ec1-test" / "in", cpuset / "ec1-test" / "in"]
    with cleaned(*parents, cpu / "ec1-test", cpuset / "ec1-test"):
        vm = jailed("--cgroup", "cpu.shares=512", "--cgroup", "cpuset.cpus=0", "--parent-cgroup", "ec1-test/in")
        vm.until_it_answers()
        try:
            assert (cpu / "ec1-test/in/vm/cpu.shares").read_text().strip() == "512"
            assert (cpuset / "ec1-test/in/vm/cpuset.cpus").read_text().strip() == "0"
            assert (cpuset / "ec1-test/in/cpuset.mems").read_text().strip() != ""
            for tree in (cpu, cpuset):
                assert str(jail.pid()) in (tree / "ec1-test/in/vm/tasks").read_text().split()
        finally:
            vm.kill()
            for tree in (cpu, cpuset):
                with cleaned(tree / "ec1-test/in/vm"):
                    pass


def test_version_2_without_values_moves_into_a_parent_that_is_there(jailed, jail):
    tree = mounted(None)
    if not tree:
        pytest.skip("this host has no cgroups of version 2")
    parent = tree / "ec1-test-parent"
    with cleaned(parent):
        vm = jailed("--cgroup-version", "2", "--parent-cgroup", "ec1-test-parent").until_it_answers()
        assert not parent.exists()  # it was not there, and nothing happened
        vm.kill()
        shutil.rmtree(jail.root)
        parent.mkdir()
        vm = jailed("--cgroup-version", "2", "--parent-cgroup", "ec1-test-parent").until_it_answers()
        assert str(jail.pid()) in (parent / "cgroup.procs").read_text().split()
        vm.kill()


def test_a_controller_that_version_2_lacks(jail):
    if not mounted(None):
        pytest.skip("this host has no cgroups of version 2")
    refused(jail.run("--cgroup-version", "2", "--cgroup", "nosuch.max=1"), "Controller nosuch is unavailable")


# --- words ---


def test_version_and_help():
    done = subprocess.run([JAILER, "--version"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, bool(re.match(r"Jailer v\d", done.stdout))) == (0, True)
    done = subprocess.run([JAILER, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "--exec-file" in done.stdout) == (0, True)


def test_a_socket_cannot_be_made_elsewhere(jail):
    done = jail.run(rest=("--engine", ENGINE, "--api-sock", "/no/such/socket"))
    assert (done.returncode, "Failed to" in done.stdout) == (1, True)
