"""`candles`: what is stored, page by page into a file or onto stdout. `candle-files`: the files."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import click
import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from market_data_collector.cli import problems
from market_data_collector.cli.options import Time, everywhere, listed
from market_data_collector.cli.session import Session
from market_data_collector.cli.tables import cells, say, show_columns
from market_data_collector.cli.values import amount, moment, plain, records

#: Format -> the format that pages are asked for in, their content type, and their rows, at most.
FORMATS = {
    "csv": ("csv", "text/csv", 10_000),
    "json": ("json", "application/json", 10_000),
    "arrow": ("arrow", "application/vnd.apache.arrow.stream", 30_000),
    "parquet": ("arrow", "application/vnd.apache.arrow.stream", 30_000),
}


class Page(NamedTuple):
    """`content`: lines, objects or an Arrow table; `last`: the last row's open time."""

    content: Any
    rows: int
    last: Any


@click.command()
@click.argument("symbol")
@click.argument("timeframe")
@click.option("--start", type=Time(), help="ISO date or time (UTC), or epoch ms.")
@click.option("--end", type=Time(), help="The same; exclusive, and a date means its 00:00.")
@click.option(
    "--format",
    "form",
    type=click.Choice([*FORMATS]),
    help="Without it: as the output file's name ends, else csv.",
)
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Else stdout."
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
    **asked: str | None,
) -> None:
    """Write the stored candles of SYMBOL and TIMEFRAME.

    With arrow and parquet, all of them are held in memory until they are written; of a long history
    fetch the files themselves (candle-files).
    """
    suffix = "csv" if output is None else output.suffix.removeprefix(".").lower()
    form = form or (suffix if suffix in FORMATS else "csv")
    if session.json and output is None:
        form = "json"
    asked_form, content_type, most = FORMATS[form]
    binary = asked_form == "arrow"
    if binary and output is None and sys.stdout.isatty():
        raise click.UsageError(f"{form} is not for a terminal: give --output FILE.")
    params = {"symbol": symbol.upper(), "timeframe": timeframe, **asked}
    params |= {"format": asked_form, "limit": str(most)}
    answers = session.api.candle_pages({name: text for name, text in params.items() if text})
    pages = _shown(session, asked, (_page(session, each, content_type) for each in answers))
    if session.json and output is None:
        rows = [row for page in pages for row in page.content]
        session.print_json({"candles": rows, "count": len(rows)})
        return
    if output is None:
        _WRITERS[form](pages, sys.stdout.buffer)
        return
    count = 0
    with _whole(output) as file:
        count = _WRITERS[form](pages, file)
    answer = {"file": str(output), "format": form, "count": count}
    session.show(answer, say, f"{count:,} candles in {plain(output)}")


@click.command("candle-files")
@click.argument("symbols", nargs=-1, required=True)
@click.option("--timeframe", "-t", required=True, metavar="1m")
@click.option("--start", type=Time(), help="ISO date or time (UTC), or epoch ms.")
@click.option("--end", type=Time(), help="The same; exclusive.")
@everywhere
@click.pass_obj
def candle_files(session: Session, /, symbols: tuple[str, ...], **asked: str | None) -> None:
    """List the Parquet files of SYMBOLS, each with a URL that is good for 15 minutes.

    In a pipe only the URLs, one a line.
    """
    names = ",".join(listed([name.upper() for name in symbols], "symbols"))
    given = {name: text for name, text in asked.items() if text is not None}
    session.show(session.api.candle_files(symbol=names, **given), _files)


def _files(console: Console, answer: dict[str, Any]) -> None:
    found = records(answer.get("files"))
    if not console.is_terminal:
        for each in found:
            say(console, plain(each.get("url")))
        return
    rows = [
        cells(
            {**each, **{name: amount(each.get(name)) for name in ("rows", "bytes")}},
            *("symbol", "timeframe", "start", "end", "rows", "bytes"),
        )
        for each in found
    ]
    names = ["SYMBOL", "TIMEFRAME", "START", "END", "ROWS", "BYTES"]
    show_columns(console, names, rows, right="ROWS|BYTES")


def _page(session: Session, answer: httpx.Response, content_type: str) -> Page:
    """Raises NotThisApi for what is no page."""
    if not answer.headers.get("content-type", "").startswith(content_type):
        raise problems.not_this_api(session.api.url, f"it answered no {content_type}")
    if content_type == "text/csv":
        lines = answer.text.splitlines(keepends=True)
        return Page(lines, max(0, len(lines) - 1), lines[-1].partition(",")[0] if lines else None)
    if content_type == "application/json":
        try:
            body = problems.parse(answer.content)
        except ValueError as error:
            raise problems.not_this_api(session.api.url, "the answer is not JSON") from error
        rows = records(body.get("candles")) if isinstance(body, dict) else []
        return Page(rows, len(rows), rows[-1].get("open_time") if rows else None)
    from arro3.io import read_ipc_stream  # here: texts need no Arrow

    table = read_ipc_stream(io.BytesIO(answer.content)).read_all()
    last = table["open_time"][-1].as_py().isoformat() if table.num_rows else None
    return Page(table, table.num_rows, last)


def _shown(session: Session, asked: dict[str, str | None], pages: Iterator[Page]) -> Iterator[Page]:
    """The pages, with a progress bar on a terminal: how far their rows are in the range."""
    console = Console(file=sys.stderr, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    quiet = not sys.stderr.isatty()
    edge, far = asked["start"], asked["end"]
    if asked["order"] == "desc":
        edge, far = far, edge
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        bar, rows = progress.add_task("0 candles", total=_seconds(edge, far)), 0
        for page in pages:
            rows += page.rows
            done = _seconds(edge, page.last)
            progress.update(bar, completed=done, description=f"{rows:,} candles")
            yield page


def _seconds(one: Any, other: Any) -> float | None:
    first, last = moment(one), moment(other)
    return None if first is None or last is None else abs((last - first).total_seconds())


@contextmanager
def _whole(output: Path) -> Iterator[IO[bytes]]:
    """The file, which is there only once all of it is written."""
    part = output.with_name(output.name + ".part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(output)
    except OSError as error:
        raise click.UsageError(f"{output} cannot be written: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)


def _write_csv(pages: Iterator[Page], file: IO[bytes]) -> int:
    count = 0
    for number, page in enumerate(pages):
        file.write("".join(page.content[1 if number else 0 :]).encode())
        count += page.rows
    return count


def _write_json(pages: Iterator[Page], file: IO[bytes]) -> int:
    """An array, with a line for each candle."""
    count = 0
    for page in pages:
        for row in page.content:
            file.write((",\n" if count else "[\n").encode() + json.dumps(row).encode())
            count += 1
    file.write(b"\n]\n" if count else b"[]\n")
    return count


def _write_arrow(pages: Iterator[Page], file: IO[bytes]) -> int:
    from arro3.io import write_ipc_stream

    return _write_table(pages, file, write_ipc_stream)


def _write_parquet(pages: Iterator[Page], file: IO[bytes]) -> int:
    from arro3.io import write_parquet

    return _write_table(pages, file, write_parquet)


def _write_table(pages: Iterator[Page], file: IO[bytes], write: Callable[[Any, Any], None]) -> int:
    from arro3.core import Table

    tables = [page.content for page in pages]
    batches = [batch for table in tables for batch in table.to_batches()]
    whole = Table.from_batches(batches, schema=tables[0].schema)
    # Into memory first: arro3 closes what it writes to.
    content = io.BytesIO()
    write(whole, content)
    file.write(content.getvalue())
    return int(whole.num_rows)


_WRITERS: dict[str, Callable[[Iterator[Page], IO[bytes]], int]] = {
    "csv": _write_csv,
    "json": _write_json,
    "arrow": _write_arrow,
    "parquet": _write_parquet,
}
