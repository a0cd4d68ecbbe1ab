"""Many VMs at once: each clean, nobody in another's way, nothing left of those that were cancelled.

VIMTO_PACKAGES says how many Go packages are tested at once (20: a minute or more).
"""

import os
import pathlib
import re
import shutil
import signal

import pytest

from conftest import KERNEL, TIMEOUT
from test_ends import wait_for

PACKAGES = int(os.environ.get("VIMTO_PACKAGES", "6"))

TEST = """
package p%d

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestAlone(t *testing.T) {
	for _, path := range []string{"/usr/marker", "/boot/marker", "/tmp/marker", "/dev/shm/marker"} {
		if _, err := os.Stat(path); err == nil {
			t.Error(path, "of another VM")
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Error(err)
		}
	}
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	t.Log("boot", strings.TrimSpace(string(id)), err)
	if err := os.WriteFile("made-here", id, 0o600); err != nil {
		t.Error(err)
	}
	if os.Getenv("SLEEP") != "" {
		time.Sleep(time.Hour)
	}
}
"""


@pytest.fixture
def packages(place):
    if not shutil.which("go", path=place.env["PATH"]):
        pytest.skip("needs go")
    place.write("go.mod", "module parallel\n\ngo 1.19\n")
    for i in range(PACKAGES):
        place.write(f"p{i}/p_test.go", TEST % i)
    place.env["EC1_KERNEL"] = str(KERNEL)
    place.env["GOCACHE"] = place.run("go", "env", "GOCACHE").stdout.strip()
    place.env["XDG_CACHE_HOME"] = str(place.folder / ".cache")  # nobody has unpacked the kernel yet
    return place


def processes(place):
    """Of whoever has this place's environment."""
    found = []
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(place.env["XDG_RUNTIME_DIR"]) in (proc / "environ").read_bytes():
                found.append((proc.name, (proc / "cmdline").read_bytes()[:100]))
        except OSError:
            pass
    return found


def go_test(place):
    return ["go", "test", "-v", "-count=1", f"-p={PACKAGES}", "-exec", "vimto -sudo -memory 256M exec --", "./..."]


def test_packages_at_once(packages):
    done = packages.run(*go_test(packages))
    assert done.returncode == 0, done.stdout + done.stderr
    boots = re.findall(r"boot (\S+) <nil>", done.stdout)
    assert len(set(boots)) == len(boots) == PACKAGES, done.stdout
    made = [path.read_text().strip() for path in packages.folder.glob("p*/made-here")]
    assert sorted(made) == sorted(boots)
    assert not any(os.path.exists(p) for p in ("/usr/marker", "/boot/marker", "/tmp/marker", KERNEL / "boot/marker", KERNEL / "usr/marker"))
    assert packages.leftovers() == [] and processes(packages) == []
    kernels = [p.name for p in (packages.folder / ".cache/ec1").iterdir() if p.name.startswith("vmlinux")]
    assert len(kernels) == 1, "unpacked by several, kept once"


def test_cancelled_by_ctrl_c(packages):
    packages.env["SLEEP"] = "yes"
    go = packages.popen(*go_test(packages), start_new_session=True)
    try:
        wait_for(lambda: len(list(packages.folder.glob("p*/made-here"))) >= 2, "no two run")
        os.killpg(go.pid, signal.SIGINT)
        assert go.wait(TIMEOUT) != 0
        wait_for(lambda: not processes(packages), "processes are left")
        assert packages.leftovers() == []
    finally:
        if processes(packages):
            os.killpg(go.pid, signal.SIGKILL)


def test_what_a_killed_one_left_goes_with_the_next(packages):
    packages.env["SLEEP"] = "yes"
    go = packages.popen("go", "test", "-exec", "vimto -sudo exec --", "./p0", start_new_session=True)
    wait_for(lambda: list(packages.folder.glob("p*/made-here")), "it does not run")
    os.killpg(go.pid, signal.SIGKILL)
    go.wait(TIMEOUT)
    wait_for(lambda: not processes(packages), "processes are left")
    assert packages.vimto("exec", "true").returncode == 0
    assert packages.leftovers() == []
