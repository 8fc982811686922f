"""Drawing a dashboard as CloudWatch lays it out: 24 columns, rows of graphs, tables and states."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from functools import lru_cache
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.dates as dates
from matplotlib import font_manager, pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from local.board import Board, Line
from local.insights import Answer
from local.metrics import lacking

#: Inches of one of the 24 columns and of one unit of height.
COLUMN, UNIT = 0.86, 0.52
INK, QUIET, FRAME, PAPER = "#16191f", "#6b7684", "#d5dbdb", "#ffffff"
#: Colours that people who do not see red and green apart can tell apart (Okabe and Ito), and tints.
COLOURS = [
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a600", "#444b54"),
    *("#7fb8d8", "#f2cf7f", "#7fcdb9", "#e5bcd3", "#9a6324", "#808000", "#b0a0d0", "#a0a0a0"),
]
STATES = {"OK": "#1d8102", "ALARM": "#d13212", "INSUFFICIENT_DATA": "#879596"}
_MOST_LEGENDS = 8


def draw(board: Board, file: Path) -> None:
    """Write the dashboard as a PNG."""
    rows = max(widget["y"] + widget["height"] for widget in board.widgets)
    pyplot.rcParams.update({"font.family": "DejaVu Sans", "font.size": 8, "axes.edgecolor": FRAME})
    figure = pyplot.figure(figsize=(24 * COLUMN, (rows + 1.4) * UNIT), facecolor="#f2f3f3")
    shown = datetime.fromtimestamp(board.start_s, UTC), datetime.fromtimestamp(board.end_s, UTC)
    top = rows + 1.4
    figure.text(0.008, 1 - 0.55 / top, board.name, size=17, weight="bold", color=INK, va="center")
    span = f"{shown[0]:%Y-%m-%d %H:%M} to {shown[1]:%H:%M} UTC"
    figure.text(0.992, 1 - 0.55 / top, span, size=11, color=QUIET, va="center", ha="right")
    for at, widget in enumerate(board.widgets):
        left, width = widget["x"] / 24, widget["width"] / 24
        bottom = 1 - (widget["y"] + widget["height"] + 1.2) / top
        box = (left + 0.004, bottom + 0.10 / top, width - 0.008, (widget["height"] - 0.2) / top)
        _widget(figure, board, at, widget, box)
    figure.savefig(file, dpi=96, facecolor=figure.get_facecolor())
    pyplot.close(figure)


Box = tuple[float, float, float, float]


def _widget(figure: Figure, board: Board, at: int, widget: dict[str, Any], box: Box) -> None:
    if widget["type"] == "text":
        heading = widget["properties"]["markdown"].lstrip("# ")
        middle = box[1] + box[3] / 2
        figure.text(box[0] + 0.004, middle, heading, size=15, weight="bold", color=INK, va="center")
        return
    card = figure.add_axes(box, facecolor=PAPER)
    card.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
    title = widget["properties"]["title"]
    card.text(0.02, 0.955, title, size=10, weight="bold", color=INK, va="top")
    if widget["type"] == "alarm":
        _alarms(card, [board.alarms[arn] for arn in widget["properties"]["alarms"]], board.name)
    elif widget["type"] == "log":
        _table(card, board.answers[at])
    else:
        _graph(figure, card, box, board, widget["properties"], board.lines[at])


def _graph(
    figure: Figure,
    card: Axes,
    box: Box,
    board: Board,
    properties: dict[str, Any],
    lines: list[Line],
) -> None:
    drawn = [line for line in lines if line.visible and line.values]
    untold = sorted(
        {
            line.label
            for line in lines
            if line.identity and not line.values and lacking(*line.identity)
        }
    )
    if untold:
        note = _short(f"not told by the embedded cloud: {', '.join(untold)}", 74)
        card.text(0.02, 0.025, note, size=6.5, color=QUIET, style="italic")
    if not drawn:
        card.text(0.5, 0.5, "no data in this time", color=QUIET, ha="center")
        return
    # The largest first, so that the legend names what is seen.
    drawn.sort(key=lambda line: -sum(line.values.values()))
    if properties.get("stacked"):  # nothing is seen of a bar of zero
        drawn = [line for line in drawn if any(line.values.values())]
        if not drawn:
            card.text(0.5, 0.5, "0 all the time", color=QUIET, ha="center")
            return
    legends = min(len(drawn), _MOST_LEGENDS)
    legend_rows = math.ceil(legends / 2)
    low = 0.075 + 0.062 * legend_rows + (0.05 if untold else 0)
    axes = figure.add_axes(
        (box[0] + box[2] * 0.115, box[1] + box[3] * (low + 0.085),
         box[2] * 0.855, box[3] * (0.78 - low)),
        facecolor=PAPER,
    )  # fmt: skip
    if properties.get("stacked"):
        _stack(axes, board, drawn)
    else:
        for line, colour in zip(drawn, cycle(COLOURS), strict=False):
            axes.plot(
                [_day(at) for at in line.values], list(line.values.values()),
                color=line.color or colour, label=line.label,
                linewidth=1.6, marker="o", markersize=2.6,
            )  # fmt: skip
    _style(axes, board, properties, drawn)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles[:legends], [_short(label) for label in labels[:legends]],
        loc="lower left", ncols=2, frameon=False, fontsize=7, labelcolor=INK,
        bbox_to_anchor=(box[0] + 0.003, box[1] + box[3] * (0.055 if untold else 0.01)),
        handlelength=1.1, columnspacing=1.2, labelspacing=0.28, borderpad=0.1,
    )  # fmt: skip
    if len(drawn) > legends:
        more = f"+ {len(drawn) - legends} smaller"
        card.text(0.98, 0.955, more, size=6.5, color=QUIET, va="top", ha="right")


def _stack(axes: Axes, board: Board, lines: list[Line]) -> None:
    period = min(line.period for line in lines)
    first = int(board.start_s // period) * period
    slots = [float(at) for at in range(first, int(board.end_s), period)]
    floor = [0.0] * len(slots)
    # Bars end where the next begins, so that a minute is as wide as it is long.
    width = period * 0.86 / 86_400
    times = [_day(at + period / 2) for at in slots]
    for line, colour in zip(lines, cycle(COLOURS), strict=False):
        values = [line.values.get(at, 0.0) for at in slots]
        axes.bar(
            times, values, width=width, bottom=floor, color=line.color or colour,
            label=line.label, linewidth=0,
        )  # fmt: skip
        floor = [below + value for below, value in zip(floor, values, strict=True)]


def _style(axes: Axes, board: Board, properties: dict[str, Any], lines: list[Line]) -> None:
    left = properties.get("yAxis", {}).get("left", {})
    axes.set_xlim(_day(board.start_s), _day(board.end_s))
    highest = axes.get_ylim()[1]
    largest = max(value for line in lines for value in line.values.values())
    axes.set_ylim(0, 1 if largest == 0 else highest)
    whole = all(value == int(value) for line in lines for value in line.values.values())
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=whole))
    unit = left.get("label", "")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value, unit)))
    axes.xaxis.set_major_locator(_ticks(board.end_s - board.start_s))
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M", tz=UTC))
    axes.grid(axis="y", color="#eaeded", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=QUIET, labelsize=7)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _ticks(seconds: float) -> dates.RRuleLocator:
    """Whole minutes or hours, at most seven of them."""
    for minutes in (1, 2, 5, 10, 15, 30):
        if seconds <= minutes * 60 * 7:
            return dates.MinuteLocator(byminute=range(0, 60, minutes))
    hours = next((each for each in (1, 2, 3, 6) if seconds <= each * 3600 * 7), 12)
    return dates.HourLocator(byhour=range(0, 24, hours))


def _day(epoch_s: float) -> float:
    """A time as matplotlib counts: days since 1970."""
    return epoch_s / 86_400


def _number(value: float, unit: str) -> str:
    """A short number with its unit: 12 s, 3.4 k, US$ 0.05."""
    if unit == "s" and value >= 120:
        return f"{value / 60:.3g} min"
    if unit == "ms" and value >= 2000:
        return f"{value / 1000:.3g} s"
    text = f"{value / 1000:.3g} k" if abs(value) >= 10_000 else f"{value:.4g}"
    if unit == "US$":
        return f"$ {text}"
    return f"{text} {unit}".strip()


def _short(label: str, most: int = 27) -> str:
    return label if len(label) <= most else f"{label[: most - 1]}…"


def _alarms(card: Axes, alarms: list[tuple[str, str]], stack: str) -> None:
    """Every alarm with its state, those that are on first."""
    ordered = sorted(alarms, key=lambda alarm: (list(STATES).index(alarm[1]) != 1, alarm[0]))
    columns = 2 if len(ordered) <= 30 else 3
    rows = math.ceil(len(ordered) / columns)
    step = 0.83 / max(rows, 1)
    for at, (name, state) in enumerate(ordered):
        x = 0.025 + (at // rows) * (0.97 / columns)
        y = 0.85 - (at % rows) * step
        card.scatter([x], [y], s=22, marker="s", color=STATES[state], transform=card.transAxes)
        short = name.removeprefix(f"{stack}-")
        card.text(
            x + 0.02, y, _short(short, 62 // columns), size=min(7.2, 105 * step), color=INK,
            va="center", weight="bold" if state == "ALARM" else "normal",
        )  # fmt: skip
    counts = {state: sum(found == state for _, found in alarms) for state in STATES}
    summary = (
        f"{counts['ALARM']} on · {counts['OK']} ok · {counts['INSUFFICIENT_DATA']} without data"
    )
    card.text(0.98, 0.955, summary, size=7, color=QUIET, va="top", ha="right")


def _table(card: Axes, answer: Answer) -> None:
    if not answer.rows:
        card.text(0.5, 0.5, "no such line in this time", color=QUIET, ha="center")
        return
    widths = [
        max(len(name), *(len(_cell(row[at])) for row in answer.rows)) + 3
        for at, name in enumerate(answer.columns)
    ]
    starts = [0.02 + 0.96 * sum(widths[:at]) / sum(widths) for at in range(len(widths))]
    for x, name in zip(starts, answer.columns, strict=True):
        card.text(x, 0.83, name, size=8, color=QUIET, weight="bold", va="center")
    card.plot([0.02, 0.98], [0.79, 0.79], color=FRAME, linewidth=0.8, transform=card.transAxes)
    room = 11
    for at, row in enumerate(answer.rows[:room]):
        y = 0.74 - at * 0.066
        for x, value in zip(starts, row, strict=True):
            card.text(x, y, _cell(value), size=8, color=INK, va="center")
    if len(answer.rows) > room:
        card.text(0.98, 0.955, f"+ {len(answer.rows) - room} more", size=7, color=QUIET,
                  va="top", ha="right")  # fmt: skip


@lru_cache(maxsize=1)
def _font() -> Any:
    return font_manager.get_font(font_manager.findfont("DejaVu Sans"))


def _drawable(letter: str) -> str:
    """The letter, or its escape where the font that comes with matplotlib has none for it."""
    return letter if _font().get_char_index(ord(letter)) else ascii(letter)[1:-1]


def _cell(value: object) -> str:
    text = "".join(map(_drawable, "" if value is None else str(value)))
    return text if len(text) <= 60 else f"{text[:59]}…"
