"""Interfaces and the metadata service across a snapshot."""

import pytest
import taps
from microvm import MicroVm, ok, refused, refused_with
from test_mmds import ADDRESS, DATA, NOT_INITIALIZED, get, request

TTL = "PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: 600\r\n\r\n"


@pytest.fixture(autouse=True, scope="module")
def namespace():
    with taps.namespace():
        taps.tap("tap0", "172.16.0.1/24")
        taps.tap("tap1")
        yield


def pinged(vm):
    return "1 packets received" in vm.sh("ping -c 1 -W 20 172.16.0.1", check=False)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    """A guest with network and metadata, in two files; and a token that it had."""
    folder = tmp_path_factory.mktemp("snapshot")
    limit = {"bandwidth": {"size": 1 << 30, "refill_time": 100}}
    vm = MicroVm(folder)
    try:
        vm.configure(root=False)
        ok(vm.put("/network-interfaces/eth0", taps.net("eth0", "tap0", mtu=1300, rx_rate_limiter=limit)))
        ok(vm.put("/mmds/config", {"network_interfaces": ["eth0"], "version": "V2"}))
        ok(vm.put("/mmds", DATA))
        vm.start()
        vm.ready()
        vm.sh(f"ip addr add 172.16.0.2/24 dev eth0; ip link set eth0 up; ip route add {ADDRESS} dev eth0")
        assert pinged(vm)
        token = request(vm, TTL)[2]
        assert get(vm, "/latest/meta-data/ami-id", X_metadata_token=token)[2] == "ami-1"
        ok(vm.patch("/vm", {"state": "Paused"}))
        ok(vm.put("/snapshot/create", {"snapshot_path": str(folder / "state"), "mem_file_path": str(folder / "mem")}))
        config = vm.get("/vm/config").json()
    finally:
        vm.kill()
    return folder, token, config


def load(vm, snapshot, **more):
    folder = snapshot[0]
    backend = {"backend_type": "File", "backend_path": str(folder / "mem")}
    return vm.put("/snapshot/load", {"snapshot_path": str(folder / "state"), "mem_backend": backend, **more})


def test_the_network_goes_on(vm, snapshot):
    ok(load(vm, snapshot, resume_vm=True))
    vm.sh("true")
    assert pinged(vm)
    assert vm.sh("cat /sys/class/net/eth0/mtu").strip() == "1300"
    assert vm.get("/vm/config").json()["network-interfaces"] == snapshot[2]["network-interfaces"]


def test_another_tap_can_take_its_place(vm, snapshot):
    taps.ip("addr", "del", "172.16.0.1/24", "dev", "tap0")
    taps.ip("addr", "add", "172.16.0.1/24", "dev", "tap1")
    try:
        ok(load(vm, snapshot, resume_vm=True, network_overrides=[{"iface_id": "eth0", "host_dev_name": "tap1"}]))
        vm.sh("ip neigh flush dev eth0 2>/dev/null; true")
        assert pinged(vm) or pinged(vm)
        assert vm.get("/vm/config").json()["network-interfaces"][0]["host_dev_name"] == "tap1"
    finally:
        taps.ip("addr", "del", "172.16.0.1/24", "dev", "tap1")
        taps.ip("addr", "add", "172.16.0.1/24", "dev", "tap0")


def test_a_tap_that_is_in_use_ends_the_process(new_vm, snapshot):
    first, second = new_vm(), new_vm()
    ok(first.put("/network-interfaces/x", taps.net("x", "tap0")))
    refused_with(load(second, snapshot), "Resource busy (os error 16)")
    assert second.wait() == 1


def test_unknown_interfaces_cannot_be_overridden(vm, snapshot):
    refused(
        load(vm, snapshot, network_overrides=[{"iface_id": "eth9", "host_dev_name": "tap1"}]),
        "Load snapshot error: Failed to restore from snapshot: Failed to get snapshot state from file: Unknown Network "
        "Device.",
    )


def test_metadata_is_configured_and_empty(vm, snapshot):
    _, token, config = snapshot
    ok(load(vm, snapshot, resume_vm=True))
    assert vm.get("/vm/config").json()["mmds-config"] == config["mmds-config"]
    assert vm.get("/mmds").json() == {}
    refused(vm.patch("/mmds", {"a": 1}), NOT_INITIALIZED)
    vm.sh("true")
    assert get(vm, "/", X_metadata_token=token)[2] == "MMDS token not valid."
    ok(vm.put("/mmds", {"a": "new"}))
    token = request(vm, TTL)[2]
    assert get(vm, "/a", X_metadata_token=token)[2] == "new"


def test_a_paused_machine_can_be_changed(vm):
    ok(vm.put("/balloon", {"amount_mib": 0, "deflate_on_oom": True, "stats_polling_interval_s": 1}))
    vm.configure(root=False)
    ok(vm.put("/network-interfaces/eth0", taps.net("eth0", "tap0")))
    vm.start()
    vm.ready()
    vm.sh("ip addr add 172.16.0.2/24 dev eth0; ip link set eth0 up")
    ok(vm.patch("/vm", {"state": "Paused"}))
    limit = {"ops": {"size": 1000, "refill_time": 100}}
    ok(vm.patch("/network-interfaces/eth0", {"iface_id": "eth0", "tx_rate_limiter": limit}))
    ok(vm.patch("/balloon", {"amount_mib": 16}))
    ok(vm.patch("/vm", {"state": "Resumed"}))
    assert pinged(vm)
    vm.wait_for(lambda: vm.get("/balloon/statistics").json()["actual_mib"] == 16, "the balloon")
