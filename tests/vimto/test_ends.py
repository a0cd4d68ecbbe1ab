"""How runs end early, and what they leave behind: nothing."""

import os
import pathlib
import pty
import select
import signal
import subprocess
import time

import pytest

from conftest import TIMEOUT


def wait_for(condition, what):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_a_signal_while_booting_ends_it(place):
    process = place.popen("vimto", "exec", "true", stderr=subprocess.PIPE)
    wait_for(place.leftovers, "the VM has no folder")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == 128 + signal.SIGINT
    assert place.leftovers() == []


def test_a_signal_is_the_commands_and_teardown_still_runs(place):
    place.write(".vimto.toml", 'teardown = ["touch cleaned"]\n')
    process = place.popen("vimto", "exec", "--", "sh", "-c", "trap 'echo got it; exit 9' TERM; touch up; while :; do sleep 0.1; done", stdout=subprocess.PIPE)
    wait_for((place.folder / "up").exists, "the command does not start")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=TIMEOUT)[0] == "got it\n"
    assert process.returncode == 9
    assert (place.folder / "cleaned").exists()
    assert place.leftovers() == []


def test_when_go_is_killed_the_vm_ends(place):
    """`go` leaves its children behind; a program of that name does it here, too."""
    place.write("bin/go", '#!/bin/sh\nvimto exec -- sh -c "touch up; exec sleep 1000" &\necho $! > pid\nwait\n')
    (place.folder / "bin" / "go").chmod(0o755)
    go = place.popen(place.folder / "bin" / "go", stderr=subprocess.DEVNULL)
    wait_for((place.folder / "up").exists, "the command does not start")
    pid = int((place.folder / "pid").read_text())
    go.kill()
    go.wait()
    wait_for(lambda: not pathlib.Path(f"/proc/{pid}").exists(), "vimto goes on")
    assert place.leftovers() == []


def test_many_at_once(place):
    runs = [place.popen("vimto", "exec", "--", "sh", "-c", f"echo {n}", stdout=subprocess.PIPE) for n in range(4)]
    assert [r.communicate(timeout=TIMEOUT)[0] for r in runs] == [f"{n}\n" for n in range(4)]
    assert [r.returncode for r in runs] == [0] * 4
    assert place.leftovers() == []


@pytest.mark.parametrize("stdin", ["closed", "null", "pipe"])
def test_stdin_of_every_kind(place, stdin):
    feed = {"closed": "<&-", "null": "</dev/null", "pipe": ""}[stdin]
    done = place.run("sh", "-c", f"exec vimto exec -- wc -c {feed}", stdin=None, input="12345")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ("5" if stdin == "pipe" else "0")


def test_at_a_terminal_without_a_home(place):
    place.env.pop("HOME", None)
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(place.folder)
        os.execvpe("vimto", ["vimto", "exec", "--", "sh", "-c", "test -t 0 && test -t 1 && stty size && echo home:$HOME: && read x && echo $x"], place.env)
    seen = b""
    typed = False
    while True:
        ready, _, _ = select.select([fd], [], [], TIMEOUT)
        assert ready, seen
        try:
            data = os.read(fd, 4096)
        except OSError:
            break
        seen += data
        if b"home::" in seen and not typed:
            os.write(fd, b"typed\r")
            typed = True
        if not data:
            break
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    assert os.waitstatus_to_exitcode(status) == 0, seen
    assert seen.count(b"typed") == 2  # echoed, and printed
