"""Bad input gets one clear line, a non-zero status, and leaves nothing behind."""

import gzip
import os
import pathlib
import shutil
import struct

import pytest

from conftest import ENGINE


@pytest.fixture
def bad_kernels(tmp_path):
    elf = bytearray(64)
    elf[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<HH", elf, 16, 2, 183)  # ET_EXEC, EM_AARCH64
    files = {
        "empty": b"",
        "random": b"\x01" + os.urandom(1 << 20),
        "arm64": bytes(elf) + bytes(4096),
        "short": b"\x7fELF",
        "gzip-of-junk": gzip.compress(b"junk" * 1000),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.mark.parametrize(
    "flags, words",
    [
        (["-k", "/nonexistent"], [b"/nonexistent"]),
        (["-k", "@empty"], [b"empty"]),
        (["-k", "@random"], [b"random"]),
        (["-k", "@short"], [b"short"]),
        (["-k", "@arm64"], [b"arm64", b"aarch64", b"AArch64"]),
        (["-k", "@gzip-of-junk"], [b"gzip-of-junk"]),
        (["-m", "0"], [b"memory '0'"]),
        (["-m", "1M"], [b"memory '1M'"]),
        (["-m", "1T"], [b"memory '1T'"]),
        (["-m", "12X"], [b"memory '12X'"]),
        (["--cpus", "0"], [b"cpus '0'"]),
        (["--cpus", "33"], [b"cpus '33': must be 1 to 32"]),
        (["--cpus", "two"], [b"cpus 'two'"]),
        (["--no-such-flag"], [b"--no-such-flag"]),
        (["-v", "/nonexistent:/x"], [b"/nonexistent"]),
        (["-v", "/tmp:relative"], [b"relative"]),
        (["-v", "/tmp:/"], [b"/tmp:/"]),
        (["-v", "/tmp://.."], [b"/tmp://.."]),
        (["-v", "/tmp:/a:rw:ro"], [b"/tmp:/a:rw:ro"]),
        (["-k", "/dev/zero"], [b"/dev/zero"]),
        (["--engine", "tcg"], [b"engine 'tcg'"]),
        (["--timeout", "soon"], [b"timeout 'soon'"]),
        (["--name", "a/b"], [b"name 'a/b'"]),
        (["-e", "=x"], [b"'=x'"]),
    ],
)
def test_bad_flags(ec1, bad_kernels, flags, words):
    flags = [str(bad_kernels / f[1:]) if f.startswith("@") else f for f in flags]
    before = ec1.leftovers()
    done = ec1("run", *flags, "--", "true", timeout=60)
    assert done.returncode == 125
    lines = done.stderr.strip().split(b"\n")
    assert len(lines) == 1, done.stderr
    assert any(w in lines[0] for w in words), lines[0]
    assert done.stdout == b""
    assert ec1.leftovers() == before


def real_kernel():
    (image,) = pathlib.Path(os.path.expanduser("~/.cache/ec1/kernels/default/boot")).glob("vmlinuz*")
    return image


def elf32():
    head = bytearray(4096)
    head[:6] = b"\x7fELF\x01\x01"
    struct.pack_into("<HH", head, 16, 2, 3)  # ET_EXEC, EM_386
    return bytes(head)


@pytest.mark.parametrize(
    "files, words",
    [
        ({}, "no readable boot/vmlinux* or boot/vmlinuz*"),
        ({"boot/config": b"x", "vmlinuz": b"x"}, "no readable boot/vmlinux* or boot/vmlinuz*"),
        ({"boot/vmlinuz": bytes(56) + b"ARM\x64" + bytes(4096)}, "a kernel for arm64: must be for x86-64"),
        ({"boot/vmlinux": elf32()}, "ELF file for 32-bit x86: must be for x86-64"),
        ({"boot/vmlinux": b""}, "the file is empty"),
        ({"boot/vmlinuz": None, "lib/modules/1.2.3/modules.dep": b""}, "but the modules beside it are for another: '"),
    ],
)
def test_a_folder_that_does_not_boot_gets_a_sentence(ec1, tmp_path, files, words):
    """None stands for a real kernel."""
    for name, data in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(real_kernel().read_bytes() if data is None else data)
    before = ec1.leftovers()
    done = ec1("run", "-k", str(tmp_path), "--", "true", timeout=60)
    assert done.returncode == 125
    assert words in done.stderr.decode() and done.stderr.count(b"\n") == 1, done.stderr
    assert ec1.leftovers() == before


def test_a_truncated_kernel_is_refused(ec1, tmp_path):
    data = real_kernel().read_bytes()
    for size in (100, 0x1F0, 0x300, 20000, len(data) // 2):
        path = tmp_path / "vmlinuz"
        path.write_bytes(data[:size])
        done = ec1("run", "-k", str(path), "--", "true", timeout=60)
        assert done.returncode == 125 and len(done.stderr.strip().split(b"\n")) == 1, done.stderr


@pytest.mark.parametrize(
    "module, option",
    [
        ("virtio_mmio", b"CONFIG_VIRTIO_MMIO"),
        ("virtiofs", b"CONFIG_VIRTIO_FS"),
        ("vmw_vsock_virtio_transport", b"CONFIG_VIRTIO_VSOCKETS"),
        ("overlay", b"CONFIG_OVERLAY_FS"),
    ],
)
def test_a_kernel_without_a_needed_module_names_the_option(ec1, tmp_path, module, option):
    kernel = tmp_path / "kernel"
    shutil.copytree(os.path.realpath(os.path.expanduser("~/.cache/ec1/kernels/default")), kernel, symlinks=True)
    for path in kernel.rglob(f"{module}.ko*"):
        path.unlink()
    (dep,) = [p for p in kernel.rglob("modules.dep") if not p.parent.parent.is_symlink()]
    dep.write_text("".join(l for l in dep.read_text().splitlines(True) if f"/{module}.ko" not in l))
    done = ec1("run", "-q", "-k", str(kernel), "--", "true", timeout=60)
    assert done.returncode == 125 and option in done.stderr and done.stderr.count(b"\n") == 1, done.stderr


def test_an_initrd_larger_than_memory_says_how_much_is_needed(ec1):
    done = ec1("run", "-q", "-m", "64M", "--", "true", timeout=60)
    assert done.returncode == 125 and b"MiB" in done.stderr and done.stderr.count(b"\n") == 1, done.stderr


def test_a_guest_that_never_starts_init_meets_the_deadline(ec1):
    flags = ["--engine", ENGINE, "--boot-timeout", "10s", "-a", "rdinit=/none root=/dev/none rootwait"]
    done = ec1("run", *flags, "--", "true")
    assert done.returncode == 125 and b"did not answer within 10 s" in done.stderr
    assert b"\n" in done.stderr.strip()  # the console's tail, then the sentence


def test_a_guest_without_init_panics(ec1):
    done = ec1("run", "--engine", ENGINE, "-a", "rdinit=/ec1/boot.pb", "--", "true")
    assert done.returncode == 255 and b"panic" in done.stderr.splitlines()[-1]


def test_no_command(ec1):
    done = ec1("run")
    assert done.returncode == 125 and b"command" in done.stderr


def test_unknown_subcommand(ec1):
    done = ec1("frobnicate")
    assert done.returncode == 125 and b"frobnicate" in done.stderr


@pytest.mark.parametrize("verb", ["exec", "stop", "kill", "logs", "rm"])
def test_unknown_vm(ec1, verb):
    done = ec1(verb, "nobody-here", *(["--", "true"] if verb == "exec" else []))
    assert done.returncode == 125 and b"nobody-here" in done.stderr
