#!/usr/bin/python3
"""report.py — the tables of docs/performance.md from what the benchmarks wrote.

Usage: report.py BUILD_DIR          prints Markdown; reads BUILD_DIR/bench/soft.json and kvm.json
"""

import json
import pathlib
import sys

FIGURES = [
    ("`ec1 run -- true`, process start to exit", "run_true_s", 1, "{:.2f} s"),
    ("`ec1 exec VM -- true`, whole process", "exec_command_s", 1000, "{:.1f} ms"),
    ("exec round trip of `true`, client's call to status", "vm_us", 0.001, "{:.1f} ms"),
    ("the same, 95th percentile", "vm_p95_us", 0.001, "{:.1f} ms"),
    ("the host's own fork + exec + wait of `true`", "host_us", 0.001, "{:.2f} ms"),
    ("guest instructions per second, register loop", "mips_alu", 1, "{:.0f} M"),
    ("guest instructions per second, memory loop", "mips_memory", 1, "{:.0f} M"),
    ("guest instructions per second, call loop", "mips_call", 1, "{:.0f} M"),
    ("monitor's private memory without guest RAM", "monitor_private_kib", 1 / 1024, "{:.1f} MiB"),
    ("whole VM of 256 MiB, proportional set size", "whole_pss_kib", 1 / 1024, "{:.1f} MiB"),
]
BOOTS = [
    ("ec1", "ec1_s"),
    ("qemu, kernel as shipped", "qemu_bzimage_s"),
    ("qemu, kernel unpacked (PVH)", "qemu_vmlinux_s"),
]


def main():
    folder = pathlib.Path(sys.argv[1]) / "bench"
    data = {e: json.loads((folder / f"{e}.json").read_text()) for e in ("soft", "kvm") if (folder / f"{e}.json").exists()}
    names = {"soft": "software engine", "kvm": "KVM in the emulated machine" if data.get("kvm", {}).get("boot", {}).get("nested") else "KVM"}
    engines = list(data)
    print("| what | " + " | ".join(names[e] for e in engines) + " |")
    print("|---|" + "---|" * len(engines))
    for text, key, scale, form in FIGURES:
        print(f"| {text} | " + " | ".join(form.format(data[e][key] * scale) for e in engines) + " |")
    print()
    print("| boot, run `true`, reset | " + " | ".join(names[e] for e in engines) + " |")
    print("|---|" + "---|" * len(engines))
    for text, key in BOOTS:
        print(f"| {text} | " + " | ".join(f"{data[e]['boot'][key]:.2f} s" for e in engines) + " |")
    print("| **ec1 / the faster qemu** | " + " | ".join(f"**{data[e]['boot']['ratio']:.2f}**" for e in engines) + " |")


if __name__ == "__main__":
    main()
