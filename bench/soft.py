#!/usr/bin/python3
"""soft.py — the software engine beside qemu's TCG and the host itself, row by row.

Every engine boots the same kernel with the same initramfs and command line, in which bench/soft is PID 1; the host runs
bench/soft as a program.  Runs alternate.  Each row's checksum must be that of the host, and the guest's clock must agree
with the host's: else this fails.

  bench/soft.py                                      everything (make bench-soft)
  bench/soft.py --quick                              short: one run, ec1 only
  bench/soft.py --quick --rows syscall,pagefault     seconds: what a change does to two rows
  bench/soft.py --quick --rows fib --other DIR/build the same beside another build, alternating
  bench/soft.py ... --clock cpu                      by CPU time, for a machine that others use

EC1_SOFT_TIER and the like reach the engine through the environment.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

import soft_docs
import soft_rows
import soft_svg
import soft_vm
from boot import CMDLINES, newc
from soft_docs import value
from soft_rows import EXTRA, GEOMEAN_TARGET, GROUPS, geomean, group_of

MIB = 256
BUILD_MIB = 768  # the compiler's files are in its memory
CMDLINE = CMDLINES["soft"] + " console=ttyS0 norandmaps nokaslr"  # the same addresses in each run
BOOT_ROWS = {"boot", "boot_pvh", "boot_tests"}
BUILD_ROWS = {"build1": 1, "build4": 4}


class Bench:
    """One benchmark: its files, its engines, what was measured."""

    def __init__(self, args, work):
        self.args, self.work = args, work
        self.samples = {}  # row -> engine -> [seconds of each run]
        self.checks = {}  # row -> checksum of the host
        self.ops = {}
        self.hz = None
        self.failures = []
        self.private_kib = {}  # row -> engine -> [KiB of each run]
        self.clock_error = {}  # engine -> worst (host - guest) / host
        folder = pathlib.Path(os.path.expanduser("~/.cache/ec1/kernels/default/boot"))
        (image,) = folder.glob("vmlinuz*")
        shutil.copy(image, work / "vmlinuz")
        shutil.copy(args.build / "bench" / "soft-guest", work / "soft-guest")
        self.entries = [("dev", 0o040755, b""), ("init", 0o100755, (work / "soft-guest").read_bytes())]
        (work / "initrd").write_bytes(newc(self.entries))
        for engine, build in (("ec1", args.build), ("other", args.other)):
            if build:
                shutil.copy(build / "bench" / "boot", work / f"boot-{engine}")

    # --- machines ---

    def command(self, engine, words, kernel="vmlinuz", initrd="initrd", mib=MIB, cpus=1, cmdline=CMDLINE):
        line = " ".join([cmdline, *(f"{k}={v}" for k, v in words.items())])
        kernel, initrd = self.work / kernel, self.work / initrd
        if engine == "qemu":
            return [
                "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", str(cpus),
                "-m", str(mib), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
                "-kernel", str(kernel), "-initrd", str(initrd), "-append", line,
            ]
        return [str(self.work / f"boot-{engine}"), "soft", str(kernel), str(initrd), line, str(mib),
                str(self.work / "cache"), str(cpus)]

    def start(self, engine, argv, **how):
        """One machine.  On a busy host qemu's guest may find no timer and panic: the peer gets a second and third try."""
        for _ in range(2 if engine == "qemu" else 0):
            try:
                return soft_vm.run(argv, **how)
            except soft_vm.Broken as e:
                print(f"{engine}, again: {str(e)[-200:]}", file=sys.stderr)
        return soft_vm.run(argv, **how)

    def boot(self, engine, **how):
        return self.boot_time(self.start(engine, self.command(engine, {"bench_rows": "none"}, **how)))

    def boot_time(self, run):
        return run.init_s if self.args.clock == "wall" else run.init_cpu_s

    def unpacked(self):
        (vmlinux,) = (self.work / "cache").iterdir()
        return str(vmlinux)

    # --- one run ---

    def note(self, row, engine, seconds):
        self.samples.setdefault(row, {}).setdefault(engine, []).append(seconds)

    def fail(self, text):
        if text not in self.failures:
            self.failures.append(text)
            print(f"FAILED: {text}", file=sys.stderr)

    def take(self, engine, run, rename=None):
        """Keep what one machine measured, if it is right."""
        if self.args.counters and engine != "native":
            print(f"--- {engine}, {rename or ', '.join(run.rows)}\n{run.said.strip()}")
        span_ticks = span_ns = 0
        for name, row in run.rows.items():
            name = rename or name
            if engine == "native":
                self.checks.setdefault(name, row.check)
                self.ops[name] = row.ops
            elif row.check != self.checks.get(name):
                self.fail(f"{name} on {engine}: checksum {row.check}, on this host {self.checks.get(name)}")
                continue
            seconds = statistics.median(row.ticks) / self.hz if self.args.clock == "wall" else row.cpu_ns / 1e9
            self.note(name, engine, seconds)
            guest_ns = row.span_ticks / self.hz * 1e9
            span_ticks, span_ns = span_ticks + guest_ns, span_ns + row.span_ns
            if abs(row.span_ns - guest_ns) > 0.1 * row.span_ns + 1e8:
                self.fail(f"{name} on {engine}: {guest_ns / 1e6:.0f} ms by its clock, {row.span_ns / 1e6:.0f} ms by this host's")
        if span_ns > 5e8:
            error = (span_ns - span_ticks) / span_ns
            self.clock_error[engine] = max(self.clock_error.get(engine, 0.0), error, key=abs)

    def native(self, rows):
        run = soft_vm.run([str(self.work / "soft-guest"), ",".join(rows) or "none"], is_native=True,
                          cpus={min(os.sched_getaffinity(0))})
        (tsc0, ns0, _), (tsc1, ns1, _) = run.clocks
        if not self.hz or ns1 - ns0 > 1e9:
            self.hz = (tsc1 - tsc0) * 1e9 / (ns1 - ns0)
        return run

    def build_native(self, row):
        env = dict(os.environ, bench_build=str(self.work / "build"), bench_jobs=str(BUILD_ROWS[row]))
        self.take("native", soft_vm.run([str(self.work / "soft-guest"), "build"], env=env, is_native=True), row)

    def build_command(self, engine, row):
        words = {"bench_rows": "build", "bench_build": "/build", "bench_jobs": BUILD_ROWS[row]}
        return self.command(engine, words, initrd="initrd-build", mib=BUILD_MIB, cpus=BUILD_ROWS[row])

    def build(self, engine, row):
        run = self.start(engine, self.build_command(engine, row), guest_bytes=BUILD_MIB << 20)
        self.take(engine, run, row)
        self.private_kib.setdefault(row, {}).setdefault(engine, []).append(run.private_kib)

    def one_run(self, index):
        rows = [r for r in self.args.rows if r not in BOOT_ROWS and r not in BUILD_ROWS]
        if rows and (index == 0 or "native" in self.args.engines):
            self.take("native", self.native(rows))
        machines = [e for e in self.args.engines if e != "native"]
        for engine in machines:
            try:
                if rows:
                    run = self.start(engine, self.command(engine, {"bench_rows": ",".join(rows)}))
                    self.take(engine, run)
                    init_s = self.boot_time(run)
                elif "boot" in self.args.rows:
                    init_s = self.boot(engine)
                if "boot" in self.args.rows:
                    self.note("boot", engine, init_s)
                if "boot_pvh" in self.args.rows:
                    self.note("boot_pvh", engine, self.boot(engine, kernel=self.unpacked()) if engine == "qemu" else self.boot(engine))
                if "boot_tests" in self.args.rows:
                    self.note("boot_tests", engine, self.boot(engine, cmdline=CMDLINE.replace("cryptomgr.notests ", "")))
            except soft_vm.Broken as e:
                self.fail(f"{engine}: {e}")
        for row in (r for r in self.args.rows if r in BUILD_ROWS):
            if index == 0 or "native" in self.args.engines:
                self.build_native(row)
            for engine in machines:
                try:
                    self.build(engine, row)
                except soft_vm.Broken as e:
                    self.fail(f"{row} on {engine}: {e}")

    def measure(self):
        self.native([])
        if any(r in BUILD_ROWS for r in self.args.rows):
            import soft_build
            soft_build.prepare(self.work, self.entries)
        if "boot" in self.args.rows:
            for engine in self.args.engines:
                if engine != "native":
                    self.boot(engine)  # programs into the page cache, the kernel unpacked into ec1's
        for index in range(self.args.runs):
            print(f"run {index + 1} of {self.args.runs}", file=sys.stderr)
            self.one_run(index)

    def results(self):
        """{row: {engine: {"s": median, "runs": [...]}}}, in the order of the table."""
        out = {}
        for row in soft_rows.ALL_ROWS:
            if row in self.samples:
                out[row] = {e: {"s": statistics.median(s), "runs": s} for e, s in self.samples[row].items()}
        return out


# --- what is printed ---


def print_rows(results, engines, ops, base):
    columns = [e for e in ("native", "other", "ec1", "qemu") if any(e in per for per in results.values())]
    head = [f"{'row':<14}"] + [f"{c:>13}" for c in columns]
    pairs = [(a, "ec1") for a in ("qemu", "native", "other") if a in columns and "ec1" in columns]
    head += [f"{a + '/' + b:>12}" for a, b in pairs] + ([f"{'before/now':>12}"] if base else [])
    print("  " + "".join(head))
    for row, per in results.items():
        line = [f"{row:<14}"]
        line += [f"{value(row, per[c]['s'], ops):>13}" if c in per else f"{'-':>13}" for c in columns]
        line += [f"{per[a]['s'] / per[b]['s']:>12.2f}" if a in per and b in per else f"{'-':>12}" for a, b in pairs]
        if base and row in base["rows"] and "ec1" in base["rows"][row] and "ec1" in per:
            line.append(f"{base['rows'][row]['ec1']['s'] / per['ec1']['s']:>12.2f}")
        print("  " + "".join(line))


def print_groups(results):
    shown = soft_rows.groups(results)
    if not any(ratio for _, ratio, _ in shown):
        return None
    print(f"\n  {'group (geometric means)':<42}{'qemu/ec1':>10}{'wanted':>8}{'':>9}{'share of native':>17}")
    judged = []
    for group, ratio, share in shown:
        if not ratio:
            continue
        is_met = ratio >= group.target and (group.native is None or (share or 0) >= group.native)
        if group in GROUPS:
            judged.append(ratio)
        mark = "" if group in EXTRA else "  met" if is_met else "  missed"
        wanted = f"{group.target:.1f}" if group.target else ""
        native = f"{share:.2f}" if share else ""
        if group.native:
            native += f" (wanted {group.native})"
        print(f"  {group.name:<42}{ratio:>10.2f}{wanted:>8}{mark:<9}{native:>17}")
    mean = geomean(judged)
    every = geomean(r for row, r in soft_rows.ratios(results, "qemu", "ec1").items() if group_of(row) in GROUPS)
    mark = "met" if mean >= GEOMEAN_TARGET else "missed"
    print(f"  {'geometric mean of these groups':<42}{mean:>10.2f}{GEOMEAN_TARGET:>8.1f}  {mark}")
    print(f"  {'geometric mean of all single rows':<42}{every:>10.2f}")
    for engine in ("ec1", "qemu"):
        if engine in results.get("build1", {}) and engine in results.get("build4", {}):
            print(f"  {'compile: 1 vCPU / 4 vCPUs, ' + engine:<42}{results['build1'][engine]['s'] / results['build4'][engine]['s']:>10.2f}")
    return mean


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, help="default 5; 1 with --quick")
    parser.add_argument("--engines", help="of ec1, qemu, native, other; default ec1,qemu,native; with --quick ec1")
    parser.add_argument("--rows", help="default all; with --quick without further boots and compiles: " + ",".join(soft_rows.ALL_ROWS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--other", type=pathlib.Path, help="a second build folder, the engine `other`")
    parser.add_argument("--base", type=pathlib.Path, help="what --json wrote before: shown beside")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--svg", type=pathlib.Path, help="a chart of the groups")
    parser.add_argument("--docs", type=pathlib.Path, help="write the tables into this page, the chart beside it")
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent / "build")
    parser.add_argument("--counters", action="store_true", help="print what ec1 counted (--engine-stats); slows it down")
    args = parser.parse_args(argv)
    if args.counters:
        os.environ["BENCH_COUNTERS"] = "1"
    args.runs = args.runs or (1 if args.quick else 5)
    args.engines = (args.engines or ("ec1" if args.quick else "ec1,qemu,native")).split(",")
    if args.other and "other" not in args.engines:
        args.engines.append("other")
    slow = {"boot_pvh", "boot_tests", *BUILD_ROWS}
    everything = [r for r in soft_rows.ALL_ROWS if not args.quick or r not in slow]
    args.rows = args.rows.split(",") if args.rows else everything
    args.rows = [r for name in args.rows for r in next((g.rows for g in GROUPS if g.name == name), (name,))]
    for name in args.rows:
        if name not in soft_rows.ALL_ROWS:
            parser.error(f"no row '{name}'; there are " + ", ".join(soft_rows.ALL_ROWS))
    for name in args.engines:
        if name not in ("ec1", "qemu", "native", "other"):
            parser.error(f"no engine '{name}'")
    return args


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "?"


def main():
    args = parse(sys.argv[1:])
    load = os.getloadavg()[0]
    soft_vm.be_prompt()
    with tempfile.TemporaryDirectory(prefix="ec1-bench-", dir="/tmp") as folder:
        bench = Bench(args, pathlib.Path(folder))
        bench.measure()
    results = bench.results()
    base = json.loads(args.base.read_text()) if args.base else None
    print(f"medians of {args.runs} run{'s' if args.runs > 1 else ''}, {args.clock} time; {os.cpu_count()} CPUs, {cpu_model()}; load before {load:.1f}")
    print_rows(results, args.engines, bench.ops, base)
    mean = print_groups(results)
    for engine, error in bench.clock_error.items():
        print(f"  clock of {engine} against this host's, worst run: {100 * error:+.2f} %")
    for row, per in bench.private_kib.items():
        for engine, kib in per.items():
            print(f"  private memory of {engine} after {row}, without guest RAM: {statistics.median(kib) / 1024:.1f} MiB")
    out = {"rows": results, "private_kib": bench.private_kib, "ops": bench.ops, "geomean": mean, "runs": args.runs, "clock": args.clock, "load": load,
           "cpu": cpu_model(), "cpus": os.cpu_count(), "failures": bench.failures, "clock_error": bench.clock_error}
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(out, indent=2, ensure_ascii=False) + "\n")
    if args.svg:
        args.svg.write_text(soft_svg.chart(out))
    if args.docs and not bench.failures:
        soft_docs.write(out, args.docs)
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
