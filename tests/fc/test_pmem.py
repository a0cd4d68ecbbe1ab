"""Persistent memory: files that the guest has as memory."""

import shutil
import subprocess

import pytest

import guest
from microvm import ok, refused, refused_with

MIB = 1024 * 1024
START = "Start microvm error: Cannot create pmem device: "


def pmem(path, pmem_id="p", **more):
    return {"id": pmem_id, "path_on_host": str(path), **more}


def add(vm, path, pmem_id="p", **more):
    return ok(vm.put("/pmem/" + pmem_id, pmem(path, pmem_id, **more)))


def filesystem(path, mib=16):
    """With blocks of a page, as DAX wants them."""
    mke2fs = shutil.which("mke2fs") or "/sbin/mke2fs"
    subprocess.run([mke2fs, "-q", "-t", "ext4", "-b", "4096", path, f"{mib}M"], check=True, capture_output=True)
    return path


def test_roots_of_both_kinds_exclude_each_other(vm, folder):
    (folder / "f").write_bytes(b"x" * MIB)
    drive = {"drive_id": "d", "path_on_host": str(folder / "f"), "is_root_device": True}
    add(vm, folder / "f", root_device=True)
    refused(vm.put("/drives/d", drive),
            "Drive config error: Attempt to add block as a root device while the root device defined as a pmem device")
    refused(vm.put("/pmem/q", pmem(folder / "f", "q", root_device=True)),
            "Pmem config error: A root pmem device already exist")
    add(vm, folder / "f", root_device=False)
    ok(vm.put("/drives/d", drive))
    refused(vm.put("/pmem/q", pmem(folder / "f", "q", root_device=True)),
            "Pmem config error: Attempt to add pmem as a root device while the root device defined as a block device")
    refused_with(vm.put("/pmem/x", pmem(folder / "f", "q")), "The id from the path does not match the id from the body!")


def test_a_bad_file_is_told_at_the_start_and_can_be_replaced(vm, folder):
    vm.configure()
    (folder / "empty").touch()
    for path, text in (
        (folder / "empty", "Error backing file size is 0"),
        (folder / "missing", "Error accessing backing file: No such file or directory (os error 2)"),
        (folder, "Error accessing backing file: Is a directory (os error 21)"),
    ):
        add(vm, path)
        refused(vm.put("/actions", {"action_type": "InstanceStart"}), START + text)
    (folder / "good").write_bytes(b"x" * 5000)
    add(vm, folder / "good")
    vm.start()


@pytest.mark.parametrize("pci", [False, True])
def test_a_guest_reads_writes_and_runs_programs_there(new_vm, folder, pci):
    vm = new_vm(*(["--enable-pci"] if pci else []))
    (folder / "odd").write_bytes(b"abcd" * (3 * MIB // 4) + b"tail")
    (folder / "fixed").write_bytes(b"keep" * (MIB // 4))
    add(vm, folder / "odd", "a")
    add(vm, folder / "fixed", "b", read_only=True)
    add(vm, filesystem(folder / "fs"), "c", rate_limiter={"ops": {"size": 100, "refill_time": 100}})
    vm.boot()
    assert vm.sh("cat /sys/block/pmem[012]/size").split() == ["8192", "4096", "32768"]  # whole 2 MiB
    assert vm.sh("dd if=/dev/pmem0 bs=4 count=1 skip=786432 2>/dev/null") == "tail"
    vm.sh("echo hello | dd of=/dev/pmem0 conv=notrunc,fsync 2>/dev/null; sync")
    assert (folder / "odd").read_bytes().startswith(b"hello\nc")
    vm.sh("echo hello | dd of=/dev/pmem1 conv=notrunc,fsync 2>/dev/null; sync", check=False)
    assert (folder / "fixed").read_bytes() == b"keep" * (MIB // 4)
    vm.sh("mkdir -p /tmp/m; mount -t ext4 -o dax /dev/pmem2 /tmp/m; cp /bin/busybox /tmp/m/; sync")
    assert "dax" in vm.sh("grep pmem2 /proc/mounts")
    assert vm.sh("/tmp/m/busybox echo runs") == "runs\n"
    vm.sh("/tmp/m/busybox md5sum /bin/busybox >/tmp/1; md5sum /tmp/m/busybox >/tmp/2; "
          "[ $(cut -c1-32 /tmp/1) = $(cut -c1-32 /tmp/2) ]")
    vm.sh("umount /tmp/m")


@pytest.mark.parametrize("read_only", [False, True])
def test_a_root_in_persistent_memory(vm, folder, read_only):
    path = guest.rootfs(folder / "root.ext4")
    vm.configure(root=False)
    add(vm, path, "r", root_device=True, read_only=read_only)
    vm.start()
    vm.ready()
    mode = "ro" if read_only else "rw"
    assert f"root=/dev/pmem0 {mode} " in vm.sh("cat /proc/cmdline")
    assert f"/dev/pmem0 / ext4 {mode}" in vm.sh("cat /proc/mounts")
    if not read_only:
        vm.sh("echo kept >/root/file; sync")
        assert vm.reboot() == 0
        assert b"kept\n" in path.read_bytes()


def test_limits_are_patched(vm, folder):
    (folder / "f").write_bytes(b"x" * MIB)
    add(vm, folder / "f")
    body = {"id": "p", "rate_limiter": {"bandwidth": {"size": 7, "refill_time": 8}}}
    refused(vm.patch("/pmem/p", body), "The requested operation is not supported before starting the microVM.")
    vm.configure()
    vm.start()
    ok(vm.patch("/pmem/p", body))
    assert vm.get("/vm/config").json()["pmem"][0]["rate_limiter"]["bandwidth"]["size"] == 7
    refused(vm.patch("/pmem/q", {**body, "id": "q"}),
            "Pmem config error: Unable to patch the pmem device: Failed perform action on device: Device not found "
            "Please verify the request arguments.")


def test_memory_is_plugged_and_pulled_on_pci(new_vm, folder):
    vm = new_vm("--enable-pci")
    (folder / "f").write_bytes(b"plug" * (2 * MIB // 4))
    vm.boot()
    refused(vm.put("/pmem/p", pmem(folder / "missing")),
            "Pmem config error: Unable to create the virtio-pmem device: Error accessing backing file: "
            "No such file or directory (os error 2)")
    for _ in range(2):
        add(vm, folder / "f")
        refused(vm.put("/pmem/p", pmem(folder / "f")), "Device ID in use")
        vm.sh("echo 1 >/sys/bus/pci/rescan; n=0; while [ ! -b /dev/pmem0 ] && [ $n -lt 100 ]; do sleep 0.05; n=$((n+1)); done")
        assert vm.sh("dd if=/dev/pmem0 bs=4 count=1 2>/dev/null") == "plug"
        vm.sh("for d in /sys/bus/pci/devices/*; do [ $(cat $d/device) = 0x105b ] && echo 1 >$d/remove; done; true")
        ok(vm.delete("/pmem/p"))
        refused(vm.delete("/pmem/p"), "Device not found")


def test_a_snapshot_finds_the_memory_where_it_was(new_vm, folder):
    vm = new_vm()
    (folder / "f").write_bytes(b"abcd" * (3 * MIB // 4))
    add(vm, folder / "f")
    vm.boot()
    vm.sh("echo hello | dd of=/dev/pmem0 conv=notrunc,fsync 2>/dev/null; sync")
    ok(vm.patch("/vm", {"state": "Paused"}))
    paths = str(folder / "state"), str(folder / "mem")
    ok(vm.put("/snapshot/create", {"snapshot_path": paths[0], "mem_file_path": paths[1]}))
    vm.kill()
    body = {"snapshot_path": paths[0], "mem_backend": {"backend_type": "File", "backend_path": paths[1]}, "resume_vm": True}
    other = new_vm()
    ok(other.put("/snapshot/load", body))
    assert other.sh("echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/pmem0 bs=5 count=1 2>/dev/null") == "hello"
    other.kill()
    (folder / "f").write_bytes(b"x" * 5 * MIB)
    other = new_vm()
    refused_with(other.put("/snapshot/load", body),
                 f"Restored pmem size {4 * MIB} does not match backing file mapping size {6 * MIB}")


def test_a_snapshot_after_memory_was_pulled(new_vm, folder):
    """What stays is not where it would be put in a machine that never had the other."""
    vm = new_vm("--enable-pci")
    for name in "ab":
        (folder / name).write_bytes(name.encode() * 2 * MIB)
        add(vm, folder / name, name)
    vm.boot()
    vm.sh("for d in /sys/bus/pci/devices/*; do [ $(cat $d/device) = 0x105b ] && { echo 1 >$d/remove; break; }; done; true")
    ok(vm.delete("/pmem/a"))
    place = vm.sh("cat /sys/block/pmem1/device/resource")
    ok(vm.patch("/vm", {"state": "Paused"}))
    paths = str(folder / "state"), str(folder / "mem")
    ok(vm.put("/snapshot/create", {"snapshot_path": paths[0], "mem_file_path": paths[1]}))
    vm.kill()
    other = new_vm("--enable-pci")
    ok(other.put("/snapshot/load", {
        "snapshot_path": paths[0], "mem_backend": {"backend_type": "File", "backend_path": paths[1]}, "resume_vm": True}))
    assert other.sh("cat /sys/block/pmem1/device/resource") == place
    assert other.sh("echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/pmem1 bs=4 count=1 2>/dev/null") == "bbbb"
    # and the place of the one that went is free
    ok(other.put("/pmem/c", pmem(folder / "a", "c")))
