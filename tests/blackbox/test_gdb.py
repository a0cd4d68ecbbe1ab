"""`ec1 run --gdb`, with Debian's gdb."""

import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from conftest import ENGINE

SOURCE = pathlib.Path(__file__).parent / "programs" / "gdb_guest.c"
WAITS = b"the guest waits for a debugger"
TIMEOUT = 300
# A bare kernel: no unwinding tables, no vectors, at the address of its symbols.
FLAGS = [
    "-g", "-Og", "-ffreestanding", "-nostdlib", "-static", "-no-pie", "-fno-pie", "-mgeneral-regs-only",
    "-mno-red-zone", "-fcf-protection=none", "-fno-stack-protector", "-fno-asynchronous-unwind-tables",
    "-Wl,-Ttext-segment=0x1000000", "-Wl,--build-id=none", "-z", "noexecstack",
]

pytestmark = pytest.mark.skipif(not shutil.which("gdb"), reason="there is no gdb (tools/setup test)")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """A folder whose name gdb and the shell must take as it is, with a vmlinux in it."""
    folder = tmp_path_factory.mktemp("a kernel's")
    subprocess.run(["gcc", *FLAGS, "-o", folder / "vmlinux", SOURCE], check=True)
    return folder / "vmlinux"


class Guest:
    """`ec1 run --gdb` that waits; `line` is what it says to type."""

    def __init__(self, ec1, *command, flags=(), address="localhost:0"):
        self.proc = ec1.popen(
            "run", "--engine", ENGINE, f"--gdb={address}", *flags, "--", *command,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        said = b""
        while WAITS not in said:
            said = self.proc.stderr.readline()
            assert said, self.proc.wait()
        self.line = self.proc.stderr.readline().decode().strip()
        self.address = re.search(r"target remote ([^']+)", self.line).group(1)

    def gdb(self, *commands, line=None):
        """Paste the line, with commands behind it; what gdb says."""
        words = "".join(f" -ex '{c}'" for c in ("set pagination off", "set confirm off", *commands))
        line = (line or self.line).replace("gdb ", "gdb -nx -batch ", 1)
        # Commands come behind those of the line: its last word, the file, may be anywhere.
        done = subprocess.run(
            ["bash", "-c", line + words], stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False
        )
        return done.stdout.decode() + done.stderr.decode()

    def run_time(self):
        """CPU time so far, in ticks: it grows while the guest runs."""
        fields = pathlib.Path(f"/proc/{self.proc.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def end(self):
        out, err = self.proc.communicate(timeout=TIMEOUT)
        return self.proc.returncode, out, err


def end_of(guest, status=125):
    code, out, err = guest.end()
    assert code == status, (out, err)
    return out, err


def test_a_session_from_the_first_instruction_to_detach(ec1, kernel):
    guest = Guest(ec1, "true", flags=["-k", str(kernel), "--cpus", "2"])
    assert guest.line.endswith("'" + str(kernel).replace("'", "'\\''") + "'"), guest.line
    said = guest.gdb(
        "info registers rip cr0",
        "break one_round",
        "continue",
        "backtrace",
        "print add(40, 2)",
        "delete",
        "watch watched",
        "continue",
        "delete",
        "rwatch watched",
        "continue",
        "delete",
        "stepi",
        "step",
        "finish",
        "hbreak wait_for_gdb",
        "continue",
        "print rounds",
        "info threads",
        "print text",
        "set var is_done = 1",
        "print $xmm3.uint128 = 0x1234",
        "print $xmm3.uint128",
        "monitor info version",
        "delete",
        "detach",
    )
    assert "<_start>" in said and "[ PE ET NE PG ]" in said, said
    assert re.search(r"Breakpoint 1, one_round \(\) at .*gdb_guest.c:\d+", said), said
    assert re.search(r"#1 .* kernel_main \(\)", said), said
    assert "$1 = 42" in said, said
    assert re.search(r"Hardware watchpoint 2: watched\s+Old value = 0\s+New value = 2", said), said
    assert re.search(r"Hardware read watchpoint 3: watched\s+Value = 2", said), said
    assert re.search(r"Breakpoint 4, wait_for_gdb", said), said
    assert "= 1000\n" in said, said
    assert re.search(r"\* 1 +Thread 1 \(CPU 0, running\).*wait_for_gdb", said), said
    assert re.search(r"  2 +Thread 2 \(CPU 1, running\)", said), said
    assert '"text in the guest"' in said and "= 4660" in said, said
    assert "ec1, 2 CPUs" in said and "detached" in said, said
    _, err = end_of(guest)
    assert b"reboot" in err, err


def test_interrupt_hold_and_a_second_debugger(ec1, kernel):
    """Ctrl-C, all CPUs stand still, one steps alone; gdb is killed and the guest goes on."""
    guest = Guest(ec1, "true", flags=["-k", str(kernel), "--cpus", "2"])
    proc = subprocess.Popen(
        ["gdb", "-nx", "-q", "-ex", "set pagination off", "-ex", "set confirm off", "-ex",
         f"target remote {guest.address}", str(kernel)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )

    def say(text):
        proc.stdin.write(text.encode() + b"\n")
        proc.stdin.flush()

    def wait_for(word):
        said = b""
        while word not in said:
            byte = proc.stdout.read(1)
            assert byte, said
            said += byte
        return said.decode()

    def wait_until_it_runs():
        wait_for(b"Continuing")
        start = guest.run_time()
        while guest.run_time() < start + 10:
            time.sleep(0.05)

    watchdog = threading.Timer(TIMEOUT, proc.kill)
    watchdog.start()
    say("continue")
    for _ in range(3):
        wait_until_it_runs()
        proc.send_signal(signal.SIGINT)
        wait_for(b"SIGINT")
        say("echo A=\nprint *(unsigned *)0x21000\nstepi\nstepi\necho B=\nprint *(unsigned *)0x21000\necho END\\n")
        said = wait_for(b"END\n")
        first, second = re.findall(r"[AB]=.*?\$\d+ = (\d+)", said, re.S)
        # A step lets the others run, unless they are locked: then they stand still.
        assert int(second) >= int(first), said
        say("set scheduler-locking on\nstepi\necho C=\nprint *(unsigned *)0x21000\nstepi\necho D=\n"
            "print *(unsigned *)0x21000\nset scheduler-locking off\necho END\\n")
        said = wait_for(b"END\n")
        first, second = re.findall(r"[CD]=.*?\$\d+ = (\d+)", said, re.S)
        assert first == second, said
        say("break one_round\ncontinue")
    proc.kill()
    proc.wait()
    watchdog.cancel()
    said = guest.gdb("print rounds", "set var is_done = 1", "quit")
    assert "= 1000" in said, said
    end_of(guest)


def test_kill_ends_the_vm(ec1, kernel):
    """The boot timeout does not run before that."""
    guest = Guest(ec1, "true", flags=["-k", str(kernel), "--boot-timeout", "500ms"])
    time.sleep(1)
    assert "killed" in guest.gdb("stepi", "kill")
    _, err = end_of(guest)
    assert b"the VM was stopped" in err, err


def test_a_web_page_reaches_nothing(ec1, kernel, tmp_path):
    path = tmp_path / "gdb.sock"
    guest = Guest(ec1, "true", flags=["-k", str(kernel)], address=f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as page:
        page.connect(str(path))
        page.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n$k#6b")
        try:
            assert page.recv(10) == b""
        except ConnectionError:
            pass
    assert guest.proc.poll() is None
    assert "wait_for_gdb" in guest.gdb("break wait_for_gdb", "continue", "kill")
    end_of(guest)
    assert not path.exists()


def test_an_address_that_cannot_be_is_refused(ec1, kernel):
    done = ec1.run("true", flags=["-k", str(kernel), "--gdb=example.com:1"])
    assert done.returncode == 125 and b"must be PORT" in done.stderr, done.stderr


def test_the_exit_status_comes_back_and_gdb_is_told(ec1):
    """The usual kernel, of which nobody has symbols; the time in gdb is no part of the boot timeout."""
    guest = Guest(ec1, "sh", "-c", "grep -o nokaslr /proc/cmdline; exit 7")
    said = guest.gdb("stepi", "stepi", "info registers rip", "delete", "continue")
    assert "exited with code 07" in said, said
    assert end_of(guest, 7)[0] == b"nokaslr\n"
