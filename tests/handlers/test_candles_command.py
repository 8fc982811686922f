"""`data-collector candles` and `candle-files` against the application itself."""

from __future__ import annotations

import csv
import io
import json
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import httpx
import pytest
from arro3.io import read_ipc_stream, read_parquet

from chalicelib.candles.candles import VALUES
from chalicelib.core.times import DAY, HOUR, iso
from market_data_collector import candles as library
from market_data_collector.cli.candle_writing import PAGES
from tests.cli.running import Ran, run
from tests.doubles.aws import Aws
from tests.handlers.conftest import Http
from tests.handlers.test_candle_routes import FIRST, HOURS, candles_at, put

#: The application's own prefix, behind the one that API Gateway takes off.
STAGE = "/api"


class Gateway(httpx.BaseTransport):
    """Hands requests to the application, as API Gateway does; `spoil`: what becomes of answers."""

    def __init__(self, http: Http, spoil: Any = lambda response: response) -> None:
        self.http, self.spoil = http, spoil
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        path = request.url.raw_path.decode().removeprefix(f"{STAGE}/v1/data-collector")
        with redirect_stderr(io.StringIO()):  # the application's log
            answer = self.http(request.method, path, headers=dict(request.headers))
        return self.spoil(
            httpx.Response(answer.status_code, headers=answer.headers, content=answer.body)
        )


@pytest.fixture
def gateway(http: Http, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """The API, with two files of BTCUSDT 1h; pages hold three rows."""
    for part in (HOURS[:8], HOURS[8:]):
        put(aws, "BTCUSDT", "1h", candles_at(part))
    small = {name: (each[0], 3) for name, each in library.FORMATS.items()}
    monkeypatch.setattr(library, "FORMATS", small)
    return Gateway(http)


def ran(gateway: Gateway, *args: str, **streams: bool) -> Ran:
    return run(*args, api=gateway, **streams)  # type: ignore[arg-type]


def opens_in(form: str, content: bytes) -> list[str | None]:
    if form == "csv":
        return [row["open_time"] for row in csv.DictReader(io.StringIO(content.decode()))]
    if form == "json":
        return [row["open_time"] for row in json.loads(content)]
    read = {"arrow": read_ipc_stream, "parquet": read_parquet}[form]
    table = read(io.BytesIO(content)).read_all()
    assert table.schema.names == list(VALUES)
    return [iso(round(at.timestamp() * 1000)) for at in table["open_time"].to_pylist()]


@pytest.mark.parametrize("form", PAGES)
def test_pages_become_one_file_with_exactly_the_rows(
    gateway: Gateway, form: str, tmp_path: Path
) -> None:
    file = tmp_path / f"candles.{form}"
    done = ran(gateway, "candles", "btcusdt", "1h", "--output", str(file))
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{len(HOURS)} candles in {file}\n"
    assert opens_in(form, file.read_bytes()) == [iso(open_ms) for open_ms in HOURS]
    assert len(gateway.requests) == 3
    assert list(tmp_path.iterdir()) == [file]


def test_stdout_gets_csv_or_one_json_document(gateway: Gateway) -> None:
    range_ = ("--start", iso(FIRST) or "", "--end", iso(FIRST + 6 * HOUR) or "")
    plain = ran(gateway, "candles", "BTCUSDT", "1h", *range_, "--order", "desc")
    assert opens_in("csv", plain.out.encode()) == [iso(HOURS[at]) for at in (3, 2, 1, 0)]
    filled = ran(gateway, "candles", "BTCUSDT", "1h", *range_, "--fill", "previous", "--json")
    assert [row["filled"] for row in filled.json["candles"]] == [False] * 3 + [True] * 2 + [False]
    assert filled.json["count"] == 6
    lines = ran(gateway, "candles", "BTCUSDT", "1h", *range_, "--format", "json")
    assert (
        json.loads(lines.out)
        == ran(gateway, "candles", "BTCUSDT", "1h", *range_, "--json").json["candles"]
    )
    nothing = ran(gateway, "candles", "ETHUSDT", "1h", "--format", "json")
    assert nothing.json == []


def test_a_terminal_shows_how_far_it_is_and_gets_no_bytes(gateway: Gateway, tmp_path: Path) -> None:
    range_ = ("--start", iso(FIRST) or "", "--end", iso(FIRST + 400 * DAY) or "")
    output = ("--output", str(tmp_path / "candles.csv"))
    assert (
        f"{len(HOURS)} candles"
        in ran(gateway, "candles", "BTCUSDT", "1h", *range_, *output, err_tty=True).err
    )
    refused = ran(gateway, "candles", "BTCUSDT", "1h", "--format", "parquet", out_tty=True)
    assert refused.code == 2
    assert "--output" in refused.err


@pytest.mark.parametrize(("form", "at"), [("csv", 0), ("csv", 1), ("parquet", 0), ("json", 1)])
def test_a_file_is_there_whole_or_not_at_all(
    gateway: Gateway, form: str, at: int, tmp_path: Path
) -> None:
    answers = iter(range(9))

    def broken(response: httpx.Response) -> httpx.Response:
        return httpx.Response(200, text="<html>") if next(answers) == at else response

    gateway.spoil = broken
    file = tmp_path / f"candles.{form}"
    failed = ran(gateway, "candles", "BTCUSDT", "1h", "--output", str(file))
    assert failed.code == 4
    assert "not the data collector" in failed.err
    assert list(tmp_path.iterdir()) == []
    nowhere = tmp_path / "none" / "candles.csv"
    gateway.spoil = lambda response: response
    assert ran(gateway, "candles", "BTCUSDT", "1h", "--output", str(nowhere)).code == 2


def test_what_the_api_refuses_is_said(gateway: Gateway) -> None:
    for args, said in (
        (("BTCUSDT", "7m"), "/timeframe: must be one of"),
        (("NOPEUSDT", "1h"), "unknown symbol NOPEUSDT"),
    ):
        refused = ran(gateway, "candles", *args)
        assert refused.code == 2
        assert said in refused.err


def test_the_urls_of_files_go_into_a_pipe_and_the_rest_is_shown(gateway: Gateway) -> None:
    args = ("candle-files", "btcusdt", "-t", "1h", "--start", iso(HOURS[8]) or "")
    [url] = ran(gateway, *args).out.split()
    assert "X-Amz-Signature=" in url
    [file] = ran(gateway, *args, "--json").json["files"]
    assert file["rows"] == len(HOURS) - 8
    assert "ROWS" in ran(gateway, *args, out_tty=True).out


def test_a_terminal_gets_a_table_of_the_newest_or_from_the_start_on(gateway: Gateway) -> None:
    newest = ran(gateway, "candles", "btcusdt", "1h", "-n", "2", out_tty=True)
    header, *rows = newest.out.splitlines()
    for name in ("OPEN", "HIGH", "LOW", "CLOSE", "VOLUME", "TRADES"):
        assert name in header
    assert [row[:16] for row in rows] == [
        (iso(at) or "")[:16].replace("T", " ") for at in HOURS[-2:]
    ]
    assert "There are more" in newest.err
    first = ran(
        gateway, "candles", "BTCUSDT", "1h", "--start", iso(FIRST) or "", "--format", "table"
    )
    assert [line[:16] for line in first.out.splitlines()[1:]] == [
        (iso(at) or "")[:16].replace("T", " ") for at in HOURS
    ]
    assert "There are more" not in first.err
    nothing = ran(gateway, "candles", "ETHUSDT", "1h", out_tty=True)
    assert "No candle is stored" in nothing.out


def test_what_has_no_room_in_a_table_is_left_out_and_nothing_is_cut(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out = ran(gateway, "candles", "BTCUSDT", "1h", "--no-color", out_tty=True).out
    assert "TRADES" not in out
    assert "OPEN" in out
    assert "…" not in out


@pytest.mark.parametrize("form", PAGES)
def test_a_limit_ends_in_the_middle_of_a_page(gateway: Gateway, form: str, tmp_path: Path) -> None:
    file = tmp_path / f"candles.{form}"
    ran(gateway, "candles", "BTCUSDT", "1h", "-n", "4", "--output", str(file))
    assert opens_in(form, file.read_bytes()) == [iso(at) for at in HOURS[:4]]
    assert len(gateway.requests) == 2
