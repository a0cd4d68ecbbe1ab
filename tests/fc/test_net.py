"""Network interfaces over TAP."""

import hashlib
import json
import pathlib
import re
import socket
import threading
import time

import pytest
import taps
from microvm import ENGINE, ok, refused

MAC = "06:00:ac:10:00:02"
BUSY = (
    "Network config error: Could not create the network device: Open tap device failed: Error while creating ifreq "
    "structure: {} Invalid TUN/TAP Backend provided by {}. Check our documentation on setting up the network devices."
)


@pytest.fixture(autouse=True, scope="module")
def namespace():
    with taps.namespace():
        taps.tap("tap0", "172.16.0.1/24")
        yield


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    from microvm import MicroVm

    vm = MicroVm(tmp_path_factory.mktemp("net"), "--metrics-path", str(tmp_path_factory.mktemp("m") / "metrics"))
    try:
        vm.configure(root=False)
        ok(vm.put("/network-interfaces/eth0", taps.net("eth0", "tap0", guest_mac=MAC.upper(), mtu=1400)))
        vm.start()
        vm.ready()
        vm.sh("ip addr add 172.16.0.2/24 dev eth0; ip link set eth0 up")
        yield vm
    finally:
        vm.kill()


def test_interfaces_are_put_and_put_again(vm):
    taps.tap("tap1")
    ok(vm.put("/network-interfaces/a", taps.net("a", "tap0", guest_mac=MAC)))
    refused(
        vm.put("/network-interfaces/b", taps.net("b", "tap1", guest_mac=MAC)),
        f"Network config error: The MAC address is already in use: {MAC}",
    )
    refused(vm.put("/network-interfaces/b", taps.net("b", "tap0")), BUSY.format("Resource busy (os error 16).", "tap0"))
    refused(
        vm.put("/network-interfaces/b", taps.net("a", "tap1")),
        "The id from the path [b] does not match the id from the body [a]!",
    )
    ok(vm.put("/network-interfaces/a", taps.net("a", "tap1", rx_rate_limiter={"ops": {"size": 1, "refill_time": 2}})))
    ok(vm.put("/network-interfaces/b", taps.net("b", "tap0", guest_mac=MAC)))
    assert vm.get("/vm/config").json()["network-interfaces"] == [
        {"iface_id": "a", "host_dev_name": "tap1", "guest_mac": None, "mtu": None, "tx_rate_limiter": None,
         "rx_rate_limiter": {"bandwidth": None, "ops": {"size": 1, "one_time_burst": None, "refill_time": 2}}},
        {"iface_id": "b", "host_dev_name": "tap0", "guest_mac": MAC, "mtu": None, "tx_rate_limiter": None,
         "rx_rate_limiter": None},
    ]


def test_a_tap_with_several_queues_is_refused(vm):
    taps.tap("tapm", multi_queue=True)
    refused(
        vm.put("/network-interfaces/a", taps.net("a", "tapm")), BUSY.format("Invalid argument (os error 22).", "tapm")
    )


def test_the_guest_sees_what_was_configured(guest):
    assert guest.sh("cat /sys/class/net/eth0/address").strip() == MAC
    assert guest.sh("cat /sys/class/net/eth0/mtu").strip() == "1400"
    assert "1 packets received" in guest.sh("ping -c 1 -W 10 172.16.0.1")


SIZE = (4 if ENGINE == "soft" else 16) << 20


def test_bulk_data_arrives_whole_in_both_directions(guest):
    data = bytes(hashlib.sha256(i.to_bytes(4, "little")).digest()[0] for i in range(4096)) * (SIZE // 4096)
    digest = hashlib.md5(data).hexdigest()
    got = []
    server = socket.create_server(("172.16.0.1", 5000))

    def serve():
        peer, _ = server.accept()
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        peer.close()
        peer, _ = server.accept()
        total = hashlib.md5()
        while part := peer.recv(1 << 16):
            total.update(part)
        got.append(total.hexdigest())

    thread = threading.Thread(target=serve)
    thread.start()
    assert guest.sh("nc 172.16.0.1 5000 </dev/null >/tmp/data; md5sum /tmp/data").split()[0] == digest
    guest.sh("nc 172.16.0.1 5000 </tmp/data; rm /tmp/data")
    thread.join(60)
    server.close()
    assert got == [digest]


def test_a_flood_leaves_the_interface_alive(guest):
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.sendto(b"x", ("172.16.0.2", 7))
    for _ in range(20000):
        try:
            udp.sendto(b"x" * 1372, ("172.16.0.2", 7))
        except BlockingIOError:
            pass
    udp.close()
    assert "1 packets received" in guest.sh("ping -c 1 -W 60 172.16.0.1")


def metrics(vm, *names):
    """Sums over all lines of one key of net_eth0 each."""
    ok(vm.put("/actions", {"action_type": "FlushMetrics"}))
    path = vm.flags[vm.flags.index("--metrics-path") + 1]
    lines = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
    return [sum(line["net_eth0"][name] for line in lines) for name in names]


def test_another_address_is_transmitted_and_counted(guest):
    before = metrics(guest, "tx_spoofed_mac_count")[0]
    guest.sh("ip link set eth0 down; ip link set eth0 address 06:00:ac:10:00:99; ip link set eth0 up")
    assert "1 packets received" in guest.sh("ping -c 1 -W 10 172.16.0.1")
    spoofed, packets, size = metrics(guest, "tx_spoofed_mac_count", "tx_packets_count", "tx_bytes_count")
    assert spoofed > before
    assert size > packets > 10
    assert guest.get("/vm/config").json()["network-interfaces"][0]["guest_mac"] == MAC
    guest.sh(f"ip link set eth0 down; ip link set eth0 address {MAC}; ip link set eth0 up")


def _transfer(guest, kib):
    """Seconds for so many KiB towards the guest."""
    server = socket.create_server(("172.16.0.1", 5001))

    def serve():
        peer, _ = server.accept()
        peer.sendall(b"x" * (kib << 10))
        peer.close()

    thread = threading.Thread(target=serve)
    thread.start()
    start = time.monotonic()
    assert guest.sh("nc 172.16.0.1 5001 </dev/null | wc -c").strip() == str(kib << 10)
    taken = time.monotonic() - start
    thread.join(60)
    server.close()
    return taken


def test_limits_are_patched_while_it_runs(guest):
    limit = {"bandwidth": {"size": 64 << 10, "refill_time": 200}}  # 320 KiB/s
    ok(guest.patch("/network-interfaces/eth0", {"iface_id": "eth0", "rx_rate_limiter": limit}))
    shown = guest.get("/vm/config").json()["network-interfaces"][0]
    assert shown["rx_rate_limiter"]["bandwidth"]["size"] == 64 << 10
    assert _transfer(guest, 512) > 1  # 64 KiB are there at once; 448 KiB at 320 KiB/s take 1.4 s
    off = {"bandwidth": {"size": 0, "refill_time": 0}}
    ok(guest.patch("/network-interfaces/eth0", {"iface_id": "eth0", "rx_rate_limiter": off}))
    assert guest.get("/vm/config").json()["network-interfaces"][0]["rx_rate_limiter"] is None
    throttled, resumed = metrics(guest, "rx_rate_limiter_throttled", "rx_event_rate_limiter_count")
    assert throttled > 0 and resumed > 0
    refused(
        guest.patch("/network-interfaces/eth9", {"iface_id": "eth9"}),
        "Network config error: Unable to update the net device: Failed perform action on device: Device not found",
    )


def test_the_driver_can_be_unbound_and_bound_again(guest):
    device = guest.sh("basename $(readlink /sys/class/net/eth0/device)").strip()
    assert re.fullmatch(r"virtio\d+", device)
    guest.sh(f"echo {device} >/sys/bus/virtio/drivers/virtio_net/unbind")
    guest.sh(f"echo {device} >/sys/bus/virtio/drivers/virtio_net/bind")
    guest.sh("ip addr add 172.16.0.2/24 dev eth0; ip link set eth0 up")
    assert "1 packets received" in guest.sh("ping -c 1 -W 10 172.16.0.1")


def test_interfaces_are_plugged_in_and_pulled_out(new_vm):
    taps.tap("tapp", "172.17.0.1/24")
    vm = new_vm("--enable-pci")
    vm.configure(root=False)
    refused(
        vm.delete("/network-interfaces/eth0"),
        "The requested operation is not supported before starting the microVM.",
    )
    vm.start()
    vm.ready()
    for _ in range(2):  # the id and the TAP can be used again
        ok(vm.put("/network-interfaces/eth0", taps.net("eth0", "tapp", guest_mac=MAC)))
        refused(vm.put("/network-interfaces/eth0", taps.net("eth0", "tapp")), "Device ID in use")
        refused(
            vm.put("/network-interfaces/eth1", taps.net("eth1", "tapx", guest_mac=MAC)),
            f"Network config error: The MAC address is already in use: {MAC}",
        )
        refused(
            vm.put("/network-interfaces/eth1", taps.net("eth1", "tapp")),
            BUSY.format("Resource busy (os error 16).", "tapp"),
        )
        vm.sh("echo 1 >/sys/bus/pci/rescan; n=0; while ! ip link show eth0 2>/dev/null; do sleep 0.1; done")
        vm.sh("ip addr add 172.17.0.2/24 dev eth0; ip link set eth0 up")
        assert "1 packets received" in vm.sh("ping -c 1 -W 10 172.17.0.1")
        vm.sh("echo 1 >/sys/class/net/eth0/device/../remove")
        ok(vm.delete("/network-interfaces/eth0"))
        refused(vm.delete("/network-interfaces/eth0"), "Device not found")


def test_without_pci_nothing_is_plugged(guest):
    refused(guest.put("/network-interfaces/x", taps.net("x", "tap0")), "PCI is not enabled")
    refused(guest.delete("/network-interfaces/eth0"), "PCI is not enabled")
