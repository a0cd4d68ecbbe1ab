"""Tools that users of vimto bring along, in a VM: build/vimto (VIMTO names another), Go, and what each test needs.

Modules come through Go's module proxy; a test whose tool cannot be had is skipped, and says why.
"""

import os
import pathlib
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent
VIMTO = os.environ.get("VIMTO", str(HERE.parents[1] / "build" / "vimto"))
GO = shutil.which("go") or "/usr/local/go/bin/go"
TIMEOUT = 900
PROGRAM = """package main

import "fmt"

func sum(n int) int {
	total := 0
	for i := 1; i <= n; i++ {
		total += i
	}
	return total
}

func main() { fmt.Println("sum", sum(10)) }
"""
TEST = """package main

import "testing"

func TestSum(t *testing.T) {
	if got := sum(10); got != 55 {
		t.Fatal(got)
	}
}
"""


def run(*argv, **kwargs):
    """Both streams as one text, and the status."""
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT, text=True,
                          errors="replace", check=False, **kwargs)
    return done.returncode, done.stdout


@pytest.fixture(scope="session")
def dlv(tmp_path_factory):
    """The path of delve."""
    found = shutil.which("dlv")
    if found:
        return found
    folder = tmp_path_factory.mktemp("dlv")
    status, out = run(GO, "install", "github.com/go-delve/delve/cmd/dlv@latest", env=dict(os.environ, GOBIN=str(folder)))
    if status != 0:
        pytest.skip(f"no dlv in PATH, and none to be had: {out.splitlines()[-1] if out else status}")
    return str(folder / "dlv")


@pytest.fixture
def place(tmp_path):
    """A Go module with a program and a test, below a folder that the VM has of its own."""
    (tmp_path / "go.mod").write_text("module example.org/sum\n\ngo 1.19\n")
    (tmp_path / "main.go").write_text(PROGRAM)
    (tmp_path / "main_test.go").write_text(TEST)
    return tmp_path
