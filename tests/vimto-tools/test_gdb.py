"""gdb in a VM, on a process there: INT3, the trap flag, watched memory, registers."""

import shutil

import pytest

from conftest import VIMTO, run

SOURCE = """#include <stdio.h>
int counter;
int fib(int n)
{
    counter++;
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}
int main(void)
{
    printf("%d\\n", fib(5));
    return 0;
}
"""


@pytest.mark.skipif(not (shutil.which("gdb") and shutil.which("gcc")), reason="needs gdb and gcc")
def test_breakpoints_steps_and_watched_memory(tmp_path):
    (tmp_path / "fib.c").write_text(SOURCE)
    assert run("gcc", "-g", "-O0", "-o", "fib", "fib.c", cwd=tmp_path)[0] == 0
    words = ["set can-use-hw-watchpoints 0", "break fib", "run", "print n", "delete", "watch counter if counter == 3", "continue",
             "bt", "stepi", "delete", "call fib(10)", "finish", "continue"]
    status, out = run(VIMTO, "exec", "--", "gdb", "-nx", "-batch", *[w for x in words for w in ("-ex", x)], "./fib", cwd=tmp_path)
    assert status == 0, out
    for text in ("$1 = 5", "Old value = 2", "New value = 3", "fib (n=3)", "= 55", "exited normally"):
        assert text in out, out
