"""Terminals and odd standard streams."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from conftest import BINARY


class Terminal:
    """`ec1` with a pseudo-terminal of ours as its standard streams."""

    def __init__(self, ec1, *args, rows=30, columns=100):
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        self.proc = subprocess.Popen(
            [BINARY, *args], env=dict(ec1.env, TERM="xterm"), stdin=self.slave, stdout=self.slave,
            stderr=self.slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, rows, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, data):
        os.write(self.master, data)

    def expect(self, pattern, timeout=60):
        """Read until `pattern` comes; what was read up to its end is used up."""
        end = time.monotonic() + timeout
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < end, self.seen
            if select.select([self.master], [], [], 1)[0]:
                self.seen += os.read(self.master, 65536)
        self.seen = self.seen[found.end() :]
        return found

    def end(self, timeout=120):
        """The exit status; the terminal must be as it was."""
        status = self.proc.wait(timeout)
        assert termios.tcgetattr(self.slave) == self.before
        return status

    def close(self):
        if self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(vm):
    made = []

    def make(*command, flags=()):
        made.append(Terminal(vm.ec1, "exec", *flags, vm.name, "--", *command))
        return made[-1]

    yield make
    for t in made:
        t.close()


def test_job_control_and_window_size(terminal):
    t = terminal("sh")
    t.type(b"PS1='$'ready:; stty size\r")
    t.expect(rb"30 100\r\n")
    t.resize(25, 90)
    t.type(b"until stty size | grep -q '^25 90'; do sleep 0.1; done; echo re''sized\r")
    t.expect(rb"resized\r\n")
    t.type(b"sleep 1000\r")
    time.sleep(1)
    t.type(b"\x1a")
    t.expect(rb"Stopped")
    t.type(b"bg\r")
    t.type(b"jobs\r")
    t.expect(rb"Running")
    t.type(b"fg\r")
    time.sleep(1)
    t.type(b"\x03")
    t.type(b"echo status=$?\r")
    t.expect(rb"status=130\r\n")
    t.type(b"exit 3\r")
    assert t.end() == 3


def test_the_terminal_is_restored_after_the_command_was_killed(terminal):
    t = terminal("sh", "-c", "stty raw -echo; kill -9 $$")
    assert t.end() == 137


def test_the_terminal_is_restored_when_ec1_is_terminated(terminal):
    t = terminal("sh", "-c", "stty raw -echo; echo up; exec sleep 1000")
    t.expect(rb"up")
    t.proc.send_signal(signal.SIGTERM)
    assert t.end() == 143


def test_output_that_is_redirected_is_no_terminal(vm):
    assert vm.exec("test", "-t", "1").returncode == 1
    assert vm.exec("test", "-t", "1", flags=["-t"]).returncode == 0


def test_stderr_that_is_redirected_stays_a_stream_of_its_own(vm, tmp_path):
    line = f"{BINARY} exec {vm.name} -- sh -c 'test -t 0 && test -t 1 && echo out; echo err >&2' 2>{tmp_path}/err"
    done = subprocess.run(["script", "-qc", line, "/dev/null"], env=vm.ec1.env, stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=60)
    assert b"out" in done.stdout and b"err" not in done.stdout
    assert (tmp_path / "err").read_text() == "err\n"


STREAMS = 'exec "$0" "$@" '


@pytest.mark.parametrize(
    "redirection, command, status, out",
    [
        ("<&-", "cat; echo end", 0, b"end\n"),
        ("</dev/null", "cat; echo end", 0, b"end\n"),
        ("</etc/passwd", "grep -c ^root:; echo end", 0, b"1\nend\n"),
        ("2>&-", "echo out; echo err >&2", 0, b"out\n"),
        (">&- 2>&-", "exit 5", 5, b""),
    ],
)
def test_odd_standard_streams(vm, redirection, command, status, out):
    done = subprocess.run(
        ["sh", "-c", STREAMS + redirection, BINARY, "exec", vm.name, "--", "sh", "-c", command],
        env=vm.ec1.env, capture_output=True, timeout=120,
    )
    assert (done.returncode, done.stdout) == (status, out), done.stderr


def test_a_full_device_as_stdout_is_named(vm):
    done = subprocess.run(
        ["sh", "-c", STREAMS + ">/dev/full", BINARY, "exec", vm.name, "--", "echo", "hi"],
        env=vm.ec1.env, capture_output=True, timeout=120,
    )
    assert done.returncode != 0 and b"No space left" in done.stderr


def test_a_reader_that_leaves_early_ends_the_command(vm):
    done = subprocess.run(
        ["bash", "-c", '"$0" "$@" | head -1; echo ${PIPESTATUS[0]}', BINARY, "exec", vm.name, "--", "yes"],
        env=vm.ec1.env, capture_output=True, timeout=60,
    )
    assert done.stdout == b"y\n141\n"
