"""qemu_guest.py — a guest of qemu, talked to over its serial port as over ec1's: the peer of bench/net.py, block.py.

With "kvm" it is qemu's microvm with virtio-mmio, with "soft" q35 with PCI on TCG.
"""

import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "fc"))
import guest  # noqa: E402
import microvm  # noqa: E402

MEM_MIB = 256
CMDLINE = "console=ttyS0 reboot=t panic=-1 quiet random.trust_cpu=on"
MACHINES = {
    "kvm": ["-accel", "kvm", "-cpu", "host", "-M", "microvm,pit=off,pic=off,isa-serial=on"],
    "soft": ["-accel", "tcg", "-cpu", "max,la57=off", "-M", "q35"],
}
# What a virtio device is called on each.
SUFFIX = {"kvm": "device", "soft": "pci"}


class QemuGuest(microvm.MicroVm):
    """`devices`: further arguments."""

    def __init__(self, folder, engine, devices):  # another process, the same console
        self.folder = pathlib.Path(folder)
        self.log_path, self.out_path = self.folder / "log", self.folder / "console"
        path = self.folder / "stdin"
        os.mkfifo(path)
        self.fifo = os.open(path, os.O_RDWR)
        self.session = microvm.requests_unixsocket.Session()
        self.seen = 0
        argv = [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-m", str(MEM_MIB), "-smp", "1",
            "-serial", "stdio", "-no-reboot", "-kernel", str(guest.kernel()), "-initrd", str(guest.initrd()),
            "-append", CMDLINE, *MACHINES[engine], *devices,
        ]
        with open(self.out_path, "wb") as out, open(self.folder / "stderr", "wb") as err:
            self.process = subprocess.Popen(argv, stdin=self.fifo, stdout=out, stderr=err)
        self.ready()
