"""Command line, exit codes, configuration files."""

import json
import os
import signal
import subprocess

import guest
import pytest
from microvm import BINARY, BOOT_ARGS, PATIENCE, ok, refused


def run(*flags, **kwargs):
    return subprocess.run([BINARY, *flags], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60 * PATIENCE, **kwargs)


def config(folder, **more):
    """A configuration that boots to a shell."""
    root = guest.rootfs(folder / "root.ext4")
    return {
        "boot-source": {"kernel_image_path": str(guest.kernel()), "initrd_path": str(guest.initrd()), "boot_args": BOOT_ARGS},
        "drives": [{"drive_id": "rootfs", "partuuid": None, "is_root_device": True, "cache_type": "Unsafe",
                    "is_read_only": False, "path_on_host": str(root), "rate_limiter": None, "io_engine": "Sync",
                    "socket": None}],
        "machine-config": {"vcpu_count": 1, "mem_size_mib": 128, "smt": False, "track_dirty_pages": False,
                           "huge_pages": "None"},
        "balloon": None, "cpu-config": None, "logger": None, "metrics": None, "mmds-config": None,
        "network-interfaces": [], "vsock": None, "entropy": None, "pmem": [], "memory-hotplug": None, **more,
    }


def write(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


def test_version_and_help():
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Firecracker v1.17.0-dev\n\n", "")
    done = run("--snapshot-version")
    assert (done.returncode, done.stdout) == (0, "v11.0.0\n")
    for flags in (["--help"], ["-h"], ["--version", "--nope", "--help"]):
        done = run(*flags)
        assert done.returncode == 0
        assert done.stdout.startswith("Firecracker v1.17.0-dev\n\n")
        assert "--http-api-max-payload-size" in done.stdout


@pytest.mark.parametrize("flags,text", [
    (["--nope"], "Found argument 'nope' which wasn't expected, or isn't valid in this context."),
    (["--id"], "The argument 'id' requires a value, but none was supplied."),
    (["--id", "a", "--id", "b"], "The argument 'id' was provided more than once."),
    (["--no-api"], "Argument 'config-file' required, but not found."),
    (["--no-seccomp", "--seccomp-filter", "x"],
     "Argument 'seccomp-filter' cannot be used together with argument 'no-seccomp'."),
])
def test_arguments_that_cannot_be_parsed(flags, text):
    done = run(*flags)
    assert done.returncode == 153
    assert f"Arguments parsing error: {text} \n\nFor more information try --help." in done.stdout
    assert done.stderr.startswith("Error: ")
    assert "Firecracker exiting with error. exit_code=153" in done.stdout


def test_bad_values(folder):
    done = run("--level", "loud", cwd=folder)
    assert done.returncode == 152
    assert "Invalid value for logger level: loud.Possible values: [Error, Warning, Info, Debug]" in done.stdout
    for flags, text in (
        (["--id", "a_b"], "Invalid instance ID"),
        (["--id", "x" * 65], "Invalid instance ID"),
        (["--http-api-max-payload-size", "-1"], "'http-api-max-payload-size' parameter expected to be of 'usize' type."),
        (["--mmds-size-limit", "1k"], "'mmds-size-limit' parameter expected to be of 'usize' type."),
        (["--start-time-us", "x"], "'start-time-us' parameter expected to be of 'u64' type."),
        (["--config-file", "/no/such"], "Unable to open or read from the configuration file"),
        (["--metadata", "/no/such"], "Unable to open or read from the mmds content file"),
    ):
        done = run("--api-sock", str(folder / "s"), *flags)
        assert done.returncode == -signal.SIGABRT, (flags, done.returncode, done.stdout)
        assert "Firecracker panicked at " in done.stdout
        assert text in done.stdout


def test_a_filter_that_is_not_loaded_is_refused(folder):
    for path, text in ("/no/such", "Filter file open error"), ("/dev/null", "Filter deserialization failed"):
        done = run("--api-sock", str(folder / "s"), "--seccomp-filter", path)
        assert done.returncode == 1
        assert f"Seccomp error: {text}" in done.stdout
        assert "Firecracker exiting with error. exit_code=1" in done.stdout
    assert not (folder / "s").exists()


def test_api_socket_in_use(vm, folder):
    path = vm.socket
    done = run("--api-sock", path)
    assert done.returncode == 1
    assert f"Failed to open the API socket at: {path}. Check that it is not already used." in done.stdout
    vm.kill()
    assert os.path.exists(path)  # never removed
    assert run("--api-sock", path).returncode == 1


def test_cli_no_params(new_vm):
    vm = new_vm(api=True)
    assert vm.process.poll() is None
    assert vm.get("/").json() == {
        "id": "test", "state": "Not started", "vmm_version": "1.17.0-dev", "app_name": "Firecracker",
    }
    assert "fc_api" in vm.threads() and "firecracker" in vm.threads()


@pytest.mark.parametrize("number,code", [(signal.SIGTERM, -15), (signal.SIGINT, -2), (signal.SIGHUP, 156)])
def test_signals_end_it(vm, number, code):
    vm.process.send_signal(number)
    assert vm.wait() == code
    assert os.path.exists(vm.socket)


def test_config_start_with_api(new_vm, folder):
    wanted = config(folder)
    vm = new_vm("--config-file", write(folder / "c.json", wanted))
    vm.ready()
    assert vm.get("vm/config").json() == wanted
    assert "Successfully started microvm that was configured from one single json" in vm.log()
    assert vm.get("/").json()["state"] == "Running"
    refused(vm.put("actions", {"action_type": "InstanceStart"}),
            "The requested operation is not supported after starting the microVM.")
    assert vm.sh("mount | grep ' / '").split()[4] == "ext4"


def test_config_start_no_api_exit(new_vm, folder):
    vm = new_vm("--config-file", write(folder / "c.json", config(folder)), api=False)
    vm.ready()
    assert "fc_api" not in vm.threads()
    assert vm.reboot() == 0
    assert "Vmm is stopping." in vm.log()
    assert "Firecracker exiting successfully. exit_code=0" in vm.log()


@pytest.mark.parametrize("change,text", [
    ({"machine-config": {"mem_size_mib": 128}}, "missing field `vcpu_count`"),
    ({"machine-config": {"vcpu_count": 2}}, "missing field `mem_size_mib`"),
    ({"drives": None}, "invalid type: null, expected a sequence"),
    ({"boot-source": {"kernel_image_path": "/no/such"}}, "The kernel file cannot be opened"),
    ({"vsock": {"guest_cid": 3}}, "missing field `uds_path`"),
])
def test_config_bad(new_vm, folder, change, text):
    vm = new_vm("--config-file", write(folder / "c.json", config(folder, **change)), api=False)
    assert vm.wait() == 1
    assert "Configuration for VMM from one single json failed: " in vm.log()
    assert text in vm.log()
    assert "Firecracker exiting with error. exit_code=1" in vm.log()


def test_config_of_a_machine_that_cannot_start(new_vm, folder):
    broken = config(folder)
    broken["boot-source"] = {"kernel_image_path": "/dev/null"}
    vm = new_vm("--config-file", write(folder / "c.json", broken), api=False)
    assert vm.wait() == 1
    assert "Could not Start MicroVM from one single json: " in vm.log()


def test_unknown_sections_are_ignored(new_vm, folder):
    vm = new_vm("--config-file", write(folder / "c.json", config(folder, **{"x-notes": [1, {"a": None}]})))
    vm.has_log("Successfully started microvm")
    ok(vm.get("/"))
