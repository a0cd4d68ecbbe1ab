"""System call filters: our own, the user's, none; and the compiler of the user's."""

import json
import pathlib
import struct
import subprocess

import pytest

from microvm import BINARY
from seccomp_json import CALLS, THREADS, allow, arg, compiled, run_compiler, same_for_all

def levels(vm):
    """Of each thread, by name: the level, and whether it may gain privileges."""
    found = {}
    for task in pathlib.Path(f"/proc/{vm.process.pid}/task").iterdir():
        fields = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)
        found[fields["Name"]] = (int(fields["Seccomp"]), int(fields["NoNewPrivs"]))
    return found


def all_are(vm, level):
    found = levels(vm)
    assert {"firecracker", "fc_api", "io", "fc_vcpu 0"} <= set(found), found
    assert {one for one, _ in found.values()} == {level}, found


# --- levels ---


def test_every_thread_is_filtered_by_default(new_vm):
    vm = new_vm()
    vm.get("/")  # an answer: the thread that gave it has its filter
    assert levels(vm)["fc_api"] == (2, 1)
    vm.boot(vcpus=2)
    assert "fc_vcpu 1" in levels(vm)
    all_are(vm, 2)
    assert vm.reboot() == 0


def test_no_thread_is_filtered_without(new_vm):
    vm = new_vm("--no-seccomp").boot(root=False)
    all_are(vm, 0)
    assert {privileges for _, privileges in levels(vm).values()} == {0}
    vm.type("reboot -f\n")
    assert vm.wait() == 0


def test_a_loaded_machine_is_filtered_before_it_runs(new_vm):
    vm = new_vm().boot(root=False)
    vm.patch("/vm", {"state": "Paused"})
    state, memory = str(vm.folder / "state"), str(vm.folder / "memory")
    assert vm.put("/snapshot/create", {"snapshot_path": state, "mem_file_path": memory}).status_code == 204
    vm.kill()
    again = new_vm()
    load = {"snapshot_path": state, "mem_backend": {"backend_type": "File", "backend_path": memory}}
    assert again.put("/snapshot/load", load).status_code == 204
    all_are(again, 2)
    assert again.patch("/vm", {"state": "Resumed"}).status_code == 204
    all_are(again, 2)
    again.sh("true")


# --- filters of one's own ---


def test_allow_all(new_vm, folder):
    everything = {"default_action": "allow", "filter_action": "trap", "filter": []}
    vm = new_vm("--seccomp-filter", compiled(folder, same_for_all(everything))).boot(root=False)
    all_are(vm, 2)


def test_working_filter(new_vm, folder):
    # Upper and lower case are the same.
    filters = {name.upper(): allow(CALLS) for name in THREADS}
    vm = new_vm("--seccomp-filter", compiled(folder, filters)).boot()
    all_are(vm, 2)
    vm.sh("sync")
    assert vm.reboot() == 0


def dies_of(vm, call, seconds=30):
    """The exit code, the records and the metrics of a forbidden call."""
    assert vm.wait(seconds) == 148
    vm.has_log("Shutting down VM after intercepting signal 31, code 1.")
    vm.has_log(f"Shutting down VM after intercepting a bad syscall ({call}).")
    lines = [json.loads(line) for line in (vm.folder / "metrics").read_text().splitlines()]
    assert lines[-1]["seccomp"]["num_faults"] == 1


def with_metrics(new_vm, folder, source):
    metrics = folder / "0" / "metrics"
    return new_vm("--metrics-path", str(metrics), "--seccomp-filter", compiled(folder, source))


def test_failing_filter(new_vm, folder):
    """The serial port's bytes go to stdout by write()."""
    filters = {**same_for_all(allow(CALLS)), "vcpu": allow(
        [c for c in CALLS if c not in ("write", "writev")] + [("write", [arg(0, "ne", 1)])])}
    vm = with_metrics(new_vm, folder, filters)
    vm.configure(root=False)
    vm.start()
    dies_of(vm, 1, 120)


def test_failing_filter_of_the_main_thread(new_vm, folder):
    filters = {**same_for_all(allow(CALLS)), "vmm": allow([c for c in CALLS if c != "openat"])}
    vm = with_metrics(new_vm, folder, filters)
    vm.boot(root=True)
    (vm.folder / "other").write_bytes(bytes(4096))
    with pytest.raises(Exception):  # noqa: B017
        vm.patch("/drives/rootfs", {"drive_id": "rootfs", "path_on_host": str(vm.folder / "other")}, timeout=30)
    dies_of(vm, 257)


def test_arguments_are_held_against_the_rules(new_vm, folder):
    """accept4() with just the flags that are used, and with others."""
    others = [c for c in CALLS if c != "accept4"]
    good = {**same_for_all(allow(CALLS)), "api": allow(others + [("accept4", [arg(3, "eq", 0o2004000)])])}
    vm = new_vm("--seccomp-filter", compiled(folder, good))
    assert vm.get("/").status_code == 200
    vm.kill()
    bad = {**good, "api": allow(others + [("accept4", [arg(3, {"masked_eq": 0o2000000}, 0)])])}
    vm = new_vm("--seccomp-filter", compiled(folder, bad))
    with pytest.raises(Exception):  # noqa: B017
        vm.get("/", timeout=10)
    assert vm.wait(30) == 148
    vm.has_log("Shutting down VM after intercepting a bad syscall (288).")


def test_a_panic_is_allowed(new_vm):
    """abort() behind the filters: the last line of metrics, and SIGABRT."""
    vm = new_vm("--metrics-path", "metrics").boot(root=False)
    subprocess.run(["kill", "-ABRT", str(vm.process.pid)], check=True)
    assert vm.wait(30) == -6
    lines = [json.loads(line) for line in (vm.folder / "metrics").read_text().splitlines()]
    assert lines[-1]["vmm"]["panic_count"] == 1


# --- files that are refused ---


def refused(folder, path):
    done = subprocess.run([BINARY, "--api-sock", str(folder / "s"), "--seccomp-filter", str(path)],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert not (folder / "s").exists()
    return done.stdout


def test_invalid_bpf(folder):
    (folder / "bad").write_bytes(b"adadadadad")
    assert "Seccomp error: Filter deserialization failed: " in refused(folder, folder / "bad")
    (folder / "bad").write_bytes(b"")
    assert "Seccomp error: Filter deserialization failed: " in refused(folder, folder / "bad")
    (folder / "bad").write_bytes(bytes(100001))
    assert "Seccomp error: Filter deserialization failed: more than 100000 bytes" in refused(folder, folder / "bad")
    assert ("Seccomp error: Filter file open error: No such file or directory (os error 2)"
            in refused(folder, folder / "none"))


def test_thread_categories(folder):
    everything = {"default_action": "allow", "filter_action": "trap", "filter": []}
    two = {name: everything for name in ("vmm", "vcpu")}
    assert "Seccomp error: Missing thread category: api\n" in refused(folder, compiled(folder, two))
    more = {**same_for_all(everything), "thread1": everything}
    assert "Seccomp error: Invalid thread categories: thread1\n" in refused(folder, compiled(folder, more))


# --- the compiler ---


def test_the_compiler_writes_where_it_is_told(folder):
    source = folder / "filter.json"
    source.write_text(json.dumps(same_for_all(allow(["read"]))))
    assert run_compiler("-i", source, "-t", "x86_64", cwd=folder).returncode == 0
    by_default = (folder / "seccomp_binary_filter.out").read_bytes()
    assert run_compiler("-i", source, "-t", "x86_64", "-o", folder / "out").returncode == 0
    assert (folder / "out").read_bytes() == by_default
    done = run_compiler("-i", source, "-t", "x86_64", "--split-output", "-o", folder / "out")
    assert done.returncode == 0, done.stderr
    for name in THREADS:
        code = (folder / f"{name}.bpf").read_bytes()
        # The last instruction gives the answer to everything else: BPF_RET | BPF_K, SECCOMP_RET_TRAP.
        assert struct.unpack("<HBBI", code[-8:]) == (6, 0, 0, 0x30000)
    assert run_compiler("--version").stdout.startswith("seccompiler-bin v")
    assert "--target-arch" in run_compiler("--help").stdout


def test_basic_filters_have_no_conditions(folder):
    source = folder / "filter.json"
    source.write_text(json.dumps({"a": allow([("read", [arg(0, "eq", 1)])]), "b": allow(["read"])}))
    done = run_compiler("-i", source, "-t", "x86_64", "--split-output", "--basic", "-o", folder / "out")
    assert (done.returncode, "deprecated" in done.stderr) == (0, True)
    assert (folder / "a.bpf").read_bytes() == (folder / "b.bpf").read_bytes()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"vmm": {}}', '{"vmm": {"default_action": "x"}}'])
def test_malformed_sources_are_refused(folder, text):
    (folder / "in").write_text(text)
    done = run_compiler("-i", folder / "in", "-t", "x86_64", "-o", folder / "out")
    assert (done.returncode, done.stderr.startswith("Error: ")) == (1, True)
    assert not (folder / "out").exists()


def test_wrong_words_are_refused(folder):
    (folder / "in").write_text("{}")
    for flags in (["-i", "in"], ["-t", "x86_64"], ["-i", "in", "-t", "x86_64", "more"], ["--input"]):
        done = run_compiler(*flags, cwd=folder)
        assert (done.returncode, done.stderr.startswith("Error: ")) == (2, True), flags
    (folder / "in").write_text(json.dumps(same_for_all(allow(["read"]))))
    done = run_compiler("-i", "in", "-t", "arm", cwd=folder)
    assert (done.returncode, "must be x86_64 or aarch64" in done.stderr) == (1, True)
    assert run_compiler("-i", "none", "-t", "x86_64", cwd=folder).returncode == 1
    assert run_compiler("-i", "in", "-t", "x86_64", "-o", "no/such", cwd=folder).returncode == 1
