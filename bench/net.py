#!/usr/bin/python3
"""net.py — a guest's network over TAP, ec1 beside qemu: same kernel, initramfs and driver, alternating.

  receive, transmit   MiB/s of one TCP stream between the host and the guest
  latency             round trip of an ICMP echo from the host, median

qemu carries frames in its own process, as ec1 does (no vhost).  With --engine kvm (where /dev/kvm works, or in
tests/nested/outer) the peer is qemu's microvm with virtio-mmio; with --engine soft q35 on TCG.  All in a
network namespace of its own, which takes root.

Usage: net.py [--engine kvm|soft] [--runs N] [--mib N] [--echoes N] [--json FILE] BUILD_DIR
"""

import argparse
import json
import os
import pathlib
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "fc"))
sys.path.insert(0, str(ROOT / "bench"))
import guest  # noqa: E402
import microvm  # noqa: E402
import taps  # noqa: E402
from qemu_guest import CMDLINE, MACHINES, MEM_MIB, SUFFIX, QemuGuest  # noqa: E402

HOST, GUEST = "172.16.0.1", "172.16.0.2"


def start_qemu(folder, engine):
    device = f"virtio-net-{SUFFIX[engine]},netdev=n"
    return QemuGuest(folder, engine, [
        "-netdev", "tap,id=n,ifname=tap1,script=no,downscript=no,vhost=off", "-device", device])


def start_ec1(folder, engine):
    vm = microvm.MicroVm(folder, engine=engine)
    microvm.ok(vm.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": MEM_MIB}))
    source = {"kernel_image_path": str(guest.kernel()), "initrd_path": str(guest.initrd()), "boot_args": CMDLINE}
    microvm.ok(vm.put("/boot-source", source))
    microvm.ok(vm.put("/network-interfaces/eth0", taps.net("eth0", "tap1")))
    vm.start()
    vm.ready()
    return vm


# --- what is measured ---


def stream(vm, mib, to_guest):
    """MiB/s of a stream of so many MiB, from the connection to its end."""
    server = socket.create_server((HOST, 5000))
    block = bytes(1 << 20)
    took = []

    def serve():
        peer, _ = server.accept()
        start = time.monotonic()
        if to_guest:
            for _ in range(mib):
                peer.sendall(block)
            peer.shutdown(socket.SHUT_WR)
        while peer.recv(1 << 20):
            pass  # towards the guest: until it has all and closes
        took.append(time.monotonic() - start)
        peer.close()

    thread = threading.Thread(target=serve)
    thread.start()
    vm.sh(f"guest_tool tcp-take {HOST} 5000" if to_guest else f"guest_tool tcp-give {HOST} 5000 {mib}", 300)
    thread.join(600)
    server.close()
    return mib / took[0]


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def latency(echoes):
    """Microseconds of a round trip, median."""
    icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    icmp.settimeout(5)
    times = []
    for i in range(echoes):
        packet = struct.pack(">BBHHH", 8, 0, 0, 0xEC1, i) + bytes(56)
        packet = packet[:2] + struct.pack(">H", checksum(packet)) + packet[4:]
        start = time.perf_counter()
        icmp.sendto(packet, (GUEST, 0))
        while True:
            data = icmp.recv(2048)
            if data[20] == 0 and struct.unpack(">HH", data[24:28]) == (0xEC1, i):
                break
        times.append((time.perf_counter() - start) * 1e6)
    icmp.close()
    return statistics.median(times)


def measure(start, args):
    """One guest's life: its three figures."""
    with tempfile.TemporaryDirectory(prefix="ec1-net-", dir="/tmp") as folder:
        vm = start(folder, args.engine)
        try:
            vm.sh(f"ip addr add {GUEST}/24 dev eth0; ip link set eth0 up")
            latency(20)  # neighbours know each other, code is translated
            stream(vm, 1, True)
            return {
                "receive": stream(vm, args.mib, True),
                "transmit": stream(vm, args.mib, False),
                "latency_us": latency(args.echoes),
            }
        finally:
            vm.kill()


ROWS = [("receive", "host to guest", "MiB/s"), ("transmit", "guest to host", "MiB/s"), ("latency_us", "round trip", "us")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="soft", choices=MACHINES)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--echoes", type=int, default=300)
    parser.add_argument("--json")
    parser.add_argument("build")
    args = parser.parse_args()
    microvm.BINARY = str(pathlib.Path(args.build).resolve() / "firecracker")
    starts = {"ec1": start_ec1, "qemu": start_qemu}
    runs = {name: [] for name in starts}
    try:
        with taps.namespace():
            taps.tap("tap1", f"{HOST}/24")
            for _ in range(args.runs):
                for name, start in starts.items():
                    runs[name].append(measure(start, args))
    except pytest.skip.Exception as why:
        print(f"network over TAP: skipped: {why}")
        return
    out = {name: {key: statistics.median(r[key] for r in rs) for key, _, _ in ROWS} for name, rs in runs.items()}
    nested = " in an emulated machine" if "EC1_IN_OUTER" in os.environ else ""
    print(f"network over TAP; engine {args.engine}{nested}, medians of {args.runs}{'':10} ec1         qemu   ec1/qemu")
    for key, text, unit in ROWS:
        ec1, qemu = out["ec1"][key], out["qemu"][key]
        print(f"  {text + ', ' + unit:52} {ec1:>12.1f} {qemu:>12.1f} {ec1 / qemu:>10.2f}")
    if args.json:
        path = pathlib.Path(args.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(out | {"runs": runs}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
