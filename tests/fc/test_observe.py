"""Log, metrics and signals: what the process tells of itself."""

import json
import os
import re
import resource
import signal
import time

import pytest
from microvm import ok, refused, refused_with

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- log ---

def test_api_requests_logs(vm):
    ok(vm.put("machine-config", {"vcpu_count": 4, "mem_size_mib": 64}))
    ok(vm.get("version"))
    ok(vm.put("mmds", {"secret": 1}))
    vm.put("machine-config", {"vcpu_count": 0, "mem_size_mib": 64})
    log = vm.log()
    assert ('The API server received a Put request on "/machine-config" with body '
            '"{\\"vcpu_count\\": 4, \\"mem_size_mib\\": 64}".') in log
    assert "The request was executed successfully. Status code: 204 No Content." in log
    assert 'The API server received a Get request on "/version".' in log
    assert "The request was executed successfully. Status code: 200 OK." in log
    assert 'The API server received a Put request on "/mmds".' in log
    assert "secret" not in log
    assert "Received Error. Status code: 400 Bad Request. Message: Machine config error: The number of vCPUs" in log


@pytest.mark.parametrize("level", ["Error", "warn", "WARNING", "Info", "debug", "Trace", "Off"])
@pytest.mark.parametrize("show_level", [True, False])
@pytest.mark.parametrize("show_origin", [True, False])
def test_log_config(new_vm, folder, level, show_level, show_origin):
    vm = new_vm()
    path = folder / "second"
    ok(vm.put("logger", {"log_path": str(path), "level": level, "show_level": show_level, "show_log_origin": show_origin}))
    vm.put("machine-config", {"vcpu_count": 0, "mem_size_mib": 64})
    ok(vm.get("version"))
    records = path.read_text().splitlines()
    want = rf"^{TIME} \[test:(fc_api|firecracker)"
    want += r":(ERROR|WARN|INFO|DEBUG|TRACE)" if show_level else ""
    want += r":[^:\]]+/[^:\]]+:\d+" if show_origin else ""
    for record in records:
        assert re.match(want + r"\] .", record), record
    text = "\n".join(records)
    order = ["off", "error", "warn", "info", "debug", "trace"]
    rank = order.index(level.lower().replace("warning", "warn"))
    assert ("Received Error." in text) == (rank >= 1)
    assert ("API server received" in text) == (rank >= 3)
    assert ("Total previous API call duration" in text) == (rank >= 4)


def test_log_of_one_module(new_vm):
    vm = new_vm("--module", "vmm")
    ok(vm.get("version"))
    assert "API server received" not in vm.log()


def test_log_refuses(vm):
    refused(vm.put("logger", {"log_path": "/no/such/file"}),
            "Logger error: Failed to open target file: No such file or directory (os error 2)")
    refused_with(vm.put("logger", {"level": "loud"}), "Invalid LevelFilter")
    refused_with(vm.put("logger", {"nope": 1}), "unknown field `nope`")


def test_log_fifo_without_reader(new_vm, folder):
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    metrics = folder / "metrics"
    vm = new_vm("--metrics-path", str(metrics))
    ok(vm.put("logger", {"log_path": str(fifo)}))
    body = json.dumps({"vcpu_count": 1, "mem_size_mib": 64, "x": "y" * 4000})
    for _ in range(40):
        vm.put("machine-config", body)
    vm.process.send_signal(signal.SIGHUP)
    assert vm.wait() == 156
    assert lines(metrics)[-1]["logger"]["missed_log_count"] > 0


# --- metrics ---

AGG = ["min_us", "max_us", "sum_us"]


def check_line(line, *extra):
    """Groups and their keys are all there, numbers throughout."""
    first = ["utc_timestamp_ms", *extra]
    assert list(line)[: len(first)] == first
    assert list(line)[len(first) :] == [
        "api_server", "balloon", *[k for k in line if k.startswith("block_")], "block", "deprecated_api",
        "get_api_requests", "i8042", "uart", "latencies_us", "logger", "mmds",
        *[k for k in line if k.startswith("net_")], "net", "patch_api_requests", "put_api_requests", "seccomp", "vcpu",
        "vmm", "signals", "vsock", "entropy", "pmem", "interrupts", "memory_hotplug",
    ]
    assert abs(line["utc_timestamp_ms"] - time.time() * 1000) < 600_000
    for name, group in line.items():
        if isinstance(group, dict) and name != "properties":
            for key, value in group.items():
                if key.endswith("_agg"):
                    assert list(value) == AGG, (name, key)
                    value = value["sum_us"]
                assert isinstance(value, int) and value >= 0, (name, key, value)


def test_flush_metrics(new_vm, folder):
    path = folder / "metrics"
    vm = new_vm("--metrics-path", str(path))
    refused(vm.put("actions", {"action_type": "FlushMetrics"}),
            "The requested operation is not supported before starting the microVM.")
    refused(vm.put("metrics", {"metrics_path": str(folder / "other")}),
            "Metrics error: Cannot initialize the metrics system due to bad user input: "
            "Reinitialization of metrics not allowed.")
    vm.boot()
    assert len(lines(path)) == 1
    ok(vm.put("actions", {"action_type": "FlushMetrics"}))
    ok(vm.put("actions", {"action_type": "FlushMetrics"}))
    first, second, third = lines(path)
    for line in (first, second, third):
        check_line(line)
    assert first["put_api_requests"]["drive_count"] == 1
    assert second["put_api_requests"]["drive_count"] == 0
    assert second["put_api_requests"]["actions_count"] + first["put_api_requests"]["actions_count"] >= 2
    assert second["uart"]["write_count"] > 20  # the guest's console
    assert second["vcpu"]["exit_io_out"] > 20 and second["vcpu"]["exit_io_out_agg"]["sum_us"] > 0
    assert second["block"]["read_bytes"] > 0
    assert second["block"]["read_bytes"] == second["block_rootfs"]["read_bytes"]
    assert third["uart"]["write_count"] < 20
    assert second["interrupts"]["triggers"] > 10
    # A reboot writes the last one.
    assert vm.reboot() == 0
    assert len(lines(path)) == 4
    assert lines(path)[-1]["i8042"]["reset_count"] == 1


@pytest.mark.parametrize("emit_id", [True, False])
@pytest.mark.parametrize("properties", [None, {"az": 'a "b"', "rack": "\u00fc"}])
def test_metrics_optional_fields(vm, folder, emit_id, properties):
    path = folder / "metrics"
    ok(vm.put("metrics", {"metrics_path": str(path), "emit_id": emit_id, "properties": properties}))
    vm.process.send_signal(signal.SIGHUP)
    assert vm.wait() == 156
    (line,) = lines(path)
    check_line(line, *(["id"] if emit_id else []), *(["properties"] if properties else []))
    assert line.get("id", "test") == "test"
    assert line.get("properties") == properties


def test_metrics_refuses(vm):
    refused(vm.put("metrics", {"metrics_path": "/no/such/file"}),
            "Metrics error: Cannot initialize the metrics system due to bad user input: "
            "No such file or directory (os error 2)")
    refused_with(vm.put("metrics", {}), "missing field `metrics_path`")


def test_startup_times(new_vm, folder):
    path = folder / "metrics"
    now_us = time.monotonic_ns() // 1000
    vm = new_vm("--metrics-path", str(path), "--start-time-us", str(now_us), "--start-time-cpu-us", "0",
                "--parent-cpu-time-us", "1000")
    vm.process.send_signal(signal.SIGHUP)
    vm.wait()
    server = lines(path)[0]["api_server"]
    assert 0 < server["process_startup_time_us"] < 10_000_000
    assert 1000 < server["process_startup_time_cpu_us"] < 2_000_000


# --- signals ---

@pytest.mark.parametrize("number,code,metric", [
    (signal.SIGBUS, 149, "sigbus"), (signal.SIGSEGV, 150, "sigsegv"), (signal.SIGXFSZ, 151, "sigxfsz"),
    (signal.SIGXCPU, 154, "sigxcpu"), (signal.SIGHUP, 156, "sighup"), (signal.SIGILL, 157, "sigill"),
    (signal.SIGSYS, 2, None), (signal.SIGPIPE, None, "sigpipe"),
])
def test_generic_signal_handler(new_vm, folder, number, code, metric):
    path = folder / "metrics"
    vm = new_vm("--metrics-path", str(path)).boot()
    before = len(lines(path))
    vm.process.send_signal(number)
    if code is None:
        vm.has_log(f"Received signal {number.value}, code 0.")
        ok(vm.put("actions", {"action_type": "FlushMetrics"}))
    else:
        assert vm.wait() == code
        assert f"Shutting down VM after intercepting signal {number.value}, code 0." in vm.log()
    if metric:
        new = lines(path)[before:]
        assert len(new) == 1 and new[0]["signals"][metric] == 1


def test_sigxfsz_handler(new_vm, folder):
    path = folder / "metrics"
    vm = new_vm("--metrics-path", str(path)).boot()
    size = 1 << 20
    resource.prlimit(vm.process.pid, resource.RLIMIT_FSIZE, (size, size))
    vm.type("dd if=/dev/zero of=/big bs=1M count=8 conv=fsync\n")
    assert vm.wait() == 151
    assert "Shutting down VM after intercepting signal 25" in vm.log()
    assert lines(path)[-1]["signals"]["sigxfsz"] == 1


def test_handled_signals(booted):
    for number in (34, 35):
        os.kill(booted.process.pid, number)
    assert booted.sh("echo alive").strip() == "alive"


def test_shut_down_reboot(new_vm):
    vm = new_vm().boot(vcpus=2)
    assert vm.threads().count("fc_vcpu 0") == 1 and "fc_vcpu 1" in vm.threads()
    assert vm.reboot() == 0
    assert "Vmm is stopping." in vm.log()
    assert "Firecracker exiting successfully. exit_code=0" in vm.log()


def test_a_triple_fault_is_an_error(new_vm):
    vm = new_vm().boot(boot_args="console=ttyS0 reboot=t panic=1 quiet 8250.nr_uarts=1")
    vm.type("reboot -f\n")
    assert vm.wait() == 1
    assert "Unexpected exit reason on vcpu run: Shutdown" in vm.log()
    assert "Firecracker exiting with error. exit_code=1" in vm.log()
