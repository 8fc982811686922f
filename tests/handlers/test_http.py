"""The HTTP edge: codes, headers, problem documents. What happens behind it is tested elsewhere."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from chalicelib import wiring
from chalicelib.aws.calls import run
from chalicelib.core.backend import Backend
from chalicelib.exchange.binance import Binance
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.refresh import refresh_prices
from chalicelib.exchange.worker import Worker
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.idempotency_keys import IdempotencyKeys
from tests.doubles.aws import Aws
from tests.doubles.clock import Clock
from tests.doubles.fleet import Fleet
from tests.doubles.http import ScriptedHttp
from tests.doubles.settings import at_another_root
from tests.handlers.conftest import PREFIX, Http

ROOT = Path(__file__).parents[2]
START = {"symbols": ["BTCUSDT"], "timeframes": ["1h"]}


def problem(answer: Any, status: int, reason: str) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = json.loads(answer.body)
    assert body["reason"] == reason
    assert body["status"] == status
    assert set(body) >= {"type", "title", "status", "detail", "instance", "reason"}
    return body


def test_start_answers_202_with_the_task_and_where_to_look(http: Http) -> None:
    answer = http("POST", "/start", START)
    assert answer.status_code == 202
    task_id = answer.json_body["task_id"]
    assert answer.json_body == {
        "task_id": task_id,
        "status": "submitted",
        "message": "Collection submitted",
        "deduplicated": False,
    }
    assert answer.headers["Location"] == f"/api/v1/data-collector/task/{task_id}"
    assert answer.headers["Retry-After"] == "1"


def test_an_empty_body_starts_everything(http: Http) -> None:
    assert http("POST", "/start").status_code == 202


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"symbols": ["NOPE"]}, "/symbols/0"),
        ({"symbols": ["BTCUSDT", "a b"]}, "/symbols/1"),
        ({"symbols": []}, "/symbols"),
        ({"symbols": "BTCUSDT"}, "/symbols"),
        ({"symbols": None}, "/symbols"),
        ({"symbols": ["BTCUSDT"] * 5001}, "/symbols"),
        ({"timeframes": ["7m"]}, "/timeframes/0"),
        ({"timeframes": ["1H"]}, "/timeframes/0"),
        ({"start": "yesterday"}, "/start"),
        ({"start": "2026-01-02", "end": "2026-01-01"}, "/start"),
        ({"start": "2999-01-01"}, "/start"),
        ({"end": -1}, "/end"),
        ({"priority": "urgent"}, "/priority"),
        ({"tolerated_failure_percentage": 101}, "/tolerated_failure_percentage"),
        ({"timeout_seconds": 1.5}, "/timeout_seconds"),
        ({"symbolz": ["BTCUSDT"]}, "/symbolz"),
        ({"a/b~c": 1}, "/a~1b~0c"),
        ([], ""),
    ],
)
def test_each_invalid_field_is_named_and_nothing_is_stored(
    http: Http, aws: Aws, body: object, pointer: str
) -> None:
    errors = problem(http("POST", "/start", body), 400, "INVALID_REQUEST")["errors"]
    assert pointer in [error["pointer"] for error in errors]
    # A symbol that is not known may be new: the list is read again, and nothing else happens.
    queued = [item["task_type"]["S"] for item in aws.items("tasks") if "task_type" in item]
    assert queued == ["symbol_refresh"] * (body == {"symbols": ["NOPE"]})
    assert aws.counts["sqs.SendMessage"] == len(queued)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"accept_refused": 1}, "/accept_refused"),
        ({"accept_refused": None}, "/accept_refused"),
        ({"accept": True}, "/accept"),
        ([], ""),
    ],
)
def test_a_refresh_takes_one_field_and_names_what_is_wrong_with_any_other(
    http: Http, aws: Aws, body: object, pointer: str
) -> None:
    errors = problem(http("POST", "/refresh-symbols", body), 400, "INVALID_REQUEST")["errors"]
    assert [error["pointer"] for error in errors] == [pointer]
    assert aws.items("tasks") == []
    for good in (None, {}, {"accept_refused": False}, {"accept_refused": True}):
        assert http("POST", "/refresh-symbols", good).status_code == 202


def test_bad_json_and_a_wrong_content_type_are_told_apart(http: Http) -> None:
    problem(http("POST", "/start", b"{"), 400, "INVALID_JSON")
    problem(http("POST", "/start", b"\xff"), 400, "INVALID_JSON")
    xml = http("POST", "/start", b"<a/>", {"Content-Type": "text/xml"})
    problem(xml, 415, "UNSUPPORTED_MEDIA_TYPE")


def test_too_many_units_are_refused_before_anything_is_stored(
    http: Http, aws: Aws, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Backend(aws, replace(backend.settings, max_units=20), backend.now_ms)
    monkeypatch.setattr(wiring, "backend", lambda: small)
    body = {"timeframes": ["1s"], "start": "1990-01-01", "symbols": ["BTCUSDT", "ETHUSDT"]}
    answer = problem(http("POST", "/start", body), 400, "TOO_MANY_UNITS")
    assert "may have 20:" in answer["detail"]
    assert not aws.items("tasks")


@pytest.mark.parametrize("name", ["start", "end"])
@pytest.mark.parametrize("scale", [1, 1_000_000, 1_000_000_000, 1.0])
def test_a_time_in_another_unit_is_refused_with_the_time_that_was_meant(
    http: Http, aws: Aws, name: str, scale: float
) -> None:
    answer = problem(http("POST", "/start", {name: 1_767_225_600 * scale}), 400, "INVALID_REQUEST")
    assert answer["detail"].startswith(f"/{name}: must be an ISO 8601 date")
    assert answer["detail"].endswith("did you mean 2026-01-01T00:00:00.000Z?")
    assert not aws.items("tasks")


def test_the_beginning_of_time_may_be_asked_for(http: Http) -> None:
    for start in (0, "1970-01-01", "1970-01-01T00:00:00Z"):
        assert http("POST", "/start", {"timeframes": ["1d"], "start": start}).status_code == 202


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ({"timeframes": ["1H"]}, "did you mean 1h?"),
        ({"timeframes": ["15M"]}, "did you mean 15m?"),
        ({"timeframes": [" 1M "]}, "did you mean 1M?"),
        ({"timeframes": ["1 d"]}, "did you mean 1d?"),
        ({"symbols": ["btcusdt"]}, "did you mean BTCUSDT?"),
        ({"symbols": ["BTC/USDT"]}, "did you mean BTCUSDT?"),
        ({"symbols": [" btc-usdt\n"]}, "did you mean BTCUSDT?"),
    ],
)
def test_a_near_miss_is_refused_with_the_name_that_was_meant(
    http: Http, body: object, hint: str
) -> None:
    assert hint in problem(http("POST", "/start", body), 400, "INVALID_REQUEST")["detail"]


def test_a_month_and_a_minute_are_told_apart_by_their_case(http: Http) -> None:
    for timeframe in ("1m", "1M"):
        assert http("POST", "/start", {"timeframes": [timeframe]}).status_code == 202


_numbers = st.integers() | st.integers(0, 10**20) | st.floats() | st.booleans()
_odd = (
    st.none()
    | _numbers
    | _numbers.map(str)
    | st.dates().map(str)
    | st.datetimes().map(lambda moment: moment.isoformat())
    | st.text("0123456789-:.TWZ+٢٠ \n", max_size=24)
    | st.sampled_from(["1H", "1D", " 1h", "btcusdt", "BTC/USDT", "BTCUSDT", "1h", "high", "HIGH"])
)
_odd_fields = st.fixed_dictionaries(
    {},
    optional={
        "symbols": st.lists(_odd, max_size=3) | _odd,
        "timeframes": st.lists(_odd, max_size=3) | _odd,
        **dict.fromkeys(("start", "end", "priority", "timeout_seconds"), _odd),
        "tolerated_failure_percentage": _odd,
    },
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(body=_odd_fields)
def test_each_error_of_an_odd_request_names_a_field_and_says_what_to_send(
    http: Http, body: dict[str, object]
) -> None:
    answer = http("POST", "/start", body)
    if answer.status_code == 202:
        return
    assert answer.status_code == 400
    refusal = json.loads(answer.body)
    if refusal["reason"] == "TOO_MANY_UNITS":
        assert "shorter range" in refusal["detail"]
        return
    assert refusal["reason"] == "INVALID_REQUEST"
    assert {error["pointer"].split("/")[1] for error in refusal["errors"]} <= set(body)
    remedies = ("must ", "is not a symbol", "unknown symbol", "leave the field out")
    assert all(error["detail"].startswith(remedies) for error in refusal["errors"])


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(
    body=st.one_of(
        st.binary(max_size=40),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["symbols", "timeframes", "start", "end", "priority"])
                    | st.text(max_size=3),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=8,
        ),
    )
)
def test_whatever_is_sent_is_accepted_or_rejected_but_never_breaks(
    http: Http, body: object
) -> None:
    for path in ("/start", "/refresh-symbols", "/task/none/cancel", "/task/none/retry"):
        answer = http("POST", path, body)
        assert answer.status_code in (202, 400, 404)
        if answer.status_code != 202:
            assert answer.headers["Content-Type"] == "application/problem+json"


def test_unknown_task_is_404_and_expired_task_is_410_with_its_trail(
    http: Http, clock: Clock, fleet: Fleet, run: Callable[..., Any]
) -> None:
    problem(http("GET", "/task/none"), 404, "TASK_NOT_FOUND")
    task_id = http("POST", "/start", START).json_body["task_id"]
    run(fleet.settle())
    assert http("GET", f"/task/{task_id}").json_body["status"] == "completed"
    clock.advance(301_000)
    body = problem(http("GET", f"/task/{task_id}"), 410, "TASK_EXPIRED")
    assert body["audit"] == f"/api/v1/data-collector/audit?task_id={task_id}"
    assert http("GET", "/tasks").json_body["tasks"] == []


def test_task_has_the_published_fields(http: Http, fleet: Fleet, run: Callable[..., Any]) -> None:
    task_id = http("POST", "/start", START).json_body["task_id"]
    pending = http("GET", f"/task/{task_id}")
    assert pending.headers["Retry-After"] == "1"
    assert pending.json_body["progress"] == 0
    run(fleet.settle())
    ended = http("GET", f"/task/{task_id}")
    assert "Retry-After" not in ended.headers
    task = ended.json_body
    names = "task_id task_type status progress message created_at started_at completed_at error"
    assert set(names.split()) | {"result", "units", "eta_seconds", "attempt"} <= set(task)
    assert task["progress"] == 100
    assert task["created_at"].endswith("Z")


def test_lists_page_through_every_task_newest_first(http: Http, clock: Clock) -> None:
    made = []
    for _ in range(5):
        made.append(http("POST", "/start", {**START, "force": True}).json_body["task_id"])
        clock.advance(10)
    seen: list[str] = []
    token = ""
    while True:
        page = http("GET", f"/tasks?page_size=2{token}").json_body
        seen += [task["task_id"] for task in page["tasks"]]
        if page["next_page_token"] is None:
            break
        token = "&page_token=" + page["next_page_token"].replace("#", "%23")
    assert seen == made[::-1]
    assert http("GET", "/tasks?status=running").json_body["tasks"] == []
    assert len(http("GET", "/tasks?task_type=data_collection").json_body["tasks"]) == 5


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("page_size=0", "/page_size"),
        ("page_size=101", "/page_size"),
        ("page_size=x", "/page_size"),
        ("status=done", "/status"),
        ("task_type=x", "/task_type"),
        ("page_token=x", "/page_token"),
        ("pagesize=3", "/pagesize"),
    ],
)
def test_each_invalid_query_parameter_is_named(http: Http, query: str, pointer: str) -> None:
    body = problem(http("GET", f"/tasks?{query}"), 400, "INVALID_REQUEST")
    assert [error["pointer"] for error in body["errors"]] == [pointer]


def _routes() -> list[tuple[str, str]]:
    """Method and path of every route of the API, without the prefix; ids are those of nobody."""
    import app

    return [
        (method, re.sub(r"\{[a-z_]+\}", "none", path).removeprefix(PREFIX))
        for path, methods in app.app.routes.items()
        if path.startswith(PREFIX)
        for method in methods
    ]


def test_every_route_refuses_a_parameter_that_it_does_not_take(http: Http) -> None:
    assert len(_routes()) >= 19
    for method, path in _routes():
        body = problem(http(method, f"{path}?a~b=1&other=2"), 400, "INVALID_REQUEST")
        assert [error["pointer"] for error in body["errors"]] == ["/a~0b", "/other"], path


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/tasks?page_size=2&page_size=3", "page_size"),
        ("/tasks?status=running&status=running", "status"),
        ("/latest-prices?symbols=BTCUSDT&symbols=ETHUSDT", "symbols"),
        ("/audit?from=2026-01-01&from=2026-01-02", "from"),
        ("/audit?task_id=&task_id=x", "task_id"),
        ("/schedules?page_token=a&page_token=b", "page_token"),
    ],
)
def test_a_parameter_that_is_given_twice_is_refused(http: Http, path: str, name: str) -> None:
    body = problem(http("GET", path), 400, "INVALID_REQUEST")
    assert body["errors"] == [
        {"detail": "is given more than once; give it once", "pointer": f"/{name}"}
    ]


def test_stats_and_active_count_what_is_there(http: Http) -> None:
    http("POST", "/start", START)
    http("POST", "/refresh-symbols")
    stats = http("GET", "/tasks/stats").json_body
    assert stats["task_counts"]["pending"] == stats["active_tasks_count"] == 2
    status = stats["data_collector_status"]
    assert status["symbols_count"] == 2
    assert status["available_symbols"] == ["BTCUSDT", "ETHUSDT"]
    assert status["delisted_symbols"] == {}
    assert status["timeframes"] == ["1m", "5m", "15m", "1h", "4h", "1d"]
    active = http("GET", "/tasks/active").json_body
    assert active["count"] == len(active["tasks"]) == 2


def test_status_names_queues_budget_and_breaker(http: Http, backend: Backend) -> None:
    run(Ledger(backend).pause(backend.now_ms() + 5000, "HTTP 429: too much"))
    http("POST", "/start", START)
    status = http("GET", "/status").json_body
    assert status["status"] == "waiting"
    assert status["queues"]["plan"]["visible"] == 1
    assert status["rate_budget"]["limit"] == 4800
    assert status["breaker"]["open"] is True
    assert status["breaker"]["reason"] == "HTTP 429: too much"


def test_a_pause_is_ordered_shown_and_ended(http: Http, backend: Backend) -> None:
    assert http("GET", "/status").json_body["pause"] is None
    body = {"duration_seconds": 7200, "reason": "maintenance"}
    ordered = http("POST", "/pause", body)
    assert ordered.status_code == 200
    pause = ordered.json_body["pause"]
    assert (pause["by"], pause["reason"]) == ("anonymous", "maintenance")
    task_id = http("POST", "/start", START).json_body["task_id"]
    status = http("GET", "/status").json_body
    assert (status["status"], status["pause"]) == ("paused", pause)
    assert status["breaker"]["open"] is False
    message = http("GET", f"/task/{task_id}").json_body["message"]
    since, until = pause["since"], pause["until"]
    assert message == f"Paused by anonymous since {since} until {until} (maintenance)"
    assert http("POST", "/pause").json_body["pause"]["until"] is None  # another end
    for said in ("Resumed", "Not paused"):
        answer = http("POST", "/resume").json_body
        assert answer == {"paused": False, "message": said, "pause": None}
    assert http("GET", "/status").json_body["pause"] is None


@given(
    st.dictionaries(
        st.sampled_from(["duration_seconds", "reason", "until"]),
        st.none()
        | st.booleans()
        | st.floats()
        | st.sampled_from([0, -1, 31_536_001, "", "x" * 201, "a\nb", "\ud800", [], {}]),
        min_size=1,
    ).filter(lambda body: body != {"reason": ""})
)
@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_an_order_that_cannot_be_meant_pauses_nothing(http: Http, body: dict[str, Any]) -> None:
    problem(http("POST", "/pause", body), 400, "INVALID_REQUEST")
    assert http("GET", "/status").json_body["pause"] is None


def test_prices_come_with_their_time_and_unknown_symbols_are_unreachable(
    http: Http, backend: Backend
) -> None:
    problem(http("GET", "/latest-prices"), 503, "NO_PRICES_YET")
    run(CatalogueTable(backend).write_prices({"BTCUSDT": "62000.10"}, 1_772_600_767_000))
    body = http("GET", "/latest-prices?symbols=BTCUSDT,NOPE").json_body
    assert body["prices"] == {
        "BTCUSDT": {
            "price": 62000.1,
            "time": "2026-03-04T05:06:07.000Z",
            "age_seconds": 0,
            "stale": False,
        }
    }
    assert body["unreachable"] == ["NOPE"]


def test_cancel_is_accepted_once_then_confirmed_then_too_late(
    http: Http, fleet: Fleet, run: Callable[..., Any]
) -> None:
    task_id = http("POST", "/start", START).json_body["task_id"]
    first = http("POST", f"/task/{task_id}/cancel")
    again = http("POST", f"/task/{task_id}/cancel")
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json_body["stopped_at"] == again.json_body["stopped_at"]
    done = http("POST", "/start", START).json_body["task_id"]
    run(fleet.settle())
    problem(http("POST", f"/task/{done}/cancel"), 409, "TASK_ENDED")
    problem(http("POST", f"/task/{done}/retry"), 409, "NOTHING_TO_RETRY")
    assert http("POST", f"/task/{task_id}/retry").status_code == 202
    problem(http("POST", f"/task/{task_id}/retry"), 409, "TASK_ACTIVE")


def test_the_same_key_and_request_give_the_first_answer_again(http: Http, aws: Aws) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = http("POST", "/start", START, key)
    again = http("POST", "/start", dict(reversed(START.items())), key)
    assert first.status_code == again.status_code == 202
    assert first.json_body == again.json_body
    assert first.headers["Idempotency-Replayed"] == "false"
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotency-Key-Expires"] == "2026-03-05T05:06:07.000Z"
    assert len([item for item in aws.items("tasks") if item["sk"]["S"] == "META"]) == 1


def test_a_key_used_for_another_request_is_refused(http: Http) -> None:
    key = {"Idempotency-Key": "k-1"}
    http("POST", "/start", START, key)
    other = {**START, "timeframes": ["1d"]}
    problem(http("POST", "/start", other, key), 422, "IDEMPOTENCY_KEY_REUSED")
    problem(http("POST", "/refresh-symbols", None, key), 422, "IDEMPOTENCY_KEY_REUSED")


def test_a_key_belongs_to_its_path_as_well_as_to_its_body(http: Http) -> None:
    """Cancels have no body: without the path, the receipt of one would answer for another."""
    first, second = (
        http("POST", "/start", {**START, "force": True}).json_body["task_id"] for _ in range(2)
    )
    key = {"Idempotency-Key": "k-1"}
    assert http("POST", f"/task/{first}/cancel", None, key).status_code == 202
    other = http("POST", f"/task/{second}/cancel", None, key)
    problem(other, 422, "IDEMPOTENCY_KEY_REUSED")
    assert http("GET", f"/task/{second}").json_body["status"] == "pending"


def test_a_rejected_request_frees_its_key(http: Http) -> None:
    key = {"Idempotency-Key": "k-1"}
    problem(http("POST", "/start", {"symbols": ["NOPE"]}, key), 400, "INVALID_REQUEST")
    assert http("POST", "/start", START, key).status_code == 202


def test_a_key_in_flight_is_409_until_its_request_counts_as_abandoned(
    http: Http, backend: Backend, clock: Clock
) -> None:
    key = {"Idempotency-Key": "k-1"}
    answer = http("POST", "/start", START, key).json_body
    stuck = run(
        IdempotencyKeys(backend)._update(
            "anonymous",
            "k-1",
            "SET #state = :state",
            {":state": "in_flight"},
            "attribute_exists(pk)",
        )
    )
    assert stuck.task_id == answer["task_id"]
    problem(http("POST", "/start", START, key), 409, "IDEMPOTENCY_KEY_IN_FLIGHT")
    clock.advance(31_000)
    again = http("POST", "/start", START, key)
    assert again.status_code == 202
    assert again.json_body["task_id"] == answer["task_id"]


@pytest.mark.parametrize("body", [START, {**START, "dry_run": True}])
@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "ümlaut"])
def test_a_malformed_key_is_refused(http: Http, key: str, body: dict[str, object]) -> None:
    headers = {"Idempotency-Key": key}
    problem(http("POST", "/start", body, headers), 400, "INVALID_IDEMPOTENCY_KEY")


def test_a_key_can_be_used_anew_after_it_expired(
    http: Http, backend: Backend, clock: Clock
) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = http("POST", "/start", START, key).json_body
    run(cancel_task(backend, first["task_id"]))
    assert http("POST", "/start", START, key).json_body == first
    clock.advance(86_401_000)
    assert http("POST", "/start", START, key).json_body["task_id"] != first["task_id"]


def test_the_same_start_again_is_answered_with_the_task_that_runs(http: Http) -> None:
    first = http("POST", "/start", START).json_body
    again = http("POST", "/start", dict(reversed(START.items())), {"Idempotency-Key": "k-1"})
    assert again.status_code == 202
    assert again.json_body == {
        "task_id": first["task_id"],
        "status": "submitted",
        "message": "The same collection runs already",
        "deduplicated": True,
    }
    assert again.headers["Location"].endswith(first["task_id"])
    forced = http("POST", "/start", {**START, "force": True}).json_body
    assert (forced["deduplicated"], forced["task_id"] != first["task_id"]) == (False, True)
    http("POST", f"/task/{first['task_id']}/cancel")
    other = http("POST", "/start", START).json_body
    assert (other["deduplicated"], other["task_id"] != first["task_id"]) == (False, True)
    # The key was answered before: its rules come first.
    kept = http("POST", "/start", START, {"Idempotency-Key": "k-1"})
    assert kept.json_body == again.json_body
    assert kept.headers["Idempotency-Replayed"] == "true"


def test_cancel_and_retry_replay_under_their_keys(
    http: Http, fleet: Fleet, run: Callable[..., Any]
) -> None:
    task_id = http("POST", "/start", START).json_body["task_id"]
    cancels = [
        http("POST", f"/task/{task_id}/cancel", None, {"Idempotency-Key": "c"}) for _ in range(2)
    ]
    assert [answer.status_code for answer in cancels] == [202, 202]
    retries = [
        http("POST", f"/task/{task_id}/retry", None, {"Idempotency-Key": "r"}) for _ in range(2)
    ]
    assert [answer.json_body["attempt"] for answer in retries] == [2, 2]
    run(fleet.settle())
    assert http("GET", f"/task/{task_id}").json_body["status"] == "completed"


def test_a_start_under_a_name_of_another_root_is_a_conflict_and_stores_nothing(
    http: Http, backend: Backend, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "backend", lambda: at_another_root(backend))
    refused = http("POST", "/start", START)
    problem(refused, 409, "EXCHANGE_ROOT_CHANGED")
    assert "https://other.test" in refused.json_body["detail"]
    schedule = {"name": "n", "expression": "rate(1 hour)", "request": START}
    problem(http("POST", "/schedules", schedule), 409, "EXCHANGE_ROOT_CHANGED")
    assert aws.items("tasks") == []
    status = http("GET", "/status").json_body
    assert (status["exchange"], status["exchange_root"]) == ("binance", "https://other.test")


GOOD = '{"symbol": "BTCUSDT", "price": "62000.10"}'
BAD_PRICES = st.sampled_from(
    ["NaN", "Infinity", "-Infinity", "1e999", '"1e999"', '"NaN"', '"inf"', '""', "null", "0", "-1"]
) | st.from_type(int | float | str | bool).map(json.dumps)


def strictly(text: str | bytes) -> Any:
    """JSON as RFC 8259 has it: Python would also read NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(prices=st.lists(BAD_PRICES, max_size=4))
def test_whatever_prices_the_exchange_sends_the_answer_is_json_with_finite_prices(
    http: Http, worker: Worker, prices: list[str]
) -> None:
    entries = [f'{{"symbol": "ETHUSDT", "price": {price}}}' for price in prices]
    body = f"[{', '.join([*entries, GOOD])}]".encode()

    async def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=body)

    async def refresh() -> None:
        client = Binance("https://exchange.test", ScriptedHttp(answer))
        await refresh_prices(replace(worker, exchange=client))
        await client.aclose()

    asyncio.run(refresh())
    answered = http("GET", "/latest-prices")
    assert answered.status_code == 200
    shown = strictly(answered.body)["prices"]
    assert shown["BTCUSDT"]["price"] == 62000.1
    for price in shown.values():
        assert 0 < price["price"] < float("inf")
        assert price["stale"] is False


def test_a_dry_run_answers_200_with_a_quote_and_starts_nothing(http: Http) -> None:
    answer = http("POST", "/start", {**START, "dry_run": True}, {"Idempotency-Key": "once"})
    assert answer.status_code == 200
    quote = answer.json_body
    assert (quote["dry_run"], quote["units"]["total"], quote["requests"]) == (True, 1, 1)
    assert "Location" not in answer.headers
    assert "Idempotency-Replayed" not in answer.headers
    assert http("GET", "/tasks").json_body["tasks"] == []
    # The key is free for the request itself.
    assert http("POST", "/start", START, {"Idempotency-Key": "once"}).status_code == 202


def test_a_quote_is_what_the_contract_says(http: Http) -> None:
    spec = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    schema = {"$ref": "#/components/schemas/Quote", "components": spec["components"]}
    for body in ({}, START, {"symbols": ["NEWUSDT"]}, {"start": "2026-01-01", "fill": "all"}):
        answer = http("POST", "/start", {**body, "dry_run": True})
        errors = Draft202012Validator(schema).iter_errors(answer.json_body)
        assert not [error.message for error in errors]


def test_a_start_that_says_it_is_no_dry_run_is_the_same_request(http: Http) -> None:
    key = {"Idempotency-Key": "once"}
    first = http("POST", "/start", {**START, "dry_run": False}, key)
    assert first.status_code == 202
    assert http("POST", "/start", START, key).json_body == first.json_body


@pytest.mark.parametrize("odd", ["yes", 1, 0, None, [], {}])
def test_dry_run_is_refused_where_it_is_neither_true_nor_false(http: Http, odd: object) -> None:
    body = problem(http("POST", "/start", {**START, "dry_run": odd}), 400, "INVALID_REQUEST")
    assert body["errors"][0]["pointer"] == "/dry_run"
