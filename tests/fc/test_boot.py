"""Kernels, initrds, command lines, many CPUs."""

import guest
import pytest
from microvm import BOOT_ARGS, ok, refused_with


def cmdline(vm):
    return vm.sh("cat /proc/cmdline").strip()


@pytest.fixture(scope="module")
def booted(debian):
    return debian


def test_bzimage_boots_to_userspace(booted):
    assert booted.sh("uname -r").strip().endswith("cloud-amd64")


def test_an_elf_kernel_boots_by_pvh(new_vm, booted):
    """As its note asks; the memory that it finds is that of a bzImage."""
    if not guest.vmlinux():
        pytest.skip("this kernel's packing is not known to the test")
    vm = new_vm("--level", "Debug").boot(kernel=guest.vmlinux())
    vm.has_log("Kernel loaded using PVH boot protocol\n")
    memory = "grep 'System RAM' /proc/iomem"
    assert vm.sh(memory) == booted.sh(memory)
    assert cmdline(vm) == cmdline(booted)
    assert vm.reboot() == 0


def test_a_bzimage_boots_by_the_64_bit_protocol(new_vm):
    vm = new_vm("--level", "Debug").boot(kernel=guest.debian())
    vm.has_log("Kernel loaded using Linux 64-bit boot protocol (bzImage)\n")


def test_the_command_line_grows_with_the_devices(booted):
    assert cmdline(booted) == (
        f"{BOOT_ARGS} pci=off root=/dev/vda rw virtio_mmio.device=4K@0xc0001000:5"
    )
    iomem = booted.sh("cat /proc/iomem")
    assert "c0001000-c0001fff" in iomem
    assert "00000000-00000fff : Reserved" in iomem


def test_init_params(vm):
    """What comes behind " -- " is the init's, unchanged and last."""
    vm.boot(boot_args=f"  {BOOT_ARGS} -- one two=2 --three ")
    assert cmdline(vm).startswith(BOOT_ARGS)
    assert cmdline(vm).endswith("virtio_mmio.device=4K@0xc0001000:5 -- one two=2 --three")
    assert vm.sh("cat /run/init-args").strip() == "one two=2 --three"


def test_without_root_nothing_is_said_of_one(vm):
    vm.boot(root=False)
    assert cmdline(vm) == f"{BOOT_ARGS} pci=off"


def test_a_command_line_that_grows_too_long_is_refused(vm):
    vm.configure(boot_args="x" * 2030)
    refused_with(vm.put("actions", {"action_type": "InstanceStart"}), "Start microvm error: Invalid kernel command line: ")
    vm.configure()
    vm.start()


def test_an_initrd_larger_than_memory_is_refused(vm):
    vm.configure(root=False, mem=64)
    with open(vm.folder / "big", "wb") as f:
        f.truncate(65 << 20)
    ok(vm.put("boot-source", {"kernel_image_path": str(guest.kernel()), "initrd_path": "big"}))
    refused_with(vm.put("actions", {"action_type": "InstanceStart"}), "Start microvm error: Error with initrd initialization: ")


@pytest.mark.parametrize("image,text", [
    (b"", "Start microvm error: "), (b"\x7fELF", "Start microvm error: "), (b"#!/bin/sh\n", "Start microvm error: "),
])
def test_what_is_no_kernel_is_refused(vm, image, text):
    (vm.folder / "image").write_bytes(image)
    ok(vm.put("boot-source", {"kernel_image_path": "image"}))
    refused_with(vm.put("actions", {"action_type": "InstanceStart"}), text)


def test_all_vcpus_online(vm):
    vm.boot(root=False, vcpus=4, mem=256)
    assert vm.sh("cat /sys/devices/system/cpu/online").strip() == "0-3"
    assert {"firecracker", "fc_api", "fc_vcpu 0", "fc_vcpu 3"} <= set(vm.threads())


def test_run_concurrency(new_vm):
    vms = [new_vm() for _ in range(3)]
    for each in vms:
        each.configure(root=False)
        each.start()
    for each in vms:
        each.ready()
        assert each.get("/").json()["state"] == "Running"
    assert [each.reboot() for each in vms] == [0] * 3
