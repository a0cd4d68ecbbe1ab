"""As a user without groups, from a folder that only that user can read."""

import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

import pytest

from conftest import BINARY, BOOT_TIMEOUT, ENGINE

USER = "nobody"

SCRIPT = r"""
id -u; id -g; pwd
ls /root >/dev/null 2>&1 && echo "may list /root"
echo x > /root/file 2>/dev/null && echo "may write /root"
exit 7
"""

ROOT_SCRIPT = r"""
set -e
id -u
for dir in /etc /usr /root /var/cache/apt/archives/partial; do
    mkdir -p $dir; echo x > $dir/ec1-test; mkdir -p $dir/ec1-a/b; rm -r $dir/ec1-a
done
echo done
"""


@pytest.fixture
def place():
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    user = pwd.getpwnam(USER)
    # Not below /tmp, which the VM has one of its own of.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ec1-user-", dir="/var/tmp"))
    for name in ("ec1", "ec1-init"):
        shutil.copy(pathlib.Path(BINARY).parent / name, folder)
    shutil.copytree(os.path.expanduser("~/.cache/ec1/kernels/default/"), folder / "kernel", symlinks=True)
    (folder / "run").mkdir(0o700)
    subprocess.run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", folder], check=True)
    folder.chmod(0o700)
    yield folder, user
    shutil.rmtree(folder)


def test_the_same_for_an_unprivileged_user(place):
    folder, user = place

    def run(*args):
        return subprocess.run(
            ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "./ec1",
             "run", "-q", "--engine", ENGINE, "-k", folder / "kernel", *args],
            cwd=folder, env={"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder / "run")},
            stdin=subprocess.DEVNULL, capture_output=True, timeout=BOOT_TIMEOUT,
        )

    done = run("--", "sh", "-c", SCRIPT)
    assert done.returncode == 7, done.stderr
    assert done.stdout.decode() == f"{user.pw_uid}\n{user.pw_gid}\n{folder}\n"
    done = run("-u", "root", "-v", f"{folder}:/mnt", "--", "sh", "-c", ROOT_SCRIPT + "echo y > /mnt/made")
    assert (done.returncode, done.stdout) == (0, b"0\ndone\n"), done.stderr
    assert (folder / "made").stat().st_uid == user.pw_uid
    assert not os.path.exists("/etc/ec1-test")
    (image,) = (folder / "kernel/boot").glob("vmlinuz*")
    secret = image.rename(image.with_name("vmlinuz"))
    secret.chmod(0)
    done = run("--", "true")
    assert done.returncode == 125 and f"'{secret}': Permission denied".encode() in done.stderr, done.stderr
