"""Pause, resume, snapshots: created, loaded, refused."""

import os
import pathlib
import time

import pytest

from microvm import ok, refused, refused_with

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
    time.sleep(2)
    vm = restore(new_vm, paths, resume_vm=resume_vm)
    assert state_of(vm) == ("Running" if resume_vm else "Paused")
    if not resume_vm:
        resume(vm)
    assert vm.sh("echo $((count + 1)) $(cat /tmp/file)") == "42 kept\n"
    # the clocks stood still
    assert before <= float(vm.sh("cut -d' ' -f1 /proc/uptime")) < before + 2
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
