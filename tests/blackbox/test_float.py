"""Vector registers and MXCSR belong to a process: through context switches, signals and rounding modes.

The same program runs on this host and in the VM, and has to print the same.
"""

import subprocess

# Each process rounds its own way and is interrupted by signals whose handler computes, too.
PROGRAM = r"""
import ctypes, math, os, signal, sys
libm = ctypes.CDLL("libm.so.6")
ticks = 0
def tick(*_):
    global ticks
    ticks += 1
    math.sqrt(ticks) * math.exp(-1 / ticks)
def work(mode):
    libm.fesetround(mode)
    signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    x, digest = 1.0, 0
    for i in range(1, 60000):
        x = x / 3.0 + math.sqrt(i) * 0.1 - x * 1e-3
        digest = (digest * 31 + int(x * 1e6)) & (1 << 62) - 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    return "%d %s %x %x" % (mode, x.hex(), digest, libm.fegetround())
pipes = []
for mode in (0, 0x400, 0x800, 0xc00):
    r, w = os.pipe()
    if os.fork() == 0:
        os.write(w, work(mode).encode())
        os._exit(0)
    os.close(w)
    pipes.append(r)
print("\n".join(os.read(r, 200).decode() for r in pipes))
"""


def test_processes_keep_their_vector_state_and_rounding(ec1):
    command = ["/usr/bin/python3", "-c", PROGRAM]
    want = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    assert len(set(line.split()[1] for line in want.splitlines())) > 1  # rounding shows
    done = ec1.run(*command)
    assert (done.stdout.decode(), done.returncode) == (want, 0), done.stderr
    done = ec1.run(*command, flags=["--cpus", "2"])
    assert (done.stdout.decode(), done.returncode) == (want, 0), done.stderr
