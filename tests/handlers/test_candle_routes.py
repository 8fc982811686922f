"""GET /candles and GET /candles/files: what is stored, as it is asked for."""

from __future__ import annotations

import base64
import csv
import io
import json
import random
from array import array
from collections.abc import Callable
from threading import Barrier
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
from arro3.io import read_ipc_stream, read_parquet
from chalice.app import Response
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from app import app
from chalicelib.api import web
from chalicelib.aws.calls import run
from chalicelib.candles.candles import VALUES, Candles
from chalicelib.candles.codec import encode
from chalicelib.candles.formats import FORMATS
from chalicelib.candles.objects import folder_of
from chalicelib.candles.pages import CandlePage
from chalicelib.core import timeframes
from chalicelib.core.backend import Backend
from chalicelib.core.times import DAY, HOUR, iso
from infra.configuration import ROOT
from tests.doubles.aws import Aws, Called, Hook
from tests.doubles.candles import append
from tests.doubles.clock import NOW
from tests.handlers.conftest import Http

FIRST = timeframes.floor("1h", NOW) - 400 * DAY
HOURS = [FIRST + at * HOUR for at in range(10) if at not in (3, 4)] + [
    timeframes.floor("1h", NOW) - HOUR
]
SPEC = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))


def candles_at(opens: list[int]) -> Candles:
    candles = Candles()
    for open_ms in opens:
        values = (1.5, 3.25, 1.0, 2.0 + open_ms % 97, 10.5)
        append(candles, (open_ms, *values, open_ms + HOUR - 1, 21.0, 7, 4.5, 9.0), open_ms)
    return candles


def put(aws: Aws, symbol: str, timeframe: str, candles: Candles, at_ms: int | None = None) -> str:
    open_ms = candles.open_times[0] if at_ms is None else at_ms
    name = timeframes.object_name(timeframe, open_ms)
    key = f"{folder_of('binance', symbol, timeframe)}{name}.parquet"
    run(aws("s3", "PutObject", Bucket="candles", Key=key, Body=encode(candles, {})))
    return key


@pytest.fixture
def stored(aws: Aws) -> list[str]:
    """The keys of two objects of BTCUSDT 1h, a year apart, with two candles missing."""
    return [put(aws, "BTCUSDT", "1h", candles_at(part)) for part in (HOURS[:8], HOURS[8:])]


def ask(http: Http, path: str = "", /, headers: dict[str, str] | None = None, **query: Any) -> Any:
    fields = {"symbol": "BTCUSDT", "timeframe": "1h", **query}
    given = {name: value for name, value in fields.items() if value is not None}
    return http("GET", f"/candles{path}?{urlencode(given)}", headers=headers)


def followed(http: Http, **query: Any) -> list[Any]:
    """Every page, by its Link."""
    answers = [ask(http, **query)]
    while "Link" in answers[-1].headers:
        reference = answers[-1].headers["Link"].partition(">")[0].removeprefix("<?")
        answers.append(http("GET", f"/candles?{reference}"))
        assert len(answers) < 50
    return answers


def columns_in(table: Any) -> dict[str, list[Any]]:
    return {name: table.column(name).to_pylist() for name in table.schema.names}


def rows_by(form: str, body: bytes) -> list[dict[str, Any]]:
    """The rows of an answer, as JSON has them."""
    if form == "json":
        rows: list[dict[str, Any]] = json.loads(body)["candles"]
        return rows
    if form == "csv":
        lines = csv.DictReader(io.StringIO(body.decode()))
        return [
            {
                name: text if name.endswith("_time") else json.loads(text)
                for name, text in line.items()
            }
            for line in lines
        ]
    read = {"arrow": read_ipc_stream, "parquet": read_parquet}[form]
    columns = columns_in(read(io.BytesIO(body)).read_all())
    for name in ("open_time", "close_time"):
        columns[name] = [iso(round(each.timestamp() * 1000)) for each in columns[name]]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("fill", ["none", "previous"])
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_the_same_rows_page_by_page(
    http: Http, stored: list[str], form: str, fill: str, order: str
) -> None:
    end = iso(FIRST + 30 * HOUR)
    answers = followed(http, format=form, fill=fill, order=order, limit=3, end=end)
    assert {answer.headers["Content-Type"] for answer in answers} == {FORMATS[form].content_type}
    rows = [row for answer in answers for row in rows_by(form, answer.body)]
    filled = [FIRST + at * HOUR for at in (3, 4)] if fill == "previous" else []
    opens = sorted([*HOURS[:8], *filled], reverse=order == "desc")
    assert [row["open_time"] for row in rows] == [iso(open_ms) for open_ms in opens]
    names = [*VALUES, "filled"] if fill == "previous" else [*VALUES]
    assert {tuple(row) for row in rows} == {tuple(names)}
    whole = {iso(open_ms): index for index, open_ms in enumerate(HOURS)}
    expected = candles_at(HOURS).columns
    for row in rows:
        if row["open_time"] in whole:
            at = whole[row["open_time"]]
            assert row["close_time"] == iso(expected["close_time"][at])
            for name in list(VALUES)[2:]:
                assert row[name] == expected[name][at]
            assert not row.get("filled", False)
        else:
            before = expected["close"][2]
            assert [row[name] for name in ("open", "high", "low", "close")] == [before] * 4
            assert {row[name] for name in names if "volume" in name or name == "trades"} == {0}
            assert row["filled"] is True


def test_gaps_are_named_and_the_contract_holds(http: Http, stored: list[str]) -> None:
    answer = ask(http, start=iso(FIRST - HOUR), end=iso(FIRST + 6 * HOUR)).json_body
    assert answer["gaps"] == [
        {"start": iso(FIRST - HOUR), "end": iso(FIRST)},
        {"start": iso(FIRST + 3 * HOUR), "end": iso(FIRST + 5 * HOUR)},
    ]
    schema = {"$ref": "#/components/schemas/CandlePage", "components": SPEC["components"]}
    for view in (answer, ask(http, fill="previous").json_body, ask(http, timeframe="1m").json_body):
        assert [error.message for error in Draft202012Validator(schema).iter_errors(view)] == []
    files = ask(http, "/files").json_body
    schema["$ref"] = "#/components/schemas/CandleFiles"
    assert [error.message for error in Draft202012Validator(schema).iter_errors(files)] == []


def test_what_is_not_there_is_said_by_name(http: Http, stored: list[str]) -> None:
    nothing = ask(http, symbol="ETHUSDT")
    assert nothing.status_code == 200
    assert nothing.json_body["candles"] == []
    assert "POST /start" in nothing.json_body["message"]
    for symbol, hint in (
        ("btc-usdt", "did you mean BTCUSDT?"),
        ("XUSDT", "/tasks/stats"),
        ("X" * 2000, "is not a symbol"),
    ):
        for path in ("", "/files"):
            unknown = ask(http, path, symbol=symbol)
            assert unknown.status_code == 404
            assert unknown.json_body["reason"] == "SYMBOL_NOT_FOUND"
            assert hint in unknown.json_body["detail"]
    for wrong in (
        *({"timeframe": "7m"}, {"timeframe": None}, {"symbol": None}, {"symbol": ""}),
        *({"start": "2026-01-02", "end": "2026-01-01"}, {"start": "yesterday"}, {"limit": "0"}),
        *({"limit": "10001"}, {"format": "xlsx"}, {"fill": "next"}, {"order": "up"}, {"x": "1"}),
        *(
            {"page_token": "1"},
            {"page_token": "1-999999999999999"},
            {"limit": "30001", "format": "arrow"},
        ),
    ):
        answer = ask(http, **wrong)
        assert (answer.status_code, answer.json_body["reason"]) == (400, "INVALID_REQUEST"), wrong
        [pointer] = [error["pointer"] for error in answer.json_body["errors"]]
        assert pointer.removeprefix("/") in wrong


def test_times_may_be_numbers(http: Http, stored: list[str]) -> None:
    by_number = ask(http, start=FIRST + HOUR, end=FIRST + 3 * HOUR).json_body
    by_name = ask(http, start=iso(FIRST + HOUR), end=iso(FIRST + 3 * HOUR)).json_body
    assert by_number == by_name
    assert len(by_name["candles"]) == 2


def test_an_unchanged_page_is_not_read_again(http: Http, stored: list[str], aws: Aws) -> None:
    query = {"limit": 5, "format": "csv"}
    first = ask(http, **query)
    assert first.status_code == 200
    tag = first.headers["ETag"]
    reads = aws.counts["s3.GetObject"]

    def again(tag: str, **more: Any) -> Any:
        return ask(http, headers={"If-None-Match": tag}, **{**query, **more})

    for known in (tag, tag.removeprefix("W/"), f'"other", {tag}'):
        same = again(known)
        assert (same.status_code, same.body, same.headers["ETag"]) == (304, b"", tag)
    assert aws.counts["s3.GetObject"] == reads
    for other in ({"limit": 4}, {"order": "desc"}, {"fill": "previous"}, {"format": "json"}):
        assert again(tag, **other).status_code == 200
    # An object behind those of the page says nothing of it; one of its own does.
    put(aws, "BTCUSDT", "1h", candles_at(HOURS[8:9]), HOURS[8])
    assert again(tag).status_code == 304
    put(aws, "BTCUSDT", "1h", candles_at(HOURS[1:8]))
    assert again(tag).status_code == 200


def test_a_page_up_to_now_has_a_new_version_once_a_candle_is_missing(
    http: Http, stored: list[str], clock: Any
) -> None:
    query = {"start": iso(FIRST), "end": "2100-01-01"}
    answer = ask(http, **query)
    same = ask(http, headers={"If-None-Match": answer.headers["ETag"]}, **query)
    assert same.status_code == 304
    clock.advance(2 * HOUR)
    later = ask(http, headers={"If-None-Match": answer.headers["ETag"]}, **query)
    assert later.status_code == 200
    assert later.json_body["gaps"] != answer.json_body["gaps"]


def test_a_page_that_is_filled_in_has_another_version_when_the_candle_before_it_changes(
    http: Http, aws: Aws
) -> None:
    first, last = FIRST, FIRST + 366 * DAY
    put(aws, "BTCUSDT", "1h", candles_at([first]))
    put(aws, "BTCUSDT", "1h", candles_at([last]))
    query: dict[str, Any] = {"fill": "previous", "limit": 8500}  # up to the next year's object
    query["page_token"] = ask(http, **query).json_body["next_page_token"]
    tag = {"If-None-Match": ask(http, **query).headers["ETag"]}
    assert ask(http, headers=tag, **query).status_code == 304
    changed = candles_at([first])
    changed.columns["close"][0] = 99.0
    put(aws, "BTCUSDT", "1h", changed)
    again = ask(http, headers=tag, **query)
    assert again.status_code == 200
    assert again.json_body["candles"][0]["close"] == 99.0


@pytest.mark.parametrize("form", FORMATS)
def test_the_largest_page_fits_into_an_answer_of_lambda(form: str) -> None:
    """Whatever its values are; Lambda's limit is 6 MB, of the answer as JSON."""
    chance, kind = random.Random(1), FORMATS[form]
    most = kind.most_rows
    worst = 2.2250738585072014e-308
    columns: dict[str, array[Any]] = {
        name: array(code, [chance.getrandbits(62) for _ in range(most)])
        if code == "q"
        else array(code, [worst * (1 + chance.random()) for _ in range(most)])
        for name, code in VALUES.items()
    }
    if kind.write is None or form == "csv":
        for name in ("open_time", "close_time"):
            columns[name] = array("q", [NOW] * most)
    page = CandlePage(columns, bytearray([1]) * most, [], None, 0)
    if kind.write is None:
        from chalicelib.candles.formats import as_objects

        body: str | bytes = json.dumps({"candles": as_objects(page, True)})
    else:
        body = kind.write(page, True)
    answer = (web.Bytes if isinstance(body, bytes) else Response)(body, {}, 200).to_dict([])
    assert 3_000_000 * (form != "csv") < len(json.dumps(answer)) < 4_600_000


def test_files_can_be_fetched_for_a_while(
    http: Http, stored: list[str], aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566/")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    files = ask(http, "/files").json_body["files"]
    assert [file["key"] for file in files] == stored
    objects = aws.s3.buckets["candles"].objects
    assert [file["bytes"] for file in files] == [len(objects[key]) for key in stored]
    assert [file["rows"] for file in files] == [8, len(HOURS) - 8]
    low, high = timeframes.object_bounds("1h", FIRST)
    assert (files[0]["start"], files[0]["end"]) == (iso(low), iso(high))
    url = urlsplit(files[0]["url"])
    assert f"{url.scheme}://{url.netloc}" == "http://127.0.0.1:4566"
    assert url.path == f"/candles/{quote(stored[0], safe='/-_.~')}"
    assert parse_qs(url.query)["X-Amz-Expires"] == ["900"]
    assert files[0]["expires_at"] == iso(NOW // 1000 * 1000 + 900_000)


def test_files_are_looked_at_at_once(http: Http, stored: list[str], aws: Aws) -> None:
    both = Barrier(len(stored), timeout=60)  # broken where one waits for the other

    class Meeting(Hook):
        async def before(self, called: Called) -> None:
            if called.name == "s3.GetObject":
                both.wait()

    aws.hooks.append(Meeting())
    assert len(ask(http, "/files").json_body["files"]) == len(stored) == 2


def test_files_of_many_symbols_come_in_pages(http: Http, stored: list[str], aws: Aws) -> None:
    keys = [*stored, put(aws, "ETHUSDT", "1h", candles_at(HOURS[:2]))]
    keys.append(put(aws, "ETHUSDT", "1h", candles_at(HOURS[8:])))
    put(aws, "ETHUSDT", "1d", candles_at(HOURS[:1]))
    for size in (1, 2, 3, 4):
        found, token = [], None
        for _ in range(9):
            page = ask(
                http, "/files", symbol="BTCUSDT,ETHUSDT,BTCUSDT", page_size=size, page_token=token
            ).json_body
            assert len(page["files"]) <= size
            found += page["files"]
            token = page["next_page_token"]
            if token is None:
                break
        assert [file["key"] for file in found] == keys
    late = ask(http, "/files", symbol="ETHUSDT,BTCUSDT", start=iso(HOURS[8])).json_body["files"]
    assert [file["key"] for file in late] == [keys[3], keys[1]]
    assert ask(http, "/files", symbol="BTCUSDT,NOPEUSDT").status_code == 404
    beyond = ask(http, "/files", page_token="9-0")
    assert [error["pointer"] for error in beyond.json_body["errors"]] == ["/page_token"]


@pytest.mark.parametrize("content", [b"damaged", b""])
def test_a_file_that_is_no_parquet_is_listed_without_rows(
    http: Http, aws: Aws, content: bytes
) -> None:
    key = folder_of("binance", "BTCUSDT", "1d") + "all.parquet"
    run(aws("s3", "PutObject", Bucket="candles", Key=key, Body=content))
    [file] = ask(http, "/files", timeframe="1d").json_body["files"]
    assert (file["rows"], file["bytes"], file["end"]) == (None, len(content), None)
    damaged = ask(http, timeframe="1d")
    assert (damaged.status_code, damaged.json_body["reason"]) == (500, "STORED_OBJECT_DAMAGED")


texts = st.none() | st.text(max_size=12)
times = texts | st.sampled_from(
    ["2024-01-01", "9999-12-31", "1970-01-01", "0", "9999-12-31T23:59:59Z"]
)
numbers = st.integers(0, 10**15)
tokens = (
    texts
    | st.builds("{}-{}".format, numbers, numbers)
    | st.builds("{}-{}-{}".format, *[numbers] * 3)
)


@settings(
    deadline=None,
    max_examples=400,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    path=st.sampled_from(["", "/files"]),
    symbol=texts | st.sampled_from(["BTCUSDT", "ETHUSDT", "BTCUSDT,ETHUSDT", ",", "btcusdt"]),
    timeframe=texts | st.sampled_from([*timeframes.LENGTH_MS]),
    start=times,
    end=times,
    page_token=tokens,
    more=st.dictionaries(
        st.sampled_from(["limit", "format", "fill", "order", "page_size", "x"]),
        st.text(max_size=5) | st.sampled_from(["1", "previous", "desc", "asc", *FORMATS]),
        max_size=4,
    ),
    tag=texts,
)
@example("", "BTCUSDT", "1M", "9999-12-31", None, None, {"order": "desc"}, None)
@example("", "BTCUSDT", "1w", None, "9999-12-31", "0-0-0", {"fill": "previous"}, "*")
def test_no_query_makes_the_server_fail(
    http: Http,
    stored: list[str],
    path: str,
    symbol: str | None,
    timeframe: str | None,
    start: str | None,
    end: str | None,
    page_token: str | None,
    more: dict[str, str],
    tag: str | None,
) -> None:
    query = {**more, "start": start, "end": end, "page_token": page_token}
    answer = ask(
        http,
        path,
        {"If-None-Match": tag} if tag and tag.isascii() and tag.isprintable() else None,
        symbol=symbol,
        timeframe=timeframe,
        **query,
    )
    assert answer.status_code in (200, 304, 400, 404)


def test_bodies_arrive_in_base64_now_that_answers_may_be_binary(
    http: Http, backend: Backend
) -> None:
    """API Gateway takes every type for a binary one, so that no caller need name it in Accept."""

    def event(body: bytes) -> dict[str, Any]:
        return {
            "requestContext": {
                "httpMethod": "POST",
                "resourcePath": "/v1/data-collector/start",
                "path": "/api/v1/data-collector/start",
            },
            "headers": {"content-type": "application/json"},
            "multiValueQueryStringParameters": None,
            "pathParameters": {},
            "stageVariables": None,
            "body": base64.b64encode(body).decode(),
            "isBase64Encoded": True,
        }

    answer = app(event(b'{"symbols": ["BTCUSDT"], "timeframes": ["1h"]}'), None)
    assert answer["statusCode"] == 202
    assert json.loads(answer["body"])["status"] == "submitted"
    assert "isBase64Encoded" not in answer
    wrong = app(event(b"\xff\xfe"), None)
    assert (wrong["statusCode"], json.loads(wrong["body"])["reason"]) == (400, "INVALID_JSON")


def test_an_object_with_no_rows_says_that_nothing_is_missing_from_the_page(
    http: Http, aws: Aws, backend: Backend
) -> None:
    put(aws, "BTCUSDT", "1h", Candles(), FIRST)
    answer = ask(http)
    assert answer.json_body["candles"] == []
    assert answer.json_body["message"] is None
    for form in ("arrow", "parquet", "csv"):
        assert rows_by(form, ask(http, format=form).body) == []


@pytest.mark.parametrize("path", ["", "/files"])
def test_a_key_that_may_read_sees_what_everybody_collected(
    http: Http, keyed: Backend, new_key: Callable[..., str], stored: list[str], path: str
) -> None:
    assert ask(http, path).status_code == 401
    http.key = new_key("prometheus", "observe")
    assert ask(http, path).status_code == 403
    http.key = new_key("somebody", "read")
    assert ask(http, path).status_code == 200
