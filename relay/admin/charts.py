"""Bar charts as SVG, made here: they need no script, scale with the page and carry their numbers as a table."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

TOP, PLOT, BELOW = 14, 130, 24  # px: room for the highest label, the bars, the labels under them
Row = tuple[str, "Sequence[float]"]  # a bar's label and its value in each series


def chart(
    key: str,
    title: str,
    series: Sequence[str],
    rows: Sequence[Row],
    *,
    unit: str,
    stacked: bool = False,
    log_from: float | None = None,
    mark: tuple[float, str] | None = None,
) -> str:
    """A figure. Bars of several series stand before one another, or upon one another if stacked.

    key: makes ids unique. log_from: the value at the foot of a logarithmic scale. mark: a line and its name.
    """
    totals = [sum(values) if stacked else max(values, default=0.0) for _, values in rows]
    highest = max([*totals, mark[0] if mark and any(totals) else 0.0], default=0.0)
    legend = "".join(f'<li class="s{index}">{escape(name)}</li>' for index, name in enumerate(series))
    legend += f'<li class="mark">{escape(mark[1])}</li>' if mark else ""
    inside = bars(rows, unit, stacked, log_from, highest, mark) if highest else ""
    summary = f"{title}: highest {number(max(totals, default=0.0))} {unit}" if highest else f"{title}: nothing yet"
    return (
        f'<figure id="{key}"><figcaption id="{key}-title">{escape(title)}</figcaption>'
        + (f'<ul class="legend">{legend}</ul>' if len(series) > 1 or mark else "")
        + f'<svg role="img" aria-label="{escape(summary)}" width="100%" height="{TOP + PLOT + BELOW}">{inside}'
        + ('<text x="50%" y="50%" text-anchor="middle">nothing yet</text>' if not highest else axis(rows))
        + "</svg>"
        + table(key, title, series, rows, unit)
        + "</figure>"
    )


def bars(
    rows: Sequence[Row],
    unit: str,
    stacked: bool,
    log_from: float | None,
    highest: float,
    mark: tuple[float, str] | None,
) -> str:
    """The plot: grid, bars with their numbers as tooltips, the mark."""

    def share(value: float) -> float:
        if log_from is None:
            return value / highest
        foot, top = math.log10(log_from), math.log10(max(highest, log_from * 10))
        return min(1.0, max(0.0, (math.log10(max(value, log_from)) - foot) / (top - foot)))

    parts = [horizontal("grid", share(value)) for value in grid(highest, log_from)]
    width = 100 / len(rows)
    for index, (label, values) in enumerate(rows):
        said = ", ".join(number(value) for value in values)
        parts.append(f"<g><title>{escape(label)}: {said} {escape(unit)}</title>")
        # upon one another: the whole first, then what is left below it; before one another: the highest first
        shown = [(sum(values[: which + 1]) if stacked else value, which) for which, value in enumerate(values)]
        for value, which in sorted(shown, reverse=True):
            if values[which] > 0:
                height = max(1.5, PLOT * share(value))
                parts.append(
                    f'<rect class="s{which}" x="{index * width + width * 0.1:.2f}%" y="{TOP + PLOT - height:.1f}"'
                    f' width="{width * 0.8:.2f}%" height="{height:.1f}"/>'
                )
        parts.append("</g>")
    if mark is not None:
        parts.append(horizontal("mark", share(mark[0])))
    for value in grid(highest, log_from):
        y = TOP + PLOT * (1 - share(value)) - 3
        parts.append(f'<text x="0" y="{y:.1f}">{number(value)} {escape(unit)}</text>')
    return "".join(parts)


def horizontal(kind: str, share: float) -> str:
    """A line across the plot."""
    y = TOP + PLOT * (1 - share)
    return f'<line class="{kind}" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'


def grid(highest: float, log_from: float | None) -> list[float]:
    """The values that get a line: the powers of ten of a logarithmic scale, else the highest value."""
    if log_from is None:
        return [highest]
    steps = math.ceil(math.log10(max(highest, log_from * 10) / log_from) - 1e-9)
    return [log_from * 10**step for step in range(steps + 1) if log_from * 10**step <= max(highest, log_from * 10)]


def axis(rows: Sequence[Row]) -> str:
    """The foot, with the first, the middle and the last label under it."""
    y = TOP + PLOT
    line = f'<line class="axis" x1="0" x2="100%" y1="{y}" y2="{y}"/>'
    places = {0: ("0", "start"), len(rows) // 2: ("50%", "middle"), len(rows) - 1: ("100%", "end")}
    return line + "".join(
        f'<text x="{x}" y="{y + 17}" text-anchor="{anchor}">{escape(rows[index][0])}</text>'
        for index, (x, anchor) in sorted(places.items())
    )


def table(key: str, title: str, series: Sequence[str], rows: Sequence[Row], unit: str) -> str:
    """The same numbers to read."""
    head = "".join(f'<th scope="col">{escape(name)} ({escape(unit)})</th>' for name in series)
    body = "".join(
        f'<tr><th scope="row">{escape(label)}</th>{"".join(f"<td>{number(value)}</td>" for value in values)}</tr>'
        for label, values in rows
    )
    return (
        f'<details id="{key}-table"><summary>As a table<span class="aside">: {escape(title)}</span></summary>'
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{key}-title">'
        f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div></details>"
    )


def number(value: float) -> str:
    """A number to read: thousands set apart, a decimal only where it matters."""
    return f"{value:,.1f}" if 0 < abs(value) < 10 and value != int(value) else f"{value:,.0f}"
