"""Pictures of a benchmark's table, as SVG: bars of one column, or lines on logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

WIDTH, LINE = 720, 22
_HEIGHT, _LEFT, _BELOW = 320, 70, 40
_COLOURS = ("#2563eb", "#d97706", "#059669", "#7c3aed")


class Bars(NamedTuple):
    """A bar for each row that has a value; a row's name is its `labels`, joined."""

    labels: tuple[str, ...]
    value: str


class Lines(NamedTuple):
    """A line for each of `ys`, over the rows whose `x` is a number."""

    x: str
    ys: tuple[str, ...]


PLOTS: dict[str, Bars | Lines] = {
    "stack": Bars(("what", "side"), "candles a s"),
    "worker": Bars(("shape", "side"), "ms"),
    "growth": Lines("units", ("AWS calls", "write units", "counting, AWS calls")),
    "history": Lines("symbols", ("seconds",)),
}


def drawn(name: str, table: Mapping[str, Any]) -> str | None:
    """The picture of a benchmark's first table; None where it has none."""
    plot = PLOTS.get(name)
    if plot is None:
        return None
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    return _bars(plot, rows) if isinstance(plot, Bars) else _lines(plot, rows)


def _number(cell: str) -> float | None:
    try:
        return float(cell.replace(",", ""))
    except ValueError:
        return None


def _bars(plot: Bars, rows: Sequence[Mapping[str, str]]) -> str:
    found = [(", ".join(row[name] for name in plot.labels), row[plot.value]) for row in rows]
    values = [(label, cell, value) for label, cell in found if (value := _number(cell))]
    scale = (WIDTH - 420) / max(value for *_, value in values)
    parts = [_text(0, 14, plot.value, bold=True)]
    for at, (label, cell, value) in enumerate(values):
        top, colour = LINE * (at + 1), _COLOURS[0 if "ours" in label else 1]
        parts += [
            _text(350, top + 15, label, "end"),
            f'<rect x="356" y="{top + 3}" width="{value * scale:.1f}" height="{LINE - 6}" '
            f'fill="{colour}"/>',
            _text(360 + value * scale, top + 15, cell),
        ]
    return _svg(LINE * (len(values) + 1) + 8, parts)


def _lines(plot: Lines, rows: Sequence[Mapping[str, str]]) -> str:
    series = {
        name: [(x, y) for row in rows if (x := _number(row[plot.x])) and (y := _number(row[name]))]
        for name in plot.ys
    }
    points = [point for each in series.values() for point in each]
    low_x, high_x = _decades([x for x, _ in points])
    low_y, high_y = _decades([y for _, y in points])
    wide, high = WIDTH - _LEFT - 20, _HEIGHT - _BELOW - 20

    def place(x: float, y: float) -> tuple[float, float]:
        along = (math.log10(x) - low_x) / (high_x - low_x)
        up = (math.log10(y) - low_y) / (high_y - low_y)
        return round(_LEFT + along * wide, 1), round(20 + high - up * high, 1)

    parts = []
    for power in range(low_x, high_x + 1):
        x, bottom = place(10**power, 10**low_y)
        parts += [_rule(x, 20, x, bottom), _text(x, bottom + 16, f"{10**power:,}", "middle")]
    for power in range(low_y, high_y + 1):
        left, y = place(10**low_x, 10**power)
        parts += [_rule(left, y, WIDTH - 20, y), _text(left - 6, y + 4, f"{10**power:g}", "end")]
    parts.append(_text(WIDTH - 20, _HEIGHT - 6, plot.x, "end", bold=True))
    for at, (name, each) in enumerate(series.items()):
        places, colour = [place(*point) for point in each], _COLOURS[at]
        path = " ".join(f"{x},{y}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in places]
        parts.append(_text(_LEFT + 10, 36 + 16 * at, name, colour=colour, bold=True))
    return _svg(_HEIGHT, parts)


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten around them."""
    low = math.floor(math.log10(min(values)))
    return low, max(low + 1, math.ceil(math.log10(max(values))))


def _rule(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<line x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}" stroke="#d4d4d8"/>'


def _text(
    x: float,
    y: float,
    text: str,
    anchor: str = "start",
    colour: str = "#18181b",
    bold: bool = False,
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}"{weight}>{escape(text)}</text>'


def _svg(height: int, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">'
    )
    ground = f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, ground, *parts, "</svg>"]) + "\n"
