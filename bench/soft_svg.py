"""soft_svg.py — the groups of `make bench-soft` as a chart: how many times faster than qemu, on a logarithmic axis.

Plain SVG; its colours follow the reader's light or dark preference.
"""

import math
from xml.sax.saxutils import escape

import soft_rows

WIDTH, LEFT, RIGHT, TOP, STEP, BAR = 760, 210, 60, 62, 26, 14
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f; }
  .small { font-size: 11px; fill: #57606a; }
  .title { font-size: 15px; font-weight: 600; }
  .bar { fill: #2f6fb3; } .short { fill: #b3542f; }
  .grid { stroke: #d0d7de; } .one { stroke: #57606a; }
  .target { stroke: #24292f; stroke-width: 2; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .small { fill: #9da7b3; }
    .bar { fill: #6cacf0; } .short { fill: #ef9a6c; }
    .grid { stroke: #3d444d; } .one { stroke: #9da7b3; }
    .target { stroke: #e6edf3; }
  }
"""


def chart(out):
    """The text of an SVG from what soft.py wrote as JSON."""
    shown = [(g, r) for g, r, _ in soft_rows.groups(out["rows"]) if r and g in soft_rows.GROUPS]
    bars = [(g.name, r, g.target) for g, r in shown]
    if bars:
        bars.append(("geometric mean", soft_rows.geomean(r for _, r in shown), soft_rows.GEOMEAN_TARGET))
    low = min([0.8, *(r for _, r, _ in bars)])
    high = max([12.0, *(r for _, r, _ in bars)]) * 1.15
    height = TOP + STEP * len(bars) + 34

    def x(ratio):
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(ratio / low) / math.log(high / low)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-label="Speed of the software engine relative to qemu TCG">',
        f"<style>{STYLE}</style>",
        '<text x="10" y="22" class="title">Software engine: times faster than qemu’s TCG</text>',
        f'<text x="10" y="40" class="small">medians of {out["runs"]} alternating runs; {out["cpus"]} CPUs, '
        f'{escape(out["cpu"])}; the mark is what is wanted</text>',
    ]
    bottom = TOP + STEP * len(bars)
    for tick in (0.5, 1, 2, 5, 10, 20, 50, 100):
        if low <= tick <= high:
            kind = "one" if tick == 1 else "grid"
            lines.append(f'<line x1="{x(tick):.1f}" y1="{TOP - 6}" x2="{x(tick):.1f}" y2="{bottom}" class="{kind}"/>')
            lines.append(f'<text x="{x(tick):.1f}" y="{bottom + 16}" class="small" text-anchor="middle">{tick:g}×</text>')
    for i, (name, ratio, target) in enumerate(bars):
        y = TOP + STEP * i
        start, end = sorted((x(1), x(ratio)))
        kind = "bar" if ratio >= target else "short"
        lines.append(f'<text x="{LEFT - 12}" y="{y + 12}" text-anchor="end">{escape(name)}</text>')
        lines.append(f'<rect x="{start:.1f}" y="{y}" width="{max(end - start, 1):.1f}" height="{BAR}" rx="2" class="{kind}"/>')
        lines.append(f'<line x1="{x(target):.1f}" y1="{y - 3}" x2="{x(target):.1f}" y2="{y + BAR + 3}" class="target"/>')
        lines.append(f'<text x="{max(end, x(target)) + 6:.1f}" y="{y + 12}">{ratio:.1f}</text>')
    return "\n".join([*lines, "</svg>", ""])
