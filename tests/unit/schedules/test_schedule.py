"""A schedule and its item: whatever is stored comes back, and what is not there takes no room."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from typing import Any

import pytest

from chalicelib.aws.stream import Change
from chalicelib.aws.wire import item_from_wire, item_to_wire
from chalicelib.core.errors import ItemUnreadable
from chalicelib.schedules.schedule import (
    SKIP,
    MeasuredLag,
    Schedule,
    Starting,
    item_of,
    lag_item_of,
    measured_lag_of,
    schedule_change,
    schedule_of,
)

NEW = Schedule(
    owner="me",
    schedule_id="id",
    name="",
    expression="rate(1 hour)",
    timezone="UTC",
    request=b"packed",
    enabled=True,
    overlap=SKIP,
    catch_up=False,
    max_lag_seconds=None,
    created_at=1,
    updated_at=2,
    by="me",
    request_id="r",
    rev=1,
    accounted_until=3,
    next_run_at=None,
)
FULL = replace(
    NEW,
    max_lag_seconds=60,
    next_run_at=4,
    key_id="0123456789abcdef",
    stopped_because="the key was revoked",
    webhook_host="hooks.example.com",
    removed=True,
    sync_error="refused",
    starting=Starting("task", 5),
    queued_for=6,
    last_run_at=7,
    last_task_id="task",
    last_run_by="schedule",
    last_skipped_at=8,
    last_refused_at=8,
    refusal="QUOTA_ACTIVE_TASKS",
    breached_since=9,
    last_repair_at=10,
    last_repair_task_id="repair",
)


@pytest.mark.parametrize("schedule", [NEW, FULL])
def test_what_is_stored_comes_back(schedule: Schedule) -> None:
    assert schedule_of(item_from_wire(item_to_wire(item_of(schedule)))) == schedule


def test_the_full_one_has_every_field_that_may_be_missing() -> None:
    assert not [field.name for field in fields(Schedule) if getattr(FULL, field.name) is None]


def test_what_is_not_there_is_left_out_or_null() -> None:
    absent = set(item_of(FULL)) - set(item_of(NEW))
    assert absent == {
        *("key_id", "stopped_because"),
        *("removed", "sync_error", "starting", "queued_for"),
        *("last_run_at", "last_task_id", "last_run_by", "last_skipped_at"),
        *("last_refused_at", "refusal"),
        *("breached_since", "last_repair_at", "last_repair_task_id"),
    }
    nulls = {name for name, value in item_of(NEW).items() if value is None}
    assert nulls == {"max_lag_seconds", "next_run_at", "webhook_host"}


def test_keys_and_the_index_are_those_of_the_table() -> None:
    item = item_of(replace(NEW, created_at=1_772_600_767_890))
    assert (item["pk"], item["sk"]) == ("SCHEDULES#me", "SCHED#id")
    assert (item["active"], item["created_key"]) == ("schedule", "1772600767890#id")
    assert "owner" not in item  # it would be listed among the tasks


@pytest.mark.parametrize(
    ("changes", "watched"),
    [
        ({"enabled": True, "synced_rev": 1}, True),
        ({"enabled": False, "synced_rev": 1}, False),
        ({"enabled": False, "synced_rev": 0}, True),
        ({"enabled": False, "synced_rev": 1, "starting": Starting("task", 1)}, True),
    ],
)
def test_only_a_schedule_that_needs_the_watch_is_in_the_index(
    changes: dict[str, Any], watched: bool
) -> None:
    schedule = replace(NEW, **changes)
    assert schedule.is_watched is watched
    assert ("active" in item_of(schedule)) is watched


def test_an_item_of_before_webhooks_has_none() -> None:
    old = item_of(NEW)
    del old["webhook_host"], old["webhook_rev"]
    assert schedule_of(old) == NEW


def test_a_lag_comes_back_and_expires_after_a_day() -> None:
    lag = MeasuredLag(lag_seconds=90, timeframes={"1m": 90}, behind=1, measured_at=5000)
    item = lag_item_of("me", "id", lag)
    assert measured_lag_of(item) == lag
    assert (item["pk"], item["sk"], item["ttl"]) == ("SCHEDULES#me", "LAG#id", 5 + 86_400)


def change(old: dict[str, Any], new: dict[str, Any]) -> Change:
    return Change(sequence="1", at_ms=0, old=old, new=new, by_ttl=False)


def test_a_change_in_the_stream_is_that_of_a_schedule_or_of_something_else() -> None:
    assert schedule_change(change({}, item_of(NEW))) == (None, NEW)
    assert schedule_change(change(item_of(NEW), item_of(FULL))) == (NEW, FULL)
    assert schedule_change(change(item_of(FULL), {})) is None
    lag = lag_item_of("me", "id", MeasuredLag(0, {}, 0, 0))
    assert schedule_change(change({}, lag)) is None


@pytest.mark.parametrize("name", sorted(item_of(FULL).keys() - {"pk", "sk"}))
def test_an_item_with_an_odd_value_is_unreadable_and_says_which(name: str) -> None:
    item = {**item_of(FULL), name: object()}
    if name in ("active", "created_key"):  # the index's
        assert schedule_of(item) == FULL
        return
    with pytest.raises(ItemUnreadable, match=name):
        schedule_of(item)


@pytest.mark.parametrize("field", fields(Schedule))
def test_an_item_without_what_every_schedule_has_is_unreadable(field: Any) -> None:
    item = item_of(NEW)
    if item.pop(field.name, None) is None or field.default is not MISSING:
        return
    with pytest.raises(ItemUnreadable, match=field.name):
        schedule_of(item)


def test_a_lag_with_an_odd_value_is_unreadable() -> None:
    item = lag_item_of("me", "id", MeasuredLag(1, {"1h": 1}, 0, 5))
    with pytest.raises(ItemUnreadable, match="behind"):
        measured_lag_of({**item, "behind": "many"})
