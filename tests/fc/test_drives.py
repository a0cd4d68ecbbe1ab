"""Drives over files: configured, seen by the guest, changed while it runs."""

import os
import struct
import subprocess
import time

import pytest

import guest
from microvm import PATIENCE, ok, refused, refused_with

KIB = 1024
MIB = 1024 * KIB
CREATE = "Drive config error: Unable to create the virtio block device: "
PATCH = "Drive config error: Unable to patch the block device: %s Please verify the request arguments."


def image(path, size, fill=b"x"):
    path.write_bytes(fill * (size // len(fill)))
    return str(path)


def drive(path, drive_id="scratch", **more):
    return {"drive_id": drive_id, "path_on_host": str(path), "is_root_device": False, **more}


def add(vm, path, drive_id="scratch", **more):
    return ok(vm.put("/drives/" + drive_id, drive(path, drive_id, **more)))


def sectors(vm, name):
    return int(vm.sh(f"cat /sys/block/{name}/size"))


def metrics_of(vm, path):
    import json

    ok(vm.put("/actions", {"action_type": "FlushMetrics"}))
    total = {}
    for line in path.read_text().splitlines():
        for name, value in json.loads(line).get("block_scratch", {}).items():
            if isinstance(value, int):
                total[name] = total.get(name, 0) + value
    return total


@pytest.mark.parametrize("engine", ["Sync", "Async"])
def test_a_guest_reads_writes_and_gets_what_was_configured(vm, folder, engine):
    pattern = bytes(i // 512 % 256 for i in range(2 * MIB))
    (folder / "a").write_bytes(pattern)
    add(vm, folder / "a", io_engine=engine)
    add(vm, image(folder / "ro", MIB), "fixed", is_read_only=True, io_engine=engine)
    add(vm, image(folder / "none", 0), "empty", io_engine=engine)
    add(vm, image(folder / "odd", 513 + 77), "odd", io_engine=engine)
    vm.boot()
    # the root comes first whatever the order of requests, the others as they came
    assert [sectors(vm, "vd" + c) for c in "bcde"] == [4096, 2048, 0, 1]
    assert [vm.sh(f"cat /sys/block/vd{c}/ro").strip() for c in "abcde"] == ["0", "0", "1", "0", "0"]
    digest = vm.sh("md5sum /dev/vdb").split()[0]
    assert digest == subprocess.run(["md5sum", folder / "a"], capture_output=True, text=True).stdout.split()[0]
    vm.sh("yes abcdefg | dd of=/dev/vdb bs=4k count=100 seek=10 oflag=direct 2>/dev/null")
    data = (folder / "a").read_bytes()
    assert data[40 * KIB : 440 * KIB] == b"abcdefg\n" * (400 * KIB // 8)
    assert data[: 40 * KIB] == pattern[: 40 * KIB] and data[440 * KIB :] == pattern[440 * KIB :]
    st = os.stat(folder / "a")
    want = f"{st.st_dev}{st.st_rdev}{st.st_ino}"[:20]
    assert vm.sh("cat /sys/block/vdb/serial").strip() == want
    vm.sh("dd if=/dev/zero of=/dev/vdc bs=512 count=1 oflag=direct 2>/dev/null", check=False)
    assert (folder / "ro").read_bytes() == b"x" * MIB


def test_the_root_is_named_to_the_kernel_before_its_device(vm, folder):
    add(vm, image(folder / "a", MIB))
    vm.boot()
    words = vm.sh("cat /proc/cmdline").split()
    assert words[words.index("root=/dev/vda") + 1] == "rw"
    assert words[words.index("root=/dev/vda") + 2].startswith("virtio_mmio.device=4K@0xc0001000:5")
    assert "/dev/root / ext4 rw" in vm.sh("cat /proc/mounts") or " / ext4 rw" in vm.sh("cat /proc/mounts")


def test_a_read_only_root_is_mounted_read_only(vm):
    vm.boot(is_read_only=True)
    assert " ro" in vm.sh("cat /proc/cmdline")
    assert " / ext4 ro" in vm.sh("cat /proc/mounts")


def test_a_root_partition_is_found_by_its_uuid(vm, folder):
    root = guest.rootfs().read_bytes()
    table = bytearray(MIB)
    table[440:444] = struct.pack("<I", 0x0EAA71A0)
    table[446:462] = struct.pack("<B3sB3sII", 0x80, b"\0\0\0", 0x83, b"\0\0\0", 2048, len(root) // 512)
    table[510:512] = b"\x55\xaa"
    (folder / "disk").write_bytes(bytes(table) + root)
    vm.configure(root=False)
    add(vm, folder / "disk", is_root_device=True, partuuid="00000000-01")
    add(vm, folder / "disk", is_root_device=True, partuuid="0eaa71a0-01")
    vm.start()
    vm.ready()
    assert "root=PARTUUID=0eaa71a0-01 rw virtio_mmio.device" in vm.sh("cat /proc/cmdline")
    assert vm.sh("grep PARTUUID /sys/block/vda/vda1/uevent; cat /sys/block/vda/vda1/start").split()[-1] == "2048"


def test_the_matrix_of_patches(vm, folder):
    add(vm, image(folder / "a", MIB), rate_limiter={"ops": {"size": 100000, "refill_time": 10}})
    body = {"drive_id": "scratch", "path_on_host": str(folder / "b")}
    refused(vm.patch("/drives/scratch", body), "The requested operation is not supported before starting the microVM.")
    vm.boot()
    refused(vm.patch("/drives/scratch", {"drive_id": "scratch"}),
            PATCH % "Block: Running method expected different backend.")
    refused(vm.patch("/drives/other", {**body, "drive_id": "other"}),
            PATCH % "Failed perform action on device: Device not found")
    refused(vm.patch("/drives/scratch", body),
            PATCH % ("Block: Virtio backend error: Error manipulating the backing file: No such file or directory "
                     f"(os error 2) {folder / 'b'}"))
    refused_with(vm.patch("/drives/scratch", {"path_on_host": "x"}), "missing field `drive_id`")
    refused_with(vm.patch("/drives/scratch", {**body, "foo": 1}), "unknown field `foo`")
    refused_with(vm.patch("/drives/x", body), "The id from the path does not match the id from the body!")
    assert sectors(vm, "vdb") == 2048
    image(folder / "b", 3 * MIB, b"new!")
    ok(vm.patch("/drives/scratch", body))
    vm.sh("n=0; while [ $(cat /sys/block/vdb/size) != 6144 ] && [ $n -lt 100 ]; do sleep 0.05; n=$((n+1)); done")
    assert sectors(vm, "vdb") == 6144
    assert vm.sh("echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vdb bs=4 count=1 2>/dev/null") == "new!"
    shown = next(d for d in vm.get("/vm/config").json()["drives"] if d["drive_id"] == "scratch")
    assert shown["path_on_host"] == str(folder / "b")
    assert shown["rate_limiter"]["ops"] == {"size": 100000, "one_time_burst": None, "refill_time": 10}
    # zeros take a bucket away, what is not named stays
    ok(vm.patch("/drives/scratch", {"drive_id": "scratch", "rate_limiter": {
        "ops": {"size": 0, "refill_time": 0}, "bandwidth": {"size": 10 * MIB, "refill_time": 100}}}))
    shown = next(d for d in vm.get("/vm/config").json()["drives"] if d["drive_id"] == "scratch")
    assert shown["rate_limiter"]["ops"] is None and shown["rate_limiter"]["bandwidth"]["size"] == 10 * MIB


def test_a_file_that_grew_is_seen_after_a_patch(vm, folder):
    path = image(folder / "a", MIB)
    add(vm, path)
    vm.boot()
    os.truncate(path, 5 * MIB)
    assert sectors(vm, "vdb") == 2048
    ok(vm.patch("/drives/scratch", {"drive_id": "scratch", "path_on_host": path}))
    vm.sh("n=0; while [ $(cat /sys/block/vdb/size) != 10240 ] && [ $n -lt 100 ]; do sleep 0.05; n=$((n+1)); done")
    assert sectors(vm, "vdb") == 10240


@pytest.mark.parametrize("cache,flushes", [("Unsafe", False), ("Writeback", True)])
def test_flushes_are_offered_with_writeback_only(vm, folder, cache, flushes):
    metrics = folder / "metrics"
    ok(vm.put("/metrics", {"metrics_path": str(metrics)}))
    add(vm, image(folder / "a", MIB), cache_type=cache)
    vm.boot()
    assert vm.sh("cat /sys/block/vdb/cache_type").strip() == ("write back" if flushes else "write through")
    vm.sh("dd if=/dev/zero of=/dev/vdb bs=4k count=8 conv=fsync 2>/dev/null; sync")
    counts = metrics_of(vm, metrics)
    assert (counts["flush_count"] > 0) == flushes
    assert counts["write_bytes"] >= 32 * KIB and counts["queue_event_count"] > 0


def test_a_limit_holds_and_is_lifted(vm, folder):
    metrics = folder / "metrics"
    ok(vm.put("/metrics", {"metrics_path": str(metrics)}))
    add(vm, image(folder / "a", 8 * MIB), rate_limiter={"bandwidth": {"size": MIB, "refill_time": 1000}})
    vm.boot()
    before = time.monotonic()
    vm.sh("dd if=/dev/vdb of=/dev/null bs=64k count=96 iflag=direct 2>/dev/null")
    limited = time.monotonic() - before
    # 6 MiB at 1 MiB/s: the first is there at once, and so is what came in since the boot
    assert 3.5 < limited < 8 * PATIENCE, limited
    assert metrics_of(vm, metrics)["rate_limiter_throttled_events"] > 0
    ok(vm.patch("/drives/scratch", {"drive_id": "scratch", "rate_limiter": {"bandwidth": {"size": 0, "refill_time": 0}}}))
    before = time.monotonic()
    vm.sh("dd if=/dev/vdb of=/dev/null bs=64k count=96 iflag=direct 2>/dev/null")
    assert time.monotonic() - before < limited / 2


def test_what_is_no_disk_is_refused(vm, folder):
    error = CREATE + "Virtio backend error: Error manipulating the backing file: "
    missing = folder / "missing"
    refused(vm.put("/drives/scratch", drive(missing)), f"{error}No such file or directory (os error 2) {missing}")
    refused(vm.put("/drives/scratch", drive(folder)), f"{error}Is a directory (os error 21) {folder}")
    os.mkfifo(folder / "fifo")
    for path, kind in ((folder / "fifo", "a FIFO"), ("/dev/zero", "a character device")):
        for read_only in (False, True):
            refused_with(vm.put("/drives/scratch", drive(path, is_read_only=read_only)), f"it is {kind}, and must be")
    refused_with(vm.put("/drives/scratch", drive(folder, is_read_only=True)), "it is a directory, and must be")
    refused(vm.put("/drives/scratch", {"drive_id": "scratch", "is_root_device": False}),
            CREATE + "Invalid block config.")
    image(folder / "fixed", MIB)
    os.chmod(folder / "fixed", 0o400)
    if os.geteuid() == 0:
        # root may write to it all the same; a file that nobody may write is a program that runs
        refused(vm.put("/drives/scratch", drive(f"/proc/{vm.process.pid}/exe")),
                f"{error}Text file busy (os error 26) /proc/{vm.process.pid}/exe")
    else:
        refused(vm.put("/drives/scratch", drive(folder / "fixed")),
                f"{error}Permission denied (os error 13) {folder / 'fixed'}")
    add(vm, folder / "fixed", is_read_only=True)


def test_one_root_and_ids_that_agree(vm, folder):
    path = image(folder / "a", MIB)
    add(vm, path, "one", is_root_device=True)
    refused(vm.put("/drives/two", drive(path, "two", is_root_device=True)),
            "Drive config error: A root block device already exists!")
    refused_with(vm.put("/drives/three", drive(path, "two")), "The id from the path does not match the id from the body!")
    add(vm, path, "one")
    add(vm, path, "two", is_root_device=True)
    assert [d["drive_id"] for d in vm.get("/vm/config").json()["drives"]] == ["two", "one"]


def test_as_many_devices_as_there_are_lines_and_one_more(vm, folder):
    path = image(folder / "a", MIB)
    vm.configure()
    refusal = "Could not allocate GSI: The requested resource is not available."
    for i in range(40):
        add(vm, path, f"d{i}")
    refused_with(vm.put("/actions", {"action_type": "InstanceStart"}), refusal)
    assert vm.get("/").json()["state"] == "Not started"


@pytest.mark.parametrize("engine", ["Sync", "Async"])
def test_the_driver_can_be_unbound_and_bound_again(vm, folder, engine):
    add(vm, image(folder / "a", MIB, b"abcd"), io_engine=engine)
    vm.boot()
    name = vm.sh("basename $(readlink /sys/block/vdb/device)").strip()
    for _ in range(3):
        vm.sh(f"echo {name} >/sys/bus/virtio/drivers/virtio_blk/unbind")
        vm.sh("[ ! -e /sys/block/vdb ]")
        vm.sh(f"echo {name} >/sys/bus/virtio/drivers/virtio_blk/bind")
        assert vm.sh("dd if=/dev/vdb bs=4 count=1 2>/dev/null") == "abcd"


@pytest.mark.parametrize("engine", ["Sync", "Async"])
def test_a_snapshot_keeps_patched_files_and_requests_in_flight(new_vm, folder, engine):
    vm = new_vm()
    add(vm, image(folder / "a", MIB), io_engine=engine)
    vm.boot()
    image(folder / "b", 16 * MIB, b"new!")
    ok(vm.patch("/drives/scratch", {"drive_id": "scratch", "path_on_host": str(folder / "b")}))
    vm.sh("(while [ ! -e /tmp/stop ]; do dd if=/dev/vdb of=/dev/null bs=4k count=50 iflag=direct 2>/dev/null; done; "
          "echo done >/tmp/done) </dev/null >/dev/null 2>&1 &")
    ok(vm.patch("/vm", {"state": "Paused"}))
    paths = str(folder / "state"), str(folder / "mem")
    ok(vm.put("/snapshot/create", {"snapshot_path": paths[0], "mem_file_path": paths[1]}))
    vm.kill()
    other = new_vm()
    ok(other.put("/snapshot/load", {
        "snapshot_path": paths[0], "mem_backend": {"backend_type": "File", "backend_path": paths[1]}, "resume_vm": True}))
    assert other.sh("dd if=/dev/vdb bs=4 count=1 2>/dev/null") == "new!"
    other.sh("touch /tmp/stop; n=0; while [ ! -e /tmp/done ] && [ $n -lt 400 ]; do sleep 0.05; n=$((n+1)); done; [ -e /tmp/done ]")
    other.sh("echo still here | dd of=/dev/vdb conv=notrunc,fsync 2>/dev/null")
    assert (folder / "b").read_bytes().startswith(b"still here\n")


def test_drives_are_plugged_and_pulled_on_pci(new_vm, folder):
    vm = new_vm("--enable-pci")
    path = image(folder / "a", 3 * MIB, b"plug")
    vm.boot()
    add(vm, path, "hot")
    refused(vm.put("/drives/hot", drive(path, "hot")), "Device ID in use")
    refused(vm.put("/drives/r", drive(path, "r", is_root_device=True)),
            "Drive config error: A root block device already exists!")
    vm.sh("echo 1 >/sys/bus/pci/rescan")
    assert sectors(vm, "vdb") == 6144
    assert vm.sh("dd if=/dev/vdb bs=4 count=1 2>/dev/null") == "plug"
    vm.sh("echo 1 >$(readlink -f /sys/block/vdb/device/..)/remove")
    ok(vm.delete("/drives/hot"))
    refused(vm.delete("/drives/hot"), "Device not found")
    refused(vm.delete("/drives/rootfs"), "Cannot unplug root device")
    add(vm, path, "hot")
    vm.sh("echo 1 >/sys/bus/pci/rescan")
    assert sectors(vm, "vdb") == 6144


def test_nothing_is_plugged_without_pci(vm, folder):
    path = image(folder / "a", MIB)
    vm.boot()
    refused(vm.put("/drives/hot", drive(path, "hot")), "PCI is not enabled")
    refused(vm.delete("/drives/rootfs"), "PCI is not enabled")
