"""hotplug/memory: what can be plugged, and a guest that grows and shrinks."""

import pytest

from microvm import BOOT_ARGS, ok, refused
from test_snapshot import create, pause, restore, resume

CONFIG = "Memory hotplug config error: "
UPDATE = "Memory hotplug update error: "
NO_DEVICE = "Failed perform action on device: Device not found"


@pytest.mark.parametrize("body, text", [
    ({"total_size_mib": 1024, "block_size_mib": 1}, "Block size must not be lower than 2 MiB"),
    ({"total_size_mib": 1024, "block_size_mib": 3}, "Block size must be a power of 2"),
    ({"total_size_mib": 1024, "slot_size_mib": 64}, "Slot size must not be lower than 128 MiB"),
    ({"total_size_mib": 1024, "block_size_mib": 4, "slot_size_mib": 130},
     "Slot size must be a multiple of block size (4 MiB)"),
    ({"total_size_mib": 64}, "Total size must not be lower than slot size (128 MiB)"),
    ({"total_size_mib": 200}, "Total size must be a multiple of slot size (128 MiB)"),
])
def test_what_cannot_be_plugged(vm, body, text):
    refused(vm.put("/hotplug/memory", body), CONFIG + text)
    assert vm.get("/vm/config").json().get("memory-hotplug") is None


def test_without_a_device(vm):
    refused(vm.patch("/hotplug/memory", {"requested_size_mib": 0}),
            "The requested operation is not supported before starting the microVM.")
    vm.boot()
    refused(vm.patch("/hotplug/memory", {"requested_size_mib": 0}), UPDATE + NO_DEVICE)
    refused(vm.get("/hotplug/memory"), "Internal VMM error: " + NO_DEVICE)
    refused(vm.put("/hotplug/memory", {"total_size_mib": 1024}),
            "The requested operation is not supported after starting the microVM.")


def hot_guest(new_vm, tracked=False):
    vm = new_vm()
    vm.configure(boot_args=BOOT_ARGS + " memhp_default_state=online_movable")
    ok(vm.patch("/machine-config", {"track_dirty_pages": tracked}))
    ok(vm.put("/hotplug/memory", {"total_size_mib": 1024}))
    vm.start()
    vm.ready(60)
    return vm


def request(vm, mib, seconds=60):
    ok(vm.patch("/hotplug/memory", {"requested_size_mib": mib}))
    vm.wait_for(lambda: status(vm)["plugged_size_mib"] == mib, f"{mib} MiB", seconds)


def status(vm):
    return ok(vm.get("/hotplug/memory")).json()


def total_mib(vm):
    return int(vm.sh("awk '/MemTotal/ {print $2}' /proc/meminfo")) >> 10


def resident_mib(vm):
    with open(f"/proc/{vm.process.pid}/status") as file:
        return next(int(line.split()[1]) >> 10 for line in file if line.startswith("VmRSS"))


def test_a_guest_grows_and_shrinks(new_vm):
    vm = hot_guest(new_vm)
    before = total_mib(vm)
    assert status(vm) == {"block_size_mib": 2, "total_size_mib": 1024, "slot_size_mib": 128, "plugged_size_mib": 0,
                          "requested_size_mib": 0}
    for bad in (1, 1026, 1 << 40):
        refused(vm.patch("/hotplug/memory", {"requested_size_mib": bad}),
                UPDATE + f"Failed to create memory hotplug device: Size {bad << 20} is invalid: it must be a multiple of "
                "block size and less than the total size")
    request(vm, 512)
    vm.wait_for(lambda: total_mib(vm) >= before + 500, "memory in use")
    # it can be used
    vm.sh("mount -o remount,size=500m /tmp; dd if=/dev/zero of=/tmp/big bs=1M count=300 2>/dev/null; md5sum /tmp/big")
    full = resident_mib(vm)
    vm.sh("rm /tmp/big")
    request(vm, 256)
    request(vm, 0)
    assert resident_mib(vm) < full - 200
    vm.wait_for(lambda: total_mib(vm) <= before + 8, "memory out of use")
    request(vm, 1024)
    assert vm.reboot() == 0


@pytest.mark.parametrize("tracked", [False, True], ids=["untracked", "tracked"])
def test_plugged_memory_is_in_a_snapshot(new_vm, tracked):
    vm = hot_guest(new_vm, tracked)
    request(vm, 384)
    vm.sh("mount -o remount,size=400m /tmp; dd if=/dev/urandom of=/tmp/big bs=1M count=250 2>/dev/null")
    want = vm.sh("md5sum </tmp/big")
    pause(vm)
    paths = create(vm, kind="Diff" if tracked else "Full")
    resume(vm)
    vm.kill()
    loaded = restore(new_vm, paths)
    assert loaded.sh("md5sum </tmp/big") == want
    assert status(loaded)["plugged_size_mib"] == 384
    loaded.sh("rm /tmp/big")
    request(loaded, 640)
    request(loaded, 0)
    assert loaded.reboot() == 0
