"""soft_rows.py — the rows of `make bench-soft`: how they group, what is wanted of each group, and their sums."""

import dataclasses
import math
import statistics


@dataclasses.dataclass(frozen=True)
class Group:
    name: str
    rows: tuple
    target: float  # qemu's time / ec1's time
    unit: str  # of one operation
    scale: float  # seconds to that unit
    native: float | None = None  # wanted share of the host's own speed


INTEGER = ("quicksort", "hash128k", "chase", "bytes", "bytecode", "tree", "sha256", "lz", "objects", "bignum")
GROUPS = (
    Group("boot to init", ("boot",), 5.0, "s", 1),
    Group("user integer", INTEGER, 1.8, "ms", 1e3),
    Group("calls", ("fib",), 5.0, "ms", 1e3),
    Group("scalar floating point", ("mandelbrot", "nbody"), 9.0, "ms", 1e3),
    Group("SIMD", ("matmul",), 6.0, "ms", 1e3),
    Group("TLB-hostile", ("hash8m", "random8m"), 10.0, "ms", 1e3),
    Group("null system call", ("syscall",), 2.3, "ns", 1e9),
    Group("page fault, with its munmap", ("pagefault",), 5.0, "µs", 1e6),
    Group("fork, exit, wait", ("fork",), 6.0, "µs", 1e6),
    Group("vfork, exec, exit, wait", ("exec",), 6.0, "µs", 1e6),
    Group("pipe ping-pong", ("pipe",), 8.0, "µs", 1e6),
    Group("read 4 KiB", ("read",), 10.0, "µs", 1e6),
    Group("memory bandwidth", ("repmovs", "memcpy"), 1.0, "µs", 1e6, 0.9),
    Group("parallel compile, 1 vCPU", ("build1",), 1.0, "s", 1),
    Group("parallel compile, 4 vCPUs", ("build4",), 1.0, "s", 1),
)
# Measured and shown, but no part of any mean.
EXTRA = (
    Group("boot, qemu's kernel unpacked (PVH)", ("boot_pvh",), 0.0, "s", 1),
    Group("boot with the kernel's crypto self-tests", ("boot_tests",), 0.0, "s", 1),
)
ALL_ROWS = tuple(row for group in GROUPS + EXTRA for row in group.rows)
GEOMEAN_TARGET = 5.0
# Of these a sample is one pass; of the others, many operations.
WHOLE_PASS = {"ms", "s"}


def geomean(values):
    values = list(values)
    return math.exp(statistics.fmean(math.log(v) for v in values)) if values else None


def group_of(row):
    return next(group for group in GROUPS + EXTRA if row in group.rows)


def ratios(results, over, under):
    """{row: over's time / under's time} of rows that both have."""
    return {row: per[over]["s"] / per[under]["s"] for row, per in results.items() if over in per and under in per}


def groups(results, peer="qemu", mine="ec1"):
    """[(group, ratio or None, share of native or None)], for groups of which all rows were measured."""
    by_row = ratios(results, peer, mine)
    native = ratios(results, "native", mine)
    out = []
    for group in GROUPS + EXTRA:
        if not all(row in results for row in group.rows):
            continue
        ratio = geomean(by_row[row] for row in group.rows) if all(r in by_row for r in group.rows) else None
        share = geomean(native[row] for row in group.rows) if all(r in native for r in group.rows) else None
        out.append((group, ratio, share))
    return out
