#!/usr/bin/python3
"""snapshot.py — pause, snapshot and restore in figures: medians of --runs.

  pause, resume    the request, of a guest with a root drive, vsock and 128 MiB
  create           a full snapshot into new files; a diff of what an idle guest writes; into the page cache of the
                   folder's file system, and synced
  load             from exec of the process to the answer of /snapshot/load with resume_vm, memory from the file
  first answer     from exec of the process until a program of the guest has echoed a line over vsock

Usage: snapshot.py [--engine kvm|soft] [--runs N] [--mem MIB] [--json FILE]
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "fc"))
from microvm import MicroVm, ok  # noqa: E402

PORT = 52


def timed(call):
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def echoed(path):
    """Connect until the guest's program answers; it listens, so there is no wait but for the guest."""
    while True:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(5)
            try:
                s.connect(path)
                s.sendall(f"CONNECT {PORT}\n".encode())
                if s.recv(32).startswith(b"OK "):
                    s.sendall(b"x\n")
                    if s.recv(2):
                        return
            except OSError:
                time.sleep(0.001)


def boot(folder, engine, mem):
    vm = MicroVm(folder, engine=engine)
    vm.configure(mem=mem)
    ok(vm.patch("/machine-config", {"track_dirty_pages": True}))
    ok(vm.put("/vsock", {"guest_cid": 3, "uds_path": "v.sock"}))
    vm.start()
    vm.ready()
    vm.sh(f"guest_tool vsock-echo {PORT} >/dev/null 2>&1 &")
    echoed(str(folder / "v.sock"))
    return vm


def create(vm, name, kind):
    body = {"snapshot_path": f"{name}.state", "mem_file_path": f"{name}.mem", "snapshot_type": kind}
    for each in (body["snapshot_path"], body["mem_file_path"]):
        (vm.folder / each).unlink(missing_ok=True)
    return timed(lambda: ok(vm.put("/snapshot/create", body, timeout=600)))


def measure_create(vm, runs):
    out = {"pause": [], "resume": [], "create full": [], "create diff": []}
    for _ in range(runs):
        out["pause"].append(timed(lambda: ok(vm.patch("/vm", {"state": "Paused"}))))
        out["create full"].append(create(vm, "full", "Full"))
        out["resume"].append(timed(lambda: ok(vm.patch("/vm", {"state": "Resumed"}))))
        time.sleep(0.2)
        ok(vm.patch("/vm", {"state": "Paused"}))
        out["create diff"].append(create(vm, "diff", "Diff"))
        ok(vm.patch("/vm", {"state": "Resumed"}))
    ok(vm.patch("/vm", {"state": "Paused"}))
    create(vm, "full", "Full")
    return out


def measure_load(folder, base, engine, runs):
    out = {"load": [], "first answer": []}
    body = {"snapshot_path": str(base / "full.state"), "resume_vm": True,
            "mem_backend": {"backend_type": "File", "backend_path": str(base / "full.mem")}}
    for i in range(runs):
        place = folder / f"load{i}"
        place.mkdir()
        start = time.perf_counter()
        vm = MicroVm(place, engine=engine, console=False)
        path = str(place / "v.sock")
        ok(vm.put("/snapshot/load", {**body, "vsock_override": {"uds_path": path}}, timeout=600))
        out["load"].append((time.perf_counter() - start) * 1e3)
        echoed(path)
        out["first answer"].append((time.perf_counter() - start) * 1e3)
        vm.kill()
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", choices=("kvm", "soft"), default="soft")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--mem", type=int, default=128)
    parser.add_argument("--json")
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ec1-bench-", dir="/tmp"))
    try:
        (folder / "base").mkdir()
        vm = boot(folder / "base", args.engine, args.mem)
        figures = measure_create(vm, args.runs)
        vm.kill()
        figures |= measure_load(folder, folder / "base", args.engine, args.runs)
        state_bytes = os.path.getsize(folder / "base" / "full.state")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    medians = {name: statistics.median(values) for name, values in figures.items()}
    print(f"snapshots, {args.engine}, {args.mem} MiB, median of {args.runs}, state file {state_bytes} bytes")
    for name, value in medians.items():
        print(f"  {name:<14}{value:10.1f} ms   ({min(figures[name]):.1f} to {max(figures[name]):.1f})")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"engine": args.engine, "mem_mib": args.mem, "ms": medians}))


if __name__ == "__main__":
    main()
