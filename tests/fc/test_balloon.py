"""The balloon: memory that the guest gives back, and what it tells of the rest."""

import pathlib
import time

import pytest
from microvm import MicroVm, ok, refused

# The software engine's translations are the process's memory, too: what is given back must be far more.
MEM_MIB = 256


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    vm = MicroVm(tmp_path_factory.mktemp("balloon"))
    try:
        ok(vm.put("/balloon", {"amount_mib": 0, "deflate_on_oom": True, "stats_polling_interval_s": 1}))
        yield vm.boot(root=False, mem=MEM_MIB)
    finally:
        vm.kill()


def rss_mib(vm):
    for line in pathlib.Path(f"/proc/{vm.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


def resize(vm, amount_mib, seconds=120):
    """Until the guest has followed."""
    ok(vm.patch("/balloon", {"amount_mib": amount_mib}))
    vm.wait_for(lambda: vm.get("/balloon/statistics").json()["actual_mib"] == amount_mib, "the balloon", seconds)


def fill(vm, mib):
    """Let the guest use so much memory, and free it."""
    vm.sh(f"guest_tool use {mib} </dev/null")


def test_inflating_gives_memory_back_again_and_again(guest):
    for _ in range(2):
        fill(guest, 120)
        before = rss_mib(guest)
        resize(guest, 100)
        after = rss_mib(guest)
        assert after < before - 80, (before, after)
        resize(guest, 0)


def test_the_guest_has_less_to_use(guest):
    free = "awk '/MemFree/ {print $2}' /proc/meminfo"
    before = int(guest.sh(free))
    resize(guest, 64)
    assert int(guest.sh(free)) < before - 56 * 1024
    resize(guest, 0)
    assert int(guest.sh(free)) > before - 8 * 1024


def test_statistics_come_and_come_anew(guest):
    guest.wait_for(lambda: "free_memory" in guest.get("/balloon/statistics").json(), "statistics")
    stats = guest.get("/balloon/statistics").json()
    assert list(stats)[:4] == ["target_pages", "actual_pages", "target_mib", "actual_mib"]
    assert stats["free_memory"] <= stats["total_memory"] <= MEM_MIB << 20
    assert stats["minor_faults"] > 0
    resize(guest, 32)
    resize(guest, 0)
    guest.sh("ls -R /sys/class >/dev/null")  # the balloon alone makes no fault of a process
    guest.wait_for(
        lambda: guest.get("/balloon/statistics").json()["minor_faults"] != stats["minor_faults"], "new statistics"
    )
    refused(
        guest.patch("/balloon/statistics", {"stats_polling_interval_s": 0}),
        "Balloon update error: Balloon: Statistics cannot be enabled/disabled after activation.",
    )
    ok(guest.patch("/balloon/statistics", {"stats_polling_interval_s": 60}))
    assert guest.get("/balloon").json()["stats_polling_interval_s"] == 60
    time.sleep(1.5)  # what the old interval had asked for
    old = guest.get("/balloon/statistics").json()
    guest.sh("ls -R /sys/class >/dev/null")
    time.sleep(2)
    assert guest.get("/balloon/statistics").json() == old
    ok(guest.patch("/balloon/statistics", {"stats_polling_interval_s": 1}))


def test_the_balloon_shrinks_when_the_guest_runs_out_of_memory(guest):
    resize(guest, 100)
    fill(guest, 170)
    assert guest.get("/balloon/statistics").json()["actual_mib"] < 100
    resize(guest, 0)


def test_the_driver_can_be_unbound_and_bound_again(guest):
    device = guest.sh("cd /sys/bus/virtio/drivers/virtio_balloon; ls -d virtio[0-9]*").strip()
    guest.sh(f"echo {device} >/sys/bus/virtio/drivers/virtio_balloon/unbind")
    refused(guest.patch("/balloon", {"amount_mib": 10}), "Balloon update error: Balloon: Device not activated yet.")
    guest.sh(f"echo {device} >/sys/bus/virtio/drivers/virtio_balloon/bind")
    resize(guest, 10)
    resize(guest, 0)


def test_the_configuration_is_shown_and_checked(vm):
    refused(vm.get("/balloon"), "Balloon config error: No balloon device found.")
    refused(
        vm.put("/balloon", {"amount_mib": 129, "deflate_on_oom": False}),
        "Balloon config error: Amount of pages requested is too large.",
    )
    ok(vm.put("/balloon", {"amount_mib": 64, "deflate_on_oom": True, "stats_polling_interval_s": 1}))
    assert vm.get("/balloon").text == (
        '{"amount_mib":64,"deflate_on_oom":true,"stats_polling_interval_s":1,"free_page_hinting":false,'
        '"free_page_reporting":false}'
    )


def test_free_pages_are_reported(new_vm):
    vm = new_vm()
    ok(vm.put("/balloon", {"amount_mib": 0, "deflate_on_oom": False, "free_page_reporting": True}))
    vm.boot(root=False, mem=MEM_MIB)
    time.sleep(3)
    idle = rss_mib(vm)
    fill(vm, 120)
    vm.wait_for(lambda: rss_mib(vm) < idle + 40, "reports of free pages", 60)


def test_hints_free_memory_on_demand(new_vm):
    vm = new_vm()
    ok(vm.put("/balloon", {"amount_mib": 0, "deflate_on_oom": False, "free_page_hinting": True}))
    vm.boot(root=False, mem=MEM_MIB)
    assert vm.get("/balloon/hinting/status").json() == {"host_cmd": 0, "guest_cmd": None}
    fill(vm, 120)
    before = rss_mib(vm)
    ok(vm.patch("/balloon/hinting/start", {"acknowledge_on_stop": False}))
    vm.wait_for(lambda: vm.get("/balloon/hinting/status").json() == {"host_cmd": 2, "guest_cmd": 0}, "the run's end", 120)
    assert rss_mib(vm) < before - 80
    ok(vm.patch("/balloon/hinting/stop"))
    assert vm.get("/balloon/hinting/status").json()["host_cmd"] == 1
    ok(vm.patch("/balloon/hinting/start"))
    vm.wait_for(lambda: vm.get("/balloon/hinting/status").json() == {"host_cmd": 1, "guest_cmd": 0}, "the run's end", 120)
    fill(vm, 120)  # the guest has its pages back


def test_without_deflate_on_oom_it_keeps_its_size(new_vm):
    vm = new_vm()
    ok(vm.put("/balloon", {"amount_mib": 0, "deflate_on_oom": False, "stats_polling_interval_s": 1}))
    vm.boot(root=False, mem=MEM_MIB)
    resize(vm, 120)
    vm.sh("guest_tool use 150 </dev/null", check=False)  # killed
    assert vm.get("/balloon/statistics").json()["actual_mib"] == 120


