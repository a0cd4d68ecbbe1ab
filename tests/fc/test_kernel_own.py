"""A kernel with everything built in, as Firecracker's users build theirs: an ELF, no initrd."""

import guest
import pytest
import taps
from microvm import BOOT_ARGS, ok
from test_snapshot import create, pause, restore

pytestmark = pytest.mark.skipif(
    not guest.kernel_own(), reason="no kernel built here: tools/build-kernel microvm (minutes)")

# The transport, and how the guest learns of it.
WAYS = {
    "mmio-acpi": ([], ""),
    "mmio-cmdline": ([], " acpi=off"),
    "pci-acpi": (["--enable-pci"], ""),
}


def configure(vm, words="", **kwargs):
    vm.configure(kernel=guest.kernel_own(), initrd=False, boot_args=BOOT_ARGS + words, **kwargs)


def boot(vm, words="", **kwargs):
    configure(vm, words, **kwargs)
    vm.start()
    vm.ready()
    return vm


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


def test_it_boots_from_its_root_drive_alone(new_vm, way):
    flags, words = way
    vm = boot(new_vm(*flags), words, vcpus=2)
    assert vm.sh("uname -r").strip().endswith("-ec1-microvm")
    vm.sh("[ ! -e /proc/modules ] && [ ! -d /modules ]")
    assert " / ext4 rw" in vm.sh("cat /proc/mounts")
    assert vm.sh("cat /sys/devices/system/cpu/online").strip() == "0-1"
    assert ("pci" in vm.sh("readlink -f /sys/block/vda")) == ("--enable-pci" in flags)
    assert ("acpi" in vm.sh("ls /sys/firmware")) == (words == "")
    vm.sh("dd if=/dev/zero of=/written bs=64k count=16 2>/dev/null && sync && rm /written")
    assert vm.reboot() == 0


def test_each_kind_of_device_has_its_driver(new_vm, way):
    flags, words = way
    vm = new_vm(*flags)
    configure(vm, words)
    (vm.folder / "memory").write_bytes(b"pmem" * (2 << 18))
    ok(vm.put("/balloon", {"amount_mib": 16, "deflate_on_oom": True, "stats_polling_interval_s": 1}))
    ok(vm.put("/vsock", {"guest_cid": 3, "uds_path": "vsock"}))
    ok(vm.put("/entropy", {}))
    ok(vm.put("/pmem/p", {"id": "p", "path_on_host": "memory"}))
    vm.start()
    vm.ready()
    drivers = vm.sh("for d in /sys/bus/virtio/devices/*; do basename $(readlink $d/driver); done").split()
    assert sorted(drivers) == [
        "virtio_balloon", "virtio_blk", "virtio_pmem", "virtio_rng", "vmw_vsock_virtio_transport"]
    assert vm.sh("dd if=/dev/pmem0 bs=4 count=1 2>/dev/null") == "pmem"
    assert vm.sh("cat /sys/class/misc/hw_random/rng_current").startswith("virtio_rng")
    vm.sh("[ $(dd if=/dev/hwrng bs=16 count=1 2>/dev/null | wc -c) = 16 ]")
    vm.wait_for(lambda: vm.get("/balloon/statistics").json()["actual_mib"] == 16, "the balloon")


def test_the_vm_generation_reseeds_it(new_vm):
    vm = boot(new_vm(), " random.trust_cpu=on")  # a pool that is not ready is not reseeded
    forks = "dmesg | grep -c 'reseeded due to virtual machine fork' || true"
    assert "VMGENCTR:00" in vm.sh("ls /sys/bus/acpi/drivers/vmgenid")
    assert vm.sh(forks) == "0\n"
    pause(vm)
    paths = create(vm)
    vm.kill()
    loaded = restore(new_vm, paths)
    loaded.wait_for(lambda: loaded.sh(forks) == "1\n", "new random numbers")


def test_the_keyboard_is_found(vm):
    boot(vm)
    vm.wait_for(lambda: "AT" in vm.sh("cat /proc/bus/input/devices"), "the keyboard", 60)


def test_its_clock_device_is_there(vm):
    assert "KVM virtual PTP" in boot(vm).sh("cat /sys/class/ptp/*/clock_name")


def test_a_root_in_persistent_memory(vm):
    configure(vm, root=False)
    path = guest.rootfs(vm.folder / "root.ext4")
    ok(vm.put("/pmem/r", {"id": "r", "path_on_host": str(path), "root_device": True, "read_only": True}))
    vm.start()
    vm.ready()
    assert " / ext4 ro" in vm.sh("cat /proc/mounts")


def test_its_address_comes_from_the_command_line(new_vm):
    with taps.namespace():
        taps.tap("tap0", "172.16.0.1/24")
        vm = new_vm()
        configure(vm, " ip=172.16.0.2::172.16.0.1:255.255.255.0::eth0:off")
        ok(vm.put("/network-interfaces/eth0", taps.net("eth0", "tap0")))
        vm.start()
        vm.ready()
        assert "172.16.0.2/24" in vm.sh("ip addr show eth0")
        vm.sh("ping -c 1 -W 20 172.16.0.1")
