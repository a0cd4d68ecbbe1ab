#!/usr/bin/python3
"""api.py — the REST interface in figures: its endpoints, its start, and a boot beside qemu's.

  endpoints   time of each configuring request over one kept connection: median and 99th percentile
  socket      from exec of the process to the first answer
  boot        from exec of the process to the guest's first program, with ec1 by a configuration file and with
              qemu: same kernel, initramfs, command line; and from InstanceStart on
  memory      private bytes of the monitor without guest memory, with the guest idle

With --engine kvm (where /dev/kvm works, or in tests/nested/outer) the peer is qemu's microvm on KVM; with
--engine soft q35 on TCG.

Usage: api.py [--engine kvm|soft] [--runs N] [--requests N] [--json FILE] BUILD_DIR
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "fc"))
import boot as peer  # noqa: E402
import engine as process  # noqa: E402
import guest  # noqa: E402

MIB = 128
# 8250.nr_uarts=0: the marker goes out by hand, and no driver looks for the port.
CMDLINE = {
    "kvm": "quiet loglevel=1 reboot=k panic=-1 8250.nr_uarts=0 cryptomgr.notests random.trust_cpu=on tsc=reliable rdinit=/init",
    "soft": "quiet loglevel=1 reboot=k panic=-1 8250.nr_uarts=0 cryptomgr.notests random.trust_cpu=on rdinit=/init",
}


class Api:
    """A process and one connection to it."""

    def __init__(self, work, build, engine, *flags):
        self.path = str(work / f"api{time.monotonic_ns()}.sock")
        self.start = time.monotonic()
        self.process = subprocess.Popen(
            [str(build / "firecracker"), "--engine", engine, "--api-sock", self.path, "--log-path", "/dev/null", *flags],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        while True:
            self.s = socket.socket(socket.AF_UNIX)
            try:
                self.s.connect(self.path)
                break
            except OSError:
                self.s.close()
                if self.process.poll() is not None:
                    sys.exit(f"firecracker ended: {self.process.returncode}")
                time.sleep(0.0002)

    def ask(self, method, path, body=None):
        """Seconds until the whole answer was there."""
        data = b"" if body is None else json.dumps(body).encode()
        length = f"Content-Length: {len(data)}\r\n" if data else ""
        request = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n".encode() + data
        start = time.perf_counter()
        self.s.sendall(request)
        answer = self.s.recv(65536)
        took = time.perf_counter() - start
        if not answer.startswith(b"HTTP/1.1 20"):
            sys.exit(f"{method} {path}: {answer.decode(errors='replace')}")
        return took

    def end(self):
        self.s.close()
        self.process.kill()
        self.process.wait()
        os.unlink(self.path)


def requests(work, files):
    """What a client configures before a start; each may be sent again and again."""
    vsock = str(work / "v.sock")
    return [
        ("GET", "/", None),
        ("GET", "/version", None),
        ("GET", "/machine-config", None),
        ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": MIB}),
        ("PATCH", "/machine-config", {"mem_size_mib": MIB}),
        ("PUT", "/boot-source", {"kernel_image_path": files["kernel"], "initrd_path": files["initrd"], "boot_args": "quiet"}),
        ("PUT", "/drives/root", {"drive_id": "root", "path_on_host": files["disk"], "is_root_device": True, "is_read_only": False}),
        ("PUT", "/pmem/p", {"id": "p", "path_on_host": files["disk"]}),
        ("PUT", "/vsock", {"guest_cid": 3, "uds_path": vsock}),
        ("PUT", "/balloon", {"amount_mib": 0, "deflate_on_oom": True, "stats_polling_interval_s": 1}),
        ("PUT", "/entropy", {}),
        ("PUT", "/serial", {"serial_out_path": "/dev/null"}),
        ("PUT", "/hotplug/memory", {"total_size_mib": 1024}),
        ("PUT", "/logger", {"level": "Error"}),
        ("PUT", "/cpu-config", {"cpuid_modifiers": []}),
        ("PUT", "/mmds", {"a": {"b": "c"}}),
        ("PATCH", "/mmds", {"a": {"d": "e"}}),
        ("GET", "/mmds", None),
        ("GET", "/vm/config", None),
    ]


def endpoints(work, build, engine, files, count):
    api = Api(work, build, engine)
    rows = {}
    for method, path, body in requests(work, files):
        times = sorted(api.ask(method, path, body) for _ in range(count))
        rows[f"{method} {path}"] = {"median_us": statistics.median(times) * 1e6, "p99_us": times[int(count * 0.99)] * 1e6}
    api.end()
    return rows


def socket_ms(work, build, engine, runs):
    times = []
    for _ in range(runs * 4):
        api = Api(work, build, engine)
        api.ask("GET", "/version")
        times.append((time.monotonic() - api.start) * 1e3)
        api.end()
    return statistics.median(times)


def until_init(stream, start):
    line = b""
    while b"INIT" not in line:
        part = os.read(stream.fileno(), 4096)
        if not part:
            sys.exit(f"the guest did not come to its init: {line[-300:]!r}")
        line += part
    return time.monotonic() - start


def ec1_boot(work, build, engine, files):
    config = {
        "boot-source": {"kernel_image_path": files["vmlinux"], "initrd_path": files["initrd"], "boot_args": CMDLINE[engine]},
        "drives": [], "machine-config": {"vcpu_count": 1, "mem_size_mib": MIB},
    }
    (work / "config.json").write_text(json.dumps(config))
    start = time.monotonic()
    with subprocess.Popen(
        [str(build / "firecracker"), "--engine", engine, "--no-api", "--config-file", str(work / "config.json"), "--log-path", "/dev/null"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    ) as process_:
        took = until_init(process_.stdout, start)
        process_.wait()
    return took


def instance_start(work, build, engine, files, stay=""):
    """From InstanceStart to the init; the monitor's private KiB where the guest stays."""
    api = Api(work, build, engine)
    api.ask("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": MIB})
    api.ask("PUT", "/boot-source", {"kernel_image_path": files["vmlinux"], "initrd_path": files["initrd"], "boot_args": CMDLINE[engine] + stay})
    start = time.monotonic()
    api.ask("PUT", "/actions", {"action_type": "InstanceStart"})
    took = until_init(api.process.stdout, start)
    private = None
    if stay:
        time.sleep(1)
        private = process.memory(api.process.pid, MIB << 20)[0]
    api.end()
    return took, private


def qemu_boot(engine, files):
    how = {
        "kvm": ["-M", "microvm,pit=off,pic=off,rtc=off,isa-serial=on", "-accel", "kvm", "-cpu", "host"],
        "soft": ["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off"],
    }[engine]
    start = time.monotonic()
    with subprocess.Popen(
        ["qemu-system-x86_64", *how, "-smp", "1", "-m", str(MIB), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
         "-serial", "stdio", "-kernel", files["vmlinux"], "-initrd", files["initrd"], "-append", CMDLINE[engine].replace("reboot=k", "reboot=t")],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    ) as process_:
        took = until_init(process_.stdout, start)
        process_.wait()
    return took


def prepare(work, build):
    folder = pathlib.Path(os.path.expanduser("~/.cache/ec1/kernels/default/boot"))
    (image,) = folder.glob("vmlinuz*")
    shutil.copy(image, work / "vmlinuz")
    mark = (build / "bench" / "guest_mark").read_bytes()
    (work / "initrd").write_bytes(peer.newc([("dev", 0o040755, b""), ("init", 0o100755, mark)]))
    (work / "disk").write_bytes(bytes(2 << 20))
    # Unpacked, which is what Firecracker's users boot.
    return {"kernel": str(work / "vmlinuz"), "vmlinux": str(guest.vmlinux()), "initrd": str(work / "initrd"), "disk": str(work / "disk")}


def boots(work, build, engine, files, runs):
    times = {"ec1_s": [], "qemu_s": [], "instance_start_s": []}
    qemu_boot(engine, files)
    ec1_boot(work, build, engine, files)
    for _ in range(runs):
        times["ec1_s"].append(ec1_boot(work, build, engine, files))
        times["qemu_s"].append(qemu_boot(engine, files))
        times["instance_start_s"].append(instance_start(work, build, engine, files)[0])
    return {name: statistics.median(t) for name, t in times.items()}


def report(out, runs):
    print(f"\nREST interface, engine {out['engine']}{', in an emulated machine' if out['nested'] else ''}")
    print(f"  {'request':28} {'median':>10} {'99th':>10}   us")
    for name, row in out["endpoints"].items():
        print(f"  {name:28} {row['median_us']:>10.0f} {row['p99_us']:>10.0f}")
    print(f"  {'process start to first answer':44} {out['socket_ms']:>10.2f} ms")
    print(f"  {'process start to guest init':44} {out['ec1_s'] * 1e3:>10.1f} ms  (medians of {runs})")
    print(f"  {'the same with qemu':44} {out['qemu_s'] * 1e3:>10.1f} ms  ratio {out['ec1_s'] / out['qemu_s']:.2f}")
    print(f"  {'InstanceStart to guest init':44} {out['instance_start_s'] * 1e3:>10.1f} ms")
    print(f"  {'private memory of the monitor':44} {out['private_kib'] / 1024:>10.1f} MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="kvm", choices=["kvm", "soft"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--json")
    parser.add_argument("build", type=pathlib.Path)
    args = parser.parse_args()
    build = args.build.resolve()
    with tempfile.TemporaryDirectory(prefix="ec1-api-", dir="/tmp") as folder:
        work = pathlib.Path(folder)
        files = prepare(work, build)
        out = {"engine": args.engine, "nested": "EC1_IN_OUTER" in os.environ}
        out["endpoints"] = endpoints(work, build, args.engine, files, args.requests)
        out["socket_ms"] = socket_ms(work, build, args.engine, args.runs)
        out |= boots(work, build, args.engine, files, args.runs)
        out["private_kib"] = instance_start(work, build, args.engine, files, " stay")[1]
    report(out, args.runs)
    if args.json:
        path = pathlib.Path(args.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        old = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(old | {"api": out}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
