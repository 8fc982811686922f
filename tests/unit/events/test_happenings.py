"""What happened with one change of an item. The life of a task is in test_record.py."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.access import key as keys
from chalicelib.access.key import Key
from chalicelib.aws.stream import Change
from chalicelib.events.happening import MOST_NAMES, Happening
from chalicelib.events.happenings import of_change
from chalicelib.tasks import states
from chalicelib.work.request import CollectionRequest

META = {
    "pk": "TASK#one",
    "sk": "META",
    "task_id": "one",
    "task_type": "data_collection",
    "state": "pending",
    "attempt": 1,
    "owner": "me",
    "source": "request",
    "request_id": "r",
    "request": CollectionRequest(("BTCUSDT", "ETHUSDT"), ("1h",), 0, 3_600_000, "high").pack(),
    "priority": "high",
    "created_at": 0,
    "plan_sent_at": 0,
    "deadline_at": 86_400_000,
    "message": "Waiting to be planned",
}
PROG = {"pk": "TASK#one", "sk": "PROG#007", "attempt": 2, "state": "RUNNING", "unit_count": 9}


def happened(old: dict[str, Any], new: dict[str, Any], by_ttl: bool = False) -> list[Happening]:
    return of_change(Change("1", 0, old, new, by_ttl))


def catalogue(symbols: dict[str, str]) -> dict[str, Any]:
    packed = zlib.compress(json.dumps(symbols).encode())
    return {"pk": "CATALOGUE#binance", "sk": "CATALOGUE", "symbols": packed, "refreshed_at": 7}


def test_a_submission_tells_what_was_asked_for_but_no_list_of_symbols() -> None:
    [submitted] = happened({}, META)
    assert submitted.data == {
        "task_type": "data_collection",
        "source": "request",
        "symbols": 2,
        "timeframes": ["1h"],
        "start": "1970-01-01T00:00:00.000Z",
        "end": "1970-01-01T01:00:00.000Z",
        "priority": "high",
    }


def test_a_submission_for_every_symbol_has_no_number_of_them() -> None:
    [submitted] = happened({}, {**META, "request": CollectionRequest(None, ("1h",)).pack()})
    assert (submitted.data["symbols"], submitted.data["start"]) == (None, None)


def test_a_submission_with_selectors_names_them_and_no_number() -> None:
    request = CollectionRequest(("*USDT", "!BTCUSDT", "top=3"), ("1h",))
    [submitted] = happened({}, {**META, "request": request.pack()})
    assert submitted.data["symbols"] is None
    assert submitted.data["selectors"] == ["*USDT", "!BTCUSDT", "top=3"]


def test_a_schedule_submits_in_its_own_name_for_its_owner() -> None:
    [submitted] = happened({}, {**META, "source": "schedule", "schedule_id": "s"})
    assert (submitted.by, submitted.owner) == ("schedule", "me")
    assert submitted.data["schedule_id"] == "s"


def test_the_first_start_brings_the_plan_and_a_retried_one_does_not() -> None:
    running = {**META, "state": "running", "plan_id": "p", "total_units": 400, "progs_total": 2}
    planned, started = happened(META, running)
    assert (planned.action, planned.after) == ("task.planned", {"units": 400, "progs": 2})
    assert (started.action, started.before, started.after) == ("task.started", "pending", "running")
    [again] = happened({**META, "plan_id": "p"}, running)
    assert again.action == "task.started"


def test_a_receipt_is_told_once_and_only_of_what_has_ended() -> None:
    cancelled = {**META, "state": "cancelled"}
    result = {"units": 4, "succeeded": 1, "failed": 0, "candles": 7}
    shut = {**cancelled, "result": result, "stopped_at": 1_000}
    [stopped] = happened(cancelled, shut)
    assert stopped.action == "task.stopped"
    data = {**stopped.data}
    assert data.pop("task")["cancelled_by"] == "me"
    assert data == {**result, "stopped_at": "1970-01-01T00:00:01.000Z"}
    assert happened(shut, {**shut, "stopped_at": 2_000}) == []
    assert happened(META, {**META, "plan_sent_at": 5}) == []


def test_a_task_that_dynamodb_deleted_has_expired_and_one_that_somebody_did_was_deleted() -> None:
    assert [h.action for h in happened({**META, "ttl": 1}, {}, by_ttl=True)] == ["task.expired"]
    for old in (META, {**META, "state": "completed", "ttl": 1}):
        assert [h.action for h in happened(old, {})] == ["task.deleted"]


def test_each_write_of_a_prog_item_tells_only_the_failures_that_it_added() -> None:
    before = {**PROG, "f_INVALID_SYMBOL": {1}, "done": {0, 1}}
    after = {
        **before,
        "f_INVALID_SYMBOL": {1, 2},
        "d_INVALID_SYMBOL": "Invalid symbol.",
        "f_TIMEOUT": {3},
        "done": {0, 1, 2, 3},
    }
    [failed] = happened(before, after)
    assert (failed.before, failed.after, failed.attempt) == (1, 3, 2)
    assert failed.data == {
        "prog": 7,
        "failed": 2,
        "units": [
            {"number": 2, "reason": "INVALID_SYMBOL", "detail": "Invalid symbol."},
            {"number": 3, "reason": "TIMEOUT", "detail": ""},
        ],
    }
    assert happened(after, {**after, "done": {0, 1, 2, 3, 4}}) == []
    assert happened(after, {**after, "state": "CLOSED"}) == []
    reopened = {**PROG, "attempt": 3, "done": {0}}
    assert happened(after, reopened) == []
    [again] = happened(after, {**after, "attempt": 3, "f_TIMEOUT": {3}, "f_INVALID_SYMBOL": {1, 2}})
    assert again.before == 0
    assert happened(after, {}) == []


@given(st.integers(1, 200))
def test_a_great_many_failed_units_are_counted_all_and_named_in_part(failed: int) -> None:
    [happening] = happened(PROG, {**PROG, "f_TIMEOUT": set(range(failed))})
    assert happening.data["failed"] == happening.after == failed
    assert len(happening.data["units"]) == min(failed, MOST_NAMES)


statuses = st.dictionaries(st.sampled_from("ABCDEF"), st.sampled_from(["TRADING", "BREAK"]))


@given(statuses, statuses)
def test_changes_of_the_catalogue_add_up(old: dict[str, str], new: dict[str, str]) -> None:
    found = happened(catalogue(old), catalogue(new))
    assert bool(found) == (old != new)
    for happening in found:
        parts = ("added", "removed", "changed")
        counts = {name: happening.data[name]["count"] for name in parts}
        assert happening.after - happening.before == counts["added"] - counts["removed"]
        assert len(new.items() - old.items()) == counts["added"] + counts["changed"]
        trading = [{name for name in side if side[name] == "TRADING"} for side in (old, new)]
        assert set(happening.data["halted"]["symbols"]) == (trading[0] & new.keys()) - trading[1]
        assert set(happening.data["resumed"]["symbols"]) == (trading[1] & old.keys()) - trading[0]


def test_the_first_catalogue_names_some_of_a_great_many_symbols() -> None:
    [happening] = happened({}, catalogue({f"S{at}": "TRADING" for at in range(3000)}))
    assert happening.data["added"]["count"] == 3000
    assert len(happening.data["added"]["symbols"]) == MOST_NAMES


@pytest.mark.parametrize(
    "item",
    [
        {"pk": "TASK#one", "sk": "UNITS#p#000"},
        {"pk": "IDEM#me#key", "sk": "IDEM"},
        {"pk": "PRICES#binance", "sk": "PRICES"},
        {"pk": "COVER#binance", "sk": "BTCUSDT"},
        {"pk": "LIMIT#binance", "sk": "LIMIT"},
    ],
)
def test_other_items_are_nobodys_business(item: dict[str, Any]) -> None:
    assert happened({}, item) == happened(item, {}) == []


@pytest.mark.parametrize("state", states.STATES)
@pytest.mark.parametrize("before", states.STATES)
def test_every_move_is_told_and_says_from_where_to_where(before: str, state: str) -> None:
    if before == state:
        return
    happening = happened({**META, "state": before}, {**META, "state": state})[-1]
    assert (happening.before, happening.after) == (before, state)


times = st.none() | st.integers(1, 100)
names = st.none() | st.sampled_from(["anna", "ben"])
states_of_a_key = st.builds(
    Key,
    key_id=st.just("0" * 16),
    owner=st.just("me"),
    scopes=st.sampled_from([("read",), ("admin", "collect")]),
    secret_hash=st.sampled_from(["hash-1", "hash-2"]),
    created_at=st.just(0),
    created_by=st.just("boss"),
    expires_at=times,
    rotated_at=times,
    rotated_by=names,
    last_used_at=times,
    revoked_at=times,
    revoked_by=names,
    request_id=st.none() | st.just("r"),
)


@given(st.none() | states_of_a_key, states_of_a_key)
def test_a_keys_events_tell_what_became_of_it_by_whom_and_nothing_of_its_secret(
    old: Key | None, new: Key
) -> None:
    found = happened(keys.item_of(old) if old else {}, keys.item_of(new))
    expected = {"key.created": new.created_by} if old is None else {}
    if old and old.secret_hash != new.secret_hash:
        expected["key.rotated"] = new.rotated_by or "system"
    if old and old.revoked_at is None and new.revoked_at is not None:
        expected["key.revoked"] = new.revoked_by or "system"
    assert {each.action: each.by for each in found} == expected
    for each in found:
        assert (each.subject, each.owner, each.request_id) == (
            f"key:{'0' * 16}",
            "me",
            new.request_id,
        )
        assert each.data["scopes"] == list(new.scopes)
        assert "hash-" not in repr(each)
    assert happened(keys.item_of(new), {}) == []
