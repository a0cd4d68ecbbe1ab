"""Fixtures of tests that drive build/firecracker over its socket.

FIRECRACKER names the binary (default build/firecracker), EC1_ENGINE the engine (default: auto).
"""

import pathlib
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import guest  # noqa: E402
from microvm import MicroVm  # noqa: E402


@pytest.fixture
def folder():
    # Short: paths of Unix sockets have at most 107 bytes.
    path = tempfile.mkdtemp(prefix="ec1-fc-", dir="/tmp")
    yield pathlib.Path(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def new_vm(folder):
    """MicroVm(*flags) in a folder of its own, as often as wanted; all are killed at the end."""
    started = []

    def make(*flags, **kwargs):
        place = folder / str(len(started))
        place.mkdir()
        started.append(MicroVm(place, *flags, **kwargs))
        return started[-1]

    yield make
    for each in started:
        each.kill()


@pytest.fixture
def vm(new_vm):
    """A process that waits for its configuration."""
    return new_vm()


def life(**kwargs):
    path = pathlib.Path(tempfile.mkdtemp(prefix="ec1-fc-", dir="/tmp"))
    vm = MicroVm(path)
    try:
        yield vm.boot(**kwargs)
    finally:
        vm.kill()
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def booted():
    """A guest with a root drive and a shell on its console, shared by the tests of a file that only look."""
    yield from life()


@pytest.fixture(scope="module")
def debian():
    """The same with Debian's kernel, whatever the others have."""
    yield from life(kernel=guest.debian())
