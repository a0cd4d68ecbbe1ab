"""vsock: the resource, its socket's protocol, streams both ways; and the entropy device."""

import os
import pathlib
import socket
import threading
import time

import pytest
from microvm import PATIENCE, MicroVm, ok, refused

IN_USE = (
    "Vsock config error: Cannot create backend for vsock device: Error binding to the host-side Unix socket: "
    "Address in use (os error 98)"
)
POSTBOOT = "The requested operation is not supported after starting the microVM."


def is_listening(path):
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(str(path)) == 0


def test_api_vsock(vm):
    path = vm.folder / "v.sock"
    answer = ok(vm.put("vsock", {"guest_cid": 15, "uds_path": str(path)}))
    assert "Deprecation" not in answer.headers
    assert is_listening(path)
    assert vm.get("vm/config").json()["vsock"] == {"guest_cid": 15, "uds_path": str(path)}
    # the same again, elsewhere, and relative to the working directory
    ok(vm.put("vsock", {"guest_cid": 16, "uds_path": str(path)}))
    ok(vm.put("vsock", {"guest_cid": 2, "uds_path": "w.sock"}))
    assert not path.exists() and is_listening(vm.folder / "w.sock")
    # a failure has dropped what was there
    (vm.folder / "taken").touch()
    refused(vm.put("vsock", {"guest_cid": 16, "uds_path": str(vm.folder / "taken")}), IN_USE)
    assert not (vm.folder / "w.sock").exists()
    assert vm.get("vm/config").json()["vsock"] is None
    answer = ok(vm.put("vsock", {"guest_cid": 15, "uds_path": str(path), "vsock_id": "v"}))
    assert answer.headers["Deprecation"] == "true"
    vm.has_log("PUT /vsock: vsock_id field is deprecated.")


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    """A guest that echoes on vsock port 5000."""
    folder = pathlib.Path("/tmp") / f"ec1-fc-vsock-{os.getpid()}"
    folder.mkdir()
    vm = MicroVm(folder)
    try:
        vm.configure(root=False)
        ok(vm.put("vsock", {"guest_cid": 3, "uds_path": "v.sock"}))
        ok(vm.put("entropy", {"rate_limiter": {"bandwidth": {"size": 1 << 20, "refill_time": 100}}}))
        vm.start()
        vm.ready()
        refused(vm.put("vsock", {"guest_cid": 3, "uds_path": "x.sock"}), POSTBOOT)
        refused(vm.put("entropy", {}), POSTBOOT)
        vm.sh("guest_tool vsock-echo 5000 & sleep 0.2")
        yield vm
    finally:
        vm.kill()
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def dial(vm, line=b"CONNECT 5000\n", seconds=20):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(seconds * PATIENCE)
    s.connect(str(vm.folder / "v.sock"))
    s.sendall(line)
    return s


def first_line(s):
    out = b""
    while not out.endswith(b"\n"):
        part = s.recv(1)
        assert part, out
        out += part
    return out


def test_host_to_guest(guest):
    with dial(guest) as s:
        kind, port = first_line(s).split()
        assert kind == b"OK" and (1 << 30) <= int(port) < (1 << 31)
        data = os.urandom(300_000)
        threading.Thread(target=s.sendall, args=(data,)).start()
        got = b""
        while len(got) < len(data):
            got += s.recv(65536)
        assert got == data


def test_keyword_in_any_case(guest):
    with dial(guest, b"cOnNeCt 5000\n") as s:
        assert first_line(s).startswith(b"OK ")


@pytest.mark.parametrize("line", [
    b"CONNECT 5001\n", b"HELLO 5000\n", b"CONNECT x\n", b"CONNECT 99999999999\n", b"CONNECT " + b"0" * 40 + b"\n",
])
def test_refusals_close_without_a_word(guest, line):
    began = time.monotonic()
    with dial(guest, line) as s:
        try:
            assert s.recv(100) == b""
        except ConnectionResetError:
            pass
    assert time.monotonic() - began < 10 * PATIENCE


def test_an_unfinished_line_is_closed(guest):
    with dial(guest, b"CONNECT 50") as s:
        assert s.recv(100) == b""


def test_many_at_once(guest):
    socks = [dial(guest) for _ in range(60)]
    for s in socks:
        assert first_line(s).startswith(b"OK ")
    for i, s in enumerate(socks):
        s.sendall(b"%04d" % i)
    for i, s in enumerate(socks):
        assert s.recv(4, socket.MSG_WAITALL) == b"%04d" % i
        s.close()


def test_guest_to_host(guest):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(guest.folder / "v.sock_6000"))
        listener.listen()
        listener.settimeout(20 * PATIENCE)
        guest.type("echo from the guest | guest_tool vsock-send 2 6000 >/tmp/answer &\n")
        peer, _ = listener.accept()
        with peer:
            assert first_line(peer) == b"from the guest\n"
            peer.sendall(b"from the host\n")
        guest.sh("sleep 0.5")
        assert "from the host" in guest.sh("cat /tmp/answer")


def test_guest_to_nobody(guest):
    out = guest.sh("guest_tool vsock-send 2 6001 </dev/null 2>&1", check=False)
    assert "Connection reset" in out or "Connection refused" in out


def test_epipe(guest):
    """A peer that vanishes while the guest sends does no harm."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(guest.folder / "v.sock_6002"))
        listener.listen()
        listener.settimeout(20 * PATIENCE)
        guest.type("dd if=/dev/zero bs=64k count=200 2>/dev/null | guest_tool vsock-send 2 6002 >/dev/null 2>&1 &\n")
        peer, _ = listener.accept()
        peer.recv(1000)
        peer.close()
    guest.sh("sleep 0.3; true")
    ok(guest.get("/"))
    with dial(guest) as s:
        assert first_line(s).startswith(b"OK ")


def test_rng_present(guest):
    assert "virtio_rng" in guest.sh("cat /sys/class/misc/hw_random/rng_current")
    assert guest.sh("dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c").strip() == "64"


def test_entropy_api(vm):
    assert vm.get("vm/config").json()["entropy"] is None
    ok(vm.put("entropy", {}))
    assert vm.get("vm/config").json()["entropy"] == {"rate_limiter": None}
    bucket = {"size": 10, "one_time_burst": None, "refill_time": 100}
    for limiter in (None, {"bandwidth": bucket}, {"ops": bucket}, {"bandwidth": bucket, "ops": bucket}, {}):
        ok(vm.put("entropy", {"rate_limiter": limiter}))
    shown = vm.get("vm/config").json()["entropy"]["rate_limiter"]
    assert shown is None
    ok(vm.put("entropy", {"rate_limiter": {"ops": bucket}}))
    shown = vm.get("vm/config").json()["entropy"]["rate_limiter"]
    assert shown == {"bandwidth": None, "ops": bucket}


def test_rng_not_present(booted):
    assert "virtio_rng" not in booted.sh("cat /sys/class/misc/hw_random/rng_available")
