"""What a folder does: run on a share in a VM and on a folder of the host, this prints the same.

Usage: files.py FOLDER      (empty)
"""

import errno
import fcntl
import hashlib
import mmap
import os
import socket
import stat
import subprocess
import sys


def error(call, *args):
    """The name of the error of a call, or "ok"."""
    try:
        call(*args)
    except OSError as e:
        return errno.errorcode[e.errno]
    return "ok"


def put(name, text, mode="w"):
    with open(name, mode, encoding="utf8") as f:
        f.write(text)


def get(name):
    with open(name, encoding="utf8") as f:
        return f.read()


def names():
    put("a", "hello")
    put("a", " world", "a")
    yield get("a"), os.stat("a").st_size
    os.truncate("a", 3)
    os.rename("a", "b")
    os.link("b", "c")
    os.symlink("b", "l")
    yield sorted(os.listdir(".")), os.stat("b").st_nlink, os.path.samefile("b", "c"), os.readlink("l"), get("l")
    put("x", "old")
    put("y", "new")
    with open("x", encoding="utf8") as f:
        os.rename("y", "x")
        yield f.read(), get("x")
    os.mkdir("d")
    os.mkdir("d/e")
    yield error(os.rmdir, "d"), error(os.mkdir, "d"), error(os.unlink, "d"), error(os.open, "d", os.O_WRONLY)
    os.rename("d/e", "e2")
    os.rmdir("e2")
    yield error(os.stat, "d/e"), error(put, "n" * 255, ""), error(put, "n" * 256, "")
    yield error(put, "Ünï cödé", ""), "Ünï cödé" in os.listdir(".")
    yield error(os.open, "x", os.O_CREAT | os.O_EXCL), error(os.open, "x", os.O_DIRECTORY)
    yield error(os.open, "l", os.O_NOFOLLOW)


def gone_but_open():
    put("t", "x" * 100)
    with open("t", "r+", encoding="utf8") as f:
        os.unlink("t")
        os.ftruncate(f.fileno(), 50)
        yield os.fstat(f.fileno()).st_size, os.fstat(f.fileno()).st_nlink, len(f.read())
        f.write("more")
        f.flush()
        yield os.fstat(f.fileno()).st_size


def many():
    os.mkdir("many")
    expected = {f"a file of many, number {i}" for i in range(1000)}
    for name in expected:
        os.close(os.open(f"many/{name}", os.O_CREAT | os.O_WRONLY))
    yield set(os.listdir("many")) == expected
    with os.scandir("many") as entries:
        yield all(e.is_file(follow_symlinks=False) for e in entries)
    for name in sorted(expected)[::2]:
        os.unlink(f"many/{name}")
    yield len(os.listdir("many"))
    subprocess.run(["rm", "-r", "many"], check=True)
    yield os.path.exists("many")


def attributes():
    put("m", "")
    os.chmod("m", 0o4751)
    os.utime("m", (1000000000, 1100000000))
    st = os.stat("m")
    yield oct(st.st_mode), st.st_atime, st.st_mtime, st.st_blocks
    os.mkfifo("fifo")
    socket.socket(socket.AF_UNIX).bind("sock")
    yield stat.S_ISFIFO(os.stat("fifo").st_mode), stat.S_ISSOCK(os.stat("sock").st_mode)
    yield error(os.setxattr, "m", "user.k", b"v" * 1000)
    if os.listxattr("m"):
        yield len(os.getxattr("m", "user.k")), os.listxattr("m")
        yield error(os.setxattr, "m", "user.k", b"x", os.XATTR_CREATE)
        yield error(os.setxattr, "m", "user.z", b"x", os.XATTR_REPLACE)
        yield error(os.setxattr, "m", "user.e", b""), os.getxattr("m", "user.e"), sorted(os.listxattr("m"))
        os.removexattr("m", "user.k")
        yield error(os.getxattr, "m", "user.k"), os.listxattr("m")
    yield os.statvfs(".").f_namemax, os.statvfs(".").f_blocks > 0


def mappings():
    with open("map", "wb") as f:
        f.write(bytes(10000))
    with open("map", "r+b") as f, mmap.mmap(f.fileno(), 10000) as m:
        m[5000:5005] = b"HELLO"
    with open("map", "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
        yield f.read()[5000:5005], m[5000:5005], len(m)
    with open("map", "r+b") as f, mmap.mmap(f.fileno(), 10000, flags=mmap.MAP_PRIVATE) as m:
        m[0] = 65
        yield m[0], f.read(1)


def data():
    written, read = hashlib.md5(), hashlib.md5()
    with open("big", "wb") as f:
        for i in range(8):
            block = bytes([i]) * (1 << 20)
            written.update(block)
            f.write(block)
    with open("big", "rb") as f:
        while block := f.read(777777):
            read.update(block)
    yield written.hexdigest() == read.hexdigest(), os.stat("big").st_size
    fd = os.open("sparse", os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b"end", 5 << 32)
    yield os.fstat(fd).st_size, os.pread(fd, 3, 5 << 32), os.pread(fd, 3, 100)
    os.fsync(fd)
    os.fdatasync(fd)
    os.fsync(os.open(".", os.O_RDONLY))
    yield os.fstat(os.open("sparse", os.O_RDWR | os.O_TRUNC)).st_size
    source, target = os.open("big", os.O_RDONLY), os.open("copy", os.O_CREAT | os.O_WRONLY)
    yield os.copy_file_range(source, target, 1 << 20), os.stat("copy").st_size


def programs():
    put("script", "#!/bin/sh\necho ran $1\n")
    os.chmod("script", 0o755)
    yield subprocess.run(["./script", "x"], stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["cp", "/bin/true", "true"], check=True)
    yield subprocess.run(["./true"], check=True).returncode


def locks():
    with open("lock", "w", encoding="utf8") as f:
        fcntl.lockf(f, fcntl.LOCK_EX)
        child = (
            "import fcntl, sys\nf = open('lock', 'w')\n"
            "try: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
            "except OSError as e: sys.exit(e.errno)\n"
        )
        yield errno.errorcode[subprocess.run([sys.executable, "-c", child], check=False).returncode]
        fcntl.lockf(f, fcntl.LOCK_UN)
        yield subprocess.run([sys.executable, "-c", child], check=False).returncode
        fcntl.flock(f, fcntl.LOCK_EX)


def main():
    os.chdir(sys.argv[1])
    os.umask(0o022)
    for part in (names, gone_but_open, many, attributes, mappings, data, programs, locks):
        for line in part():
            print(part.__name__, line, flush=True)


main()
