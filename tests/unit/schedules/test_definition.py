"""The fields of a schedule: everything that is wrong is named; what is right comes back."""

from __future__ import annotations

import zoneinfo
from dataclasses import replace
from datetime import datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.errors import CollectorError, InvalidRequest
from chalicelib.core.settings import Settings
from chalicelib.core.times import iso
from chalicelib.schedules import definition, edits, firings, view
from chalicelib.schedules.definition import Definition, Fields, _expression
from chalicelib.schedules.schedule import Schedule
from chalicelib.work.request import CollectionRequest
from tests.doubles.clock import NOW

KNOWN = {"BTCUSDT": "TRADING", "ETHUSDT": "TRADING"}
SMALL = {"expression": "rate(1 hour)"}
MINUTE = 60_000


def parse(body: object) -> Definition:
    return definition.parse_new(body, KNOWN, Settings(), NOW)


def refusal(body: object) -> CollectorError | None:
    try:
        parse(body)
    except CollectorError as refused:
        return refused
    return None


def pointers(body: object) -> list[str]:
    with pytest.raises(InvalidRequest) as refused:
        parse(body)
    return [error["pointer"] for error in refused.value.errors]


def made(**fields: Any) -> Schedule:
    return edits.made("id", parse({**SMALL, **fields}), NOW, "me", "r")


def change(schedule: Schedule, body: object) -> Definition:
    return definition.parse_change(body, schedule, None, KNOWN, Settings(), NOW)


def test_only_the_expression_is_needed() -> None:
    asked = parse(SMALL)
    fields: dict[str, Any] = {**asked.fields}
    assert CollectionRequest.unpack(fields.pop("request")).symbols is None
    assert (asked.sets_webhook, asked.webhook) == (False, None)
    assert fields == {
        "name": "",
        "expression": "rate(1 hour)",
        "timezone": "UTC",
        "enabled": True,
        "overlap": "skip",
        "catch_up": False,
        "max_lag_seconds": None,
        "webhook_host": None,
    }


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ([], ""),
        ({}, "/expression"),
        ({**SMALL, "a/b": 1}, "/a~1b"),
        ({"expression": 5}, "/expression"),
        ({"expression": f"cron({','.join(['0'] * 130)} 6 * * ? *)"}, "/expression"),
        ({"expression": "cron(0 6 * * * *)"}, "/expression"),
        ({"expression": "cron(0 6 * * ? 2020)"}, "/expression"),
        ({"expression": "cron(0\u00a06 * * ? *)"}, "/expression"),
        ({"expression": "cron(0\t6 * * ? *)"}, "/expression"),
        ({**SMALL, "timezone": "Mars/Olympus"}, "/timezone"),
        ({**SMALL, "timezone": "../../etc/passwd"}, "/timezone"),
        ({**SMALL, "timezone": ""}, "/timezone"),
        ({**SMALL, "timezone": "localtime"}, "/timezone"),
        ({**SMALL, "timezone": "/usr/share/zoneinfo/UTC"}, "/timezone"),
        ({**SMALL, "timezone": "right/UTC"}, "/timezone"),
        ({**SMALL, "timezone": "Factory"}, "/timezone"),
        ({**SMALL, "timezone": "zones"}, "/timezone"),
        ({**SMALL, "timezone": None}, "/timezone"),
        ({**SMALL, "enabled": 1}, "/enabled"),
        ({**SMALL, "catch_up": "yes"}, "/catch_up"),
        ({**SMALL, "overlap": "both"}, "/overlap"),
        ({**SMALL, "overlap": ["skip"]}, "/overlap"),
        ({**SMALL, "name": "x" * 101}, "/name"),
        ({**SMALL, "name": "two\nlines"}, "/name"),
        ({**SMALL, "freshness": {}}, "/freshness"),
        ({**SMALL, "freshness": {"max_lag_seconds": 0}}, "/freshness"),
        ({**SMALL, "freshness": {"max_lag_seconds": True}}, "/freshness"),
        ({**SMALL, "freshness": {"max_lag_seconds": 5, "and": 1}}, "/freshness"),
        ({**SMALL, "request": []}, "/request"),
        ({**SMALL, "request": {"symbols": ["BTCUSDT", "NOPE"]}}, "/request/symbols/1"),
        ({**SMALL, "request": {"start": "2026-01-01"}}, "/request/start"),
        ({**SMALL, "request": {"end": 5, "start": 1}}, "/request/end"),
        ({**SMALL, "request": {"symbolz": []}}, "/request/symbolz"),
    ],
)
def test_what_is_wrong_is_named_by_its_pointer(body: object, pointer: str) -> None:
    assert pointer in pointers(body)


@pytest.mark.parametrize(
    ("timezone", "meant"),
    [
        ("europe/berlin", "Europe/Berlin"),
        ("Europe/Berln", "Europe/Berlin"),
        (" Europe/Berlin", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("New York", "America/New_York"),
        ("utc", "UTC"),
    ],
)
def test_a_time_zone_that_is_nearly_right_is_refused_with_the_one_that_was_meant(
    timezone: str, meant: str
) -> None:
    with pytest.raises(InvalidRequest, match=rf"did you mean {meant}\?"):
        parse({**SMALL, "timezone": timezone})


def test_a_zones_name_and_rules_are_the_same_on_every_machine(tmp_path: Path) -> None:
    there = resources.files("tzdata").joinpath("zoneinfo", "Asia", "Tokyo").read_bytes()
    for name in ("Europe/Berlin", "localtime"):
        tmp_path.joinpath(name).parent.mkdir(exist_ok=True)
        tmp_path.joinpath(name).write_bytes(there)
    firings.zone.cache_clear()
    zoneinfo.reset_tzpath(to=[str(tmp_path)])
    try:
        zone = firings.zone("Europe/Berlin")
        assert (zone.key, zone.utcoffset(datetime(2026, 7, 1))) == (
            "Europe/Berlin",
            timedelta(hours=2),
        )
        with pytest.raises(ValueError, match="is no time zone"):
            firings.zone("localtime")
    finally:
        zoneinfo.reset_tzpath()
        firings.zone.cache_clear()


def test_every_name_of_the_list_is_a_zone() -> None:
    for name in firings._zone_names():
        assert firings.zone(name).key == name


def test_every_problem_is_named_not_only_the_first() -> None:
    body = {"expression": "rate(0 days)", "timezone": "x", "enabled": 0, "request": {"priority": 1}}
    assert pointers(body) == ["/expression", "/timezone", "/request/priority", "/enabled"]


def test_a_fixed_time_is_refused_with_the_reason() -> None:
    with pytest.raises(InvalidRequest, match="POST /start collects a range"):
        parse({**SMALL, "request": {"start": "2026-01-01"}})


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
_names = st.sampled_from([*definition._READ, "other"])


@given(st.dictionaries(_names, _json | st.just("rate(1 hour)"), max_size=5) | _json)
def test_any_json_is_taken_or_refused_with_pointers(body: object) -> None:
    refused = refusal(body)
    assert refused is None or refused.status == 400
    for error in getattr(refused, "errors", ()):
        assert error["pointer"] == "" or error["pointer"][0] == "/"
    if isinstance(refused, InvalidRequest):
        assert refused.errors


def test_a_change_names_only_what_differs() -> None:
    schedule = made(name="a", overlap="queue")
    body = {"name": "b", "overlap": "queue", "freshness": {"max_lag_seconds": 60}}
    assert change(schedule, body) == Definition({"name": "b", "max_lag_seconds": 60})
    with pytest.raises(InvalidRequest, match="name at least one of"):
        change(schedule, {})


def test_freshness_can_be_taken_back() -> None:
    schedule = made(freshness={"max_lag_seconds": 60})
    breached = replace(schedule, breached_since=1)
    taken_back = change(schedule, {"freshness": None})
    after = edits.changed(breached, taken_back, NOW, "me", "r")
    assert view.view(after, None, None, NOW)["freshness"] is None
    assert after.breached_since is None


@pytest.mark.parametrize(
    ("fields", "after_ms", "expected"),
    [
        ({"expression": "cron(0 * * * ? *)"}, 0, "2026-03-04T06:00:00.000Z"),
        ({"expression": "cron(0 * * * ? *)"}, 120 * MINUTE, "2026-03-04T08:00:00.000Z"),
        ({"expression": "rate(1 hour)"}, 0, iso(NOW + 60 * MINUTE)),
        ({"expression": "rate(1 hour)"}, 150 * MINUTE, iso(NOW + 180 * MINUTE)),
        (
            {"expression": "cron(0 6 * * ? *)", "timezone": "Asia/Tokyo"},
            0,
            "2026-03-04T21:00:00.000Z",
        ),
        ({"expression": "cron(0 6 4 3 ? 2026)"}, 60 * MINUTE, None),
        ({"enabled": False}, 0, None),
    ],
)
def test_the_next_run_is_shown_as_it_will_come(
    fields: dict[str, Any], after_ms: int, expected: str | None
) -> None:
    assert view.summary(made(**fields), NOW + after_ms)["next_run_at"] == expected


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["fire", "late", "make_up", "pause"]), st.integers(1, 100)),
        max_size=15,
    ),
    active=st.randoms(use_true_random=False),
    overlap=st.sampled_from(["skip", "queue"]),
    catch_up=st.booleans(),
    expression=st.sampled_from(["cron(0/7 * * * ? *)", "cron(0 * * * ? *)"]),
)
def test_whatever_comes_in_whatever_order_every_run_is_decided_once(
    steps: list[tuple[str, int]], active: Any, overlap: str, catch_up: bool, expression: str
) -> None:
    """Started, skipped, queued, missed and dropped runs add up to those that were due."""
    schedule = made(expression=expression, overlap=overlap, catch_up=catch_up)
    first, now, started = schedule.accounted_until, NOW, set()
    for what, minutes in steps:
        now += minutes * MINUTE
        before = schedule
        if what in ("fire", "late"):
            due, at = schedule.next_run_at, None
            while due <= now:
                at, due = due, firings._next(schedule, due)
            if at is None:
                continue
            at = min(at, schedule.accounted_until) if what == "late" else at
            after = firings.fire(schedule, at, active.random() < 0.5)
            assert (after is None) == (at <= schedule.accounted_until)
            schedule = after or schedule
            assert firings.fire(schedule, at, False) is None
        elif what == "make_up":
            schedule = firings.make_up(schedule, now, active.random() < 0.5) or schedule
            assert firings.make_up(schedule, now, False) is None
        else:
            enabled = Definition(Fields(enabled=True))
            schedule = edits.changed(schedule, enabled, now, "me", "r")
        assert schedule.accounted_until >= before.accounted_until
        if schedule.runs > before.runs:
            assert schedule.starting is not None
            assert schedule.starting.task_id not in started
            started.add(schedule.starting.task_id)
    due, at = 0, firings._next(schedule, first)
    while at <= schedule.accounted_until:
        due, at = due + 1, firings._next(schedule, at)
    waiting = int(schedule.queued_for is not None)
    made_up_for = schedule.missed and catch_up  # a made up one is both missed and started
    total = schedule.runs + schedule.skipped + schedule.missed + waiting
    assert total == due if not made_up_for else total >= due
    assert len(started) == schedule.runs


def test_an_expression_is_as_long_as_eventbridge_takes_it() -> None:
    longest = "cron(0 6 * * ? *)".replace(" 6", " " * 240 + "6")
    assert len(_expression(longest)) == 256
    with pytest.raises(ValueError, match="at most 256 characters"):
        _expression(longest.replace("cron(", "cron( "))
