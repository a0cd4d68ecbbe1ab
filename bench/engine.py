#!/usr/bin/python3
"""engine.py — what a user of one engine waits for, measured: medians, beside the host's own.

Usage: engine.py [--engine soft|kvm] [--runs N] [--json FILE] BUILD_DIR
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time


def seconds(argv, env):
    start = time.monotonic()
    subprocess.run(argv, env=env, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def memory(pid, guest_bytes):
    """Private bytes of the monitor without guest RAM, and the whole process' PSS, in KiB."""
    private = pss = 0
    size_kib = 0
    is_guest = False
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        m = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if m:
            size_kib = (int(m[2], 16) - int(m[1], 16)) // 1024
            # guest RAM is the one mapping of at least its size; the kernel may split it by page flags
            is_guest = size_kib * 1024 >= guest_bytes
        m = re.match(r"(Private_Clean|Private_Dirty|Pss): +(\d+) kB", line)
        if m and m[1] == "Pss":
            pss += int(m[2])
        elif m and not is_guest:
            private += int(m[2])
    return private, pss


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="soft")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json")
    parser.add_argument("build")
    args = parser.parse_args()
    build = pathlib.Path(args.build)
    ec1 = str(build / "ec1")
    out = {"engine": args.engine}
    with tempfile.TemporaryDirectory(prefix="ec1-bench-") as runtime:
        env = dict(os.environ, XDG_RUNTIME_DIR=runtime)
        run = [ec1, "run", "-q", "--engine", args.engine]
        seconds(run + ["--", "true"], env)  # fills the kernel cache
        out["run_true_s"] = statistics.median(seconds(run + ["--", "true"], env) for _ in range(args.runs))

        subprocess.run(run + ["-d", "--name", "bench", "-m", "256M", "--", "sleep", "infinity"], env=env, check=True,
                       stdout=subprocess.DEVNULL)
        try:
            (vm,) = json.loads(subprocess.check_output([ec1, "ps", "--json"], env=env))
            socket = f"{runtime}/ec1/{vm['id']}/vsock.sock"
            out.update(json.loads(subprocess.check_output([str(build / "bench" / "exec"), socket, "100"])))
            out["exec_command_s"] = statistics.median(
                seconds([ec1, "exec", "bench", "--", "true"], env) for _ in range(args.runs * 2))
            out["monitor_private_kib"], out["whole_pss_kib"] = memory(vm["pid"], 256 << 20)
        finally:
            subprocess.run([ec1, "rm", "-f", "bench"], env=env)
    for line in subprocess.check_output([str(build / "bench" / "interp"), args.engine]).splitlines():
        loop = json.loads(line)
        out[f"mips_{loop['loop']}"] = loop["mips"]

    rows = [
        ("ec1 run -- true, start to exit", f"{out['run_true_s']:.2f} s"),
        ("exec round trip of true, client call to status", f"{out['vm_us'] / 1000:.2f} ms (p95 {out['vm_p95_us'] / 1000:.2f})"),
        ("the host's own fork + exec + wait of true", f"{out['host_us'] / 1000:.2f} ms"),
        ("ec1 exec VM -- true, whole process", f"{out['exec_command_s'] * 1000:.1f} ms"),
        ("guest instructions per second: ALU loop", f"{out['mips_alu']:.0f} M"),
        ("guest instructions per second: memory loop", f"{out['mips_memory']:.0f} M"),
        ("guest instructions per second: call loop", f"{out['mips_call']:.0f} M"),
        ("monitor, private memory without guest RAM", f"{out['monitor_private_kib'] / 1024:.1f} MiB"),
        ("whole VM of 256 MiB, proportional set size", f"{out['whole_pss_kib'] / 1024:.1f} MiB"),
    ]
    print(f"engine {args.engine}, medians of {args.runs}")
    for name, value in rows:
        print(f"  {name:52} {value:>24}")
    if args.json:
        path = pathlib.Path(args.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(out, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
