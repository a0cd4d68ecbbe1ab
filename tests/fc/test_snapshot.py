"""Pause, resume, snapshots: created, loaded, refused."""

import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest

from microvm import BINARY, BOOT_ARGS, ENGINE, PATIENCE, ok, refused, refused_with

UNAVAILABLE = "The requested operation is not supported before starting the microVM."
STARTED = "The requested operation is not supported after starting the microVM."


def pause(vm):
    ok(vm.patch("/vm", {"state": "Paused"}))


def resume(vm):
    ok(vm.patch("/vm", {"state": "Resumed"}))


def create(vm, name="snap", kind="Full"):
    """The state file and the memory file."""
    paths = str(vm.folder / (name + ".state")), str(vm.folder / (name + ".mem"))
    ok(vm.put("/snapshot/create", {"snapshot_path": paths[0], "mem_file_path": paths[1], "snapshot_type": kind}))
    return paths


def load_body(paths, **more):
    return {"snapshot_path": paths[0], "mem_backend": {"backend_type": "File", "backend_path": paths[1]}, **more}


def restore(new_vm, paths, resume_vm=True, **more):
    vm = new_vm()
    ok(vm.put("/snapshot/load", load_body(paths, resume_vm=resume_vm, **more)))
    return vm


def state_of(vm):
    return vm.get("/").json()["state"]


@pytest.fixture
def guest(new_vm):
    return new_vm().boot()


def test_pause_and_resume_are_idempotent_and_need_a_machine(vm):
    refused(vm.patch("/vm", {"state": "Paused"}), UNAVAILABLE)
    refused(vm.patch("/vm", {"state": "Resumed"}), UNAVAILABLE)
    vm.boot()
    for _ in range(2):
        resume(vm)
        assert state_of(vm) == "Running"
    for _ in range(3):
        for _ in range(2):
            pause(vm)
            assert state_of(vm) == "Paused"
        vm.type("echo paused >/dev/console\n")
        seen = vm.console()
        time.sleep(0.3)
        assert vm.console() == seen
        for _ in range(2):
            resume(vm)
        assert vm.sh("echo on") == "paused\non\n"


def test_create_is_refused_while_running_and_before(vm, folder):
    body = {"snapshot_path": str(folder / "s"), "mem_file_path": str(folder / "m")}
    refused(vm.put("/snapshot/create", body), UNAVAILABLE)
    vm.boot()
    refused(
        vm.put("/snapshot/create", body),
        "Create snapshot error: Cannot save the microVM state: Operation not allowed: save/restore unavailable "
        "while running",
    )
    assert not (folder / "s").exists() and not (folder / "m").exists()


@pytest.mark.parametrize("resume_vm", [False, True])
def test_a_restored_guest_goes_on(new_vm, guest, resume_vm):
    guest.sh("count=41; echo kept >/tmp/file; sync")
    before = float(guest.sh("cut -d' ' -f1 /proc/uptime"))
    pause(guest)
    paths = create(guest)
    assert os.path.getsize(paths[1]) == 128 << 20
    guest.kill()
    time.sleep(20)
    began = time.monotonic()
    vm = restore(new_vm, paths, resume_vm=resume_vm)
    assert state_of(vm) == ("Running" if resume_vm else "Paused")
    if not resume_vm:
        resume(vm)
    assert vm.sh("echo $((count + 1)) $(cat /tmp/file)") == "42 kept\n"
    # the clocks stood still
    assert before <= float(vm.sh("cut -d' ' -f1 /proc/uptime")) < before + 15 + time.monotonic() - began
    vm.sh("dd if=/dev/zero of=/root-write bs=64k count=16 && sync && rm /root-write")
    assert vm.reboot() == 0


def test_a_loaded_machine_refuses_what_comes_before_a_start(new_vm, guest):
    pause(guest)
    paths = create(guest)
    config = guest.get("/vm/config").json()
    guest.kill()
    vm = restore(new_vm, paths, resume_vm=False)
    assert vm.get("/vm/config").json() == config
    refused(vm.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 64}), STARTED)
    refused(vm.put("/snapshot/load", load_body(paths)), STARTED)
    refused(vm.put("/actions", {"action_type": "InstanceStart"}), STARTED)


# --- diff snapshots ---


def write_in_guest(vm, mib, byte="x"):
    vm.sh(f"tr '\\0' {byte} </dev/zero | dd of=/tmp/data bs=1M count={mib} iflag=fullblock 2>/dev/null")


def used_bytes(path):
    return os.stat(path).st_blocks * 512


@pytest.mark.parametrize("tracked", [True, False], ids=["tracked", "untracked"])
def test_the_first_diff_is_complete_and_the_next_is_small(new_vm, tracked):
    vm = new_vm()
    vm.configure()
    ok(vm.patch("/machine-config", {"track_dirty_pages": tracked}))
    vm.start()
    vm.ready()
    pause(vm)
    first = create(vm, "first", "Diff")
    # Restores from it read the same memory as from a full one taken at the same moment.
    full = create(vm, "full")
    assert same_content(first[1], full[1])
    resume(vm)
    write_in_guest(vm, 4)
    pause(vm)
    second = create(vm, "second", "Diff")
    assert os.path.getsize(second[1]) == 128 << 20
    if tracked:
        assert 4 << 20 <= used_bytes(second[1]) < 32 << 20
    merge(second[1], full[1])
    vm.kill()
    vm = restore(new_vm, (second[0], full[1]))
    assert vm.sh("tr -d x </tmp/data | wc -c; wc -c </tmp/data").split() == ["0", str(4 << 20)]
    assert vm.reboot() == 0


def same_content(a, b):
    with open(a, "rb") as x, open(b, "rb") as y:
        while True:
            one, two = x.read(1 << 20), y.read(1 << 20)
            if one != two:
                return False
            if not one:
                return True


def merge(diff, base):
    """What is data in the sparse file goes over the base."""
    with open(diff, "rb") as x, open(base, "r+b") as y:
        end = os.fstat(x.fileno()).st_size
        at = 0
        while at < end:
            try:
                at = os.lseek(x.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            hole = os.lseek(x.fileno(), at, os.SEEK_HOLE)
            while at < hole:
                part = os.pread(x.fileno(), min(1 << 20, hole - at), at)
                os.pwrite(y.fileno(), part, at)
                at += len(part)


def test_a_diff_over_its_base_and_over_the_own_file(new_vm, guest):
    pause(guest)
    paths = create(guest)
    guest.kill()
    vm = restore(new_vm, paths, track_dirty_pages=True)
    for turn in range(3):
        vm.sh(f"echo turn {turn} >>/tmp/turns")
        pause(vm)
        # into the very files that this machine comes from
        body = {"snapshot_path": paths[0], "mem_file_path": paths[1], "snapshot_type": "Diff" if turn else "Full"}
        ok(vm.put("/snapshot/create", body))
        resume(vm)
        assert vm.sh("wc -l </tmp/turns").strip() == str(turn + 1)
        vm.sh("md5sum /bin/busybox >/dev/null; dd if=/dev/urandom of=/tmp/noise bs=1M count=4 2>/dev/null")
    vm.kill()
    vm = restore(new_vm, paths)
    assert vm.sh("cat /tmp/turns") == "turn 0\nturn 1\nturn 2\n"


def test_clones_of_one_snapshot_live_apart(new_vm, guest):
    guest.sh("mount -o remount,ro / || true")
    pause(guest)
    paths = create(guest)
    guest.kill()
    one, two = restore(new_vm, paths), restore(new_vm, paths)
    one.sh("echo one >/tmp/who")
    two.sh("echo two >/tmp/who")
    assert one.sh("cat /tmp/who") + two.sh("cat /tmp/who") == "one\ntwo\n"


# --- userfaultfd ---


class Handler:
    """Serves the pages of a memory file to whoever connects: in a process of its own, as a real one would be."""

    def __init__(self, folder, memory):
        self.path = str(folder / "uffd.sock")
        self.process = subprocess.Popen(
            [sys.executable, str(pathlib.Path(__file__).parent / "uffd_handler.py"), self.path, memory],
            stdout=subprocess.PIPE, text=True,
        )
        assert self.process.stdout.readline() == "listening\n"

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def new_handler(folder):
    made = []

    def make(memory):
        made.append(Handler(folder, memory))
        return made[-1]

    yield make
    for each in made:
        each.kill()


def uffd_body(paths, socket, **more):
    return {"snapshot_path": paths[0], "mem_backend": {"backend_type": "Uffd", "backend_path": socket}, **more}


UFFD_FAILED = (
    "Load snapshot error: Failed to restore from snapshot: Failed to load guest memory: Error creating guest memory "
    "from uffd: Failed to connect to UDS Unix stream: "
)


def test_pages_come_from_a_handler(new_vm, guest, new_handler):
    guest.sh("echo kept >/tmp/file")
    pause(guest)
    paths = create(guest)
    guest.kill()
    handler = new_handler(paths[1])
    vm = new_vm()
    ok(vm.put("/snapshot/load", uffd_body(paths, handler.path, resume_vm=True)))
    assert vm.sh("cat /tmp/file") == "kept\n"
    # the handler's end freezes the guest, and nothing takes its place
    handler.kill()
    seen = vm.console()
    vm.type("find / -type f 2>/dev/null | xargs md5sum >/dev/null; echo ALIVE\n")
    time.sleep(2)
    assert "ALIVE\n" not in vm.console()[len(seen):].replace("\r", "")


def test_a_handler_that_is_not_there(new_vm, guest, folder):
    pause(guest)
    paths = create(guest)
    guest.kill()
    vm = new_vm()
    refused(vm.put("/snapshot/load", uffd_body(paths, str(folder / "no.sock"))),
            UFFD_FAILED + "No such file or directory (os error 2)")
    assert vm.wait(20) == 1
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(folder / "dead.sock"))
    vm = new_vm()
    refused(vm.put("/snapshot/load", uffd_body(paths, str(folder / "dead.sock"))),
            UFFD_FAILED + "Connection refused (os error 111)")
    assert vm.wait(20) == 1


@pytest.fixture
def huge_pages():
    """The host may make some when they are asked for."""
    path = pathlib.Path("/proc/sys/vm/nr_overcommit_hugepages")
    try:
        before = path.read_text()
        path.write_text(str(int(before) + 256))
    except OSError as e:
        pytest.skip(f"no huge pages can be had: {e}")
    yield
    path.write_text(before)


def huge_kib(vm):
    """Of all that is mapped there in pages of 2 MiB."""
    size = total = 0
    for line in pathlib.Path(f"/proc/{vm.process.pid}/smaps").read_text().splitlines():
        word, *rest = line.split()
        if word == "Size:":
            size = int(rest[0])
        if word == "KernelPageSize:" and int(rest[0]) == 2048:
            total += size
    return total


def test_memory_of_huge_pages_comes_from_a_handler(new_vm, new_handler, huge_pages):
    vm = new_vm()
    vm.configure()
    ok(vm.patch("/machine-config", {"huge_pages": "2M"}))
    started = vm.put("/actions", {"action_type": "InstanceStart"})
    if "Cannot allocate memory" in started.text:
        pytest.skip("the host has no huge pages")
    ok(started)
    vm.ready()
    assert huge_kib(vm) == 128 << 10
    vm.sh("echo kept >/tmp/file")
    pause(vm)
    paths = create(vm)
    vm.kill()
    load_fails(new_vm, load_body(paths), LOAD_FAILED + "Failed to load guest memory: Error creating guest memory from file: "
               "Cannot restore hugetlbfs backed snapshot by mapping the memory file. Please use uffd.")
    vm = new_vm()
    ok(vm.put("/snapshot/load", uffd_body(paths, new_handler(paths[1]).path, resume_vm=True)))
    assert huge_kib(vm) == 128 << 10
    assert vm.sh("cat /tmp/file") == "kept\n"
    vm.sh("md5sum /bin/busybox; dd if=/dev/zero of=/tmp/more bs=1M count=16 2>/dev/null")
    assert vm.reboot() == 0


# --- what is refused ---

LOAD_FAILED = "Load snapshot error: Failed to restore from snapshot: "
FROM_FILE = LOAD_FAILED + "Failed to get snapshot state from file: "


def load_fails(new_vm, body, text):
    vm = new_vm()
    answer = vm.put("/snapshot/load", body)
    assert answer.status_code == 400
    assert answer.json()["fault_message"].startswith(text), answer.text
    assert vm.wait(20) == 1
    return answer.json()["fault_message"]


def test_bad_snapshot_files(new_vm, guest, folder):
    pause(guest)
    paths = create(guest)
    guest.kill()
    data = pathlib.Path(paths[0]).read_bytes()
    bad = str(folder / "bad")
    read = FROM_FILE + "Failed to load snapshot state from file: "

    def check(content, text):
        pathlib.Path(bad).write_bytes(content)
        return load_fails(new_vm, load_body((bad, paths[1])), text)

    load_fails(new_vm, load_body((str(folder / "no"), paths[1])),
               FROM_FILE + "Failed to open snapshot file: No such file or directory (os error 2)")
    check(b"", read + "IO Error: File too short to contain CRC")
    check(data[:-1], read + "An error occurred during bitcode serialization: section 'vcpu.0'")
    check(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], read + "CRC64 validation failed")
    check(b"\1" + data[1:], read + "Magic value does not match arch: 0x")
    check(data[:8] + b"\x63" + data[9:], read + "Invalid data version: 99.0.0")
    check(data + bytes(10_000_000), read + "Snapshot size exceeds limit of 10000000 bytes")
    load_fails(new_vm, load_body((paths[0], str(folder / "no"))),
               LOAD_FAILED + "Failed to load guest memory: Error creating guest memory from file: Failed to load guest "
               "memory: No such file or directory (os error 2)")
    os.truncate(paths[1], 64 << 20)
    load_fails(new_vm, load_body(paths), LOAD_FAILED + "Failed to load guest memory: ")


def test_overrides_of_what_is_not_there(new_vm, guest):
    pause(guest)
    paths = create(guest)
    guest.kill()
    load_fails(new_vm, load_body(paths, network_overrides=[{"iface_id": "x", "host_dev_name": "y"}]),
               FROM_FILE + "Unknown Network Device.")
    load_fails(new_vm, load_body(paths, vsock_override={"uds_path": "/tmp/x"}), FROM_FILE + "Unknown Vsock Device.")
    load_fails(new_vm, load_body(paths, huge_pages="2M"),
               LOAD_FAILED + "Failed to load guest memory: Error creating guest memory from file: Cannot restore "
               "hugetlbfs backed snapshot by mapping the memory file. Please use uffd.")


@pytest.mark.parametrize("path, body", [
    ("/machine-config", {"vcpu_count": 1, "mem_size_mib": 128}),
    ("/machine-config", {"vcpu_count": 99, "mem_size_mib": 128}),
    ("/drives/x", {"drive_id": "x", "path_on_host": "/nonexistent", "is_root_device": False}),
    ("/boot-source", {"kernel_image_path": "/nonexistent"}),
])
def test_nothing_is_loaded_into_a_configured_vm(vm, path, body):
    vm.put(path, body)
    refused(vm.put("/snapshot/load", load_body(("/nonexistent", "/nonexistent"))),
            "Load snapshot error: Loading a microVM snapshot not allowed after configuring boot-specific resources.")
    assert state_of(vm) == "Not started"


def test_a_missing_drive_ends_a_load(new_vm, guest):
    pause(guest)
    paths = create(guest)
    guest.kill()
    (guest.folder / "root.ext4").unlink()
    text = load_fails(new_vm, load_body(paths), LOAD_FAILED + "Failed to build microVM from snapshot: ")
    assert "Virtio backend error: Error manipulating the backing file: No such file or directory (os error 2)" in text


# --- failures of create ---


@pytest.mark.parametrize("kind", ["Full", "Diff"])
def test_a_full_disk_loses_nothing(new_vm, folder, kind):
    vm = new_vm()
    vm.configure()
    ok(vm.patch("/machine-config", {"track_dirty_pages": True}))
    vm.start()
    vm.ready()
    pause(vm)
    base = create(vm)
    resume(vm)
    write_in_guest(vm, 24)
    small = folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", small], check=True)
    try:
        (small / "state").write_bytes(b"old state")
        pause(vm)
        body = {"snapshot_path": str(small / "state"), "mem_file_path": str(small / "mem"), "snapshot_type": kind}
        answer = vm.put("/snapshot/create", body)
        refused_with(answer, "Create snapshot error: Cannot write memory file: ")
        refused_with(answer, "No space left on device (os error 28)")
        assert (small / "state").read_bytes() == b"old state" and not (small / "mem").exists()
    finally:
        subprocess.run(["umount", small], check=True)
    # the next one is complete
    body = {"snapshot_path": base[0], "mem_file_path": base[1], "snapshot_type": "Diff"}
    ok(vm.put("/snapshot/create", body))
    resume(vm)
    assert vm.sh("echo alive") == "alive\n"
    vm.kill()
    vm = restore(new_vm, base)
    assert vm.sh("tr -d x </tmp/data | wc -c; wc -c </tmp/data").split() == ["0", str(24 << 20)]


def test_files_that_may_not_be_written(new_vm, guest, folder):
    (folder / "dir").mkdir()
    pause(guest)
    body = {"snapshot_path": str(folder / "dir"), "mem_file_path": str(folder / "mem")}
    refused_with(guest.put("/snapshot/create", body), "Create snapshot error: Cannot perform open on the snapshot backing file: ")
    body = {"snapshot_path": str(folder / "state"), "mem_file_path": str(folder / "dir")}
    refused_with(guest.put("/snapshot/create", body), "Create snapshot error: Cannot perform open on the memory backing file: ")
    assert not (folder / "state").exists() and not (folder / "mem").exists()
    resume(guest)
    assert guest.sh("echo alive") == "alive\n"


def test_versions(new_vm, guest, folder):
    pause(guest)
    paths = create(guest)
    mine = subprocess.run([BINARY, "--snapshot-version"], capture_output=True, text=True)
    its = subprocess.run([BINARY, "--describe-snapshot", paths[0]], capture_output=True, text=True)
    assert (its.returncode, its.stdout, its.stderr) == (0, mine.stdout, "")
    (folder / "empty").touch()
    for path in (folder / "no", folder / "empty"):
        done = subprocess.run([BINARY, "--describe-snapshot", path], capture_output=True, text=True)
        assert done.returncode == 1 and "When printing Snapshot Data format: " in done.stderr


# --- vsock, and all devices at once ---


def vsock_guest(new_vm):
    vm = new_vm()
    vm.configure()
    ok(vm.put("/vsock", {"guest_cid": 3, "uds_path": str(vm.folder / "v.sock")}))
    ok(vm.put("/entropy", {}))
    ok(vm.put("/balloon", {"amount_mib": 8, "deflate_on_oom": False, "stats_polling_interval_s": 1}))
    vm.start()
    vm.ready()
    vm.sh("guest_tool vsock-echo 52 >/dev/null 2>&1 &")
    return vm


def dial(path, port=52, seconds=60):
    seconds *= PATIENCE
    deadline = time.monotonic() + seconds
    while True:
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(seconds)
        try:
            peer.connect(path)
            peer.sendall(f"CONNECT {port}\n".encode())
            answer = peer.recv(32)
            if answer.startswith(b"OK "):
                return peer
        except OSError:
            pass
        peer.close()
        assert time.monotonic() < deadline, "nobody answers"
        time.sleep(0.1)


def echoes(peer, text=b"hello"):
    peer.sendall(text)
    got = b""
    while len(got) < len(text):
        part = peer.recv(4096)
        if not part:
            return False
        got += part
    return got == text


def test_connections_end_and_listeners_stay(new_vm):
    vm = vsock_guest(new_vm)
    path = str(vm.folder / "v.sock")
    old = dial(path)
    assert echoes(old)
    # a bare pause changes nothing
    pause(vm)
    resume(vm)
    assert echoes(old) and echoes(dial(path))
    pause(vm)
    paths = create(vm)
    assert old.recv(1) == b""
    # the machine that was saved goes on
    resume(vm)
    assert echoes(dial(path))
    vm.kill()
    os.unlink(path)
    # another path, and many at once
    other = str(vm.folder / "o.sock")
    loaded = restore(new_vm, paths, vsock_override={"uds_path": other})
    peers = [dial(other) for _ in range(16)]
    assert all(echoes(p, b"%d" % i) for i, p in enumerate(peers))
    # the rest of the machine
    assert loaded.get("/vm/config").json()["vsock"]["uds_path"] == other
    loaded.sh("dd if=/dev/hwrng of=/dev/null bs=64 count=1 2>/dev/null || true")
    ok(loaded.patch("/balloon", {"amount_mib": 16}))
    loaded.wait_for(lambda: loaded.get("/balloon/statistics").json()["actual_mib"] == 16, "the balloon", 60)
    # and once more
    pause(loaded)
    again = create(loaded, "again")
    loaded.kill()
    os.unlink(other)
    third = restore(new_vm, again)
    assert echoes(dial(other))
    assert third.get("/balloon").json()["amount_mib"] == 16


def test_the_kernel_reseeds_in_a_clone(new_vm):
    guest = new_vm().boot(boot_args=BOOT_ARGS + " random.trust_cpu=on")  # a pool that is not ready is not reseeded
    before = guest.sh("dmesg | grep -c 'reseeded due to virtual machine fork' || true").strip()
    pause(guest)
    paths = create(guest)
    guest.kill()
    vm = restore(new_vm, paths)
    after = vm.sh("sleep 1; dmesg | grep -c 'reseeded due to virtual machine fork' || true").strip()
    if before == after == "0" and "vmgenid" not in vm.sh("ls /sys/bus/acpi/drivers /sys/bus/platform/drivers || true"):
        pytest.skip("this kernel has no driver for VM generation ids built in")
    assert int(after) > int(before)


def test_a_machine_with_pci_keeps_its_slots(new_vm):
    vm = new_vm("--enable-pci")
    vm.boot()
    slots = "ls /sys/bus/pci/devices; ls /sys/block"
    for name in ("a", "b"):
        disk = vm.folder / name
        disk.write_bytes(name.encode() * (1 << 20))
        ok(vm.put(f"/drives/{name}", {"drive_id": name, "path_on_host": str(disk), "is_root_device": False}))
    vm.sh("echo 1 >/sys/bus/pci/rescan")
    # a gap on the bus, which the next machine must have, too
    first = vm.sh("readlink -f /sys/block/vdb/device/.. || true").strip()
    vm.sh(f"echo 1 >{first}/remove")
    ok(vm.delete("/drives/a"))
    before = vm.sh(slots)
    pause(vm)
    paths = create(vm)
    vm.kill()
    loaded = restore(new_vm, paths)
    assert loaded.sh(slots) == before
    assert loaded.sh("dd if=/dev/vdc bs=16 count=1 2>/dev/null") == "b" * 16
    loaded.sh("dd if=/dev/zero of=/root-write bs=64k count=16 2>/dev/null && sync && rm /root-write")
    assert loaded.reboot() == 0


def test_the_wall_clock_advances_only_when_asked(new_vm, guest):
    clock = "/sys/devices/system/clocksource/clocksource0/"
    if "kvm-clock" not in guest.sh(f"cat {clock}available_clocksource"):
        pytest.skip("this guest has no kvm-clock")
    guest.sh(f"echo kvm-clock >{clock}current_clocksource")
    before = int(guest.sh("date +%s"))
    pause(guest)
    paths = create(guest)
    guest.kill()
    time.sleep(30)
    began = time.monotonic()
    stopped, advanced = restore(new_vm, paths), restore(new_vm, paths, clock_realtime=True)
    assert before <= int(stopped.sh("date +%s")) < before + 15 + time.monotonic() - began
    assert int(advanced.sh("date +%s")) >= before + 30


# Leaf, subleaf, register, and whether the subleaf counts: the sets of features that a restore compares.
FEATURES = [
    (0x1, 0, "ecx", 0), (0x1, 0, "edx", 0), (0x7, 0, "ebx", 1), (0x7, 0, "ecx", 1), (0x7, 0, "edx", 1), (0x7, 1, "eax", 1),
    (0xD, 0, "eax", 1), (0xD, 1, "eax", 1), (0x40000001, 0, "eax", 0), (0x80000001, 0, "ecx", 0), (0x80000001, 0, "edx", 0),
    (0x80000008, 0, "ebx", 0),
]


def features(new_vm, engine):
    """What a guest sees there, in the order of FEATURES."""
    vm = new_vm(engine=engine)
    vm.boot()
    rows = vm.sh("; ".join(f"guest_tool cpuid {leaf} {subleaf}" for leaf, subleaf, _, _ in FEATURES)).splitlines()
    vm.kill()
    return [int(row.split()[int("abcd".index(reg[1]))], 16) for row, (_, _, reg, _) in zip(rows, FEATURES)]


def template(there, here):
    """Hides what is not on both."""
    modifiers = []
    for (leaf, subleaf, register, flags), a, b in zip(FEATURES, there, here):
        if a & ~b:
            bitmap = "0b" + "".join("0" if a & ~b & 1 << bit else "x" for bit in range(31, -1, -1))
            modifiers.append({"leaf": hex(leaf), "subleaf": hex(subleaf), "flags": flags,
                              "modifiers": [{"register": register, "bitmap": bitmap}]})
    return {"cpuid_modifiers": modifiers}


@pytest.mark.parametrize("first, then", [("soft", "kvm"), ("kvm", "soft")])
def test_a_snapshot_goes_from_engine_to_engine(new_vm, first, then):
    """Of a guest that was shown what both have."""
    if ENGINE != "kvm":
        pytest.skip("needs KVM (EC1_ENGINE=kvm)")
    vm = new_vm(engine=first)
    vm.configure()
    ok(vm.put("/cpu-config", template(features(new_vm, first), features(new_vm, then))))
    vm.start()
    vm.ready()
    vm.sh("echo kept >/tmp/file")
    pause(vm)
    paths = create(vm)
    vm.kill()
    other = new_vm(engine=then)
    answer = other.put("/snapshot/load", load_body(paths, resume_vm=True))
    if answer.status_code == 400:
        # then it says which CPU it cannot take, or that the clocks differ
        text = answer.json()["fault_message"]
        assert "cannot take its state" in text or "kHz" in text, text
        pytest.skip(text)
    assert other.sh("cat /tmp/file") == "kept\n"
    assert other.reboot() == 0


def test_features_that_are_not_on_the_other_engine_are_named(new_vm):
    if ENGINE != "kvm":
        pytest.skip("needs KVM (EC1_ENGINE=kvm)")
    vm = new_vm(engine="kvm")
    vm.boot()
    pause(vm)
    paths = create(vm)
    vm.kill()
    answer = new_vm(engine="soft").put("/snapshot/load", load_body(paths))
    refused_with(answer, "the guest was shown CPU features that are not here: CPUID leaf 0x")
