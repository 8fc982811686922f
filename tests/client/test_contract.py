"""Client and AsyncClient ask for each route of docs/openapi.json, alike, and as it takes it."""

from __future__ import annotations

import inspect
import json
import re
from datetime import UTC, date, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from infra.package import ROOT
from market_data_collector import AsyncClient, Candles, Client
from market_data_collector.answers import CollectionOptions
from market_data_collector.calls import When, time
from market_data_collector.operation import operation, stream
from tests.cli.fake_api import PREFIX, SUBMITTED
from tests.client.both import Use, awaiting, blocking
from tests.client.collector import ROWS, candles
from tests.client.collector import stream as arrow

DOCUMENT = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
RANGE = ("2026-11-01", datetime(2026, 11, 2, tzinfo=UTC))
PAGE = {"page_size": 2}
#: Operation -> how it is used here, and the route that it asks.
USES: dict[str, tuple[Use, str]] = {
    "start": (
        lambda c: c.start(
            ["BTCUSDT", "*USDT"],
            "1h",
            *RANGE,
            priority="high",
            fill="gaps",
            force=True,
            retries=2,
            retry_backoff_seconds=60,
            timeout_seconds=600,
            tolerated_failure_percentage=5,
        ),
        "POST /start",
    ),
    "quote": (lambda c: c.quote("BTCUSDT", ["1m"], date(2026, 1, 1)), "POST /start"),
    "fill": (lambda c: c.fill("BTCUSDT", "1h", *RANGE, priority="low"), "POST /coverage/fill"),
    "verify": (lambda c: c.verify("BTCUSDT", repair=True), "POST /coverage/verify"),
    "refresh_symbols": (lambda c: c.refresh_symbols(accept_refused=True), "POST /refresh-symbols"),
    "task": (lambda c: c.task("x"), "GET /task/{task_id}"),
    "tasks": (lambda c: c.tasks(status="failed", **PAGE), "GET /tasks"),
    "tasks_page": (lambda c: c.tasks_page(task_type="symbol_refresh", **PAGE), "GET /tasks"),
    "active": (lambda c: c.active(**PAGE), "GET /tasks/active"),
    "history": (lambda c: c.history(since=RANGE[1], until=1_795_305_600_000), "GET /history"),
    "history_page": (lambda c: c.history_page(status="failed", **PAGE), "GET /history"),
    "cancel": (lambda c: c.cancel("x"), "POST /task/{task_id}/cancel"),
    "retry": (lambda c: c.retry("x"), "POST /task/{task_id}/retry"),
    "candles": (
        lambda c: c.candles("BTCUSDT", "1h", *RANGE, fill="previous", order="desc"),
        "GET /candles",
    ),
    "candle_pages": (lambda c: c.candle_pages("BTCUSDT", "1h", *RANGE, limit=5), "GET /candles"),
    "candle_answers": (
        lambda c: c.candle_answers("arrow", {"symbol": "BTCUSDT", "timeframe": "1h"}),
        "GET /candles",
    ),
    "candle_files": (lambda c: c.candle_files(["A", "B"], "1h", *RANGE), "GET /candles/files"),
    "coverage": (
        lambda c: c.coverage(["A", "B"], "1h", *RANGE, resolution="day", explain=False),
        "GET /coverage",
    ),
    "gaps": (lambda c: c.gaps("A", "1h", *RANGE, **PAGE), "GET /coverage/gaps"),
    "latest_prices": (lambda c: c.latest_prices(["A", "B"]), "GET /latest-prices"),
    "stats": (lambda c: c.stats(), "GET /tasks/stats"),
    "status": (lambda c: c.status(), "GET /status"),
    "metrics": (lambda c: c.metrics(), "GET /metrics"),
    "ws_ticket": (lambda c: c.ws_ticket(), "POST /ws-ticket"),
    "create_schedule": (
        lambda c: c.create_schedule(
            "rate(1 hour)",
            {"symbols": ["A"], "timeframes": ["1h"], "retries": 1},
            name="n",
            freshness={"max_lag_seconds": 60},
        ),
        "POST /schedules",
    ),
    "schedules": (lambda c: c.schedules(**PAGE), "GET /schedules"),
    "schedule": (lambda c: c.schedule("x"), "GET /schedules/{schedule_id}"),
    "change_schedule": (
        lambda c: c.change_schedule("x", enabled=False, overlap="queue"),
        "PATCH /schedules/{schedule_id}",
    ),
    "delete_schedule": (lambda c: c.delete_schedule("x"), "DELETE /schedules/{schedule_id}"),
    "run_schedule": (lambda c: c.run_schedule("x"), "POST /schedules/{schedule_id}/run"),
    "audit": (lambda c: c.audit(RANGE[1], action="task.failed", to=RANGE[1]), "GET /audit"),
    "pause": (lambda c: c.pause(7200, "maintenance"), "POST /pause"),
    "resume": (lambda c: c.resume(), "POST /resume"),
    "create_key": (lambda c: c.create_key("anna", ["read"], date(2027, 1, 1)), "POST /keys"),
    "keys": (lambda c: c.keys(**PAGE), "GET /keys"),
    "rotate_key": (lambda c: c.rotate_key("x"), "POST /keys/{key_id}/rotate"),
    "revoke_key": (lambda c: c.revoke_key("x"), "DELETE /keys/{key_id}"),
}
#: Operations that ask for no route of their own.
OTHERS = {"watch": "the WebSocket: tests/client/test_silence.py, tests/cli/test_watch.py"}


def operations() -> set[str]:
    return {
        name
        for name in dir(Client)
        if isinstance(inspect.getattr_static(Client, name), operation | stream)
    }


def test_both_clients_have_the_same_operations_and_each_is_used_here() -> None:
    assert operations() == USES.keys() | OTHERS.keys()
    for name in operations():
        assert inspect.getattr_static(Client, name) is inspect.getattr_static(AsyncClient, name)


def test_every_route_of_the_contract_can_be_asked_for() -> None:
    routes = {
        f"{method.upper()} {path.removeprefix(PREFIX)}"
        for path, methods in DOCUMENT["paths"].items()
        if path.startswith(PREFIX)
        for method in methods
        if method in ("get", "post", "patch", "delete")
    }
    assert routes == {route for _, route in USES.values()}


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    found: Any = part
    while "$ref" in found:
        name = found["$ref"]
        found = DOCUMENT
        for step in name.removeprefix("#/").split("/"):
            found = found[step]
    return found


@pytest.mark.parametrize("name", USES)
def test_a_request_is_the_contracts_and_both_clients_send_the_same(name: str) -> None:
    use, route = USES[name]
    script: dict[str, Any] = {"GET /candles": [arrow(candles())]}
    script["POST /start"] = [SUBMITTED]
    script["GET /metrics"] = [httpx.Response(200, text="up 1\n")]
    script["GET /candles/files"] = [httpx.Response(200, json={"files": []})]
    script["POST /ws-ticket"] = [httpx.Response(201, json={"ticket": "t", "url": "ws://x"})]
    one, other = blocking(use, script), awaiting(use, script)
    assert not isinstance(one.answer, Exception), one.answer
    if name not in ("candles", "candle_pages", "candle_answers"):
        assert repr(one.answer) == repr(other.answer).replace("AsyncJob", "Job")
    [sent], [same] = one.api.requests, other.api.requests
    assert (sent.method, sent.url, sent.content) == (same.method, same.url, same.content)
    check(sent, route)


def check(sent: httpx.Request, route: str) -> None:
    method, path = route.split()
    assert re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", PREFIX + path), sent.url.path)
    contract = DOCUMENT["paths"][PREFIX + path]
    parameters = [
        resolved(each)
        for each in (
            *contract.get("parameters", []),
            *contract[method.lower()].get("parameters", []),
        )
    ]
    query = {each["name"] for each in parameters if each["in"] == "query"}
    assert {*sent.url.params} <= query
    takes_key = any(each["name"] == "Idempotency-Key" for each in parameters)
    assert ("Idempotency-Key" in sent.headers) == takes_key
    body = contract[method.lower()].get("requestBody")
    if body and sent.content:
        schema = resolved(body)["content"]["application/json"]["schema"]
        whole = {**schema, "components": DOCUMENT["components"]}
        Draft202012Validator(whole).validate(json.loads(sent.content))


def test_an_empty_list_never_means_everything() -> None:
    for use in (
        lambda client: client.start([]),
        lambda client: client.start("A", []),
        lambda client: client.coverage([]),
        lambda client: client.latest_prices(()),
    ):
        done = blocking(use)
        assert isinstance(done.answer, ValueError)
        assert done.api.requests == []


def test_the_options_of_a_start_are_those_of_the_contract() -> None:
    given = {"symbols", "timeframes", "start", "end", "dry_run"}
    schema = DOCUMENT["components"]["schemas"]["StartRequest"]
    assert CollectionOptions.__annotations__.keys() | given == schema["properties"].keys()


@given(st.datetimes(timezones=st.just(UTC)) | st.datetimes())
def test_a_datetime_is_sent_as_the_moment_that_it_is(moment: datetime) -> None:
    text = time(moment)
    assert isinstance(text, str)
    said = datetime.fromisoformat(text)
    assert abs(said - moment.replace(tzinfo=UTC)).total_seconds() < 0.001


@given(st.text() | st.integers() | st.none())
def test_other_times_are_left_to_the_api(value: When) -> None:
    assert time(value) == value


def pages() -> dict[str, Any]:
    link = '<candles?page_token={}>; rel="next"'
    cut = ((0, 10), (10, 10), (10, ROWS))
    links = [{"Link": link.format(1)}, {"Link": link.format(2)}, {}]
    return {
        "GET /candles": [
            arrow(candles(*part), **each) for part, each in zip(cut, links, strict=True)
        ]
    }


@pytest.mark.parametrize("way", [blocking, awaiting])
def test_candles_are_all_pages_an_empty_one_too(way: Any) -> None:
    done = way(lambda client: client.candles("BTCUSDT", "1h"), pages())
    assert done.answer.to_pandas().equals(Candles(candles()).to_pandas())
    assert [each.url.params.get("page_token") for each in done.api.requests] == [None, "1", "2"]
    each = way(lambda client: client.candle_pages("BTCUSDT", "1h"), pages()).answer
    assert [len(page) for page in each] == [10, 0, ROWS - 10]
