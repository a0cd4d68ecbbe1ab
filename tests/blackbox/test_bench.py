"""The harness of `make bench-soft`: what it must not take for a measurement.  No VM: a script plays the guest."""

import pathlib
import sys
import types

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
import soft  # noqa: E402
import soft_docs  # noqa: E402
import soft_rows  # noqa: E402
import soft_svg  # noqa: E402
import soft_vm  # noqa: E402

HZ = 1e9


def guest(*lines, status=0, pause=0.0):
    text = "".join(f"print({line!r}, flush=True); import time; time.sleep({pause})\n" for line in lines)
    return [sys.executable, "-c", f"{text}raise SystemExit({status})"]


def row(name, check, ticks, span=None):
    return f"@begin {name} 0", f"@end {name} {span or ticks}", f"@row {name} 10 {check} 5 {ticks} {ticks} {ticks}"


@pytest.fixture
def bench():
    made = object.__new__(soft.Bench)
    made.args = types.SimpleNamespace(clock="wall", counters=False)
    made.samples, made.checks, made.ops, made.failures, made.clock_error, made.hz = {}, {}, {}, [], {}, HZ
    made.take("native", soft_vm.run(guest("@init", *row("fib", "aa", 2000000), "@done"), is_native=True))
    assert not made.failures
    return made


def test_a_right_row_is_taken(bench):
    bench.take("ec1", soft_vm.run(guest("@init", *row("fib", "aa", 8000000), "@done")))
    assert bench.failures == [] and bench.results()["fib"]["ec1"]["s"] == pytest.approx(0.008)
    assert soft_rows.ratios(bench.results(), "native", "ec1") == {"fib": pytest.approx(0.25)}


def test_a_wrong_checksum_is_no_measurement(bench):
    bench.take("ec1", soft_vm.run(guest("@init", *row("fib", "ab", 1000), "@done")))
    assert "checksum" in bench.failures[0] and "ec1" not in bench.results()["fib"]


def test_a_clock_that_runs_slow_is_found_out(bench):
    lines = row("fib", "aa", 1000)
    bench.take("ec1", soft_vm.run(guest(*lines, "@done", pause=0.3)))
    assert "clock" in bench.failures[0]


@pytest.mark.parametrize("argv", [
    guest("@init", *row("fib", "aa", 1000)),
    guest("@init", *row("fib", "aa", 1000), "@done", status=1),
    guest("@init", "@failed fib: sample 1 has another checksum", "@done"),
])
def test_a_machine_that_does_not_end_well_is_broken(argv):
    with pytest.raises(soft_vm.Broken):
        soft_vm.run(argv)


def test_groups_are_geometric_means_and_need_all_their_rows():
    results = {name: {"qemu": {"s": s}, "ec1": {"s": 1.0}} for name, s in (("hash8m", 4.0), ("random8m", 9.0), ("repmovs", 5.0))}
    ((group, ratio, share),) = soft_rows.groups(results)
    assert (group.name, ratio, share) == ("TLB-hostile", pytest.approx(6.0), None)
    out = {"rows": results, "runs": 5, "cpus": 2, "cpu": "a <CPU>"}
    assert "TLB-hostile" in soft_svg.chart(out) and "a &lt;CPU&gt;" in soft_svg.chart(out)


def test_a_run_goes_between_the_marks_of_a_page(tmp_path):
    results = {name: {e: {"s": s} for e, s in (("native", 0.5), ("qemu", 4.0), ("ec1", 1.0))} for name in ("hash8m", "random8m")}
    out = {"rows": results, "ops": {}, "runs": 5, "cpus": 2, "cpu": "a CPU", "clock": "wall", "load": 0.1}
    page = tmp_path / "page.md"
    page.write_text(f"before\n{soft_docs.BEGIN}\nold\n{soft_docs.END}\nafter\n")
    soft_docs.write(out, page)
    soft_docs.write(out, page)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert text.count("| hash8m | 500.0 ms | 1000.0 ms | 4000.0 ms | 4.00 |") == 1
    assert "TLB-hostile" in (tmp_path / soft_docs.CHART).read_text()
