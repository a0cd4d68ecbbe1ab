"""soft_vm.py — start a machine that runs bench/soft, on ec1, on qemu or on this host itself, and read its lines.

The guest says what it measured in ticks of its TSC.  Lines are stamped as they come in, so that its clock can be held
against this host's.
"""

import dataclasses
import os
import pathlib
import select
import subprocess
import time

from engine import memory

TIMEOUT_S = 240


class Broken(Exception):
    """A machine that did not do its work."""


@dataclasses.dataclass
class Run:
    """What one machine said."""

    init_s: float | None = None  # process start to the guest's first line
    init_cpu_s: float | None = None  # the same in CPU time
    clocks: list = dataclasses.field(default_factory=list)  # (TSC, ns of the guest's own clock, ns of the host's)
    rows: dict = dataclasses.field(default_factory=dict)  # name -> Row
    said: str = ""  # what is no line of the benchmark
    private_kib: int | None = None  # of the monitor, without guest RAM, after the last row


@dataclasses.dataclass
class Row:
    ops: int
    check: str
    ticks: list  # of each sample
    span_ticks: int  # from @begin to @end
    span_ns: int  # the same, by this host's clock
    cpu_ns: float  # CPU time of the whole process, per sample


def process_cpu_ns(pid):
    """CPU time of a process, threads included, as exactly as the scheduler knows it."""
    ns = 0
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            ns += int(task.read_text().split()[0])
        except OSError:
            pass  # that thread ended
    return ns


def be_prompt():
    """Stamp lines when they come, not when a busy machine has time for us.  Not inherited; only root may."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        pass


class Reader:
    """Takes lines apart."""

    def __init__(self, pid, is_native, start_ns, guest_bytes):
        self.guest_bytes = guest_bytes
        self.run = Run()
        self.pid = pid
        self.is_native = is_native
        self.start_ns = start_ns
        self.open = None  # (name, ticks, ns, cpu_ns) of the last @begin
        self.span = {}
        self.done = False

    def line(self, text, at_ns):
        words = text.split()
        if not words or not words[0].startswith("@"):
            self.run.said += text + "\n"
            return
        what, args = words[0], words[1:]
        if what == "@failed":
            raise Broken(text)
        if what == "@init":
            self.run.init_s = (at_ns - self.start_ns) / 1e9
            self.run.init_cpu_s = process_cpu_ns(self.pid) / 1e9
        elif what == "@clock":
            self.run.clocks.append((int(args[0]), int(args[1]), at_ns))
        elif what == "@begin":
            self.open = (args[0], int(args[1]), at_ns, process_cpu_ns(self.pid))
        elif what == "@end":
            name, ticks, ns, cpu = self.open
            self.span[name] = (int(args[1]) - ticks, at_ns - ns, process_cpu_ns(self.pid) - cpu)
        elif what == "@row":
            name, ops, check, cpu = args[0], int(args[1]), args[2], int(args[3])
            ticks = [int(t) for t in args[4:]]
            span_ticks, span_ns, cpu_ns = self.span[name]
            per_sample = cpu if self.is_native else cpu_ns / len(ticks)
            self.run.rows[name] = Row(ops, check, ticks, span_ticks, span_ns, per_sample)
            if self.guest_bytes:
                self.run.private_kib = memory(self.pid, self.guest_bytes)[0]
        elif what == "@done":
            self.done = True


def run(argv, env=None, is_native=False, cpus=None, guest_bytes=None):
    """Start argv, read what it says until it ends, return a Run.  With guest_bytes, look at its memory, too."""
    start = time.monotonic_ns()
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env,
        preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None,
    )
    reader = Reader(process.pid, is_native, start, guest_bytes)
    fd = process.stdout.fileno()
    said, rest = b"", b""
    try:
        while True:
            left = start / 1e9 + TIMEOUT_S - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                raise Broken(f"{argv[0]}: nothing for {TIMEOUT_S} s; it said: {said[-500:].decode(errors='replace')}")
            chunk = os.read(fd, 65536)
            at_ns = time.monotonic_ns()
            if not chunk:
                break
            said += chunk
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                reader.line(line.decode(errors="replace").strip(), at_ns)
        status = process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()
    if status != 0 or not reader.done:
        raise Broken(f"{argv[0]}: ended with {status}; it said: {said[-500:].decode(errors='replace')}")
    return reader.run
