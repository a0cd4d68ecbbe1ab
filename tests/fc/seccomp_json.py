"""Filters in their readable form, and the compiler that takes them."""

import json
import subprocess

from microvm import beside

COMPILER = beside("seccompiler-bin")
THREADS = ("vmm", "api", "vcpu")
# What our threads call, by name alone (src/seccomp/allow.c): custom filters of tests start from it.
CALLS = """
    accept4 brk clock_gettime close connect epoll_ctl epoll_wait eventfd2 exit exit_group fallocate fcntl fdatasync
    fsync ftruncate futex getpid getrandom gettid io_uring_enter io_uring_register io_uring_setup ioctl lseek madvise
    memfd_create mincore mmap mprotect mremap msync munmap newfstatat openat poll prctl pread64 preadv pwrite64 pwritev
    read readv recvfrom recvmsg restart_syscall rt_sigaction rt_sigprocmask rt_sigreturn sched_yield sendmsg sendto
    setsockopt shutdown socket sysinfo tgkill unlink write writev
""".split()


def allow(rules, default="trap"):
    """A filter: rules are names, or (name, [arguments])."""
    listed = [{"syscall": r} if isinstance(r, str) else {"syscall": r[0], "args": r[1]} for r in rules]
    return {"default_action": default, "filter_action": "allow", "filter": listed}


def arg(index, op, val, kind="dword"):
    return {"index": index, "type": kind, "op": op, "val": val}


def same_for_all(one):
    return {thread: one for thread in THREADS}


def run_compiler(*flags, **kwargs):
    return subprocess.run([COMPILER, *map(str, flags)], capture_output=True, text=True, timeout=60, check=False, **kwargs)


def compiled(folder, source):
    """The path of the file that `source`, JSON or its text, makes."""
    path, out = folder / "filter.json", folder / "filter.bin"
    path.write_text(source if isinstance(source, str) else json.dumps(source))
    done = run_compiler("--input-file", path, "--target-arch", "x86_64", "--output-file", out)
    assert done.returncode == 0, done.stderr
    return str(out)
