"""Drive build/ec1 as a user does.

EC1 names the binary (default build/ec1), EC1_ENGINE the engine (default: auto).  Booting costs seconds on
the software engine, so what can share a VM uses the fixture `vm` with `ec1 exec`.
"""

import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("EC1", str(ROOT / "build" / "ec1"))
ENGINE = os.environ.get("EC1_ENGINE", "auto")
# Generous: shared machines stall.
BOOT_TIMEOUT = 300


class Ec1:
    """The binary with an environment of its own."""

    def __init__(self, runtime):
        self.runtime = runtime
        self.env = dict(os.environ, XDG_RUNTIME_DIR=str(runtime))

    def __call__(self, *args, timeout=BOOT_TIMEOUT, env=None, check=None, **kwargs):
        """Run to the end; stdout and stderr are bytes.  check=n asserts the exit status."""
        if "input" not in kwargs:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(
            [BINARY, *args], env=env or self.env, capture_output=True, timeout=timeout, **kwargs
        )
        if check is not None:
            assert done.returncode == check, (args, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done

    def popen(self, *args, env=None, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen([BINARY, *args], env=env or self.env, **kwargs)

    def run(self, *command, flags=(), **kwargs):
        """`ec1 run` with the engine under test."""
        return self("run", "--engine", ENGINE, *flags, "--", *command, **kwargs)

    def leftovers(self):
        """What is in the runtime folder beside its own lock."""
        folder = pathlib.Path(self.runtime) / "ec1"
        return sorted(p.name for p in folder.iterdir() if p.name != ".names") if folder.exists() else []


@pytest.fixture(scope="session")
def runtime():
    path = tempfile.mkdtemp(prefix="ec1-rt-", dir="/tmp")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def ec1(runtime):
    return Ec1(runtime)


class Vm:
    """A running VM."""

    def __init__(self, ec1, name):
        self.ec1 = ec1
        self.name = name

    def exec(self, *command, flags=(), timeout=120, **kwargs):
        return self.ec1("exec", *flags, self.name, "--", *command, timeout=timeout, **kwargs)


@pytest.fixture(scope="session")
def shared_dir():
    path = tempfile.mkdtemp(prefix="ec1-share-", dir="/tmp")
    yield pathlib.Path(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def vm(ec1, shared_dir):
    """One VM for many execs; /shared is the host folder `shared_dir`."""
    name = "blackbox"
    ec1(
        "run", "--engine", ENGINE, "-d", "--name", name, "-m", "1G", "-v", f"{shared_dir}:/shared",
        "--", "sleep", "infinity", check=0,
    )
    yield Vm(ec1, name)
    ec1("stop", name)
    ec1("rm", name)
