"""Serial port, keyboard, boot timer, CPU, tables and the VM's generation, as guest and client see them."""

import json
import os
import pty
import re
import struct
import termios
import time

import guest
import pytest
from microvm import BOOT_ARGS, MicroVm, ok, refused, refused_with

# Programs may write to what is not RAM.
RELAXED = BOOT_ARGS + " iomem=relaxed"


def last_metrics(vm, path):
    ok(vm.put("actions", {"action_type": "FlushMetrics"}))
    return [json.loads(line) for line in path.read_text().splitlines()]


def total(all_lines, group, name):
    return sum(line[group][name] for line in all_lines)


# --- serial port ---

def test_serial_file_output(vm, folder):
    path = folder / "serial"
    path.write_text("kept\n" * 3)
    ok(vm.put("serial", {"serial_out_path": str(path)}))
    vm.configure()
    vm.start()
    vm.wait_for(lambda: b"GUEST-READY" in path.read_bytes(), "the guest", 300)
    assert vm.console() == ""
    refused(vm.put("serial", {"serial_out_path": str(path)}),
            "The requested operation is not supported after starting the microVM.")
    assert "serial" not in vm.get("vm/config").json()


def test_serial_file_that_cannot_be_opened(vm):
    ok(vm.put("serial", {"serial_out_path": "/no/such/file"}))
    vm.configure(root=False)
    refused_with(vm.put("actions", {"action_type": "InstanceStart"}), "No such file or directory (os error 2)")
    ok(vm.put("serial", {}))
    vm.start()


def test_serial_rate_limiting(new_vm, folder):
    metrics = folder / "metrics"
    path = folder / "serial"
    vm = new_vm("--metrics-path", str(metrics))
    ok(vm.put("serial", {"serial_out_path": str(path),
                         "rate_limiter": {"size": 1000, "one_time_burst": 500, "refill_time": 3600000}}))
    vm.configure(boot_args=BOOT_ARGS.replace(" quiet", ""))
    vm.start()
    vm.wait_for(lambda: total(last_metrics(vm, metrics), "uart", "rate_limiter_dropped_bytes") > 5000, "loss", 300)
    assert 1490 <= path.stat().st_size <= 1510


def test_serial_block(folder):
    """A reader that stops does not stop the guest; what is lost is counted."""
    metrics = folder / "metrics"
    os.mkfifo(folder / "console")
    reader = os.open(folder / "console", os.O_RDONLY | os.O_NONBLOCK)
    vm = MicroVm(folder, "--metrics-path", str(metrics))
    try:
        vm.configure(boot_args=BOOT_ARGS.replace(" quiet", ""))
        vm.start()

        def is_lost():
            vm.type("yes\n")  # what is typed before there is a shell goes nowhere
            time.sleep(0.5)
            return total(last_metrics(vm, metrics), "uart", "missed_write_count") > 100_000

        vm.wait_for(is_lost, "loss", 300)  # a pipe has 64 KiB
        seen = last_metrics(vm, metrics)
        written, lost = (total(seen, "uart", name) for name in ("write_count", "missed_write_count"))
        assert 65_000 <= written - lost <= 66_000
        assert len(os.read(reader, 100_000)) >= 65_000
    finally:
        vm.kill()
        os.close(reader)


def test_serial_dos(vm):
    """A guest that does not read leaves the input where it is."""
    vm.boot()
    vm.type("sleep 1000\n")
    time.sleep(0.5)
    os.set_blocking(vm.fifo, False)
    before = rss(vm)
    for _ in range(2000):
        try:
            os.write(vm.fifo, b"i" * 4096)
        except BlockingIOError:
            time.sleep(0.001)
    assert rss(vm) - before < 4096


def rss(vm):
    text = open(f"/proc/{vm.process.pid}/status").read()
    # Without the guest's memory, which is a shared or private mapping of its own that grows as it likes.
    return int(re.search(r"VmData:\s+(\d+)", text).group(1))


def test_no_serial_fd_error_when_daemonized(new_vm):
    vm = new_vm(console=False)
    vm.configure(root=False)
    vm.start()
    vm.wait_for(lambda: "GUEST-READY" in vm.console(), "the guest", 300)
    assert "Could not watch stdin" not in vm.log()


def test_console_login(folder):
    """stdin and stdout are a terminal: raw while the VM runs, as it was before and after."""
    ours, theirs = pty.openpty()
    place = folder / "tty"
    place.mkdir()
    vm = MicroVm(place, console=False, stdin=theirs)
    vm.configure(root=False)
    before = termios.tcgetattr(ours)
    assert before[3] & termios.ICANON
    try:
        vm.start()
        assert not termios.tcgetattr(ours)[3] & (termios.ICANON | termios.ECHO)
        vm.wait_for(lambda: "GUEST-READY" in vm.console(), "the guest", 300)
        os.write(ours, b"echo $((6 * 7))\n")
        vm.wait_for(lambda: "42" in vm.console(), "the shell", 60)
        os.write(ours, b"reboot -f\n")
        assert vm.wait() == 0
        assert termios.tcgetattr(ours) == before
        assert os.get_blocking(theirs)
    finally:
        vm.kill()
        os.close(ours)
        os.close(theirs)


# --- keyboard and boot timer ---

def test_send_ctrl_alt_del(vm):
    vm.boot()
    vm.sh("insmod /modules/i8042.ko 2>/dev/null; true")
    # The kernel restarts at once.
    vm.sh("echo 1 >/proc/sys/kernel/ctrl-alt-del")
    vm.wait_for(lambda: "AT" in vm.sh("cat /proc/bus/input/devices"), "the keyboard", 60)
    ok(vm.put("actions", {"action_type": "SendCtrlAltDel"}))
    assert vm.wait() == 0


def test_boot_timer(new_vm):
    vm = new_vm("--boot-timer").boot(boot_args=RELAXED)
    assert "Guest-boot-time" not in vm.log()
    vm.sh("guest_tool poke 0xc0000000 122")
    assert "Guest-boot-time" not in vm.log()
    vm.sh("guest_tool poke 0xc0000000 123")
    vm.has_log("Guest-boot-time = ")
    found = re.search(r"Guest-boot-time = ([ \d]{6,}) us (\d+) ms, ([ \d]{6,}) CPU us (\d+) CPU ms", vm.log())
    us, ms, cpu_us, cpu_ms = (int(x) for x in found.groups())
    assert us // 1000 == ms and cpu_us // 1000 == cpu_ms and 0 < cpu_us


# --- tables ---

def test_acpi_tables(booted):
    tables = booted.sh("ls /sys/firmware/acpi/tables").split()
    assert {"APIC", "DSDT", "FACP", "MCFG"} <= set(tables)
    assert "FIRECKFCVMDSDT" in booted.sh("head -c 24 /sys/firmware/acpi/tables/DSDT | tail -c 14; echo")
    names = booted.sh("cat /sys/bus/acpi/devices/*/hid").split()
    for hid in ("LNRO0005", "PNP0501", "PNP0303", "ACPI0013", "VMGENCTR", "AMZNC10C"):
        assert hid in names, names
    lines = booted.sh("cat /proc/interrupts")
    assert lines.count("ACPI:Ged") == 2


def test_vmclock_read_fields(new_vm):
    vm = new_vm().boot(boot_args=RELAXED)
    data = bytes.fromhex(
        vm.sh("dd if=/dev/mem bs=4096 skip=222 count=1 2>/dev/null | head -c 112 | hexdump -v -e '1/1 \"%02x\"'"))
    magic, size, version, counter, _, seq, disruption, flags = struct.unpack_from("<IIHBBIQQ", data)
    assert (magic, size, version, counter) == (0x4B4C4356, 0x1000, 1, 255)
    assert (seq, disruption, flags) == (0, 0, 0x300)
    assert data[0x22] == 0  # status unknown
    assert struct.unpack_from("<Q", data, 0x68) == (0,)
    vmgenid = bytes.fromhex(
        vm.sh("dd if=/dev/mem bs=16 skip=57343 count=1 2>/dev/null | hexdump -v -e '1/1 \"%02x\"'"))
    assert len(vmgenid) == 16 and len(set(vmgenid)) > 4


def test_too_many_devices(vm, folder):
    vm.configure(root=False)
    for i in range(18):
        path = folder / f"disk{i}"
        path.write_bytes(bytes(512))
        ok(vm.put(f"drives/d{i}", {"drive_id": f"d{i}", "path_on_host": str(path), "is_root_device": False}))
    refused_with(vm.put("actions", {"action_type": "InstanceStart"}),
                 "Could not allocate GSI: The requested resource is not available.")


def test_kvm_ptp(booted):
    names = booted.sh("cat /sys/class/ptp/*/clock_name")
    assert "KVM virtual PTP" in names


# --- CPU ---

def cpuid(vm, leaf, subleaf=0):
    return [int(x, 16) for x in vm.sh(f"guest_tool cpuid {leaf:#x} {subleaf:#x}").split()]


@pytest.mark.parametrize("vcpus,smt", [(1, False), (2, True), (4, False), (4, True)])
def test_cpu_topology(vm, vcpus, smt):
    vm.configure()
    ok(vm.patch("machine-config", {"vcpu_count": vcpus, "smt": smt}))
    vm.start()
    vm.ready()
    assert vm.sh("cat /sys/devices/system/cpu/online").strip() == ("0" if vcpus == 1 else f"0-{vcpus - 1}")
    siblings = vm.sh("cat /sys/devices/system/cpu/cpu0/topology/thread_siblings_list").strip()
    assert siblings == ("0-1" if smt and vcpus > 1 else "0")
    assert vm.sh("cat /sys/devices/system/cpu/cpu*/topology/physical_package_id").split() == ["0"] * vcpus
    shared = vm.sh("cat /sys/devices/system/cpu/cpu0/cache/index3/shared_cpu_list").strip()
    assert shared == ("0" if vcpus == 1 else f"0-{vcpus - 1}")
    threads = 2 if smt and vcpus > 1 else 1
    assert cpuid(vm, 0xB, 0)[:3] == [threads - 1, threads, 0x100]
    assert cpuid(vm, 0xB, 1)[:3] == [5, vcpus, 0x201]
    leaf1 = cpuid(vm, 1)
    assert leaf1[1] >> 8 & 0xFF == 8 and leaf1[1] >> 16 & 0xFF == vcpus
    assert bool(leaf1[3] >> 28 & 1) == (vcpus > 1)


def test_brand_string(booted):
    vendor = open("/proc/cpuinfo").read()
    brand = re.search(r"model name\s*: (.*)", booted.sh("cat /proc/cpuinfo")).group(1)
    if "AuthenticAMD" in vendor:
        assert brand == "AMD EPYC"
    else:
        assert re.fullmatch(r"Intel\(R\) Xeon\(R\) Processor( @ \d\.\d\dGHz)?", brand)


def leaf(leaf, subleaf, register, bitmap, flags=0):
    return {"leaf": leaf, "subleaf": subleaf, "flags": flags,
            "modifiers": [{"register": register, "bitmap": bitmap}]}


def test_custom_template(vm):
    vm.configure()
    ok(vm.put("cpu-config", {
        "kvm_capabilities": ["!56"],
        "cpuid_modifiers": [
            leaf("0x7", "0x0", "ebx", "0b0xxxx0xxx", 1),  # BMI1 stays away with ERMS below
            leaf("0x1", "0b0", "ecx", "0b0xxxxxxxxxxxxxxxxxxxxxxx"),  # POPCNT
        ],
    }))
    assert "cpu_template" not in vm.get("machine-config").json()
    assert vm.get("vm/config").json()["cpu-config"] is None
    vm.start()
    vm.ready()
    assert cpuid(vm, 7)[1] & (1 << 8 | 1 << 3) == 0
    assert cpuid(vm, 1)[2] & 1 << 23 == 0
    assert "popcnt" not in vm.sh("grep -m1 ^flags /proc/cpuinfo").split()


def test_template_that_does_not_fit(vm):
    vm.configure(root=False)
    ok(vm.put("cpu-config", {"cpuid_modifiers": [leaf("0x77", "0x0", "eax", "1")]}))
    refused(vm.put("actions", {"action_type": "InstanceStart"}),
            "Start microvm error: Failed to create guest config: Template changes a CPUID entry not supported by KVM: "
            "Leaf: 77, Subleaf: 0")
    ok(vm.put("cpu-config", {"msr_modifiers": [{"addr": "0xfff", "bitmap": "0b1"}]}))
    refused(vm.put("actions", {"action_type": "InstanceStart"}),
            "Start microvm error: Failed to create guest config: Template changes an MSR entry not supported by KVM: "
            "Register Address: fff")
    # The later one wins.
    ok(vm.patch("machine-config", {"cpu_template": "None"}))
    vm.start()


@pytest.mark.parametrize("name", ["C3", "T2", "T2S", "T2CL", "T2A"])
def test_static_template(vm, name):
    """This host may or may not be one of those that have it."""
    vm.configure(root=False)
    answer = ok(vm.patch("machine-config", {"cpu_template": name}))
    assert answer.headers["Deprecation"] == "true"
    assert vm.get("machine-config").json()["cpu_template"] == name
    started = vm.put("actions", {"action_type": "InstanceStart"})
    if started.status_code == 400:
        assert started.json()["fault_message"].endswith((
            "CPU vendor mismatched between actual CPU and CPU template.",
            "The current CPU model is not permitted to apply the CPU template."))


@pytest.mark.parametrize("body,text", [
    ({"cpuid_modifiers": [leaf("1", "0x0", "eax", "1")]}, "No supported number system prefix found in value [1]."),
    ({"cpuid_modifiers": [leaf("0x1", "0x0", "rax", "1")]}, "Must be one of [eax, ebx, ecx, edx]"),
    ({"cpuid_modifiers": [leaf("0x1", "0x0", "eax", "0" * 33)]}, "as a bitmap - string is too long"),
    ({"nope": []}, "unknown field `nope`"),
])
def test_malformed_templates(vm, body, text):
    answer = vm.put("cpu-config", body)
    refused_with(answer, text)
    assert answer.json()["fault_message"].startswith("An error occurred when deserializing the json body of a request: ")


def test_template_in_a_configuration_file(new_vm, folder):
    """Written out, or by the name of a file."""
    template = {"cpuid_modifiers": [leaf("0x1", "0x0", "ecx", "0b0xxxxxxxxxxxxxxxxxxxxxxx")]}
    path = folder / "template.json"
    path.write_text(json.dumps(template))
    for value in (template, str(path)):
        config = {
            "boot-source": {"kernel_image_path": str(guest.kernel()), "initrd_path": str(guest.initrd()),
                            "boot_args": BOOT_ARGS},
            "drives": [], "machine-config": {"vcpu_count": 1, "mem_size_mib": 128}, "cpu-config": value,
        }
        (folder / "config.json").write_text(json.dumps(config))
        vm = new_vm("--config-file", str(folder / "config.json"))
        vm.ready()
        assert cpuid(vm, 1)[2] & 1 << 23 == 0
        vm.kill()
