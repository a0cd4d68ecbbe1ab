#!/usr/bin/python3
"""profile.py — where the time of a row goes on the software engine: functions of the monitor, and hot emitted code.

Usage: bench/profile.py [--build DIR] [--top N] [--code N] ROW     (perf, objdump; samples the vCPU's thread; `boot` is a row)

Emitted code is read from the machine's memory when the row ends, and shown with the share of samples of each
instruction around the hottest ones.
"""

import argparse
import collections
import pathlib
import re
import subprocess
import sys
import tempfile

import soft
import soft_build
import soft_vm

CODE_NAME = "ec1-translated"


class Watch(soft_vm.Reader):
    """Takes the emitted code when the row ends."""

    code = {}
    window = [0, 0]
    is_boot = False

    def line(self, text, at_ns):
        Watch.window[0] = Watch.window[0] or self.start_ns
        if text.startswith("@begin"):
            Watch.window[0] = at_ns
        if text.startswith("@end") or (text.startswith("@init") and Watch.is_boot):
            Watch.window[1] = at_ns
            self.take_code()
        super().line(text, at_ns)

    def take_code(self):
        children = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        pid = int(children[0]) if children else self.pid
        with open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
                m = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) .*" + CODE_NAME, line)
                if m and "x" in m[3]:
                    start, end = int(m[1], 16), int(m[2], 16)
                    memory.seek(start)
                    Watch.code[start] = memory.read(end - start)


def samples(data, window):
    """[(ip, symbol, object)] of the vCPU's thread while the row ran."""
    text = subprocess.check_output(["perf", "script", "-i", data, "-F", "comm,time,ip,sym,dso", "--ns"], text=True,
                                   stderr=subprocess.DEVNULL)
    out = []
    for line in text.splitlines():
        m = re.match(r"\s*(\S+)\s+(\d+)\.(\d+):\s+([0-9a-f]+)\s+(.*?)\s+\((.*)\)$", line)
        if m and m[1].startswith("vcpu") and window[0] <= int(m[2]) * 10**9 + int(m[3]) <= window[1]:
            out.append((int(m[4], 16), m[5], m[6]))
    return out


def files(build):
    """{function: source file} of the monitor."""
    out = {}
    for obj in sorted((build / "obj" / "src").rglob("*.o")):
        name = str(obj.relative_to(build / "obj" / "src").with_suffix(".c"))
        for line in subprocess.check_output(["nm", str(obj)], text=True).splitlines():
            words = line.split()
            if len(words) == 3 and words[1] in "tT":
                out.setdefault(words[2].split(".")[0], name)
    return out


def show_files(hits, total, build, count):
    """By source file, and by what is no source file of ours."""
    of = files(build)

    def place(symbol, dso):
        if CODE_NAME in dso:
            return "emitted code"
        if "kernel" in dso:
            return "(the host's kernel)"
        if "boot" in dso:
            return of.get(symbol.split(".")[0], "(stubs of single instructions, unknown)")
        return "(libraries, stubs)"

    where = collections.Counter(place(s, o) for _, s, o in hits)
    for name, n in where.most_common(count):
        print(f"  {100 * n / total:6.2f} %  {name}")
    print()


def show_code(hits, total, count):
    """The hottest runs of emitted instructions."""
    by_ip = collections.Counter(ip for ip, _, name in hits if CODE_NAME in name)
    shown = set()
    for ip, _ in by_ip.most_common(400):
        if count == 0:
            return
        start = next((s for s, code in Watch.code.items() if s <= ip < s + len(code)), None)
        if start is None or any(abs(ip - s) < 160 for s in shown):
            continue
        shown.add(ip)
        count -= 1
        code = Watch.code[start]
        # A sampled address is the start of an instruction: walk from the first one of the neighbourhood.
        first = min(i for i in by_ip if ip - 160 <= i <= ip)
        print()
        for at, text in disassemble(code[first - start : ip - start + 160], first).items():
            n = by_ip.get(at)
            print(f"  {100 * n / total:6.2f} %  {at:x}: {text}" if n else f"  {'':6}    {at:x}: {text}")


def disassemble(code, at):
    """{address: text} of a run of bytes."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(code)
        file.flush()
        text = subprocess.check_output(["objdump", "-D", "-b", "binary", "-m", "i386:x86-64", "-M", "intel", "-w",
                                        f"--adjust-vma={at}", file.name], text=True)
    found = (re.match(r"\s*([0-9a-f]+):\t([0-9a-f ]+?)\s*(?:\t(.*))?$", line) for line in text.splitlines())
    return {int(m[1], 16): m[3].strip() for m in found if m and m[3]}


def show_shapes(hits, total, count):
    """Emitted instructions that take the time, with the one before each, numbers left out."""
    by_ip = collections.Counter(ip for ip, _, name in hits if CODE_NAME in name)
    known = sorted(by_ip)
    image = bytearray()
    at = {}  # place in the image -> sampled address
    for i, ip in enumerate(known):
        start = next((s for s, code in Watch.code.items() if s <= ip < s + len(code)), None)
        if start is None:
            continue
        # from an instruction sampled before, for what stands in front; NOPs behind, to find the next one's start
        first = known[i - 1] if i and ip - known[i - 1] < 100 else ip
        at[len(image) + ip - first] = ip
        image += Watch.code[start][first - start : ip - start + 16] + b"\x90" * 16
    shapes = collections.Counter()
    before = ""
    for place, text in disassemble(bytes(image), 0).items():
        text = re.sub(r"0x[0-9a-f]{3,}", "N", text.split("#")[0].strip())
        if place in at:
            shapes[f"{re.sub(' +', ' ', text):<40} after {re.sub(' +', ' ', before)}"] += by_ip[at[place]]
        before = text if text != "nop" else "?"
    print("  emitted instructions, numbers left out:")
    for shape, n in shapes.most_common(count):
        print(f"  {100 * n / total:6.2f} %  {shape}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent / "build")
    parser.add_argument("--top", type=int, default=25)
    parser.add_argument("--code", type=int, default=3)
    parser.add_argument("--last", type=float, help="only so many seconds before its end: the code is that of the end")
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--shapes", type=int, default=30)
    parser.add_argument("--times", type=int, default=10, help="run the row so often")
    parser.add_argument("row")
    args = parser.parse_args()
    soft_vm.be_prompt()
    soft_vm.Reader = Watch
    with tempfile.TemporaryDirectory(prefix="ec1-bench-", dir="/tmp") as folder:
        bench = soft.Bench(soft.parse(["--quick", "--build", str(args.build), "--rows", args.row]), pathlib.Path(folder))
        data = f"{folder}/perf.data"
        Watch.is_boot = args.row == "boot"
        if Watch.is_boot:
            bench.boot("ec1")  # unpacks the kernel
        words = {"bench_rows": "none" if Watch.is_boot else args.row, "bench_times": args.times}
        command = bench.command("ec1", words)
        if args.row in soft.BUILD_ROWS:
            soft_build.prepare(bench.work, bench.entries)
            command = bench.build_command("ec1", args.row)
        soft_vm.run(["perf", "record", "-q", "-k", "CLOCK_MONOTONIC", "-e", "cpu-clock", "-F", "5000", "-o", data, "--", *command])
        if args.last:
            Watch.window[0] = Watch.window[1] - int(args.last * 1e9)
        hits = samples(data, Watch.window)
    total = len(hits)
    if not total:
        sys.exit("no samples")
    where = collections.Counter("emitted code" if CODE_NAME in o else s for _, s, o in hits)
    print(f"{args.row}: {total} samples of the vCPU, {(Watch.window[1] - Watch.window[0]) / 1e9:.2f} s")
    show_files(hits, total, args.build, args.files)
    for name, n in where.most_common(args.top):
        print(f"  {100 * n / total:6.2f} %  {name}")
    show_shapes(hits, total, args.shapes)
    show_code(hits, total, args.code)


if __name__ == "__main__":
    main()
