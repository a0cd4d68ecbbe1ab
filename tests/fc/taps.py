"""A network namespace for tests with TAP interfaces: nothing of the host's network is touched."""

import contextlib
import ctypes
import os
import subprocess

import pytest

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def namespace():
    """This thread, and every process that it starts, in an empty network namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if _libc.unshare(CLONE_NEWNET) != 0:
        os.close(home)
        pytest.skip(f"no network namespace can be made: {os.strerror(ctypes.get_errno())}")
    try:
        if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
            pytest.skip("/dev/net/tun cannot be opened")
        ip("link", "set", "lo", "up")
        yield
    finally:
        if _libc.setns(home, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "back to the first namespace")
        os.close(home)


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout


def tap(name, address=None, multi_queue=False):
    """A TAP that stays, with an address for the host's side."""
    ip("tuntap", "add", "mode", "tap", "name", name, "vnet_hdr", *(["multi_queue"] if multi_queue else []))
    if address:
        ip("addr", "add", address, "dev", name)
    ip("link", "set", name, "up")
    return name


def net(iface_id, dev, **fields):
    return {"iface_id": iface_id, "host_dev_name": dev, **fields}
