"""Commands in a running VM: streams, status, environment, users, files."""

import hashlib
import os
import subprocess
import threading
import time

import pytest


def test_two_streams_and_the_status(vm):
    done = vm.exec("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)


@pytest.mark.parametrize(
    "command, status",
    [
        (["true"], 0),
        (["false"], 1),
        (["/nonexistent/command"], 127),
        (["no-such-command-anywhere"], 127),
        (["/etc/passwd"], 126),
        (["/etc"], 126),
        (["sh", "-c", "kill -9 $$"], 137),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["sh", "-c", "exit 255"], 255),
    ],
)
def test_exit_status(vm, command, status):
    done = vm.exec(*command)
    assert done.returncode == status, done.stderr


def test_stdin_reaches_the_command_and_ends(vm):
    assert vm.exec("cat", input=b"abc").stdout == b"abc"


def test_streams_are_binary_and_whole_in_both_directions(vm):
    data = os.urandom(4 << 20)
    want = hashlib.sha256(data).hexdigest().encode()
    assert vm.exec("sha256sum", input=data).stdout.split()[0] == want
    assert vm.exec("head", "-c", "8388608", "/dev/zero").stdout == bytes(8 << 20)


def test_the_last_bytes_before_exit_are_never_lost(vm):
    for _ in range(5):
        done = vm.exec("sh", "-c", "head -c 300000 /dev/zero; printf end")
        assert done.stdout == bytes(300000) + b"end"


def test_a_background_child_does_not_hold_the_exec(vm):
    start = time.monotonic()
    done = vm.exec("sh", "-c", "sleep 60 & echo started")
    assert done.stdout == b"started\n" and done.returncode == 0
    assert time.monotonic() - start < 30


def test_many_execs_at_once_and_one_that_hangs(vm):
    hang = vm.ec1.popen("exec", vm.name, "--", "sleep", "1000")
    results = []
    threads = [
        threading.Thread(target=lambda i=i: results.append(vm.exec("echo", str(i)).stdout)) for i in range(8)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(results) == sorted(f"{i}\n".encode() for i in range(8))
    assert hang.poll() is None
    hang.terminate()
    assert hang.wait(60) == 143


def test_arguments_are_verbatim(vm):
    args = [b"", b"a\nb", bytes(range(0x80, 0x100)), b" ", b"'\"$x", b"\t"]
    done = vm.exec("sh", "-c", 'for a; do printf "%s\\0" "$a"; done', "sh", *args)
    assert done.stdout.split(b"\0")[:-1] == args


def test_a_one_mebibyte_argument_list(vm):
    args = ["x" * 104_858] * 10
    done = vm.exec("python3", "-c", "import sys; print(sum(map(len, sys.argv[1:])))", *args)
    assert done.stdout.strip() == b"1048580", done.stderr


def test_ten_thousand_variables_are_verbatim(vm):
    env = {f"EC1_VAR_{i}": f"v{i}" for i in range(10_000)}
    env.update(vm.ec1.env)
    env["EC1_BYTES"] = os.fsdecode(bytes(range(0x80, 0x100))) + "\n=x"
    env["EC1_EMPTY"] = ""
    done = vm.exec("env", "-0", env=env)
    got = dict(e.split(b"=", 1) for e in done.stdout.split(b"\0") if e)
    for name, value in env.items():
        assert got[os.fsencode(name)] == os.fsencode(value), name


def test_dash_e_sets_and_passes_on(vm):
    env = dict(vm.ec1.env, HOST_VALUE="from host")
    done = vm.exec("sh", "-c", 'echo "$A-$HOST_VALUE"', flags=["-e", "A=b c", "-e", "HOST_VALUE"], env=env)
    assert done.stdout == b"b c-from host\n"


def test_dash_w_sets_the_working_directory(vm):
    assert vm.exec("pwd", flags=["-w", "/usr/share"]).stdout == b"/usr/share\n"
    done = vm.exec("pwd", flags=["-w", "/no/such/dir"])
    assert done.returncode == 125 and b"/no/such/dir" in done.stderr


def test_users(vm):
    """In /: the checkout may be in a folder that is closed to others."""
    assert vm.exec("id", "-u", flags=["-w", "/", "-u", "root"]).stdout == b"0\n"
    assert vm.exec("id", "-un", flags=["-w", "/", "-u", "nobody"]).stdout == b"nobody\n"
    assert vm.exec("sh", "-c", "id -u; id -g", flags=["-w", "/", "-u", "12:34"]).stdout == b"12\n34\n"
    done = vm.exec("id", flags=["-w", "/", "-u", "no-such-user"])
    assert done.returncode == 125 and b"no-such-user" in done.stderr


def test_umask_is_the_callers(vm):
    done = vm.ec1("exec", vm.name, "--", "sh", "-c", "umask", preexec_fn=lambda: os.umask(0o027))
    assert done.stdout == b"0027\n"


def test_signals_are_forwarded(vm):
    proc = vm.ec1.popen(
        "exec", vm.name, "--", "sh", "-c", "trap 'echo got; exit 5' USR1; echo up; while :; do sleep 0.1; done",
        stdout=subprocess.PIPE,
    )
    assert proc.stdout.readline() == b"up\n"
    proc.send_signal(10)
    assert proc.stdout.readline() == b"got\n"
    assert proc.wait(60) == 5


def test_private_file_systems(vm):
    mounts = vm.exec("cat", "/proc/mounts").stdout.decode()
    table = {line.split()[1]: line.split()[2] for line in mounts.splitlines()}
    assert table["/"] == "overlay"
    want = {
        "/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs",
        "/run": "tmpfs", "/tmp": "tmpfs", "/sys/fs/cgroup": "cgroup2", "/sys/fs/bpf": "bpf",
        "/sys/kernel/debug": "debugfs", "/sys/kernel/tracing": "tracefs",
    }
    assert {path: table.get(path) for path in want} == want


def test_writes_stay_in_the_vm(vm):
    for folder in ("/etc", "/usr", "/root"):
        path = f"{folder}/ec1-blackbox-{os.getpid()}"
        assert vm.exec("sh", "-c", f"echo x > {path} && cat {path}", flags=["-u", "root"]).stdout == b"x\n"
        assert not os.path.exists(path)


def test_a_share_goes_both_ways(vm, shared_dir):
    (shared_dir / "from-host").write_text("host\n")
    assert vm.exec("cat", "/shared/from-host").stdout == b"host\n"
    done = vm.exec(
        "sh", "-c", "echo guest > /shared/from-guest && mkdir /shared/d && mv /shared/from-guest /shared/d/x"
    )
    assert done.returncode == 0, done.stderr
    assert (shared_dir / "d" / "x").read_text() == "guest\n"
    (shared_dir / "from-host").write_text("changed\n")
    time.sleep(1.5)
    assert vm.exec("cat", "/shared/from-host").stdout == b"changed\n"


FILE_SEMANTICS = r"""
set -e
cd /shared
printf hello > f; ln f hard; ln -s f soft
test "$(cat hard)" = hello; test "$(readlink soft)" = f; test "$(stat -c %h f)" = 2
exec 3<f; rm f; mv hard other; cat <&3; exec 3<&-
printf '#!/bin/sh\necho ran\n' > script; chmod 755 script; ./script
cp /bin/true prog; ./prog
python3 - <<'PY'
import mmap, os, fcntl
with open('map', 'wb+') as f:
    f.truncate(8192)
    m = mmap.mmap(f.fileno(), 8192); m[4090:4100] = b'0123456789'; m.flush(); m.close()
assert open('map','rb').read()[4090:4100] == b'0123456789'
try:
    os.setxattr('map', 'user.k', b'v'); assert os.getxattr('map', 'user.k') == b'v'
    print('xattr')
except OSError as e:
    print(os.strerror(e.errno))
f = open('map'); g = open('map')
fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
try:
    fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB); raise SystemExit('no lock')
except BlockingIOError:
    pass
os.mkdir('many')
for i in range(10000):
    open('many/%d' % i, 'w').close()
assert sorted(map(int, os.listdir('many'))) == list(range(10000))
PY
rm -r many
"""


def what_setxattr_says(folder):
    """Not every host file system has user attributes (tmpfs before Linux 6.6): what the share must say."""
    path = folder / "probe"
    path.touch()
    try:
        os.setxattr(path, "user.k", b"v")
        return "xattr"
    except OSError as e:
        return os.strerror(e.errno)
    finally:
        path.unlink()


def test_file_semantics_on_a_share(vm, shared_dir):
    done = vm.exec("sh", "-c", FILE_SEMANTICS, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"helloran\n{what_setxattr_says(shared_dir)}\n"


def test_the_wall_clock_is_right(vm):
    before = time.time()
    guest = float(vm.exec("date", "+%s.%N").stdout)
    after = time.time()
    assert before - 0.1 <= guest <= after + 0.1


def test_loopback_is_up(vm):
    script = (
        "import socket,threading; s=socket.create_server(('127.0.0.1',0)); "
        "threading.Thread(target=lambda: s.accept()[0].sendall(b'hi')).start(); "
        "print(socket.create_connection(s.getsockname()).recv(2).decode())"
    )
    assert vm.exec("python3", "-c", script).stdout == b"hi\n"


def test_modprobe_finds_the_kernels_own_modules(vm):
    done = vm.exec("sh", "-c", "/sbin/modprobe dummy && grep -c ^dummy /proc/modules", flags=["-u", "root"])
    assert done.stdout == b"1\n", done.stderr


def test_host_name_and_resolver(vm):
    assert vm.exec("hostname").stdout.strip() not in (b"", b"(none)")
    assert vm.exec("test", "-r", "/etc/resolv.conf").returncode == 0


def test_devices_whose_modules_come_when_they_are_opened(vm):
    done = vm.exec("sh", "-c", "for d in net/tun fuse loop-control; do : <> /dev/$d && echo $d; done", flags=["-u", "root"])
    assert done.stdout == b"net/tun\nfuse\nloop-control\n", done.stderr
