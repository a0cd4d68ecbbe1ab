"""machine-config, boot-source, what is allowed when, and GET /vm/config."""

import json

import guest
import pytest
from microvm import BOOT_ARGS, ok, refused, refused_with

PREBOOT = "The requested operation is not supported before starting the microVM."
POSTBOOT = "The requested operation is not supported after starting the microVM."
VCPUS = (
    "Machine config error: The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even number if "
    "SMT is enabled."
)
MEMORY = "Machine config error: The memory size (MiB) is either 0, or not a multiple of the configured page size."


def machine(vm):
    return vm.get("machine-config").json()


def test_api_machine_config(vm):
    assert machine(vm) == {
        "vcpu_count": 1, "mem_size_mib": 128, "smt": False, "track_dirty_pages": False, "huge_pages": "None",
    }
    for count in (0, 33, 255):
        refused(vm.put("machine-config", {"vcpu_count": count, "mem_size_mib": 128}), VCPUS)
    refused(vm.put("machine-config", {"vcpu_count": 3, "mem_size_mib": 128, "smt": True}), VCPUS)
    refused(vm.put("machine-config", {"vcpu_count": 1, "mem_size_mib": 0}), MEMORY)
    for pages in ("2M", "Transparent"):
        refused(vm.put("machine-config", {"vcpu_count": 1, "mem_size_mib": 129, "huge_pages": pages}), MEMORY)
    refused_with(vm.put("machine-config", {"vcpu_count": -1, "mem_size_mib": 128}), "expected u8")
    refused_with(vm.put("machine-config", {"vcpu_count": 1, "mem_size_mib": 128, "cpu_template": "V1N1"}), "unknown variant `V1N1`")
    assert machine(vm)["vcpu_count"] == 1
    ok(vm.put("machine-config", {"vcpu_count": 32, "mem_size_mib": 256, "smt": True, "track_dirty_pages": True}))
    ok(vm.patch("machine-config", {"vcpu_count": 4}))
    assert machine(vm) == {
        "vcpu_count": 4, "mem_size_mib": 256, "smt": True, "track_dirty_pages": True, "huge_pages": "None",
    }
    refused(vm.patch("machine-config", {"vcpu_count": 3}), VCPUS)
    refused(vm.patch("machine-config", {}), "Empty PATCH request.")
    refused(vm.patch("machine-config", {"vcpu_count": None}), "Empty PATCH request.")
    # omitted fields go back to their defaults
    ok(vm.put("machine-config", {"vcpu_count": 2, "mem_size_mib": 256}))
    assert machine(vm)["smt"] is False and machine(vm)["track_dirty_pages"] is False


def test_negative_machine_config_api(vm):
    """A template is deprecated, and kept until another is named."""
    answer = ok(vm.put("machine-config", {"vcpu_count": 2, "mem_size_mib": 256, "cpu_template": "T2"}))
    assert answer.headers["Deprecation"] == "true"
    vm.has_log("PUT /machine-config: cpu_template field is deprecated.")
    assert "Deprecation" not in ok(vm.put("machine-config", {"vcpu_count": 2, "mem_size_mib": 512})).headers
    assert machine(vm)["cpu_template"] == "T2"
    answer = vm.patch("machine-config", {"cpu_template": "T2CL", "vcpu_count": 0})
    assert answer.status_code == 400 and answer.headers["Deprecation"] == "true"
    vm.has_log("PATCH /machine-config: cpu_template field is deprecated.")
    ok(vm.patch("machine-config", {"cpu_template": "None"}))
    assert "cpu_template" not in machine(vm)


def test_api_put_update_pre_boot(vm):
    kernel = str(guest.kernel())
    missing = "No such file or directory (os error 2)"
    refused(vm.put("boot-source", {"kernel_image_path": "nope"}),
            f"Boot source error: The kernel file cannot be opened: {missing}")
    for initrd in ("nope", ""):
        refused(vm.put("boot-source", {"kernel_image_path": kernel, "initrd_path": initrd}),
                "Boot source error: The initrd file cannot be opened due to invalid path or invalid permissions. "
                f"{missing}")
    refused(vm.put("boot-source", {"kernel_image_path": kernel, "boot_args": "x" * 2048}),
            "Boot source error: The kernel command line is invalid: Invalid cmdline capacity provided.")
    assert vm.get("vm/config").json()["boot-source"] is None
    ok(vm.put("boot-source", {"kernel_image_path": kernel}))
    ok(vm.put("boot-source", {"kernel_image_path": kernel, "boot_args": "a", "initrd_path": None}))
    assert vm.get("vm/config").json()["boot-source"] == {
        "kernel_image_path": kernel, "initrd_path": None, "boot_args": "a",
    }


def test_a_start_needs_a_kernel_and_can_be_retried(vm):
    start = {"action_type": "InstanceStart"}
    refused(vm.put("actions", start), "Start microvm error: Cannot start microvm without kernel configuration.")
    (vm.folder / "rubbish").write_bytes(b"rubbish" * 1000)
    ok(vm.put("boot-source", {"kernel_image_path": "rubbish"}))
    refused_with(vm.put("actions", start), "Start microvm error: ")
    assert vm.get("/").json()["state"] == "Not started"
    vm.boot(root=False)
    assert vm.get("/").json()["state"] == "Running"


def test_the_kernel_is_the_file_that_was_named(vm):
    """Whatever happens to the name afterwards."""
    vm.configure(root=False)
    for name, source in (("kernel", guest.kernel()), ("initrd", guest.initrd())):
        (vm.folder / name).write_bytes(source.read_bytes())
    ok(vm.put("boot-source", {"kernel_image_path": "kernel", "initrd_path": "initrd", "boot_args": BOOT_ARGS}))
    (vm.folder / "kernel").unlink()
    (vm.folder / "initrd").unlink()
    vm.start()
    vm.ready()


PRE_ONLY = [
    ("PUT", "boot-source", {"kernel_image_path": "/dev/null"}),
    ("PUT", "logger", {"level": "Info"}),
    ("PUT", "metrics", {"metrics_path": "m"}),
    ("PUT", "serial", {}),
    ("PUT", "cpu-config", {}),
    ("PUT", "balloon", {"amount_mib": 1, "deflate_on_oom": True}),
    ("PUT", "vsock", {"guest_cid": 3, "uds_path": "v"}),
    ("PUT", "mmds/config", {"network_interfaces": ["a"], "version": "V2"}),
    ("PUT", "entropy", {}),
    ("PUT", "hotplug/memory", {"total_size_mib": 1024}),
    ("PUT", "snapshot/load", {"snapshot_path": "a", "mem_backend": {"backend_path": "b", "backend_type": "File"}}),
    ("PUT", "machine-config", {"vcpu_count": 1, "mem_size_mib": 128}),
    ("PATCH", "machine-config", {"vcpu_count": 1}),
    ("PUT", "actions", {"action_type": "InstanceStart"}),
]
POST_ONLY = [
    ("PUT", "snapshot/create", {"snapshot_path": "a", "mem_file_path": "b"}),
    ("PUT", "actions", {"action_type": "FlushMetrics"}),
    ("PUT", "actions", {"action_type": "SendCtrlAltDel"}),
    ("PATCH", "vm", {"state": "Paused"}),
    ("PATCH", "balloon", {"amount_mib": 1}),
    ("PATCH", "balloon/statistics", {"stats_polling_interval_s": 1}),
    ("PATCH", "balloon/hinting/start", None),
    ("PATCH", "balloon/hinting/stop", None),
    ("PATCH", "drives/a", {"drive_id": "a", "path_on_host": "b"}),
    ("PATCH", "network-interfaces/a", {"iface_id": "a"}),
    ("PATCH", "pmem/a", {"id": "a"}),
    ("PATCH", "hotplug/memory", {"requested_size_mib": 0}),
    ("GET", "balloon/statistics", None),
    ("GET", "balloon/hinting/status", None),
    ("GET", "hotplug/memory", None),
    ("DELETE", "drives/a", None),
    ("DELETE", "pmem/a", None),
    ("DELETE", "network-interfaces/a", None),
]


def test_api_put_update_post_boot(booted):
    for method, path, body in PRE_ONLY:
        refused(booted.ask(method, path, body), POSTBOOT)
    for path in ("drives/a", "pmem/a", "network-interfaces/a"):
        refused(booted.delete(path), "PCI is not enabled")
    refused(booted.put("drives/a", {"drive_id": "a", "is_root_device": False, "path_on_host": "b"}), "PCI is not enabled")


def test_negative_api_patch_post_boot(booted):
    refused(booted.patch("machine-config", {"vcpu_count": 2}), POSTBOOT)
    refused_with(booted.patch("vm", {"state": "Other"}), "unknown variant `Other`, expected `Paused` or `Resumed`")


def test_api_patch_pre_boot(vm):
    for method, path, body in POST_ONLY:
        refused(vm.ask(method, path, body), PREBOOT)


def test_what_was_tried_rules_out_a_snapshot(new_vm):
    load = {"snapshot_path": "a", "mem_backend": {"backend_path": "b", "backend_type": "File"}}
    text = (
        "Load snapshot error: Loading a microVM snapshot not allowed after configuring boot-specific resources."
    )
    for method, path, body in (
        ("PATCH", "machine-config", {"vcpu_count": 0}),
        ("PUT", "boot-source", {"kernel_image_path": "nope"}),
        ("PUT", "vsock", {"guest_cid": 3, "uds_path": "/nope/x"}),
        ("PUT", "entropy", {}),
        ("PUT", "drives/a", {"drive_id": "a", "is_root_device": False, "path_on_host": "nope"}),
    ):
        vm = new_vm(console=False)
        vm.ask(method, path, body)
        refused(vm.put("snapshot/load", load), text)
        assert vm.process.poll() is None
        vm.kill()


def test_api_version(booted):
    assert booted.get("version").json() == {"firecracker_version": "1.17.0-dev"}
    info = booted.get("/").json()
    assert info == {"id": "test", "state": "Running", "vmm_version": "1.17.0-dev", "app_name": "Firecracker"}


def test_get_full_config(new_vm):
    """What it shows is a configuration file that makes the same microVM."""
    vm = new_vm()
    vm.configure(vcpus=2)
    ok(vm.put("vsock", {"guest_cid": 3, "uds_path": "v.sock"}))
    bucket = {"size": 1000000, "one_time_burst": None, "refill_time": 1000}
    ok(vm.put("entropy", {"rate_limiter": {"bandwidth": bucket}}))
    ok(vm.put("balloon", {"amount_mib": 8, "deflate_on_oom": True, "stats_polling_interval_s": 1}))
    text = vm.get("vm/config").text
    keys = list(json.loads(text))
    assert keys == ["balloon", "drives", "boot-source", "cpu-config", "logger", "machine-config", "metrics",
                    "mmds-config", "network-interfaces", "vsock", "entropy", "pmem", "memory-hotplug"]
    shown = json.loads(text)
    assert shown["entropy"] == {"rate_limiter": {"bandwidth": bucket, "ops": None}}
    assert shown["balloon"] == {"amount_mib": 8, "deflate_on_oom": True, "stats_polling_interval_s": 1,
                                "free_page_hinting": False, "free_page_reporting": False}
    vm.kill()
    (vm.folder / "config.json").write_text(text)
    (vm.folder / "v.sock").unlink()
    again = new_vm("--config-file", str(vm.folder / "config.json"))
    again.ready()
    assert again.get("vm/config").json() == shown
