"""A firecracker process of a test: start it, ask it, talk to its guest's shell."""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.parse

import requests_unixsocket

import guest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("FIRECRACKER", str(ROOT / "build" / "firecracker"))


def beside(name):
    """Another program of the build that is tested; of a lone copy, that of build/."""
    path = pathlib.Path(BINARY).parent / name
    return str(path if path.exists() else ROOT / "build" / name)


ENGINE = os.environ.get("EC1_ENGINE", "auto")
# Generous: shared machines stall.  In tests/nested/outer all is about 20 times slower, test programs, too.
BOOT_TIMEOUT = 300
PATIENCE = 10 if "EC1_IN_OUTER" in os.environ else 1
BOOT_ARGS = "console=ttyS0 reboot=k panic=1 quiet 8250.nr_uarts=1"


def default_signals():
    """A shell starts what it puts into the background with SIGINT ignored, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class MicroVm:
    """The process in a folder of its own.  Methods get, put, patch, delete return requests' answers."""

    def __init__(self, folder, *flags, engine=ENGINE, api=True, console=True, **popen):
        self.folder = pathlib.Path(folder)
        self.socket = str(self.folder / "api.sock")
        self.log_path = self.folder / "log"
        self.out_path = self.folder / "console"
        self.flags = [*flags]
        if api and "--api-sock" not in flags:
            self.flags += ["--api-sock", self.socket]
        if not api:
            self.flags += ["--no-api"]
        if "--log-path" not in flags:
            self.log_path.touch()
            self.flags += ["--log-path", str(self.log_path)]
        if "--id" not in flags:
            self.flags += ["--id", "test"]
        stdin = subprocess.DEVNULL
        self.fifo = None
        if console:
            path = self.folder / "stdin"
            os.mkfifo(path)
            # Open for both, so that neither end waits for the other or ever sees the end.
            self.fifo = os.open(path, os.O_RDWR)
            stdin = self.fifo
        with open(self.out_path, "wb") as out, open(self.folder / "stderr", "wb") as err:
            self.process = subprocess.Popen(
                [BINARY, "--engine", engine, *self.flags],
                stdin=popen.pop("stdin", stdin), stdout=out, stderr=err, cwd=popen.pop("cwd", self.folder),
                preexec_fn=popen.pop("preexec_fn", default_signals), **popen,
            )
        self.seen = 0  # of the console
        if api and "--api-sock" not in flags:
            self.wait_for(self.answers, "the API socket")

    # --- the process ---

    def answers(self):
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(self.socket)
            return True
        except OSError:
            return False

    def wait_for(self, is_true, what, seconds=30):
        deadline = time.monotonic() + seconds * PATIENCE
        while not is_true():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError(f"{what} did not come; {self.state()}")
            time.sleep(0.005)

    def state(self):
        status = self.process.poll()
        return (
            f"exit status {status}\nlog: {self.log()[-1500:]}\n"
            f"stderr: {(self.folder / 'stderr').read_text()[-500:]}\nconsole: {self.console()[-1500:]}"
        )

    def wait(self, timeout=BOOT_TIMEOUT):
        """The exit status, negative for a signal."""
        return self.process.wait(timeout * PATIENCE)

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        if self.fifo is not None:
            os.close(self.fifo)
            self.fifo = None

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def console(self):
        return self.out_path.read_bytes().decode(errors="replace")

    def threads(self):
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
        return sorted((t / "comm").read_text().strip() for t in tasks)

    def has_log(self, text, seconds=10):
        deadline = time.monotonic() + seconds * PATIENCE
        while text not in self.log():
            if time.monotonic() > deadline:
                raise AssertionError(f"{text!r} is not in the log\n{self.state()}")
            time.sleep(0.01)

    # --- the interface ---

    def ask(self, method, path, body=None, **kwargs):
        url = "http+unix://" + urllib.parse.quote(self.socket, safe="") + "/" + path.lstrip("/")
        if body is not None:
            kwargs["data"] = body if isinstance(body, (str, bytes)) else json.dumps(body)
        # A session each: it would keep a connection for every path, and ten are all there are.
        with requests_unixsocket.Session() as session:
            return session.request(method, url, timeout=kwargs.pop("timeout", 60) * PATIENCE, **kwargs)

    def get(self, path, **kwargs):
        return self.ask("GET", path, **kwargs)

    def put(self, path, body=None, **kwargs):
        return self.ask("PUT", path, body, **kwargs)

    def patch(self, path, body=None, **kwargs):
        return self.ask("PATCH", path, body, **kwargs)

    def delete(self, path, **kwargs):
        return self.ask("DELETE", path, **kwargs)

    def raw(self, data, want=None, seconds=10):
        """Bytes over a connection of their own; the answer up to `want` bytes, or until it is quiet."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(seconds * PATIENCE)
            s.connect(self.socket)
            s.sendall(data)
            out = b""
            while want is None or len(out) < want:
                if out and want is None:
                    s.settimeout(0.3 * PATIENCE)
                try:
                    part = s.recv(65536)
                except TimeoutError:
                    break
                except ConnectionResetError:  # closed before it had read all
                    break
                if not part:
                    break
                out += part
            return out

    # --- a plain microVM ---

    def configure(self, root=True, vcpus=1, mem=128, boot_args=BOOT_ARGS, kernel=None, initrd=True, **drive):
        """Machine, kernel, initrd if it has modules to load, and a root drive of its own."""
        ok(self.put("/machine-config", {"vcpu_count": vcpus, "mem_size_mib": mem}))
        source = {"kernel_image_path": str(kernel or guest.kernel()), "boot_args": boot_args}
        if initrd and not (root and kernel is None and guest.has_own()):
            source["initrd_path"] = str(guest.initrd(kernel))
        ok(self.put("/boot-source", source))
        if root:
            path = guest.rootfs(self.folder / "root.ext4")
            ok(self.put("/drives/rootfs", {
                "drive_id": "rootfs", "path_on_host": str(path), "is_root_device": True, "is_read_only": False, **drive,
            }))

    def start(self):
        return ok(self.put("/actions", {"action_type": "InstanceStart"}))

    def boot(self, **kwargs):
        self.configure(**kwargs)
        self.start()
        self.ready()
        return self

    def ready(self, seconds=BOOT_TIMEOUT):
        self.wait_for(lambda: "GUEST-READY" in self.console(), "the guest", seconds)
        self.seen = 0
        self.sh("true")

    def type(self, text):
        os.write(self.fifo, text.encode())

    def sh(self, command, seconds=60, check=True):
        """Run it in the guest's shell; what it printed."""
        self.count = getattr(self, "count", 0) + 1
        mark = f"E{self.count}N"
        # The mark in two parts: an echo of the command is not its end.
        self.type(f"{command}\necho \"{mark}\"D $?\n")
        pattern = re.compile(mark + r"D (\d+)\r?\n")
        self.wait_for(lambda: pattern.search(self.console(), self.seen), f"the end of {command!r}", seconds)
        text = self.console()
        match = pattern.search(text, self.seen)
        out = text[self.seen : match.start()].replace("\r\n", "\n")
        self.seen = match.end()
        if check:
            assert match.group(1) == "0", (command, match.group(1), out)
        return out

    def reboot(self):
        """As the guest: the process ends."""
        self.type("reboot -f\n")
        return self.wait()


def ok(answer):
    assert answer.status_code in (200, 204), (answer.status_code, answer.text)
    return answer


def refused(answer, text, status=400):
    """The fault is exactly this."""
    assert (answer.status_code, answer.json().get("fault_message")) == (status, text)


def refused_with(answer, part, status=400):
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert part in answer.json()["fault_message"], (part, answer.text)


__all__ = ["MicroVm", "ok", "refused", "refused_with", "BINARY", "ENGINE", "BOOT_ARGS", "PATIENCE", "http"]
