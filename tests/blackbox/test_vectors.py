"""Extensions of the instruction set: what guests see, and that code that uses them computes the same."""

import pathlib
import shutil
import subprocess

import pytest

from conftest import ENGINE

PROGRAMS = pathlib.Path(__file__).parent / "programs"
# What x86-64-v3 and v4 consist of, as /proc/cpuinfo has it, and more of their kind.
FLAGS = set(
    "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave xsaveopt xsavec avx512f avx512bw avx512cd avx512dq avx512vl"
    " avx512ifma avx512vbmi avx512_vbmi2 avx512_vnni avx512_bitalg avx512_vpopcntdq avx512_bf16 vaes"
    " vpclmulqdq gfni adx sha_ni aes pclmulqdq rdpid fsgsbase".split()
)


def flags(cpuinfo):
    line = next(line for line in cpuinfo.splitlines() if line.startswith("flags"))
    return set(line.split(":")[1].split()) & FLAGS


def host_flags():
    return flags(pathlib.Path("/proc/cpuinfo").read_text())


def levels():
    """Arguments of -march that the host can run."""
    has = host_flags()
    return ["x86-64"] + ["x86-64-v3"] * ("avx2" in has) + ["x86-64-v4"] * ("avx512vl" in has)


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    folder = tmp_path_factory.mktemp("programs")
    for level in levels():
        command = ["gcc", "-O3", "-ffp-contract=off", f"-march={level}", "-mprefer-vector-width=512"]
        subprocess.run([*command, "-o", folder / f"loops-{level}", PROGRAMS / "loops.c", "-lm"], check=True)
    subprocess.run(["gcc", "-O1", "-o", folder / "keep", PROGRAMS / "keep.c"], check=True)
    return folder


@pytest.mark.skipif(ENGINE == "kvm", reason="KVM passes on what the host's KVM supports")
def test_the_guest_sees_what_the_host_has(ec1):
    done = ec1.run("cat", "/proc/cpuinfo", check=0)
    assert flags(done.stdout.decode()) == host_flags()


def test_vectorised_loops_compute_what_they_do_on_the_host(ec1, programs):
    names = sorted(p.name for p in programs.glob("loops-*"))
    want = subprocess.run([programs / names[0]], capture_output=True, check=True).stdout * len(names)
    script = "; ".join(f"/programs/{name}" for name in names)
    done = ec1.run("sh", "-c", script, flags=["-v", f"{programs}:/programs"], check=0)
    assert done.stdout == want


def test_vector_registers_survive_switches_and_signals(ec1, programs):
    if "avx" not in host_flags():
        pytest.skip("no AVX")
    done = ec1.run("/programs/keep", "20", flags=["-v", f"{programs}:/programs"], check=0)
    assert done.stdout == b"kept\n"


def test_tools_that_pick_their_code_by_cpuid_agree_with_the_host(ec1, tmp_path):
    (tmp_path / "data").write_bytes(bytes(i * i >> 3 & 255 for i in range(300000)))
    script = (
        "for d in sha1 sha256 sha512 blake2b512; do openssl dgst -$d < data; done;"
        "for c in aes-128-cbc aes-256-ctr chacha20; do"
        " openssl enc -$c -K 00112233445566778899aabbccddeeff -iv 00112233445566778899aabbccddeeff < data"
        " 2>/dev/null | sha256sum; done; gzip -9c < data | sha256sum; sort data | md5sum; wc data; grep -c a data"
    )
    want = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True).stdout
    done = ec1.run("sh", "-c", f"cd /data; {script}", flags=["-v", f"{tmp_path}:/data"])
    assert done.stdout == want
