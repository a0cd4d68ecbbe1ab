"""As a user without rights: from a checkout that cannot be written, and as root of the VM alone."""

import os
import pwd
import shutil
import subprocess
import tempfile
import pathlib

import pytest

from conftest import BUILD, KERNEL, TIMEOUT, base_env

SCRIPT = r"""
id -u
touch /root/file 2>/dev/null && echo "wrote /root"
touch here 2>/dev/null || echo "cannot write here"
"""

SUDO = r"""
id -u; echo "$KEPT"
touch /root/file /etc/file && echo "wrote /root"
touch work/by-root && stat -c %U work/by-root
touch here 2>/dev/null || echo "cannot write here"
"""

CORE = """
id -u
sh -c 'kill -SEGV $$' 2>/dev/null
exit 0
"""


@pytest.fixture
def place():
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    user = pwd.getpwnam("nobody")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vimto ü-", dir="/var/tmp"))
    for name in ("ec1", "ec1-init"):
        shutil.copy(BUILD / name, folder)
    (folder / "vimto").symlink_to("ec1")
    shutil.copytree(KERNEL, folder / "kernel", symlinks=True)
    for name in (".run", "cache", "checkout", "checkout/.git", "checkout/work"):
        (folder / name).mkdir(mode=0o755)
    (folder / "checkout" / ".vimto.toml").write_text('kernel = "../kernel"\nsetup = ["true"]\n')
    subprocess.run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", folder], check=True)
    (folder / "checkout").chmod(0o555)
    (folder / ".run").chmod(0o700)
    yield folder, user
    shutil.rmtree(folder)


def test_nobody_in_a_checkout_that_is_read_only(place):
    folder, user = place
    env = dict(base_env(folder), PATH=f"{folder}:{os.environ['PATH']}", XDG_CACHE_HOME=str(folder / "cache"), KEPT="a  b")
    env.pop("HOME", None)

    def vimto(*args, cwd="checkout"):
        done = subprocess.run(
            ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "vimto", *args],
            cwd=folder / cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    assert vimto("exec", "--", "sh", "-c", SCRIPT) == [str(user.pw_uid), "cannot write here"]
    # Root in the VM has no more rights on the host than the caller.
    assert vimto("-sudo", "exec", "--", "sh", "-c", SUDO) == ["0", "a  b", "wrote /root", "nobody", "cannot write here"]
    assert (folder / "checkout" / "work" / "by-root").stat().st_uid == user.pw_uid
    assert vimto("-sudo", "exec", "--", "sh", "-c", CORE, cwd="checkout/work") == ["0"]
    (core,) = (folder / "checkout" / "work").glob("core-sh-*")
    assert core.stat().st_uid == user.pw_uid
    assert not pathlib.Path("/root/file").exists() and not pathlib.Path("/etc/file").exists()
