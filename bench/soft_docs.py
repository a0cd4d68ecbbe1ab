"""soft_docs.py — put what `make bench-soft` measured into docs/performance.md, between two marks, and its chart beside it."""

import pathlib

import soft_rows
import soft_svg
from soft_rows import GEOMEAN_TARGET, GROUPS, WHOLE_PASS, geomean, group_of

BEGIN = "<!-- bench-soft: written by bench/soft.py --docs -->"
END = "<!-- bench-soft ends -->"
CHART = "bench-soft.svg"


def value(row, seconds, ops):
    """One operation, or one pass of a kernel, for people."""
    group = group_of(row)
    per = 1 if group.unit in WHOLE_PASS else ops.get(row, 1)
    return f"{seconds * group.scale / per:.{3 if group.unit == 's' else 1}f} {group.unit}"


def group_table(results):
    yield "| group | qemu / ec1 | wanted | share of the host's own speed |"
    yield "|---|---|---|---|"
    judged = []
    for group, ratio, share in soft_rows.groups(results):
        if not ratio:
            continue
        if group in GROUPS:
            judged.append(ratio)
        bold = "**" if group in GROUPS and ratio >= group.target else ""
        wanted = f"{group.target:g}" if group.target else ""
        yield f"| {group.name} | {bold}{ratio:.2f}{bold} | {wanted} | {f'{share:.2f}' if share else ''} |"
    if judged:
        yield f"| geometric mean of these groups, boots counted once | {geomean(judged):.2f} | {GEOMEAN_TARGET:g} | |"


def row_table(results, ops):
    engines = ("native", "ec1", "qemu")
    yield "| row | this host | ec1 | qemu | qemu / ec1 |"
    yield "|---|---|---|---|---|"
    for row, per in results.items():
        cells = [value(row, per[e]["s"], ops) if e in per else "" for e in engines]
        ratio = f"{per['qemu']['s'] / per['ec1']['s']:.2f}" if "qemu" in per and "ec1" in per else ""
        yield f"| {row} | {' | '.join(cells)} | {ratio} |"


def text(out):
    load = f"load before the run {out['load']:.1f}"
    yield f"Medians of {out['runs']} alternating runs, {out['clock']} time; {out['cpus']} CPUs, {out['cpu']}; {load}."
    yield ""
    yield f"![times faster than qemu's TCG, by group]({CHART})"
    yield ""
    yield from group_table(out["rows"])
    yield ""
    yield from row_table(out["rows"], out["ops"])
    builds = out["rows"].get("build1", {}), out["rows"].get("build4", {})
    if all("ec1" in b and "qemu" in b for b in builds):
        faster = {e: builds[0][e]["s"] / builds[1][e]["s"] for e in ("ec1", "qemu")}
        yield ""
        yield f"The compile on 4 vCPUs beside 1: {faster['ec1']:.2f} times faster on ec1, {faster['qemu']:.2f} times on qemu."


def write(out, path):
    """Replace what is between the marks; refuse a page without them."""
    path = pathlib.Path(path)
    page = path.read_text()
    if BEGIN not in page or END not in page:
        raise SystemExit(f"{path}: has no '{BEGIN}' and '{END}'")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n" + "\n".join(text(out)) + f"\n{END}{after}")
    (path.parent / CHART).write_text(soft_svg.chart(out))
