"""A heat map of what is held, why the rest is not, and mending: coverage, gaps, fill, verify."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.text import Text

from market_data_collector.cli.options import Time, everywhere, listed, selected, wait
from market_data_collector.cli.session import Session
from market_data_collector.cli.tables import cells, say, show_columns
from market_data_collector.cli.values import amount, count, moment, number, plain, record, records

RESOLUTIONS = ("object", "day", "month", "year", "all")
#: A pipe gets the map as a usual terminal would.
_USUAL_WIDTH = 80
_LEAST_COLUMNS = 10


class Shade(NamedTuple):
    """How a stretch is drawn: `mark`, where the output can, else `plain`."""

    mark: str
    plain: str
    style: str
    means: str


ALL = Shade("█", "#", "green", "all held")
EXPLAINED = Shade("▓", "+", "cyan", "held or explained")
MOST = Shade("▒", "=", "yellow", "90% or more")
SOME = Shade("░", "-", "red", "some")
NONE = Shade("·", ".", "bright_black", "nothing")
OUTSIDE = Shade(" ", " ", "", "")
SHADES = (ALL, EXPLAINED, MOST, SOME, NONE)


class Counts(NamedTuple):
    """Candles of one stretch, or of several together."""

    expected: int = 0
    held: int = 0
    explained: int = 0
    missing: int = 0

    def plus(self, other: "Counts") -> "Counts":
        return Counts(*(one + more for one, more in zip(self, other, strict=True)))

    def shade(self) -> Shade:
        if not self.expected:
            return OUTSIDE
        if not self.missing:
            return EXPLAINED if self.explained else ALL
        if self.missing == self.expected:
            return NONE
        return MOST if self.missing * 10 <= self.expected else SOME

    def percent(self) -> str:
        """What is held or explained, rounded down: 100% only where nothing is missing."""
        if not self.expected:
            return "–"
        tenths = (self.expected - self.missing) * 1000 // self.expected
        return f"{tenths // 10}.{tenths % 10}%"


class Line(NamedTuple):
    """One symbol and timeframe; `cells`: (start, end, counts), in seconds since 1970."""

    name: str
    timeframe: str
    cells: Sequence[tuple[float, float, Counts]]
    counts: Counts


def _range(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--end", type=Time(), help="The same; exclusive, and a date means its 00:00."
    )(command)
    return click.option("--start", type=Time(), help="ISO date or time (UTC), or epoch ms.")(
        command
    )


_timeframes = click.option(
    "--timeframe", "-t", "timeframes", multiple=True, metavar="1m,1h", help="Repeatable."
)


@click.command()
@click.argument("symbols", nargs=-1)
@_timeframes
@_range
@click.option(
    "--resolution",
    type=click.Choice(RESOLUTIONS),
    default="month",
    help="How finely it is counted; object: by stored file.",
)
@everywhere
@click.pass_obj
def coverage(
    session: Session,
    /,
    symbols: tuple[str, ...],
    timeframes: tuple[str, ...],
    **asked: Any,
) -> None:
    """Show how much of SYMBOLS (none: all that trade) is held, over time."""
    names = listed([name.upper() for name in symbols], "symbols")
    frames = listed(timeframes, "timeframes")
    with session.busy("Reading coverage"):
        answer = session.client.coverage(names or None, frames or None, **asked)
    session.show(answer, heat_map)


@click.command()
@click.argument("symbol")
@click.argument("timeframe")
@_range
@everywhere
@click.pass_obj
def gaps(session: Session, /, symbol: str, timeframe: str, **asked: Any) -> None:
    """List where SYMBOL holds no candle of TIMEFRAME, and why."""
    with session.busy("Reading gaps"):
        answer = session.client.gaps(symbol.upper(), timeframe, **asked)
    session.show(answer, gap_table)


@click.command()
@click.argument("symbols", nargs=-1)
@_timeframes
@_range
@click.option("--priority", type=click.Choice(["high", "normal", "low"]))
@wait
@everywhere
@click.pass_obj
def fill(session: Session, /, wait: bool, **asked: Any) -> int | None:
    """Collect what is missing of SYMBOLS (none: all known ones) and nothing explains."""
    return session.submitted(session.client.fill(**_body(**asked)), wait)


@click.command()
@click.argument("symbols", nargs=-1)
@_timeframes
@_range
@click.option("--priority", type=click.Choice(["high", "normal", "low"]))
@click.option("--repair", is_flag=True, help="Mend what is wrong: collect it again.")
@wait
@everywhere
@click.pass_obj
def verify(session: Session, /, wait: bool, repair: bool, **asked: Any) -> int | None:
    """Read the stored files of SYMBOLS (none: all known ones) again, and say what is wrong."""
    body = _body(**asked) | ({"repair": True} if repair else {})
    return session.submitted(session.client.verify(**body), wait)


def _body(
    symbols: tuple[str, ...], timeframes: tuple[str, ...], **asked: str | None
) -> dict[str, Any]:
    body = {
        "symbols": selected(symbols),
        "timeframes": listed(timeframes, "timeframes"),
        **asked,
    }
    return {name: value for name, value in body.items() if value not in (None, [])}


def heat_map(console: Console, answer: Mapping[str, Any]) -> None:
    """Rows of symbols and timeframes, columns of time, and totals."""
    lines = [_line(row) for row in records(answer.get("coverage"))]
    whole = Counts()
    for line in lines:
        whole = whole.plus(line.counts)
    times = [at for line in lines for start, end, _ in line.cells for at in (start, end)]
    if not times:
        say(console, "Nothing is stored")
        return
    first, last = min(times), max(times)
    symbols = max(len("SYMBOL"), *(len(line.name) for line in lines))
    width = console.width if console.is_terminal else min(console.width, _USUAL_WIDTH)
    head = symbols + 6
    columns = max(_LEAST_COLUMNS, width - head - 9)
    begin, end = (datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d") for at in (first, last))
    axis = begin + f"{end:>{columns - len(begin)}}" if columns > 20 else begin[:columns]
    say(console, f"{'SYMBOL':<{symbols}} {'TF':<4} {axis:<{columns}}  {'DONE':>6}", "bold")
    is_plain = not _draws(console)
    for line in lines:
        text = Text(f"{line.name:<{symbols}} {line.timeframe:<4} ")
        for shade in _drawn(line, first, last, columns):
            text.append(shade.plain if is_plain else shade.mark, shade.style)
        text.append(f"  {line.counts.percent():>6}")
        console.print(text, soft_wrap=True)
    marks = ((shade.plain if is_plain else shade.mark, shade) for shade in SHADES)
    legend = Text("")
    for mark, shade in marks:
        legend.append(mark, shade.style).append(f" {shade.means}   ")
    legend.rstrip()
    console.print(legend, soft_wrap=True)
    say(
        console,
        f"{whole.percent()} of {amount(whole.expected)} candles: {amount(whole.held)} held, "
        f"{amount(whole.explained)} explained, {amount(whole.missing)} missing",
    )
    if whole.missing:
        say(console, "Why: data-collector gaps SYMBOL TIMEFRAME. Collect it: data-collector fill")


def _draws(console: Console) -> bool:
    """Whether the output can write the marks."""
    try:
        "".join(shade.mark for shade in SHADES).encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _line(row: Mapping[str, Any]) -> Line:
    found = []
    for cell in records(row.get("cells")):
        start, end = moment(cell.get("start")), moment(cell.get("end"))
        if start and end and start < end:
            found.append((start.timestamp(), end.timestamp(), _counts(cell)))
    return Line(plain(row.get("symbol")), plain(row.get("timeframe")), found, _counts(row))


def _counts(given: Mapping[str, Any]) -> Counts:
    explained = sum(
        int(value)
        for each in record(given.get("explained")).values()
        if (value := number(each)) is not None and value >= 0
    )
    expected, held, missing = (count(given, name) or 0 for name in ("expected", "held", "missing"))
    return Counts(expected, held, explained, missing)


def _drawn(line: Line, first: float, last: float, columns: int) -> Iterator[Shade]:
    """The shade of each column: of all cells that reach into it together."""
    step = (last - first) / columns
    for column in range(columns):
        low, high = first + column * step, first + (column + 1) * step
        together = Counts()
        for start, end, counts in line.cells:
            if start < high and end > low:
                together = together.plus(counts)
        yield together.shade()


def gap_table(console: Console, answer: Mapping[str, Any]) -> None:
    """Each gap with its reason, and what is known of it."""
    found = records(answer.get("gaps"))
    if not found:
        say(console, "No gap")
        return
    rows = []
    for gap in found:
        evidence = record(gap.get("evidence"))
        asked = count(evidence, "times_asked")
        last = _minute(evidence.get("last_asked"))
        rows.append(
            [
                *(Text(_minute(gap.get(name))) for name in ("start", "end")),
                Text(amount(gap.get("candles"))),
                *cells(gap, "reason"),
                Text("never asked" if asked is None else f"asked {amount(asked)}x, last {last}"),
            ]
        )
    show_columns(console, ["FROM", "TO", "CANDLES", "REASON", "EVIDENCE"], rows, "CANDLES")


def _minute(value: Any) -> str:
    """A time, without what is zero in it."""
    at = moment(value)
    if at is None:
        return plain(value)
    return at.strftime("%Y-%m-%d %H:%M" if not at.second else "%Y-%m-%d %H:%M:%S")
