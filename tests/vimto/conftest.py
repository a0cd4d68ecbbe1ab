"""Drive build/vimto as its users do.

scenarios/*.txt are scripts: a comment is a promise, then come commands and what must be seen.

    > COMMAND            run by sh in a folder of its own, which is a repository; must exit with 0
    > [3] COMMAND        must exit with 3
    stdout REGEX         a line of the last command's output matches; `! stdout` none does
    stderr REGEX
    exists PATH          a file is there afterwards, as PATH may name it with * and ?; `! exists`
    env NAME=VALUE       for the commands to come; `env NAME` without a value unsets it
    cd FOLDER            from there on, below the folder of the script
    needs PROGRAM...     skipped where one is not installed
    kernel NAME          $KERNEL is that one of the cache's; skipped where it is not there
    -- NAME --           what follows, up to the next such line, is the file NAME, made at first

$WORK is the script's folder, $KERNEL a folder with a kernel.  EC1_ENGINE=soft forces the software engine
by VIMTO_DISABLE_KVM, as a user would; kvm demands KVM.
"""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("EC1", ROOT / "build" / "ec1")).parent
ENGINE = os.environ.get("EC1_ENGINE", "auto")
KERNEL = pathlib.Path("~/.cache/ec1/kernels/default").expanduser()
# Generous: shared machines stall.
TIMEOUT = 300


def base_env(folder):
    """The environment of a user whose PATH has vimto."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("VIMTO_", "EC1_"))}
    env.update(
        PATH=f"{BUILD}:{env['PATH']}:/usr/local/go/bin", WORK=str(folder), KERNEL=str(KERNEL), XDG_RUNTIME_DIR=str(folder / ".run"),
        GOFLAGS="-mod=mod", GOTOOLCHAIN="local",
    )
    if ENGINE == "soft":
        env["VIMTO_DISABLE_KVM"] = "true"
    return env


class Place:
    """A repository, the environment to work in it, and how to run commands there."""

    def __init__(self, folder):
        self.folder = folder
        self.env = base_env(folder)
        (folder / ".git").mkdir()
        (folder / ".run").mkdir(mode=0o700)

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, *argv, cwd=None, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(
            argv, cwd=cwd or self.folder, env=self.env, capture_output=True, timeout=TIMEOUT, text=True, errors="surrogateescape", **kwargs
        )

    def vimto(self, *args, **kwargs):
        return self.run("vimto", *args, **kwargs)

    def popen(self, *argv, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(argv, cwd=self.folder, env=self.env, text=True, **kwargs)

    def leftovers(self):
        """What is in the runtime folder beside its own lock."""
        folder = self.folder / ".run" / "ec1"
        return sorted(p.name for p in folder.iterdir() if p.name != ".names") if folder.exists() else []


@pytest.fixture
def place():
    # Not below /tmp, of which the VM has one of its own, and with a name that wants to be quoted.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vimto ä-", dir="/var/tmp"))
    yield Place(folder)
    shutil.rmtree(folder)


class Script:
    """One scenario, line by line."""

    def __init__(self, text):
        self.text = text
        self.files = {}
        name = None
        self.lines = []
        for number, line in enumerate(text.splitlines(), 1):
            head = re.fullmatch(r"-- (\S+) --", line)
            if head:
                name = head[1]
                self.files[name] = ""
            elif name:
                self.files[name] += line + "\n"
            elif line and not line.startswith("#"):
                self.lines.append((number, line))

    def run(self, place):
        for name, text in self.files.items():
            place.write(name, text.replace("$KERNEL", str(KERNEL)))
        self.cwd = place.folder
        self.done = None
        for number, line in self.lines:
            word, _, rest = line.partition(" ")
            try:
                self.step(place, word, rest)
            except AssertionError as e:
                shown = f"stdout: {self.done.stdout[-3000:]}\nstderr: {self.done.stderr[-3000:]}" if self.done else ""
                raise AssertionError(f"line {number}: {line}\n{e}\n{shown}") from None

    def step(self, place, word, rest):
        negative = word == "!"
        if negative:
            word, _, rest = rest.partition(" ")
        if word == ">":
            status = re.match(r"\[(\d+)\] ", rest)
            command = rest[status.end():] if status else rest
            self.done = place.run("sh", "-c", command, cwd=self.cwd)
            want = int(status[1]) if status else 0
            assert self.done.returncode == want, f"exit status {self.done.returncode}, not {want}"
        elif word in ("stdout", "stderr"):
            text = getattr(self.done, word)
            assert bool(re.search(rest, text, re.MULTILINE)) != negative, "is there" if negative else "is not there"
        elif word == "exists":
            assert bool(list(self.cwd.glob(rest))) != negative, "is there" if negative else "is not there"
        elif word == "env":
            name, equal, value = rest.partition("=")
            value = value.replace("$WORK", str(place.folder)).replace("$PATH", place.env["PATH"])
            place.env.pop(name, None)
            if equal:
                place.env[name] = value
        elif word == "cd":
            self.cwd = place.folder / rest
        elif word == "needs":
            missing = [name for name in rest.split() if not shutil.which(name, path=place.env["PATH"])]
            if missing:
                pytest.skip(f"needs {', '.join(missing)}")
        elif word == "kernel":
            kernel = KERNEL.parent / rest
            if not kernel.exists():
                pytest.skip(f"no kernel {kernel}")
            place.env["KERNEL"] = str(kernel)
        else:
            raise AssertionError(f"no such step: {word}")
