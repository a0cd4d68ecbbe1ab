"""`ec1 run`: one VM each, from start to end."""

import json
import os
import re
import signal
import subprocess
import time

import pytest

from conftest import ENGINE

SYSRQ = "echo 1 > /proc/sys/kernel/sysrq; echo {} > /proc/sysrq-trigger; sleep 60"


def test_run_streams_status_and_nothing_left(ec1):
    before = ec1.leftovers()
    done = ec1.run("sh", "-c", "echo out; echo err >&2; cat; exit 7", input=b"abc")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\nabc", b"err\n", 7)
    assert ec1.leftovers() == before


def test_working_directory_user_and_environment_are_kept(ec1):
    env = dict(ec1.env, EC1_TEST_VALUE="kept")
    done = ec1.run("sh", "-c", "pwd; id -u; id -g; echo $EC1_TEST_VALUE; umask", cwd="/usr/share", env=env)
    umask = os.umask(0)
    os.umask(umask)
    want = f"/usr/share\n{os.getuid()}\n{os.getgid()}\nkept\n{umask:04o}\n"
    assert done.stdout.decode() == want, done.stderr


def test_a_panic_is_255_and_shows_the_console(ec1):
    done = ec1.run("sh", "-c", SYSRQ.format("c"), flags=["-u", "root"])
    assert done.returncode == 255
    assert b"Kernel panic" in done.stderr and b"panic" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("key, word", [("o", b"power"), ("b", b"reboot")])
def test_poweroff_and_reboot_are_told_apart(ec1, key, word):
    done = ec1.run("sh", "-c", SYSRQ.format(key), flags=["-u", "root"])
    assert done.returncode == 125 and word in done.stderr, done.stderr


@pytest.mark.parametrize("sig, word", [("USR2", b"power"), ("TERM", b"reboot")])
def test_an_orderly_end_from_inside_is_the_outcome(ec1, sig, word):
    done = ec1.run("sh", "-c", f"kill -{sig} 1; sleep 60", flags=["-u", "root"])
    assert done.returncode == 125 and word in done.stderr, done.stderr


def test_a_reboot_by_way_of_the_bios_is_a_reboot(ec1):
    done = ec1.run("sh", "-c", SYSRQ.format("b"), flags=["-u", "root", "-a", "reboot=b"])
    assert done.returncode == 125 and b"reboot" in done.stderr, done.stderr


def test_terminate_ends_the_command_and_the_vm(ec1):
    proc = ec1.popen("run", "--engine", ENGINE, "--", "sh", "-c", "echo up; exec sleep 1000", stdout=subprocess.PIPE)
    assert proc.stdout.readline() == b"up\n"
    proc.send_signal(signal.SIGTERM)
    assert proc.wait(60) == 143


def test_timeout_ends_a_run(ec1):
    done = ec1.run("sleep", "1000", flags=["--timeout", "5s"])
    assert done.returncode == 125 and b"timeout" in done.stderr


def test_killed_monitors_leave_nothing_to_stumble_over(ec1):
    before = ec1.leftovers()
    for delay in (0.02, 0.3, 2.0):
        proc = ec1.popen("run", "--engine", ENGINE, "--", "sleep", "100")
        time.sleep(delay)
        proc.kill()
        proc.wait()
    assert ec1.run("echo", "fine").stdout == b"fine\n"
    # folders whose maker died before it took its lock are kept half a minute
    assert [n for n in ec1.leftovers() if not n.startswith(".new-")] == before


def test_two_at_once_on_the_same_root(ec1):
    script = "echo {0} > /etc/ec1-two; sleep 1; cat /etc/ec1-two"
    procs = [
        ec1.popen("run", "--engine", ENGINE, "-u", "root", "--", "sh", "-c", script.format(i), stdout=subprocess.PIPE)
        for i in range(2)
    ]
    assert [p.communicate(timeout=300)[0] for p in procs] == [b"0\n", b"1\n"]
    assert not os.path.exists("/etc/ec1-two")


def test_detached_life(ec1):
    run = ["run", "--engine", ENGINE, "-d", "--name", "life", "--"]
    done = ec1(*run, "sh", "-c", "echo hello; echo bad >&2; exec sleep 1000", check=0)
    ident = done.stdout.decode().strip()
    assert re.fullmatch("[0-9a-f]{12}", ident)
    try:
        listed = ec1("ps").stdout.decode()
        assert "life" in listed and ident in listed
        (row,) = [r for r in json.loads(ec1("ps", "--json").stdout) if r["id"] == ident]
        assert row["name"] == "life" and row["status"] == "running" and row["engine"] in ("kvm", "soft")
        assert ec1("exec", "life", "--", "echo", "again").stdout == b"again\n"
        assert ec1("exec", ident[:6], "--", "echo", "by id").stdout == b"by id\n"
        logs = ec1("logs", "life")
        assert logs.stdout == b"hello\n" and logs.stderr == b"bad\n"
        done = ec1(*run, "true")
        assert done.returncode == 125 and b"name 'life'" in done.stderr
    finally:
        assert ec1("stop", "life").returncode == 0
    assert b"life" not in ec1("ps").stdout
    assert b"life" in ec1("ps", "-a").stdout
    assert ec1("logs", "life").stdout == b"hello\n"
    ec1("rm", "life", check=0)
    assert b"life" not in ec1("ps", "-a").stdout
    assert ec1("exec", "life", "--", "true").returncode == 125


@pytest.mark.parametrize("command,status", [("/nonexistent", 127), ("/etc/passwd", 126)])
def test_detached_says_when_the_command_does_not_start(ec1, command, status):
    done = ec1("run", "--engine", ENGINE, "-d", "--rm", "--", command)
    assert (done.returncode, done.stdout) == (status, b"")
    assert command.encode() in done.stderr
    assert command.encode() not in ec1("ps", "-a").stdout


def test_kill_ends_a_vm_at_once(ec1):
    ec1("run", "--engine", ENGINE, "-d", "--rm", "--name", "victim", "--", "sleep", "1000", check=0)
    ec1("kill", "victim", check=0)
    assert b"victim" not in ec1("ps", "-a").stdout


def test_the_second_kernel_series_boots(ec1):
    kernel = os.path.expanduser("~/.cache/ec1/kernels/6.12")
    if not os.path.exists(kernel):
        pytest.skip("no 6.12 kernel: tools/fetch-kernel 6.12")
    done = ec1.run("uname", "-r", flags=["-k", kernel])
    assert done.stdout.startswith(b"6.12."), done.stderr


def test_the_kernel_full_of_checks_boots(ec1):
    kernel = os.path.expanduser("~/.cache/ec1/kernels/debug")
    if not os.path.exists(kernel):
        pytest.skip("no kernel built here: tools/build-kernel (minutes)")
    command = "uname -r; grep -c ^processor /proc/cpuinfo; dmesg"
    done = ec1.run("sh", "-c", command, flags=["-k", kernel, "--cpus", "2"])
    release, cpus, log = done.stdout.decode().split("\n", 2)
    assert release.endswith("-ec1-debug") and cpus == "2", done.stderr
    assert "PREEMPT" in log and "Lock dependency validator" in log
    assert re.findall(r".*(?:BUG:|WARNING:|INFO: possible|Oops|list_add corruption).*", log) == []


def test_the_kernel_of_microvms_boots(ec1):
    kernel = os.path.expanduser("~/.cache/ec1/kernels/microvm")
    if not os.path.exists(kernel):
        pytest.skip("no kernel built here: tools/build-kernel microvm (minutes)")
    done = ec1.run("uname", "-r", flags=["-k", kernel])
    assert done.stdout.endswith(b"-ec1-microvm\n"), done.stderr


def address(ec1, *flags):
    text = ec1.run("grep", "-w", "_text", "/proc/kallsyms", flags=list(flags)).stdout.decode()
    return int(text.split()[0], 16)


def test_each_vm_has_its_kernel_at_another_address(ec1):
    found = {address(ec1) for _ in range(3)}
    assert len(found) > 1 and all(0xFFFFFFFF81000000 <= a < 0xFFFFFFFFC0000000 for a in found)
    assert address(ec1, "-a", "nokaslr") == 0xFFFFFFFF81000000


def test_devices_on_a_pci_bus(ec1):
    done = ec1.run("sh", "-c", "cat /sys/bus/pci/devices/0000:00:0[12].0/device; cat; grep -c PCI-MSI /proc/interrupts",
                   flags=["--pci"], input=b"x\n")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().split()
    assert sorted(lines[:2]) == ["0x1044", "0x1053"], "entropy and vsock: 1040h + virtio id"
    assert lines[2] == "x"
    assert int(lines[3]) > 5


def test_doctor_says_what_this_host_can_do(ec1):
    text = ec1("doctor", check=0).stdout.decode()
    for word in ("/dev/kvm", "software engine", "kernel", "ec1-init"):
        assert word in text


def counters(stderr):
    """{name: [sum, of each vCPU...]} from the table of --engine-stats."""
    lines = stderr.decode().splitlines()
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("engine ")) + 1 :]
    matches = (re.fullmatch(r"(\S.*?) +(\d+(?: +\d+)*)", line) for line in table)
    return {m[1]: [int(n) for n in m[2].split()] for m in matches if m}


def test_engine_stats_count_what_each_cpu_did(ec1):
    done = ec1.run("sh", "-c", "echo out", flags=["--engine-stats", "--cpus", "2"])
    assert (done.stdout, done.returncode) == (b"out\n", 0), done.stderr
    found = counters(done.stderr)
    assert all(len(n) == 3 and n[0] == n[1] + n[2] for n in found.values()), found
    some = ["exits: device memory", "exits: ports"]
    if ENGINE == "soft":
        some += ["instructions run", "blocks run", "blocks decoded", "TLB misses", "page walks", "exits: exceptions",
                 "exits: interrupts", "bytes of decoded blocks"]
        if os.environ.get("EC1_SOFT_TIER") != "interp":
            some += ["blocks translated", "instructions translated", "blocks run, translated", "bytes of translated code"]
    assert [name for name in some if not found.get(name, [0])[0]] == []


def test_without_engine_stats_nothing_is_printed(ec1):
    done = ec1.run("true")
    assert (done.stderr, done.returncode) == (b"", 0)


def test_doctor_sees_a_kernel_without_the_modules_it_needs(ec1, tmp_path):
    release = "6.1.0-none"
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot" / f"vmlinuz-{release}").write_bytes(b"not looked at")
    modules = tmp_path / "lib" / "modules" / release
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text("kernel/fs/overlayfs/overlay.ko:\n")
    (modules / "modules.builtin").write_text("")  # without it nobody knows what is built in
    done = ec1("doctor", env=dict(ec1.env, EC1_KERNEL=str(tmp_path)), check=1)
    (line,) = [line for line in done.stdout.decode().splitlines() if "kernel modules" in line]
    assert line.startswith("missing") and "CONFIG_VIRTIO_MMIO" in line


def test_verbose_says_how_far_the_init_was_when(ec1):
    done = ec1("run", "--engine", ENGINE, "--verbose", "--", "true", check=0)
    (line,) = [line for line in done.stderr.decode().splitlines() if "in the guest:" in line]
    times = [float(part.split()[1]) for part in line.split("in the guest:")[1].split(",")]
    assert "init" in line and "setup" in line and times == sorted(times)


def test_the_usual_kernel_arguments_are_shown_and_can_be_replaced(ec1):
    usual = ec1("run", "--engine", ENGINE, "--verbose", "-a", "mine=1", "--", "cat", "/proc/cmdline", check=0)
    line = usual.stdout.decode().strip()
    assert f"command line: {line}\n" in usual.stderr.decode()
    assert line.startswith("console=ttyS0 ") and line.endswith(" mine=1")
    own = "console=ttyS0 reboot=k panic=-1 quiet"
    done = ec1.run("cat", "/proc/cmdline", flags=["--all-kernel-args", own, "-a", "mine=2"])
    assert done.stdout.decode() == f"{own} mine=2\n", done.stderr
