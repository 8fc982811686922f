"""Pages of candles, as they go into a file or a pipe in one format or another."""

import io
import json
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import click
import httpx

from market_data_collector import errors
from market_data_collector.candles import Candles, page
from market_data_collector.cli.values import records
from market_data_collector.client import Client
from market_data_collector.reading import Form

#: What is written -> the format that its pages are asked for in.
PAGES: dict[str, Form] = {"csv": "csv", "json": "json", "arrow": "arrow", "parquet": "arrow"}


class Page(NamedTuple):
    """`content`: lines, objects or an Arrow table; `last`: the last row's open time."""

    content: Any
    rows: int
    last: Any


def pages_of(
    client: Client, form: Form, asked: Mapping[str, object]
) -> Generator[Page, None, None]:
    """Each page that the API answers. Raises NotThisApi for what is none."""
    with closing(client.candle_answers(form, asked)) as answers:
        for answer in answers:
            yield _page(client, answer, form)


def _page(client: Client, answer: httpx.Response, form: Form) -> Page:
    if form == "csv":
        lines = answer.text.splitlines(keepends=True)
        return Page(lines, max(0, len(lines) - 1), lines[-1].partition(",")[0] if lines else None)
    if form == "json":
        try:
            body = errors.parse(answer.content)
        except ValueError as error:
            raise errors.not_this_api(client.url, "the answer is not JSON") from error
        rows = records(body.get("candles")) if isinstance(body, dict) else []
        return Page(rows, len(rows), rows[-1].get("open_time") if rows else None)
    table = page(answer)
    last = table["open_time"][-1].as_py().isoformat() if len(table) else None
    return Page(table, len(table), last)


def limited(pages: Iterator[Page], limit: int | None) -> Iterator[Page]:
    """The pages up to so many rows."""
    left = limit
    for each in pages:
        if left is None or each.rows < left:
            yield each
            left = None if left is None else left - each.rows
            continue
        yield each._replace(content=_cut(each.content, left), rows=left)
        return


def _cut(content: Any, rows: int) -> Any:
    if isinstance(content, Candles):
        return Candles(content.table.slice(0, rows))
    # Lines have a header before them.
    return content[: rows + 1] if content and isinstance(content[0], str) else content[:rows]


@contextmanager
def whole_file(output: Path) -> Iterator[IO[bytes]]:
    """The file, which is there only once all of it is written."""
    # Of this process alone: another one may write the same file.
    part = output.with_name(f"{output.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(output)
    except OSError as error:
        raise click.UsageError(f"{output} cannot be written: {error.strerror}.") from error
    finally:
        with suppress(OSError):  # it is not there, or cannot be
            part.unlink()


def _write_csv(pages: Iterator[Page], file: IO[bytes]) -> int:
    count = 0
    for number, each in enumerate(pages):
        file.write("".join(each.content[1 if number else 0 :]).encode())
        count += each.rows
    return count


def _write_json(pages: Iterator[Page], file: IO[bytes]) -> int:
    """An array, with a line for each candle."""
    count = 0
    for each in pages:
        for row in each.content:
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
    whole = Candles.joined(each.content for each in pages).table
    # Into memory first: arro3 closes what it writes to.
    content = io.BytesIO()
    write(whole, content)
    file.write(content.getvalue())
    return int(whole.num_rows)


WRITERS: dict[str, Callable[[Iterator[Page], IO[bytes]], int]] = {
    "csv": _write_csv,
    "json": _write_json,
    "arrow": _write_arrow,
    "parquet": _write_parquet,
}
