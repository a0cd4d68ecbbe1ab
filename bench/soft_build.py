"""soft_build.py — what the row of the parallel compile needs: gcc's compiler proper, the assembler, their libraries, and
a dozen sources, preprocessed, in a folder for this host and in an initramfs for the guests."""

import pathlib
import re
import shutil
import subprocess

from boot import newc

FILES = 12


def program(name):
    path = subprocess.check_output(["gcc", f"-print-prog-name={name}"], text=True).strip()
    return pathlib.Path(shutil.which(path) or path).resolve()


def libraries(path):
    """Absolute names under which the loader looks for them, the loader itself included."""
    found = re.findall(r"(/\S+) \(0x", subprocess.check_output(["ldd", str(path)], text=True))
    return {pathlib.PurePosixPath(name) for name in found}


def sources(tree):
    """C files of this project that change seldom."""
    files = [file for room in ("bench/soft", "src/base", "src/mem", "src/config", "src/io") for file in sorted((tree / room).glob("*.c"))]
    return [f for f in files if not f.name.endswith("_test.c")][:FILES]


def prepare(work, entries):
    """Make work/build and work/initrd-build; `entries` are those of the plain initramfs."""
    folder = work / "build"
    folder.mkdir()
    tree = pathlib.Path(__file__).resolve().parent.parent
    files = sources(tree)
    if len(files) != FILES:
        raise SystemExit(f"bench: {len(files)} sources to compile, not {FILES}")
    for i, source in enumerate(files):
        subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", f"-I{tree}", f"-I{tree}/src", "-E", str(source),
                        "-o", str(folder / f"{i:02}.i")], check=True)
    needed = set()
    for name in ("cc1", "as"):
        path = program(name)
        shutil.copy(path, folder / name)
        needed |= libraries(path)
    out = dict((name, (mode, data)) for name, mode, data in entries)

    def add_folders(path):
        for parent in reversed(path.parents):
            name = str(parent).strip("/")
            if name:
                out.setdefault(name, (0o040755, b""))

    for file in sorted(folder.iterdir()):
        path = pathlib.PurePosixPath("/build") / file.name
        add_folders(path)
        out[str(path)[1:]] = (0o100755, file.read_bytes())
    for path in sorted(needed):
        add_folders(path)
        out[str(path)[1:]] = (0o100755, pathlib.Path(path).read_bytes())
    (work / "initrd-build").write_bytes(newc([(n, m, d) for n, (m, d) in out.items()]))
