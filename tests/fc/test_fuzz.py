"""Ten thousand requests that are malformed, out of order or odd: each gets an answer that the interface knows, and
the process stays as it was.

EC1_SEED repeats a run, EC1_FUZZ_CASES is for longer ones.
"""

import json
import os
import random
import re
import socket

import guest
import pytest
from microvm import PATIENCE, ok

CASES = int(os.environ.get("EC1_FUZZ_CASES", "10000"))
SEED = int(os.environ.get("EC1_SEED", "1"))
ANSWER = re.compile(rb"HTTP/1\.[01] (\d{3}) ?\r\n((?:[^\r\n]+\r\n)*)\r\n")

# What a request may be made of; paths are in the process's own folder, and none makes it wait.
WORDS = ["", "a", "rootfs", "eth0", "0", "é", "a-b", "x" * 300, "disk", "missing", "folder", "fifo", "Unsafe", "Sync", "V1",
         "V2", "None", "T2", "2M", "Paused", "Resumed", "Full", "File", "Info", "169.254.169.254", "06:00:00:00:00:01",
         "\u0000", "\"", "\\", "..", "/", "v.sock"]
NUMBERS = [0, 1, 2, 3, 32, 33, 127, 128, 255, 256, 1024, 65535, 65536, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64, -1, 1.5,
           1e300]
FIELDS = {
    "machine-config": ["vcpu_count", "mem_size_mib", "smt", "cpu_template", "track_dirty_pages", "huge_pages"],
    "boot-source": ["kernel_image_path", "initrd_path", "boot_args"],
    "cpu-config": ["cpuid_modifiers", "msr_modifiers", "kvm_capabilities"],
    "drives/rootfs": ["drive_id", "is_root_device", "partuuid", "cache_type", "is_read_only", "path_on_host",
                      "rate_limiter", "io_engine", "socket"],
    "network-interfaces/eth0": ["iface_id", "host_dev_name", "guest_mac", "mtu", "rx_rate_limiter", "tx_rate_limiter"],
    "pmem/a": ["id", "path_on_host", "root_device", "read_only", "rate_limiter"],
    "balloon": ["amount_mib", "deflate_on_oom", "stats_polling_interval_s", "free_page_hinting", "free_page_reporting"],
    "balloon/statistics": ["stats_polling_interval_s"],
    "balloon/hinting/start": ["acknowledge_on_stop"],
    "balloon/hinting/stop": [],
    "balloon/hinting/status": [],
    "vsock": ["guest_cid", "uds_path", "vsock_id"],
    "entropy": ["rate_limiter"],
    "serial": ["serial_out_path", "rate_limiter"],
    "logger": ["level", "show_level", "show_log_origin", "module"],
    "metrics": ["emit_id", "properties"],
    "mmds": ["a", "b", "c"],
    "mmds/config": ["network_interfaces", "version", "ipv4_address", "imds_compat"],
    "hotplug/memory": ["total_size_mib", "block_size_mib", "slot_size_mib", "requested_size_mib"],
    "vm": ["state"],
    "vm/config": [],
    "snapshot/create": ["snapshot_type", "snapshot_path", "mem_file_path"],
    "snapshot/load": ["snapshot_path", "mem_file_path", "mem_backend", "track_dirty_pages", "resume_vm"],
    "actions": ["action_type"],
    "": [], "version": [], "nowhere": [], "drives": [], "snapshot": [],
}


class Maker:
    """Requests from a seed."""

    def __init__(self, rng, avoid=()):
        self.rng = rng
        self.paths = [p for p in FIELDS if p not in avoid]

    def value(self, depth=0):
        r = self.rng.random()
        if r < 0.35:
            return self.rng.choice(WORDS)
        if r < 0.6:
            return self.rng.choice(NUMBERS)
        if r < 0.75:
            return self.rng.choice([True, False, None])
        if r < 0.9 and depth < 3:
            return {self.rng.choice(["size", "refill_time", "one_time_burst", "bandwidth", "ops", "backend_path",
                                     "backend_type", "a"]): self.value(depth + 1) for _ in range(self.rng.randrange(4))}
        if depth < 3:
            return [self.value(depth + 1) for _ in range(self.rng.randrange(4))]
        return 0

    def body(self, path):
        fields = [f for f in FIELDS[path] if self.rng.random() < 0.8]
        if self.rng.random() < 0.1:
            fields.append("stray")
        body = json.dumps({f: self.value() for f in fields}, ensure_ascii=self.rng.random() < 0.5).encode()
        r = self.rng.random()
        if r < 0.1 and body:  # one byte is another
            at = self.rng.randrange(len(body))
            body = body[:at] + bytes([self.rng.randrange(256)]) + body[at + 1 :]
        elif r < 0.15:
            body = body[: self.rng.randrange(len(body) + 1)]
        elif r < 0.17:
            body = b"[" * self.rng.choice([10, 200, 5000])
        elif r < 0.18:
            body = b'{"a":' * 300 + b"1" + b"}" * 300
        return body

    def request(self):
        path = self.rng.choice(self.paths)
        method = self.rng.choice([b"GET", b"PUT", b"PUT", b"PATCH", b"DELETE"])
        body = b"" if method in (b"GET", b"DELETE") and self.rng.random() < 0.9 else self.body(path)
        uri = b"/" + path.encode()
        fields = b""
        r = self.rng.random()
        if r < 0.05:
            uri += self.rng.choice([b"/", b"/x", b"?a=b", b"//", b"/" + b"y" * 200])
        elif r < 0.08:
            fields = self.rng.choice([b"X: y\r\n", b"Accept: text/html\r\n", b"bad\r\n", b"Content-Length: -1\r\n",
                                      b"Accept-Encoding: identity;q=0\r\n", b"A: " + b"z" * 900 + b"\r\n",
                                      b"Transfer-Encoding: chunked\r\n", b"X:\xff\r\n"])
        elif r < 0.1:
            method = self.rng.choice([b"POST", b"HEAD", b"get", b"", b"G\x00T"])
        elif r < 0.11:
            return bytes(self.rng.randrange(256) for _ in range(self.rng.randrange(1, 400))) + b"\r\n\r\n"
        if body:
            fields += b"Content-Length: %d\r\n" % len(body)
        data = method + b" " + uri + b" HTTP/1.1\r\n" + fields + b"\r\n" + body
        return data


def take_answer(s, held):
    """The next answer: status and body, and what was read beyond it."""
    while True:
        match = ANSWER.match(held)
        if match:
            length = re.search(rb"Content-Length: (\d+)", match.group(2))
            end = match.end() + (int(length.group(1)) if length else 0)
            if len(held) >= end:
                return int(match.group(1)), held[match.end() : end], held[end:]
        part = s.recv(65536)
        assert part, held[:300]
        held += part


def check(status, body, data):
    assert status in (200, 204, 400, 413), (status, data[:300])
    if status == 204:
        assert body == b""
    elif status == 200:
        json.loads(body)
    elif body.startswith(b'{ "error"'):
        assert body.endswith(b"\nAll previous unanswered requests will be dropped.\" }"), body
    else:
        assert list(json.loads(body)) == ["fault_message"] and json.loads(body)["fault_message"], body


def footprint(vm):
    folder = f"/proc/{vm.process.pid}"
    with open(f"{folder}/statm") as f:
        return len(os.listdir(f"{folder}/fd")), int(f.read().split()[5]) * 4096


def ask_all(vm, maker, count):
    """Each on a connection that is used for some of them; a version request says where an answer ends."""
    probe = b"GET /version HTTP/1.1\r\n\r\n"
    left = count
    while left:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(60 * PATIENCE)
            s.connect(vm.socket)
            for _ in range(min(left, 20)):
                left -= 1
                data = maker.request()
                s.sendall(data)
                try:
                    status, body, rest = take_answer(s, b"")
                except TimeoutError:
                    raise AssertionError(f"no answer to {data[:300]}") from None
                check(status, body, data)
                if rest or status == 400 and body.startswith(b"{ \"error\""):
                    break  # what followed the error is read as requests of their own; begin anew
        assert vm.process.poll() is None, vm.state()
    answer = vm.raw(probe, 100)
    assert b"firecracker_version" in answer


def prepare(vm):
    (vm.folder / "disk").write_bytes(bytes(1 << 20))
    (vm.folder / "folder").mkdir()


def grown(before, after):
    return (after[0] - before[0], after[1] - before[1])


def test_before_the_start(new_vm):
    """Nothing here starts a machine: there is no kernel that could."""
    vm = new_vm("--level", "Off")
    prepare(vm)
    ok(vm.put("machine-config", {"vcpu_count": 1, "mem_size_mib": 128}))
    maker = Maker(random.Random(SEED))
    ask_all(vm, maker, CASES // 4)
    before = footprint(vm)
    ask_all(vm, maker, CASES // 2)
    descriptors, bytes_more = grown(before, footprint(vm))
    assert descriptors <= 8  # disks and sockets that some of them configured
    assert bytes_more < 8 << 20
    assert vm.get("/").json()["state"] == "Not started"


def test_while_it_runs(new_vm):
    """A guest lives through it; what would end or stop it by design is left out."""
    vm = new_vm("--level", "Off")
    prepare(vm)
    vm.configure(root=False)
    vm.start()
    vm.ready()
    maker = Maker(random.Random(SEED + 1), avoid=("vm", "actions", "snapshot/create"))
    ask_all(vm, maker, CASES // 4)
    assert vm.get("/").json()["state"] == "Running"
    assert vm.sh("echo alive") == "alive\n"
    assert vm.reboot() == 0
