"""Coverage over HTTP: counts, gaps with reasons, pages that add up, and filling what is missing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import quote

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.candles import coverage_pages, explainer
from chalicelib.core.times import DAY, HOUR, MINUTE, iso, parse_time
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.view import view_task
from infra.package import ROOT
from tests.doubles.fleet import Fleet
from tests.handlers.conftest import Http
from tests.handlers.test_http import problem

OTHERS = [f"S{number:02}USDT" for number in range(11)]
SYMBOLS = ["BTCUSDT", *OTHERS]
Collect = Callable[..., dict[str, Any]]


@pytest.fixture
def start(clock: Any) -> int:
    return int(clock() // DAY * DAY - DAY)


@pytest.fixture
def collect(run: Any, worker: Any, fleet: Fleet, exchange: Any, http: Http) -> Collect:
    exchange.symbols = dict.fromkeys(SYMBOLS, "TRADING")
    run(CatalogueTable(worker).write_catalogue(dict(exchange.symbols), 6000, worker.now_ms()))

    def collect(symbols: list[str], timeframe: str, start: int, end: int) -> dict[str, Any]:
        body = {"symbols": symbols, "timeframes": [timeframe], "start": iso(start), "end": iso(end)}
        task_id = run(submit_collection(worker, body, "me", "r"))
        run(fleet.settle())
        return dict(run(view_task(worker, task_id)))

    return collect


def get(http: Http, path: str, **query: Any) -> Any:
    text = "&".join(f"{name}={quote(str(value))}" for name, value in query.items())
    answer = http("GET", f"{path}?{text}")
    assert answer.status_code == 200, answer.body
    _check_form(path, answer.json_body)
    return answer.json_body


def every(http: Http, path: str, entries: str, **query: Any) -> list[Any]:
    """The entries of all pages."""
    found: list[Any] = []
    token = None
    for _ in range(500):
        page = get(http, path, **query, **({"page_token": token} if token else {}))
        found += page[entries]
        token = page["next_page_token"]
        if token is None:
            return found
    raise AssertionError("pages without end")


def _check_form(path: str, body: Any) -> None:
    contract = json.loads((ROOT / "docs/openapi.json").read_text())
    operation = contract["paths"][f"/api/v1/data-collector{path}"]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(body, {**schema, "components": contract["components"]})


#: Times that parse, up to the last one; most lie in the future.
TIMES = st.one_of(
    st.sampled_from(["9999-12-31", "9999-12-31T12:00:00Z", "9999-12-01", "9998-12-31", 0]),
    st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)).map(
        lambda at: f"{at:%Y-%m-%dT%H:%M}"
    ),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    between=st.tuples(TIMES, TIMES),
    frame=st.sampled_from(["1s", "1m", "1h", "1d", "1w", "1M"]),
    resolution=st.sampled_from(["object", "day", "month", "year"]),
)
def test_no_time_that_can_be_named_breaks_a_route(
    http, collect, start, between, frame, resolution
) -> None:
    named = dict(zip(("start", "end"), between, strict=True))
    for path, where in (
        ("/coverage", {"symbols": "BTCUSDT", "timeframes": frame, "resolution": resolution}),
        ("/coverage/gaps", {"symbol": "BTCUSDT", "timeframe": frame}),
        ("/candles", {"symbol": "BTCUSDT", "timeframe": frame}),
        ("/candles/files", {"symbols": "BTCUSDT", "timeframe": frame}),
    ):
        for times in (named, {"end": named["end"]}, {"start": named["start"]}):
            text = "&".join(
                f"{name}={quote(str(value))}" for name, value in (where | times).items()
            )
            answer = http("GET", f"{path}?{text}")
            assert answer.status_code < 500, (path, times, answer.body)
    body = {"symbols": ["BTCUSDT"], "timeframes": [frame], **named}
    for more in ({"fill": "gaps"}, {"fill": "all"}, {}):
        answer = http("POST", "/start", {**body, **more, "dry_run": True})
        assert answer.status_code < 500, (body, answer.body)


@pytest.mark.parametrize("fill", ["new", "gaps", "all"])
def test_a_range_that_ends_in_ten_thousand_ends_now(
    http, run, worker, fleet, collect, start, fill
) -> None:
    body = {"symbols": ["BTCUSDT"], "timeframes": ["1m", "1M"], "start": iso(start), "fill": fill}
    task_id = http("POST", "/start", {**body, "end": "9999-12-31"}).json_body["task_id"]
    run(fleet.settle())
    task = run(view_task(worker, task_id))
    assert (task["status"], task["units"]["failed"]) == ("completed", 0)
    query = {"symbols": "BTCUSDT", "timeframes": "1m", "start": iso(start), "resolution": "day"}
    assert every(http, "/coverage", "coverage", **query, end="9999-12-31") == every(
        http, "/coverage", "coverage", **query, end=iso(worker.now_ms())
    )


def counts(row: dict[str, Any]) -> tuple[int, int, dict[str, int], int]:
    return row["expected"], row["held"], row["explained"], row["missing"]


def test_counts_and_gaps_say_what_is_missing_and_why(
    http: Http, collect: Collect, exchange: Any, clock: Any, start: int
) -> None:
    exchange.outage = {start + 5 * MINUTE, start + 6 * MINUTE}
    exchange.unserved = {start + 10 * MINUTE: (0, clock() + 1000)}
    collect(["BTCUSDT"], "1m", start, start + 30 * MINUTE)
    clock.advance(2000)
    collect(OTHERS, "1m", start, start + 30 * MINUTE)
    around = {"start": iso(start), "end": iso(start + 40 * MINUTE)}
    page = get(http, "/coverage", symbols="BTCUSDT,S00USDT", **around)
    assert [(row["symbol"], row["timeframe"]) for row in page["coverage"]] == [
        ("BTCUSDT", "1m"),
        ("S00USDT", "1m"),
    ]
    ours, other = page["coverage"]
    assert counts(ours) == (40, 27, {"exchange_outage": 2}, 11)
    assert ours["percent"] == 72.5
    assert counts(other) == (40, 28, {"exchange_outage": 2}, 10)
    assert len(ours["cells"]) == 1
    gaps = get(http, "/coverage/gaps", symbol="BTCUSDT", timeframe="1m", **around)["gaps"]
    assert [
        ((parse_time(gap["start"]) - start) // MINUTE, gap["candles"], gap["reason"])
        for gap in gaps
    ] == [(5, 2, "exchange_outage"), (10, 1, "unexplained"), (30, 10, "not_collected")]
    assert gaps[1]["evidence"]["times_asked"] == 1
    assert gaps[2]["evidence"] is None


def test_without_a_range_it_goes_from_the_first_candle_to_the_running_one(
    http: Http, collect: Collect, exchange: Any, start: int
) -> None:
    exchange.listed_ms = start + 10 * HOUR
    collect(["BTCUSDT"], "1h", start - 10 * DAY, start + 20 * HOUR)
    [row] = get(http, "/coverage", symbols="BTCUSDT")["coverage"]
    assert row["start"] == iso(exchange.listed_ms)
    assert (row["held"], row["explained"]) == (10, {})
    assert row["missing"] == row["expected"] - 10 > 0
    gaps = get(http, "/coverage/gaps", symbol="BTCUSDT", timeframe="1h")["gaps"]
    assert [gap["reason"] for gap in gaps] == ["before_listing", "not_collected"]
    later = get(http, "/coverage/gaps", symbol="BTCUSDT", timeframe="1h", end=iso(start + 9 * DAY))[
        "gaps"
    ]
    assert [gap["reason"] for gap in later][-1] == "not_yet_final"


@pytest.mark.parametrize("resolution", ["object", "day", "month"])
def test_without_explanations_no_object_is_read_and_nothing_is_claimed(
    http: Http, collect: Collect, exchange: Any, aws: Any, start: int, resolution: str
) -> None:
    begin = parse_time("2025-12-30")
    exchange.listed_ms = begin + 5 * HOUR
    exchange.outage = {begin + hours * HOUR for hours in (30, 31)}
    collect(["BTCUSDT"], "1h", begin, begin + 4 * DAY)
    around = {"symbols": "BTCUSDT", "start": iso(begin), "end": iso(begin + 6 * DAY)}
    [exact] = get(http, "/coverage", resolution=resolution, **around)["coverage"]
    reads = aws.counts["s3.GetObject"]
    [row] = get(http, "/coverage", resolution=resolution, explain="false", **around)["coverage"]
    assert reads
    assert aws.counts["s3.GetObject"] == reads
    assert "uncertain" not in exact
    assert row["explained"] == {"before_listing": 5} == exact["explained"]
    for cell, sure in zip(row["cells"], exact["cells"], strict=True):
        assert (cell["start"], cell["end"]) == (sure["start"], sure["end"])
        assert cell["expected"] == sum(counts(cell)[1::2]) + cell["uncertain"] + sum(
            cell["explained"].values()
        )
        doubted = sure["held"] - cell["held"]
        assert 0 <= sure["missing"] - cell["missing"] <= cell["uncertain"]
        assert doubted + sure["missing"] - cell["missing"] == cell["uncertain"]
    assert row["uncertain"] == {"object": 2, "month": 2, "day": 4}[resolution]


def test_of_what_was_never_collected_all_is_missing(http: Http, collect: Collect) -> None:
    assert get(http, "/coverage", symbols="BTCUSDT")["coverage"] == []
    [row] = get(http, "/coverage", symbols="BTCUSDT", timeframes="1h")["coverage"]
    assert (row["cells"], row["percent"], row["start"]) == ([], None, None)
    day = {"start": "2026-01-01", "end": "2026-01-02"}
    [row] = get(http, "/coverage", symbols="BTCUSDT", timeframes="1h", **day)["coverage"]
    assert (counts(row), row["percent"]) == ((24, 0, {}, 24), 0)
    page = get(http, "/coverage/gaps", symbol="BTCUSDT", timeframe="1h")
    assert (page["gaps"], page["start"]) == ([], None)


def test_without_symbols_every_symbol_that_trades_comes_page_by_page(
    http: Http, collect: Collect, start: int
) -> None:
    collect(SYMBOLS, "1h", start, start + 3 * HOUR)
    rows = every(http, "/coverage", "coverage", page_size=5)
    assert [row["symbol"] for row in rows] == SYMBOLS
    assert [get(http, "/coverage", page_size=5)["coverage"][n]["symbol"] for n in (0, 4)] == [
        "BTCUSDT",
        "S03USDT",
    ]


@pytest.mark.parametrize("resolution", ["object", "day", "month", "year", "all"])
@pytest.mark.parametrize(("cells", "reads"), [(2000, 300), (3, 300), (2000, 1), (2, 1)])
def test_parts_of_any_size_on_any_pages_add_up(
    http: Http,
    collect: Collect,
    exchange: Any,
    monkeypatch: pytest.MonkeyPatch,
    resolution: str,
    cells: int,
    reads: int,
) -> None:
    begin = parse_time("2025-12-29")
    exchange.outage = {begin + hours * HOUR for hours in (3, 30, 31, 90, 91)}
    collect(["BTCUSDT", "S00USDT"], "1h", begin, begin + 6 * DAY)
    collect(["BTCUSDT"], "1s", begin, begin + 2 * DAY)
    around = {"start": iso(begin - HOUR), "end": iso(begin + 6 * DAY)}
    whole = {
        (row["symbol"], row["timeframe"]): counts(row)
        for row in get(http, "/coverage", symbols="BTCUSDT,S00USDT", resolution="all", **around)[
            "coverage"
        ]
    }
    assert whole["S00USDT", "1h"] == (145, 139, {}, 6)
    monkeypatch.setattr(coverage_pages, "MOST_CELLS", cells)
    monkeypatch.setattr(explainer, "MOST_READS", reads)
    parts = every(
        http,
        "/coverage",
        "coverage",
        symbols="S00USDT,BTCUSDT",
        resolution=resolution,
        page_size=2,
        **around,
    )
    for key, total in whole.items():
        mine = [
            cell
            for row in parts
            if (row["symbol"], row["timeframe"]) == key
            for cell in row["cells"]
        ]
        assert all(left["end"] == right["start"] for left, right in itertools.pairwise(mine))
        assert (mine[0]["start"], mine[-1]["end"]) == (around["start"], around["end"])
        for at in (0, 1, 3):
            assert sum(counts(cell)[at] for cell in mine) == total[at]


@pytest.mark.parametrize("page_size", [1, 2, 100])
def test_gaps_come_each_once_on_pages_of_any_size(
    http: Http, collect: Collect, exchange: Any, start: int, page_size: int
) -> None:
    exchange.outage = {start + minute * MINUTE for minute in (1, 3, 4, 9)}
    collect(["BTCUSDT"], "1m", start, start + 12 * MINUTE)
    found = every(
        http,
        "/coverage/gaps",
        "gaps",
        symbol="BTCUSDT",
        timeframe="1m",
        end=iso(start + 12 * MINUTE),
        page_size=page_size,
    )
    assert [(gap["start"], gap["candles"]) for gap in found] == [
        (iso(start + minute * MINUTE), candles) for minute, candles in ((1, 1), (3, 2), (9, 1))
    ]


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("/coverage?symbols=", "/symbols"),
        ("/coverage?symbols=NOPEUSDT", "/symbols"),
        ("/coverage?symbols=a b", "/symbols"),
        ("/coverage?timeframes=7m", "/timeframes"),
        ("/coverage?resolution=hour", "/resolution"),
        ("/coverage?explain=no", "/explain"),
        ("/coverage?start=2026-01-02&end=2026-01-01", "/start"),
        ("/coverage?page_token=5", "/page_token"),
        ("/coverage?page_size=0", "/page_size"),
        ("/coverage?fill=1", "/fill"),
        ("/coverage/gaps?timeframe=1h", "/symbol"),
        ("/coverage/gaps?symbol=BTCUSDT", "/timeframe"),
        ("/coverage/gaps?symbol=BTCUSDT&timeframe=1h&page_token=x", "/page_token"),
    ],
)
def test_a_wrong_question_is_refused(http: Http, path: str, pointer: str) -> None:
    answer = http("GET", path.replace(" ", "%20"))
    assert pointer in {
        each["pointer"] for each in problem(answer, 400, "INVALID_REQUEST")["errors"]
    }


@given(
    path=st.sampled_from(["/coverage", "/coverage/gaps"]),
    query=st.dictionaries(
        st.sampled_from(
            [
                *("symbols", "symbol", "timeframes", "timeframe", "start", "end"),
                *("resolution", "explain", "page_size", "page_token"),
            ]
        ),
        st.one_of(
            st.text(max_size=20),
            st.integers(-(10**18), 10**18).map(str),
            st.sampled_from(["BTCUSDT", "1h", "1M", "day", "false", "2026-01-01", "1~1h~BTCUSDT"]),
        ),
        max_size=5,
    ),
)
@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_question_breaks_it(http: Http, path: str, query: dict[str, str]) -> None:
    text = "&".join(f"{name}={quote(value)}" for name, value in query.items())
    answer = http("GET", f"{path}?{text}")
    assert answer.status_code in (200, 400)
    assert answer.status_code == 200 or problem(answer, 400, "INVALID_REQUEST")["errors"]


def test_filling_is_a_collection_of_what_is_missing(
    http: Http, collect: Collect, exchange: Any, fleet: Fleet, run: Any, clock: Any, start: int
) -> None:
    around = {"start": iso(start), "end": iso(start + 30 * MINUTE)}
    collect(["BTCUSDT"], "1m", start, start + 10 * MINUTE)
    exchange.asked.clear()
    body = {"symbols": ["BTCUSDT"], "timeframes": ["1m"], **around}
    answer = http("POST", "/coverage/fill", body, {"Idempotency-Key": "k"})
    again = http("POST", "/coverage/fill", body, {"Idempotency-Key": "k"})
    assert (answer.status_code, again.json_body) == (202, answer.json_body)
    run(fleet.settle())
    assert exchange.asked == [("BTCUSDT", "1m", start + 10 * MINUTE, start + 30 * MINUTE)]
    task = http("GET", f"/task/{answer.json_body['task_id']}").json_body
    assert (task["status"], task["result"]["candles"]) == ("completed", 20)


def test_filling_takes_no_other_fill(http: Http) -> None:
    answer = http("POST", "/coverage/fill", {"fill": "all"})
    assert problem(answer, 400, "INVALID_REQUEST")["errors"][0]["pointer"] == "/fill"
    assert problem(http("POST", "/coverage/fill", []), 400, "INVALID_REQUEST")


def test_verifying_is_a_task_that_can_be_followed_and_mends(
    http: Http, collect: Collect, aws: Any, settings: Any, fleet: Fleet, run: Any, start: int
) -> None:
    collect(["BTCUSDT"], "1h", start, start + 5 * HOUR)
    objects = aws.s3.buckets[settings.candles_bucket].objects
    [key] = objects
    objects[key] = objects[key][:-1]

    def verified(**more: Any) -> Any:
        answer = http("POST", "/coverage/verify", {"symbols": ["BTCUSDT"], **more})
        assert answer.status_code == 202
        run(fleet.settle())
        return http("GET", f"/task/{answer.json_body['task_id']}").json_body

    failed = verified()
    assert [failure["reason"] for failure in failed["failures"]] == ["OBJECT_DAMAGED"]
    mended = verified(repair=True)
    assert (mended["status"], mended["result"]["candles"]) == ("completed", 5)
    assert verified()["result"]["from_store"] == 1
    retried = http("POST", f"/task/{failed['task_id']}/retry", {})
    assert retried.status_code == 202
    run(fleet.settle())
    assert http("GET", f"/task/{failed['task_id']}").json_body["status"] == "completed"


def test_a_schedule_that_fills_shows_it_and_asks_for_what_nothing_explains(
    http: Http, collect: Collect, exchange: Any, fleet: Fleet, run: Any, clock: Any, start: int
) -> None:
    exchange.unserved = {start + 3 * HOUR: (0, clock() + 1000)}
    collect(["BTCUSDT"], "1h", start, start + 5 * HOUR)
    clock.advance(2000)
    asked = {"symbols": ["BTCUSDT"], "timeframes": ["1h"], "fill": "gaps"}
    made = http("POST", "/schedules", {"expression": "rate(1 day)", "request": asked})
    assert made.json_body["request"]["fill"] == "gaps"
    exchange.asked.clear()
    ran = http("POST", f"/schedules/{made.json_body['schedule_id']}/run", {})
    run(fleet.settle())
    hole = start + 3 * HOUR
    assert any(low <= hole < high for *_, low, high in exchange.asked)
    task = http("GET", f"/task/{ran.json_body['task_id']}").json_body
    assert task["status"] == "completed"
    [row] = get(http, "/coverage", symbols="BTCUSDT", end=iso(start + 5 * HOUR))["coverage"]
    assert (row["held"], row["missing"]) == (5, 0)
