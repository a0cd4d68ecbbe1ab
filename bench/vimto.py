#!/usr/bin/python3
"""vimto.py — what a test runner's user waits for, measured: medians of alternating runs.

  start    wall and CPU time of an empty package: `go test -exec ""` (this host) beside `go test -exec vimto`; its test binary alone,
           beside the same in a VM of qemu with the same kernel, and where vimto's time goes (--verbose)
  files    `find` and `git status` in a tree of --files files: this host beside a VM's share by virtio-fs and,
           where there is a kernel for it (~/.cache/ec1/kernels/9p), by 9P; first after the VM's boot, and again

The peer is qemu (KVM: microvm; TCG: q35) with an init of nothing but the least (bench/vimto_init.c): host's root
through virtiofsd below an overlay, no way to talk to it but the console.  Both are timed from the start of the
process to its end.  CPU time, of all processes, means something on a machine that others use, too.

Usage: vimto.py [--engine kvm|soft] [--rows start,files] [--runs N] [--files N] [--json FILE] BUILD_DIR
"""

import argparse
import json
import os
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from boot import CMDLINES, newc

MIB = 512
TIMEOUT = 600
MACHINES = {
    "kvm": (["-M", "microvm,pit=off,pic=off,rtc=off,isa-serial=on,memory-backend=m", "-accel", "kvm", "-cpu", "host"], "device", "virtio_mmio"),
    "soft": (["-M", "q35,memory-backend=m", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off"], "pci", "virtio_pci"),
}
# Runs in the VM and here.  Times of one program each; what starts Python does not count.
PROBE = """
import json, subprocess, sys, time
out = {}
for again in "first", "again":
    for name, argv in json.loads(sys.argv[1]).items():
        start = time.perf_counter()
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        out[name + ", " + again] = time.perf_counter() - start
print(json.dumps(out))
"""
PROBES = {
    "find, names only": ["find", ".", "-type", "f"],
    "find, with sizes": ["find", ".", "-size", "+100k"],
    "git status": ["git", "status", "--short"],
}


def run(argv, env, cwd=None):
    """What ended with status 0."""
    done = subprocess.run([*map(str, argv)], env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT)
    if done.returncode != 0:
        sys.exit(f"{argv}: {done.returncode}: {(done.stdout + done.stderr)[-800:]}")
    return done


def cpu_seconds():
    """Of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Bench:
    def __init__(self, args, work):
        self.args = args
        self.work = work
        self.build = pathlib.Path(args.build).resolve()
        self.vimto = self.build / "vimto"
        self.env = dict(os.environ, GOFLAGS="-mod=mod", GOPROXY="off", PATH=f"{self.build}:{os.environ['PATH']}")
        if args.engine == "soft":
            self.env["VIMTO_DISABLE_KVM"] = "true"
        self.times = {}
        self.cpu_times = {}

    def note(self, name, seconds):
        self.times.setdefault(name, []).append(seconds)

    def timed(self, name, row):
        cpu, start = cpu_seconds(), time.monotonic()
        out = row()
        self.note(name, time.monotonic() - start)
        self.cpu_times.setdefault(name, []).append(cpu_seconds() - cpu)
        return out

    # --- start ---

    def package(self):
        """A package with one test of nothing, and its test binary, which is kept for where Go is slow."""
        folder = self.work / "empty"
        folder.mkdir()
        (folder / "go.mod").write_text("module empty\n\ngo 1.19\n")
        (folder / "empty_test.go").write_text('package empty\n\nimport "testing"\n\nfunc TestNothing(*testing.T) {}\n')
        kept = self.build / "bench" / "empty.test"
        if not kept.exists():
            kept.parent.mkdir(exist_ok=True)
            run(["go", "test", "-c", "-o", kept], self.env, folder)
        shutil.copy(kept, folder / "empty.test")
        return folder

    def note_split(self, done):
        """Where the time of vimto went, by its own words."""
        if "PASS" not in done.stdout:
            sys.exit(f"vimto did not run the test: {done.stdout}{done.stderr}")
        for what, seconds in re.findall(r"(start|boot|mount|exec|end) ([0-9.]+) s", done.stderr.splitlines()[-1]):
            self.note(f"  {what}", float(seconds))

    def start(self):
        folder = self.package()
        peer = Peer(self.args.engine, self.work, self.build)
        go = ["go", "test", "-count=1"]
        rows = {
            "test binary, this host": lambda: run(["./empty.test"], self.env, folder),
            "test binary, qemu": lambda: peer.run(folder, ["./empty.test"]),
        }
        if not self.args.no_go:
            rows["go test, this host"] = lambda: run(go, self.env, folder)
            rows["go test -exec vimto"] = lambda: run([*go, "-exec", f"vimto -memory {MIB}M exec --"], self.env, folder)
        vimto = [self.vimto, "-verbose", "-memory", f"{MIB}M", "exec", "--", "./empty.test"]
        for i in range(self.args.runs + 1):
            for name, row in rows.items():
                self.timed(name, row)
            self.note_split(self.timed("test binary, vimto", lambda: run(vimto, self.env, folder)))
            if i == 0:  # programs, libraries and the unpacked kernel come into caches
                self.times.clear()
                self.cpu_times.clear()

    # --- files ---

    def tree(self):
        folder = self.work / "tree"
        for i in range(self.args.files):
            if i % 50 == 0:
                inner = folder / f"d{i // 1000:03}" / f"e{i // 50 % 20:02}"
                inner.mkdir(parents=True)
            (inner / f"file{i % 50:02}.txt").write_text(f"{i}\n" * 4)
        git = ["git", "-c", "user.name=x", "-c", "user.email=x@y", "-c", "gc.auto=0"]
        for words in ["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]:
            run([*git, *words], self.env, folder)
        time.sleep(1.1)  # git reads again what is as new as its index
        run(["git", "status"], self.env, folder)
        return folder

    def files(self):
        folder = self.tree()
        probe = ["python3", "-c", PROBE, json.dumps(PROBES)]
        vimto = [self.vimto, "-memory", "1G"]
        places = {"this host": probe, "virtio-fs": [*vimto, "exec", "--", *probe]}
        plan9 = pathlib.Path(os.path.expanduser("~/.cache/ec1/kernels/9p"))
        if plan9.exists():
            places["9P"] = [*vimto, "-kernel", plan9, "exec", "--", *probe]
        for _ in range(self.args.runs):
            for name, argv in places.items():
                for what, seconds in json.loads(run(argv, self.env, folder).stdout).items():
                    self.note(f"{what}, {name}", seconds)


class Peer:
    """The same kernel in qemu."""

    def __init__(self, engine, work, build):
        self.engine = engine
        self.work = work
        tree = pathlib.Path(os.path.expanduser("~/.cache/ec1/kernels/default")).resolve()
        (self.kernel,) = (tree / "boot").glob("vmlinuz*")
        (modules,) = (tree / "lib/modules").iterdir()
        self.files = [("init", 0o100755, (build / "bench" / "vimto_init").read_bytes())]
        self.files += [(name, 0o040755, b"") for name in ("dev", "m")]
        wanted = [MACHINES[engine][2], "virtiofs", "overlay"]
        for i, path in enumerate(self.modules(modules, wanted)):
            self.files.append((f"m/{i:03}.ko", 0o100644, self.plain(path)))

    @staticmethod
    def plain(path):
        packers = {".xz": "xz", ".zst": "zstd", ".gz": "gzip"}
        return path.read_bytes() if path.suffix == ".ko" else subprocess.check_output([packers[path.suffix], "-dc", str(path)])

    @staticmethod
    def modules(tree, wanted):
        """Paths of the wanted modules and what they need, in the order of loading."""
        needs = {line.split(":")[0]: line.split(":")[1].split() for line in (tree / "modules.dep").read_text().splitlines()}
        names = {re.sub(r"\.ko.*", "", os.path.basename(p)).replace("-", "_"): p for p in needs}
        order = []
        for name in wanted:
            if name in names:
                order += [p for p in [*reversed(needs[names[name]]), names[name]] if p not in order]
        return [tree / p for p in order]

    def run(self, folder, argv):
        """From the start of virtiofsd and qemu to their end."""
        command = "".join(w + "\0" for w in [str(folder), *argv]).encode()
        socket, initrd = self.work / "fs.sock", self.work / "initrd"
        initrd.write_bytes(newc([*self.files, ("command", 0o100644, command)]))
        machine, suffix, _ = MACHINES[self.engine]
        qemu = [
            "qemu-system-x86_64", *machine, "-smp", "1", "-m", str(MIB), "-nodefaults", "-no-user-config", "-nographic",
            "-no-reboot", "-serial", "stdio", "-kernel", self.kernel, "-initrd", initrd,
            "-append", CMDLINES[self.engine] + " console=ttyS0",
            "-object", f"memory-backend-memfd,id=m,size={MIB}M,share=on",
            "-chardev", f"socket,id=fs,path={socket}", "-device", f"vhost-user-fs-{suffix},chardev=fs,tag=hostroot",
        ]
        with subprocess.Popen(["/usr/lib/qemu/virtiofsd", f"--socket-path={socket}", "-o", "source=/", "-o", "sandbox=chroot", "-o", "cache=always"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as fs:
            try:
                while not socket.exists():
                    time.sleep(0.001)
                    if fs.poll() is not None:
                        sys.exit("vimto.py: virtiofsd does not start: it must be root")
                done = run(qemu, os.environ)
            finally:
                fs.kill()
        socket.unlink(missing_ok=True)
        if "PASS" not in done.stdout or "vimto_init: status 0" not in done.stdout:
            sys.exit(f"qemu's guest did not run the test: {done.stdout[-800:]}{done.stderr[-800:]}")


def show(seconds):
    return f"{seconds * 1e3:.1f} ms" if seconds < 0.9995 else f"{seconds:.2f} s"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="soft", choices=list(MACHINES))
    parser.add_argument("--rows", default="start,files")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--files", type=int, default=50000)
    parser.add_argument("--no-go", action="store_true", help="not `go test` itself, only the test binary")
    parser.add_argument("--json")
    parser.add_argument("build")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ec1-bench-", dir="/var/tmp") as folder:
        bench = Bench(args, pathlib.Path(folder))
        for rows in args.rows.split(","):
            {"start": bench.start, "files": bench.files}[rows]()
    out = {name: statistics.median(t) for name, t in bench.times.items()}
    cpu = {name: statistics.median(t) for name, t in bench.cpu_times.items()}
    nested = "EC1_IN_OUTER" in os.environ
    print(f"vimto, {args.engine} engine{' in an emulated machine' if nested else ''}, medians of {args.runs}")
    for name, seconds in out.items():
        print(f"  {name:40} {show(seconds):>12}{show(cpu[name]) + ' of CPU' if name in cpu else '':>20}")
    if args.json:
        path = pathlib.Path(args.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"engine": args.engine, "nested": nested, "medians_s": out, "cpu_medians_s": cpu, "all_s": bench.times, "all_cpu_s": bench.cpu_times}, indent=2) + "\n")


if __name__ == "__main__":
    main()
