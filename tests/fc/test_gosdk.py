"""Firecracker's own Go SDK, unchanged, against our binary (gosdk/main.go says what it does)."""

import contextlib
import os
import pathlib
import shutil
import subprocess

import guest
import pytest
import taps
from microvm import BINARY, ENGINE, PATIENCE, beside

HERE = pathlib.Path(__file__).parent / "gosdk"


@pytest.fixture(scope="module")
def program():
    """Built once; the modules come through the module proxy or from the cache."""
    out = guest.BUILD / "gosdk"
    if out.exists() and all(out.stat().st_mtime > s.stat().st_mtime for s in HERE.iterdir()):
        return out
    if not shutil.which("go"):
        pytest.skip("no Go toolchain")
    # Outside of the source tree, and without a newer toolchain than the one that is here.
    env = dict(os.environ, GOTOOLCHAIN="local", GOFLAGS="-buildvcs=false -mod=readonly")
    done = subprocess.run(["nice", "go", "build", "-p", "2", "-o", out, "."], cwd=HERE, env=env, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason given"
        if "proxy" in done.stderr or "dial tcp" in done.stderr or "go.mod requires go" in done.stderr:
            pytest.skip(f"the SDK cannot be fetched or built here: {reason}")
        raise AssertionError(done.stderr)
    return out


@pytest.fixture
def tap():
    if os.geteuid() != 0:
        yield ""
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(taps.namespace())
        yield taps.tap("sdk0", "172.16.0.1/24")


def test_a_life_by_the_go_sdk(program, tap, folder):
    root = guest.rootfs(folder / "root.ext4")
    for name in ("data", "data2"):
        (folder / name).write_bytes(bytes(1 << 20))
    args = "console=ttyS0 reboot=k panic=1 quiet guest_echo=5000"
    done = subprocess.run(
        [program, BINARY, ENGINE, folder, guest.kernel(), guest.initrd(), root, args, tap],
        capture_output=True, text=True, timeout=600 * PATIENCE,
    )
    log = (folder / "fc.log").read_text()[-3000:] if (folder / "fc.log").exists() else ""
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:] + log
    assert "done: wait\n" in done.stdout


def test_a_jailed_life_by_the_go_sdk(program, folder):
    """Files are linked into the jail, so all are in one file system, and the root drive is the user's."""
    if os.geteuid() != 0:
        pytest.skip("must be root")
    root = guest.rootfs(folder / "root.ext4")
    os.chown(root, 61234, 61234)
    for source, name in ((guest.kernel(), "kernel"), (guest.initrd(), "initrd")):
        shutil.copy(source, folder / name)
    args = "console=ttyS0 reboot=k panic=1 quiet guest_echo=5000"
    done = subprocess.run(
        [program, pathlib.Path(BINARY).resolve(), ENGINE, folder, folder / "kernel", folder / "initrd", root, args, "",
         beside("jailer"), "61234"],
        capture_output=True, text=True, timeout=600 * PATIENCE,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "done: wait\n" in done.stdout
