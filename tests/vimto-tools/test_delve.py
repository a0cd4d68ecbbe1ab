"""delve in a VM: at the command line, at a terminal, and headless with the debugger's user on the host."""

import re
import shutil
import subprocess
import time
import uuid

import pytest

from conftest import GO, TIMEOUT, VIMTO, run

FLAGS = ["-memory", "1G", "-smp", "2"]
SESSION = """break main.go:5
continue
args
next
next
next
next
print total
step
stack
clearall
continue
"""


def check_session(out):
    out = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert re.search(r"^> (\[Breakpoint 1\] )?\S+\.sum\(\) ./main\.go:5", out, re.M), out
    assert "n = 10" in out and re.search(r"^> \S+ ./main\.go:8 ", out, re.M), out
    assert re.search(r"^1\s*$", out, re.M), out  # total
    assert re.search(r"^1  0x\S+ in \S+\.(main|TestSum)$", out, re.M), out


def test_a_test_and_a_program(place, dlv):
    (place / "session").write_text(SESSION)
    for words in (["test"], ["debug"]):
        status, out = run(VIMTO, *FLAGS, "exec", "--", dlv, *words, "--allow-non-terminal-interactive=true", "--init", "session",
                          cwd=place)
        assert status == 0, out
        check_session(out)


def test_headless_with_its_user_on_the_host(place, dlv):
    subprocess.run([GO, "build", "-gcflags=all=-N -l", "-o", "sum", "."], cwd=place, check=True, timeout=TIMEOUT)
    (place / "session").write_text(SESSION)
    with subprocess.Popen(
        [VIMTO, *FLAGS, "-p", "0:2345", "exec", "--", dlv, "exec", "--headless", "--listen=127.0.0.1:2345", "./sum"],
        cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as server:
        port = re.search(r"port (\d+) of 127.0.0.1 leads", server.stderr.readline()).group(1)
        assert "API server listening" in server.stdout.readline()
        status, out = run(dlv, "connect", f"127.0.0.1:{port}", "--allow-non-terminal-interactive=true", "--init", "session", cwd=place)
        assert status == 0, out
        check_session(out)
        assert "sum 55" in server.communicate(timeout=TIMEOUT)[0]
        assert server.returncode == 0


class Tmux:
    """A terminal that is 100 by 40."""

    def __init__(self, command, folder):
        self.socket = f"vimto-{uuid.uuid4().hex[:8]}"
        self("new-session", "-d", "-x", "100", "-y", "40", "-c", str(folder), command)

    def __call__(self, *words):
        return subprocess.run(["tmux", "-L", self.socket, "-f", "/dev/null", *words], check=True, capture_output=True, text=True, timeout=60).stdout

    def expect(self, pattern):
        end = time.monotonic() + TIMEOUT
        while not re.search(pattern, screen := self("capture-pane", "-p"), re.M):
            assert time.monotonic() < end, screen
            time.sleep(0.2)

    def type(self, line):
        self("send-keys", "-l", line)
        self("send-keys", "Enter")


@pytest.mark.skipif(not shutil.which("tmux"), reason="needs tmux")
def test_at_a_terminal(place, dlv):
    subprocess.run([GO, "build", "-gcflags=all=-N -l", "-o", "sum", "."], cwd=place, check=True, timeout=TIMEOUT)
    terminal = Tmux(f"'{VIMTO}' {' '.join(FLAGS)} exec -- '{dlv}' exec ./sum; echo status=$?; sleep 1000", place)
    try:
        terminal.expect(r"^\(dlv\) *$")
        terminal.type("break main.sum")
        terminal.expect(r"Breakpoint 1 set at")
        terminal.type("continue")
        terminal.expect(r"=> *5:")
        terminal.type("print n")
        terminal.expect(r"^10$")
        terminal.type("clearall")
        terminal.type("continue")
        terminal.expect(r"exited with status 0")
        terminal.type("exit")
        terminal.expect(r"^status=0$")
    finally:
        terminal("kill-server")
