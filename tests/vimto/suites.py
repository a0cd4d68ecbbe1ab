#!/usr/bin/python3
"""suites.py — Go's own tests of its standard packages, on this host and in a VM by vimto, side by side.

usage: suites.py [--long] [--memory SIZE] [--smp N] [--keep DIR] [PACKAGE...]

Each package's tests are built once on the host; then the same program runs here and as
`vimto exec -- PROGRAM`, in the package's folder, as the same user.  Every test and subtest that did not end
alike is listed.  A difference that EXPLAINED has is one of the two machines, not a fault; the exit status
is 1 if there is another one.  VIMTO names the binary (default build/vimto), GO the go command.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
VIMTO = os.environ.get("VIMTO", str(ROOT / "build" / "vimto"))
GO = os.environ.get("GO", "go")

# Not runtime/pprof: it wants the CPU time of a process to be that of its profile, which it is not where the host's other
# programs take their share in between.
PACKAGES = """
os os/exec os/signal os/user io io/fs bufio strings bytes sync sync/atomic time sort strconv math math/big path/filepath
syscall internal/poll internal/syscall/unix net net/netip net/http/httptest runtime runtime/debug crypto/sha256
crypto/aes crypto/x509 crypto/tls compress/gzip compress/flate encoding/json encoding/gob hash/crc32 archive/tar
archive/zip context log testing/fstest net/http reflect regexp fmt text/template html/template mime/multipart unicode/utf8
runtime/trace internal/runtime/maps container/heap
""".split()

# (package, pattern of the test's name): why the two machines differ.
EXPLAINED = [
    ("syscall", r"^TestUnshare$", "wants a network interface beside the loopback one"),
    ("syscall", r"^TestRlimitRestored$", "the VM's soft limit of files is below the hard one, so there is something to test"),
    ("syscall", r"^TestUseCgroupFD$", "the VM has a cgroup tree of its own that root may write"),
    ("runtime", r"^TestGdbCoreSignalBacktrace$", "wants core dumps beside the program; vimto's go to its working directory"),
    ("runtime", r"^TestMemmoveOverflow$", "maps 3 GB, more than a VM with 2 GB lets a program have at once"),
]
SHOWN = 25  # differences of one package

RESULT = re.compile(r"^\s*--- (PASS|FAIL|SKIP): (\S+)")


def run_tests(command, folder, timeout):
    """(results by test, exit status, seconds, output)"""
    start = time.monotonic()
    try:
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=timeout, check=False)
        status, out = done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        status, out = "timeout", late.stdout or b""
    text = out.decode(errors="replace")
    results = {m[2]: m[1] for m in map(RESULT.match, text.splitlines()) if m}
    return results, status, time.monotonic() - start, text


def explained(package, test):
    return next((why for p, pattern, why in EXPLAINED if p == package and re.search(pattern, test)), None)


class Suite:
    """The tests of one package."""

    def __init__(self, package, folder, args):
        self.package = package
        self.args = args
        self.program = folder / (package.replace("/", "_") + ".test")
        self.folder = subprocess.run([GO, "list", "-f", "{{.Dir}}", package], check=True, text=True,
                                     capture_output=True).stdout.strip()

    def build(self):
        if not self.program.exists():
            subprocess.run([GO, "test", "-c", "-o", str(self.program), self.package], check=True)

    def run(self):
        """(words of the table's row, unexplained differences)"""
        limit = 3600 if self.args.long else 1200
        flags = ["-test.v", f"-test.timeout={limit}s"] + ([] if self.args.long else ["-test.short"])
        here = run_tests([self.program, *flags], self.folder, limit + 60)
        there = run_tests([VIMTO, "-memory", self.args.memory, "-smp", self.args.smp, "exec", "--",
                           self.program, *flags], self.folder, limit + 300)
        for where, (_, _, _, text) in (("host", here), ("vm", there)):
            self.program.with_suffix(f".{where}.log").write_text(text)
        differences = self.compare(here, there)
        new = [d for d in differences if not d[3]]
        count = {w: sum(r == w for r in there[0].values()) for w in ("PASS", "SKIP", "FAIL")}
        row = [self.package, len(here[0]), count["PASS"], count["SKIP"], count["FAIL"], len(differences) - len(new),
               len(new), f"{here[2]:.1f}", f"{there[2]:.1f}"]
        return row, differences

    def compare(self, here, there):
        """[(test, result here, result there, why or None)]"""
        found = [(t, here[0].get(t, "-"), there[0].get(t, "-"), explained(self.package, t))
                 for t in sorted({*here[0], *there[0]}) if here[0].get(t) != there[0].get(t)]
        # A program that ended early has no result for the tests behind; its status says so.
        if here[1] != there[1] and not found:
            found.append(("(exit status)", str(here[1]), str(there[1]), explained(self.package, "(exit status)")))
        return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help="not only what -test.short leaves")
    parser.add_argument("--memory", default="2G")
    parser.add_argument("--smp", default="2")
    parser.add_argument("--keep", help="folder for programs and logs; programs in it are not built again")
    parser.add_argument("packages", nargs="*", default=PACKAGES)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vimto-suites-", dir="/var/tmp") as temporary:
        folder = pathlib.Path(args.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        form = "{:22} {:>6} {:>6} {:>5} {:>5} {:>9} {:>4} {:>8} {:>8}"
        print(form.format("package", "tests", "pass", "skip", "fail", "explained", "new", "host s", "VM s"), flush=True)
        fresh = 0
        for package in args.packages:
            suite = Suite(package, folder, args)
            suite.build()
            row, differences = suite.run()
            fresh += row[6]
            print(form.format(*row), flush=True)
            for test, here, there, why in differences[:SHOWN]:
                print(f"    {test}: {here} here, {there} in the VM" + (f": {why}" if why else ""), flush=True)
            if len(differences) > SHOWN:
                print(f"    and {len(differences) - SHOWN} more; --keep keeps the logs", flush=True)
    print(f"{len(args.packages)} packages, {fresh} differences that nobody explained")
    return 1 if fresh else 0


if __name__ == "__main__":
    sys.exit(main())
