#!/usr/bin/python3
"""block.py — a guest's disk, ec1 beside qemu: same kernel, initramfs, driver and file, alternating.

  read, write    4 KiB at random places past the guest's page cache, 1 and 16 at a time: thousands a second
  latency        of one such read, mean
  large          1 MiB reads, MiB/s

ec1 with both of its engines (Sync, Async: io_uring); qemu with its threads, and its page cache as ec1 has it
(cache=writeback).  The file is small and in the host's page cache.  With --engine kvm (where /dev/kvm works, or in
tests/nested/outer) the peer is qemu's microvm with virtio-mmio; with --engine soft q35 on TCG.

Usage: block.py [--engine kvm|soft] [--runs N] [--seconds S] [--json FILE] BUILD_DIR
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "fc"))
sys.path.insert(0, str(ROOT / "bench"))
import guest  # noqa: E402
import microvm  # noqa: E402
from qemu_guest import CMDLINE, MACHINES, MEM_MIB, SUFFIX, QemuGuest  # noqa: E402

DISK_MIB = 64


def start_ec1(io_engine):
    def start(folder, engine, disk):
        vm = microvm.MicroVm(folder, engine=engine)
        microvm.ok(vm.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": MEM_MIB}))
        source = {"kernel_image_path": str(guest.kernel()), "initrd_path": str(guest.initrd()), "boot_args": CMDLINE}
        microvm.ok(vm.put("/boot-source", source))
        microvm.ok(vm.put("/drives/d", {
            "drive_id": "d", "path_on_host": disk, "is_root_device": False, "io_engine": io_engine}))
        vm.start()
        vm.ready()
        return vm

    return start


def start_qemu(folder, engine, disk):
    drive = f"file={disk},if=none,id=d,format=raw,cache=writeback,aio=threads"
    return QemuGuest(folder, engine, ["-drive", drive, "-device", f"virtio-blk-{SUFFIX[engine]},drive=d"])


def load(vm, seconds, is_write, size, threads):
    """Accesses a second, and microseconds of each."""
    words = vm.sh(f"guest_tool disk /dev/vda {is_write} {size} {threads} {seconds}", 300).split()
    return int(words[-2]) / seconds, float(words[-1])


def measure(start, args, disk):
    """One guest's life: its figures."""
    with tempfile.TemporaryDirectory(prefix="ec1-block-", dir="/tmp") as folder:
        vm = start(folder, args.engine, disk)
        try:
            load(vm, 0.5, 0, 4096, 4)  # code is translated, the file is in the page cache
            one = load(vm, args.seconds, 0, 4096, 1)
            return {
                "read_1": one[0] / 1e3,
                "latency_us": one[1],
                "read_16": load(vm, args.seconds, 0, 4096, 16)[0] / 1e3,
                "write_1": load(vm, args.seconds, 1, 4096, 1)[0] / 1e3,
                "write_16": load(vm, args.seconds, 1, 4096, 16)[0] / 1e3,
                "large": load(vm, args.seconds, 0, 1 << 20, 2)[0],
            }
        finally:
            vm.kill()


ROWS = [
    ("read_1", "4 KiB reads, one at a time, 1000/s"), ("latency_us", "one of them, us"),
    ("read_16", "4 KiB reads, 16 at a time, 1000/s"), ("write_1", "4 KiB writes, one at a time, 1000/s"),
    ("write_16", "4 KiB writes, 16 at a time, 1000/s"), ("large", "1 MiB reads, MiB/s"),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="soft", choices=MACHINES)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--json")
    parser.add_argument("build")
    args = parser.parse_args()
    microvm.BINARY = str(pathlib.Path(args.build).resolve() / "firecracker")
    starts = {"Sync": start_ec1("Sync"), "Async": start_ec1("Async"), "qemu": start_qemu}
    runs = {name: [] for name in starts}
    with tempfile.NamedTemporaryFile(prefix="ec1-disk-", dir="/tmp") as disk:
        disk.write(os.urandom(1 << 20) * DISK_MIB)
        disk.flush()
        for _ in range(args.runs):
            for name, start in starts.items():
                runs[name].append(measure(start, args, disk.name))
    out = {name: {key: statistics.median(r[key] for r in rs) for key, _ in ROWS} for name, rs in runs.items()}
    nested = " in an emulated machine" if "EC1_IN_OUTER" in os.environ else ""
    title = f"disk; engine {args.engine}{nested}, medians of {args.runs}"
    print(f"{title:52} {'Sync':>9} {'Async':>9} {'qemu':>9}  Sync/qemu")
    for key, text in ROWS:
        sync, asynchronous, qemu = (out[name][key] for name in starts)
        print(f"  {text:50} {sync:>9.1f} {asynchronous:>9.1f} {qemu:>9.1f} {sync / qemu:>10.2f}")
    if args.json:
        path = pathlib.Path(args.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(out | {"runs": runs}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
