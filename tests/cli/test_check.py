"""`data-collector check`: it finds what is broken, says so, and leaves nothing behind."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.candles.candles import Candles
from chalicelib.candles.codec import encode
from infra.package import ROOT
from market_data_collector.cli import check as check_command
from market_data_collector.cli.check_run import CheckRun
from market_data_collector.cli.check_step import Step
from market_data_collector.cli.check_steps import EXCUSED, STEPS
from tests.cli.fake_api import PAUSE, PREFIX, problem, task
from tests.cli.fake_stack import FakeStack, answer_of
from tests.cli.running import Ran, run
from tests.cli.test_json_always import anything
from tests.doubles.candles import append

CONTRACT = json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8"))
ROUTES = {
    f"{verb.upper()} {path.removeprefix(PREFIX)}"
    for path, verbs in CONTRACT["paths"].items()
    for verb in verbs
    if verb in ("get", "post", "put", "patch", "delete")
}
NAMES = [step.name for step in STEPS]


def check(stack: FakeStack, *args: str) -> Ran:
    return run("check", "--limit", "20", *args, api=stack, opener=stack)  # type: ignore[arg-type]


def outcomes(ran: Ran) -> dict[str, str]:
    return {each["step"]: each["outcome"] for each in ran.json["steps"]}


def test_a_stack_that_works_passes_every_step_with_its_time() -> None:
    stack = FakeStack()
    ran = check(stack)
    assert ran.code == 0, ran.out
    lines = ran.out.splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [["ok", name] for name in NAMES]
    assert all(line.split()[3] == "s" for line in lines[:-1])
    assert lines[-1].startswith(f"{len(STEPS)} ok, 0 failed, in ")


def test_it_says_before_what_it_will_do_and_what_it_leaves_out() -> None:
    ran = check(FakeStack(), "--symbol", "ethusdt")
    assert "24 candles (1h) of ETHUSDT" in ran.err
    assert "requests to the exchange" in ran.err
    assert "Webhooks are not tried" in ran.err
    assert "which change nothing" in check(FakeStack(), "--read-only").err


def test_every_route_of_the_contract_is_used_or_excused() -> None:
    used = {route for step in STEPS for route in step.routes}
    assert used | set(EXCUSED) == ROUTES
    assert not used & set(EXCUSED)
    assert all(EXCUSED.values())


@pytest.mark.parametrize("step", STEPS, ids=NAMES)
def test_a_step_uses_the_routes_that_it_names(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = FakeStack()
    seen: set[str] = set()

    def recorded(run: Any) -> str:
        stack.used.clear()
        try:
            return step.work(run)
        finally:
            seen.update(stack.used)

    instead = [step._replace(work=recorded) if each is step else each for each in STEPS]
    monkeypatch.setattr(check_command, "STEPS", instead)
    assert check(stack).code == 0
    assert seen == set(step.routes)


def test_every_step_names_a_heading_of_the_runbook() -> None:
    runbook = (ROOT / "docs" / "RUNBOOK.md").read_text("utf-8")
    assert {f"### {step.look_at}" for step in STEPS} <= set(runbook.splitlines())


@pytest.mark.parametrize(
    ("name", "route"), [(step.name, route) for step in STEPS for route in step.routes]
)
def test_a_route_that_is_down_fails_its_step_and_stops_no_other(name: str, route: str) -> None:
    stack = FakeStack(down=frozenset({route}))
    ran = check(stack, "--json")
    found = outcomes(ran)
    assert (ran.code, list(found)) == (1, NAMES)
    broken = {step.name for step in STEPS if route in step.routes}
    assert found[name] in ("FAIL", "-")
    assert "FAIL" in {found[each] for each in broken}
    # What is not tried lacks something that a broken step should have made.
    assert {name for name, outcome in found.items() if outcome == "FAIL"} <= broken
    for each in ran.json["steps"]:
        if each["outcome"] == "FAIL":
            assert each["expected"]
            assert each["came"]
            assert each["look_at"].startswith("docs/RUNBOOK.md#")
    if not ran.json["not_cleaned_up"]:
        assert stack.schedules == {}
        assert {each["status"] for each in stack.tasks.values()} <= {"completed", "cancelled"}


def changed(route: str, **fields: Any) -> FakeStack:
    """A stack one of whose routes answers with other values in these fields."""

    def spoil(asked: str, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, **fields} if asked == route else body

    return FakeStack(spoil=spoil)


def altered_trail() -> FakeStack:
    def spoil(route: str, body: dict[str, Any]) -> dict[str, Any]:
        if route == "GET /audit" and body["events"]:
            body["events"][0]["detail"] = "altered"
        return body

    return FakeStack(spoil=spoil)


def forgetful(route: str) -> FakeStack:
    """A stack that forgets its Idempotency-Keys."""
    stack = FakeStack()
    once = stack._once
    stack._once = lambda request, asked, body, work: (  # type: ignore[method-assign]
        work() if asked == route else once(request, asked, body, work)
    )
    return stack


def stuck() -> FakeStack:
    stack = FakeStack()
    stack._work = lambda: None  # type: ignore[method-assign]
    return stack


def backwards() -> FakeStack:
    """Progress that goes back."""
    shown = iter([30, 20] + [10] * 1000)

    def spoil(route: str, body: dict[str, Any]) -> dict[str, Any]:
        if route == "GET /task/{task_id}":
            body |= {"status": "running", "progress": next(shown)}
        return body

    return FakeStack(spoil=spoil)


def immortal() -> FakeStack:
    stack = FakeStack()
    stack.delete_schedules = lambda schedule_id, _=None: {}  # type: ignore[method-assign]
    return stack


def anything_goes() -> FakeStack:
    """A stack that knows every task."""
    stack = FakeStack()

    class Known(dict[str, Any]):
        def __contains__(self, _: object) -> bool:
            return True

        def __missing__(self, task_id: str) -> dict[str, Any]:
            return task("completed", 3, total=3, task_id=task_id)

    stack.tasks = Known()
    return stack


STALE = {"price": 1.0, "time": "2026-11-23T12:00:00Z", "age_seconds": 999, "stale": True}
#: Step -> stacks whose routes all answer, and which still do not what the step is about.
WRONG: dict[str, list[Callable[[], FakeStack]]] = {
    "health": [
        lambda: changed("GET /status", status=None),
        lambda: changed("GET /status", pause=PAUSE),
    ],
    "metrics": [lambda: changed("GET /metrics", text="<html>")],
    "keys": [
        lambda: changed("POST /keys", key_id=None),
        lambda: changed("POST /keys/{key_id}/rotate", key=None),
        lambda: changed("GET /keys", keys=[]),
        lambda: changed("DELETE /keys/{key_id}", status="live"),
    ],
    "refusal": [anything_goes],
    "refresh": [stuck, lambda: changed("POST /refresh-symbols", task_id=None)],
    "stats": [lambda: changed("GET /tasks/stats", task_counts={})],
    "schedule": [lambda: changed("GET /schedules/{schedule_id}", in_sync=False)],
    "schedules": [lambda: changed("GET /schedules", schedules=[])],
    "start": [lambda: changed("POST /start", task_id="")],
    "idempotency": [lambda: forgetful("POST /start")],
    "progress": [stuck, backwards, lambda: changed("GET /task/{task_id}", candles=0)],
    "active": [lambda: changed("GET /tasks/active", tasks=[task("completed")])],
    "list": [lambda: changed("GET /tasks", tasks=[])],
    "prices": [lambda: changed("GET /latest-prices", prices={"BTCUSDT": STALE})],
    "update": [lambda: FakeStack(pushes=False), lambda: changed("update", tasks=[])],
    "cancel": [
        lambda: changed("POST /task/{task_id}/cancel", stopped_at=None),
        lambda: changed("GET /task/{task_id}", status="completed"),
    ],
    "retry": [lambda: changed("POST /task/{task_id}/retry", attempt=1)],
    "audit": [altered_trail, lambda: changed("GET /audit", events=[])],
    "history": [lambda: changed("GET /history", tasks=[])],
    "data": [lambda: changed("GET /task/{task_id}", candles=0)],
    "candles": [
        lambda: changed("GET /candles", candles=[]),
        lambda: changed("GET /candles", candles=[{"open_time": "2026-11-22"}] * 3000),
        lambda: changed("GET /candles/files", files=[]),
        lambda: changed("GET /candles/files", files=[{"rows": 3000, "url": "http://there"}]),
    ],
    "coverage": [
        lambda: changed("GET /coverage", coverage=[]),
        lambda: changed("GET /coverage/gaps", gaps=[]),
        lambda: changed("POST /coverage/fill", task_id=None),
        lambda: changed("POST /coverage/verify", task_id=None),
        lambda: changed("GET /task/{task_id}", failures=[{"reason": "OBJECT_DAMAGED"}]),
    ],
    "run-schedule": [lambda: changed("POST /schedules/{schedule_id}/run", task_id=None)],
    "fires": [lambda: FakeStack(fires=False)],
    "change-schedule": [lambda: changed("PATCH /schedules/{schedule_id}", enabled=True)],
    "delete-schedule": [immortal],
}


@pytest.mark.parametrize(("status", "reason"), [(409, "KEYS_NOT_IN_USE"), (403, "SCOPE_MISSING")])
def test_who_may_make_no_keys_tries_the_rest(status: int, reason: str) -> None:
    def spoil(route: str, body: dict[str, Any]) -> Any:
        if route == "GET /status":
            return {**body, "queues": None, "rate_budget": None}
        return body if "/keys" not in route else problem(status, "Refused", "not you", reason)

    ran = check(FakeStack(spoil=spoil), "--json")
    assert ran.code == 0
    assert {name for name, outcome in outcomes(ran).items() if outcome != "ok"} == {"keys"}


def test_a_key_that_a_step_left_is_revoked() -> None:
    stack = changed("POST /keys/{key_id}/rotate", key=None)
    assert check(stack).code == 1
    assert [key["status"] for key in stack.api_keys.values()] == ["revoked"]


@pytest.mark.parametrize("name", NAMES)
def test_a_step_fails_where_all_routes_answer_and_its_promise_is_broken(name: str) -> None:
    for wrong in WRONG[name]:
        ran = check(wrong(), "--json")
        assert ran.code == 1
        assert outcomes(ran)[name] == "FAIL", ran.json["steps"]


def test_a_person_is_told_what_was_expected_what_came_and_where_to_look() -> None:
    ran = check(changed("GET /latest-prices", prices={"BTCUSDT": STALE}))
    text = ran.out.partition("FAIL ")[2]
    assert text.startswith("prices")
    assert "expected: a price of BTCUSDT that is not stale within 20 s" in text
    assert "came:     1 prices, as of" in text
    assert "look at:  docs/RUNBOOK.md#exchange-paused-for-long" in text
    assert "...   prices: " in ran.err  # while it waited
    assert ran.out.splitlines()[-1].startswith(f"{len(STEPS) - 1} ok, 1 failed, in ")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_a_route_answers_the_check_ends_with_a_verdict(data: st.DataObject) -> None:
    route = data.draw(st.sampled_from(sorted(ROUTES - set(EXCUSED) | {"snapshot", "update"})))
    odd = data.draw(anything)
    at = data.draw(st.integers(0, 8))

    def spoil(asked: str, body: dict[str, Any]) -> Any:
        if asked != route:
            return body
        fields = sorted(body)
        if at < len(fields):
            return {**body, fields[at]: odd}
        return body if asked in ("snapshot", "update") else answer_of(odd)

    ran = check(FakeStack(spoil=spoil), "--json")
    assert ran.code in (0, 1)
    assert ran.json["ok"] is (ran.code == 0)
    assert list(outcomes(ran)) == NAMES


class Interrupted(FakeStack):
    """Ctrl-C while the answer of the request of this number is waited for."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        if len(self.requests) == self.at:
            raise KeyboardInterrupt
        return answer


def requests_of_a_check() -> int:
    stack = FakeStack()
    check(stack)
    return len(stack.requests)


def test_ctrl_c_at_any_moment_leaves_nothing_behind() -> None:
    for at in range(1, requests_of_a_check() - 2):  # the last ones clean up
        stack = Interrupted(at)
        assert check(stack).code == 130
        assert stack.schedules == {}, at
        known = {request.url.path for request in stack.requests}
        for task_id, made in stack.tasks.items():
            # Of a task whose answer was lost nobody knows the id: it ends by itself.
            assert made["status"] in ("completed", "cancelled") or not any(
                task_id in path for path in known
            )


def test_what_cannot_be_cleaned_up_is_named_with_the_command_that_does_it() -> None:
    stack = FakeStack(down=frozenset({"DELETE /schedules/{schedule_id}"}))
    ran = check(stack)
    assert ran.code == 1
    [schedule_id] = stack.schedules
    assert f"Try data-collector schedules delete {schedule_id}" in ran.err


def test_read_only_changes_nothing_and_tries_every_step_that_reads() -> None:
    stack = FakeStack()
    ran = check(stack, "--read-only", "--json")
    assert ran.code == 0
    assert list(outcomes(ran)) == [step.name for step in STEPS if step.reads_only]
    assert {request.method for request in stack.requests} == {"GET"}
    assert stack.changes == []
    paused = check(changed("GET /status", pause=PAUSE), "--read-only")
    assert paused.code == 0
    assert "paused by anna" in paused.out


@pytest.mark.parametrize("name", NAMES)
def test_a_step_can_be_left_out(name: str) -> None:
    found = outcomes(check(FakeStack(), "--without", name, "--json"))
    assert found[name] == "out"
    assert "FAIL" not in found.values()


def test_an_api_that_cannot_be_reached_is_4_at_once() -> None:
    class Nowhere(FakeStack):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            raise httpx.ConnectError("refused")

    ran = check(Nowhere())
    assert ran.code == 4
    assert len(ran.api.requests) == 3  # the first one, and its repetitions


class Bucket:
    """A stack's bucket with the hours of the check's window, or some of them."""

    name = "a-stack"

    def __init__(self, spoil: Callable[[list[datetime]], list[datetime]] = list) -> None:
        self.outputs = {"CandlesBucket": "candles", "EndpointURL": "https://there.test/api/"}
        self._spoil = spoil
        self.error: Exception | None = None
        self.cut = 0

    def client(self, service: str) -> Bucket:
        assert service == "s3"
        return self

    def list_objects_v2(self, Bucket: str, Prefix: str) -> dict[str, Any]:
        assert Prefix == "candles/exchange=binance/timeframe=1h/symbol=BTCUSDT/"
        if self.error:
            raise self.error
        return {"Contents": [{"Key": f"{Prefix}2026.parquet"}]}

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        start, end = CheckRun(None, 1, False).window  # type: ignore[arg-type]
        hours = [start + (end - start) * hour / 24 for hour in range(-3, 25)]
        candles = Candles()
        for hour in self._spoil(hours):
            at_ms = round(hour.timestamp() * 1000)
            append(candles, (at_ms, 1, 4, 1, 3, 9, at_ms + 3_599_999, 9, 2, 4, 4), at_ms)
        content = encode(candles, {})
        return {"Body": io.BytesIO(content[: len(content) - self.cut])}


def checked_data(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, counted: int = 24) -> Any:
    monkeypatch.setattr(check_command, "Stack", lambda name: bucket)
    stack = changed("GET /task/{task_id}", candles=counted)
    ran = check(stack, "--stack", "a-stack", "--json")
    assert {request.url.host for request in stack.requests} == {"there.test"}
    return next(each for each in ran.json["steps"] if each["step"] == "data")


def test_candles_are_read_in_the_bucket_of_a_named_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    found = checked_data(Bucket(), monkeypatch)
    assert (found["outcome"], found["detail"]) == ("ok", "24 candles in s3://candles")


@pytest.mark.parametrize("lose", [lambda hours: hours[:-5], lambda hours: hours + hours[-3:-1]])
def test_candles_that_are_missing_or_twice_in_the_bucket_fail(
    lose: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checked_data(Bucket(lose), monkeypatch)["outcome"] == "FAIL"


def test_a_torn_object_fails_and_a_closed_bucket_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    torn, gone, closed = Bucket(), Bucket(), Bucket()
    torn.cut = 100
    gone.error = ClientError({"Error": {"Code": "NoSuchBucket"}}, "ListObjectsV2")
    closed.error = ClientError({"Error": {"Code": "AccessDenied"}}, "ListObjectsV2")
    assert checked_data(torn, monkeypatch)["outcome"] == "FAIL"
    assert checked_data(gone, monkeypatch)["outcome"] == "FAIL"
    found = checked_data(closed, monkeypatch)
    assert found["outcome"] == "ok"
    assert "24 candles counted by the task; AWS does not let the bucket be read" in found["detail"]
