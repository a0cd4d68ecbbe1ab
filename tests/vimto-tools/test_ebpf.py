"""eBPF programs as root of a VM, by github.com/cilium/ebpf."""

import os
import shutil

import pytest

from conftest import GO, HERE, VIMTO, run


def test_programs_are_loaded_attached_and_run(tmp_path):
    place = shutil.copytree(HERE / "ebpf", tmp_path / "ebpf")
    status, out = run(GO, "mod", "download", cwd=place)
    if status != 0:
        pytest.skip(f"modules cannot be had: {out.splitlines()[-1] if out else status}")
    status, out = run(GO, "test", "-v", "-exec", f"{VIMTO} -memory 1G -smp 2 -sudo exec --", ".", cwd=place, env=dict(os.environ))
    assert status == 0 and "--- SKIP" not in out and out.count("--- PASS") == 13, out
