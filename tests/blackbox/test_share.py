"""Folders of the host in a VM: by virtio-fs, and by 9P for kernels that have nothing else."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import pytest

from conftest import ENGINE, Vm

PROGRAM = pathlib.Path(__file__).parent / "programs" / "files.py"
# tools/fetch-kernel 9p; tools/build-kernel vimto (which has all built in, so that it cannot be known beforehand)
KERNELS = {"fs": None, "9p": "9p", "9p-built-in": "vimto"}


@pytest.fixture
def folder():
    path = pathlib.Path(tempfile.mkdtemp(prefix="ec1-share-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module", params=list(KERNELS))
def share(request, ec1):
    """(way, VM, folder of the host); the folder is /s in the VM, a folder `kept` in it /r, read-only."""
    kernel = KERNELS[request.param]
    path = os.path.expanduser(f"~/.cache/ec1/kernels/{kernel}")
    if kernel and not os.path.exists(path):
        pytest.skip(f"no kernel {path}")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ec1-share-", dir="/tmp"))
    os.chmod(folder, 0o777)
    (folder / "kept").mkdir()
    (folder / "kept" / "file").write_text("kept\n")
    name = f"share-{request.param}"
    ec1(
        "run", "--engine", ENGINE, *(["-k", path] if kernel else []), "-d", "--name", name, "-m", "512M",
        "-v", f"{folder}:/s", "-v", f"{folder}/kept:/r:ro", "-v", f"{PROGRAM}:/files.py:ro", "--", "sleep", "infinity",
        check=0,
    )
    yield request.param, Vm(ec1, name), folder
    ec1("kill", name)
    ec1("rm", name)
    shutil.rmtree(folder, ignore_errors=True)


def sh(vm, script, **kwargs):
    done = vm.exec("sh", "-ec", script, **kwargs)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout.decode()


def test_the_kernel_has_it_by_what_it_knows(share):
    way, vm, _ = share
    kinds = {line.split()[1]: line.split()[2] for line in sh(vm, "cat /proc/mounts").splitlines()}
    assert kinds["/"] == "overlay"
    assert {kinds["/s"], kinds["/r"]} == {"virtiofs" if way == "fs" else "9p"}
    devices = set(sh(vm, "cat /sys/bus/virtio/devices/*/device").split())
    assert devices - {"0x0013", "0x0004"} == {"fs": {"0x001a"}, "9p": {"0x0009"}}.get(way, {"0x001a", "0x0009"})


def test_a_shared_folder_is_like_one_of_the_host(share, folder):
    _, vm, shared = share
    (shared / "files").mkdir()
    here = subprocess.run([sys.executable, PROGRAM, folder], capture_output=True, check=True).stdout.decode()
    there = vm.exec("/usr/bin/python3", "/files.py", "/s/files", timeout=600)
    assert there.returncode == 0, there.stderr
    assert there.stdout.decode().splitlines() == here.splitlines()


def test_both_sides_see_what_the_other_does(share):
    _, vm, folder = share
    (folder / "h").write_text("one")
    assert sh(vm, "cat /s/h; test ! -e /s/late") == "one"
    (folder / "h").write_text("another")
    (folder / "late").write_text("late")
    (folder / "new").write_text("renamed")
    os.rename(folder / "new", folder / "h2")
    time.sleep(1.1)  # so long virtio-fs may believe what it knows
    assert sh(vm, "cat /s/h /s/late /s/h2; ls /s | grep -c new || true") == "anotherlaterenamed0\n"
    sh(vm, "echo guest > /s/g; echo more >> /s/h; mv /s/late /s/later; mkdir -p /s/x/y; rm /s/h2")
    assert (folder / "g").read_text() == "guest\n"
    assert (folder / "h").read_text() == "anothermore\n"
    script = "exec 3>/s/open; echo written >&3; echo ready; read end"
    with vm.ec1.popen(
        "exec", "-i", vm.name, "--", "sh", "-c", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout.readline() == b"ready\n"
        assert (folder / "open").read_text() == "written\n"  # though it is open still
        writer.stdin.close()
    assert (folder / "later").exists() and (folder / "x" / "y").is_dir() and not (folder / "h2").exists()


def test_a_read_only_folder_stays_as_it_is(share):
    _, vm, folder = share
    script = "cat /r/file; for c in 'touch /r/new' 'rm /r/file' 'mkdir /r/d' 'chmod 600 /r/file'; do ! $c || exit 9; done"
    done = vm.exec("sh", "-c", script)
    assert (done.returncode, done.stdout) == (0, b"kept\n"), done.stderr
    assert done.stderr.count(b"Read-only file system") == 4
    assert os.listdir(folder / "kept") == ["file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="without privilege, all files are the caller's")
def test_files_belong_to_who_made_them(share):
    _, vm, folder = share
    sh(vm, "echo x > /s/mine; mkdir /s/own; ln -s x /s/link", flags=["-u", "1234:567"])
    for name in ("mine", "own", "link"):
        st = os.lstat(folder / name)
        assert (st.st_uid, st.st_gid) == (1234, 567), name
    sh(vm, "chmod 600 /s/mine", flags=["-u", "1234:567"])
    assert vm.exec("cat", "/s/mine", flags=["-u", "1235:567"]).returncode == 1


def test_a_lock_of_the_host_is_waited_for(share):
    _, vm, folder = share
    holder = "import fcntl,sys,time; f=open(sys.argv[1],'w'); fcntl.lockf(f,fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, folder / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as host:
        host.stdout.readline()
        guest = "import fcntl; f=open('/s/lock','w'); fcntl.lockf(f,fcntl.LOCK_EX{}); print('locked')"
        done = vm.exec("/usr/bin/python3", "-c", guest.format("|fcntl.LOCK_NB"))
        assert done.returncode == 1 and b"BlockingIOError" in done.stderr
        with vm.ec1.popen("exec", vm.name, "--", "/usr/bin/python3", "-c", guest.format(""), stdout=subprocess.PIPE) as waits:
            time.sleep(1)
            assert waits.poll() is None
            host.stdin.close()
            assert waits.stdout.read() == b"locked\n"
