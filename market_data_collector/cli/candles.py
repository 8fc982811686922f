"""`candles`: what is stored, as a table, or page by page into a file. `candle-files`: the files."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from market_data_collector.candles import FORMATS
from market_data_collector.cli.candle_writing import (
    PAGES,
    WRITERS,
    Page,
    limited,
    pages_of,
    whole_file,
)
from market_data_collector.cli.options import Time, everywhere, listed
from market_data_collector.cli.session import Session
from market_data_collector.cli.tables import GAP, cells, say, show_columns
from market_data_collector.cli.values import amount, moment, number, plain, price, records, when

TABLE = "table"
#: Rows of a table, where nobody says how many.
USUAL_ROWS = 20
PRICES = ("open", "high", "low", "close")


@click.command()
@click.argument("symbol")
@click.argument("timeframe")
@click.option("--start", type=Time(), help="ISO date or time (UTC), or epoch ms.")
@click.option("--end", type=Time(), help="The same; exclusive, and a date means its 00:00.")
@click.option(
    "--format",
    "form",
    type=click.Choice([TABLE, *PAGES]),
    help="Else as the output file's name ends; else a table on a terminal, csv in a pipe.",
)
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Else stdout."
)
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(min=1),
    help=f"So many candles at most; of a table {USUAL_ROWS}, else all.",
)
@click.option(
    "--fill",
    type=click.Choice(["none", "previous"]),
    default="none",
    help="previous: rows for missing candles, with the close before; marked by `filled`.",
)
@click.option(
    "--order", type=click.Choice(["asc", "desc"]), default="asc", help="desc: newest first."
)
@everywhere
@click.pass_obj
def candles(
    session: Session,
    /,
    symbol: str,
    timeframe: str,
    form: str | None,
    output: Path | None,
    limit: int | None,
    **asked: str | None,
) -> None:
    """Show the stored candles of SYMBOL and TIMEFRAME, or write them.

    Without --start a table has the newest ones. With arrow and parquet, all of them are held in
    memory until they are written; of a long history fetch the files themselves (candle-files).
    """
    form = _form(session, form, output)
    asked = {"symbol": symbol.upper(), "timeframe": timeframe, **asked}
    if form == TABLE:
        _show(session, asked, limit or USUAL_ROWS)
        return
    if PAGES[form] == "arrow" and output is None and sys.stdout.isatty():
        raise click.UsageError(f"{form} is not for a terminal: give --output FILE.")
    pages = _shown(session, asked, limited(pages_of(session.client, PAGES[form], asked), limit))
    if session.json and output is None:
        rows = [row for each in pages for row in each.content]
        session.print_json({"candles": rows, "count": len(rows)})
        return
    if output is None:
        WRITERS[form](pages, sys.stdout.buffer)
        return
    count = 0
    with whole_file(output) as file:
        count = WRITERS[form](pages, file)
    answer = {"file": str(output), "format": form, "count": count}
    session.show(answer, say, f"{count:,} candles in {plain(output)}")


def _form(session: Session, form: str | None, output: Path | None) -> str:
    if output is None:
        if session.json:
            return "json"
        return form or (TABLE if sys.stdout.isatty() else "csv")
    if form == TABLE:
        raise click.UsageError("A table is for a terminal: choose another --format for a file.")
    suffix = output.suffix.removeprefix(".").lower()
    return form or (suffix if suffix in PAGES else "csv")


# --- a table --------------------------------------------------------------------------------------


def _show(session: Session, asked: Mapping[str, str | None], limit: int) -> None:
    """The first candles of the range; without its start the last ones, the newest at the bottom."""
    last = not asked["start"] and asked["order"] == "asc"
    given = {**asked, "limit": min(limit + 1, FORMATS["json"][1])}
    given |= {"order": "desc"} if last else {}
    with session.busy("Reading candles"), closing(pages_of(session.client, "json", given)) as pages:
        rows = [*islice((row for each in pages for row in each.content), limit + 1)]
    more, rows = len(rows) > limit, rows[:limit]
    session.show({}, _table, rows[::-1] if last else rows)
    if more:
        session.note("There are more: --limit, --start and --end choose, --output FILE writes all")


def _table(console: Console, rows: list[dict[str, Any]]) -> None:
    if not rows:
        say(console, "No candle is stored there. What is held: data-collector coverage")
        return
    layout = _layout(rows)
    columns = {"TIME (UTC)": [when(row.get("open_time"), layout) for row in rows]}
    columns |= {name.upper(): [price(row.get(name)) for row in rows] for name in PRICES}
    columns["VOLUME"] = [_volume(row.get("volume")) for row in rows]
    if any(row.get("filled") is True for row in rows):
        columns["FILLED"] = ["yes" if row.get("filled") is True else "" for row in rows]
    columns["TRADES"] = [amount(row.get("trades")) for row in rows]
    # What there is no room for is left out: half a figure is a wrong one.
    while len(columns) > 1 and console.is_terminal and _width(columns) > console.width:
        columns.popitem()
    shown = [[Text(cell) for cell in row] for row in zip(*columns.values(), strict=True)]
    show_columns(console, [*columns], shown, right="|".join([*columns][1:]))


def _width(columns: dict[str, list[str]]) -> int:
    widest = (max(len(name), *map(len, cells)) for name, cells in columns.items())
    return sum(width + GAP for width in widest) - GAP


def _volume(value: Any) -> str:
    """With two decimals; every digit of what is less than one."""
    found = number(value)
    return price(value) if found is None or abs(found) < 1 else f"{found:,.2f}"


def _layout(rows: list[dict[str, Any]]) -> str:
    """Times without what is zero in all of them."""
    times = [at for row in rows if (at := moment(row.get("open_time")))]
    if all(at.hour == at.minute == at.second == 0 for at in times):
        return "%Y-%m-%d"
    return "%Y-%m-%d %H:%M:%S" if any(at.second for at in times) else "%Y-%m-%d %H:%M"


def _shown(session: Session, asked: dict[str, str | None], pages: Iterator[Page]) -> Iterator[Page]:
    """The pages, with a progress bar on a terminal: how far their rows are in the range."""
    console = session.console(sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    quiet = not sys.stderr.isatty()
    edge, far = asked["start"], asked["end"]
    if asked["order"] == "desc":
        edge, far = far, edge
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        bar, rows = progress.add_task("0 candles", total=_seconds(edge, far)), 0
        for each in pages:
            rows += each.rows
            done = _seconds(edge, each.last)
            progress.update(bar, completed=done, description=f"{rows:,} candles")
            yield each


def _seconds(one: Any, other: Any) -> float | None:
    first, last = moment(one), moment(other)
    return None if first is None or last is None else abs((last - first).total_seconds())


# --- files ----------------------------------------------------------------------------------------


@click.command("candle-files")
@click.argument("symbols", nargs=-1, required=True)
@click.option("--timeframe", "-t", required=True, metavar="1m")
@click.option("--start", type=Time(), help="ISO date or time (UTC), or epoch ms.")
@click.option("--end", type=Time(), help="The same; exclusive.")
@everywhere
@click.pass_obj
def candle_files(session: Session, /, symbols: tuple[str, ...], **asked: Any) -> None:
    """List the Parquet files of SYMBOLS, each with a URL that is good for 15 minutes.

    In a pipe only the URLs, one a line.
    """
    names = listed([name.upper() for name in symbols], "symbols")
    with session.busy("Reading the list of files"):
        found = [*session.client.candle_files(names, **asked)]
    session.show({"files": found, "next_page_token": None}, _files)


def _files(console: Console, answer: Mapping[str, Any]) -> None:
    found = records(answer.get("files"))
    if not console.is_terminal:
        for each in found:
            say(console, plain(each.get("url")))
        return
    rows = [
        cells(
            {
                **each,
                **{name: amount(each.get(name)) for name in ("rows", "bytes")},
                **{name: when(each.get(name), "%Y-%m-%d") for name in ("start", "end")},
            },
            *("symbol", "timeframe", "start", "end", "rows", "bytes"),
        )
        for each in found
    ]
    names = ["SYMBOL", "TIMEFRAME", "START", "END", "ROWS", "BYTES"]
    show_columns(console, names, rows, right="ROWS|BYTES")
