"""From the streams: each change is audited exactly once, in a chain without faults."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.audit.chain import AuditEvent, sealed, verify
from chalicelib.audit.table import LEAST_TASK_DAYS, AuditTable
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, CatalogueRefused, ConditionFailed
from chalicelib.core.settings import Settings
from chalicelib.core.times import FOREVER_MS, iso
from chalicelib.events import happenings, task_happenings
from chalicelib.events import record as event_record
from chalicelib.events.record import record_market_changes, record_task_changes
from chalicelib.events.replay import replay
from chalicelib.exchange.catalogue_table import Asked, CatalogueTable
from chalicelib.exchange.pause import Pauses
from chalicelib.exchange.refresh import refresh_catalogue
from chalicelib.exchange.worker import Worker
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.retry import retry_task
from chalicelib.tasks.submit import submit_collection, submit_symbol_refresh
from tests.doubles.aws import Aws, Called
from tests.doubles.clock import Clock, SimulatedLoop
from tests.doubles.coverage import Part, cover
from tests.doubles.exchange import Exchange
from tests.doubles.faults import CrashAfter, LoseAnswer, Meanwhile, Refuse
from tests.doubles.fleet import Crash, Fleet

BODY = {"symbols": ["BTCUSDT"], "timeframes": ["1h", "1d"]}
LIFE = ["task.submitted", "task.planned", "task.started", "task.completed"]


def adds_event(called: Called) -> bool:
    return called.name == "dynamodb.PutItem" and called.parameters["TableName"] == "audit"


@pytest.fixture
def trail(run, backend):
    """The events of a subject, by default of the only task."""

    def trail(subject: str | None = None) -> list[AuditEvent]:
        items = AuditTable(backend)._call.items("audit")
        names = {item["subject"]["S"] for item in items if item["sk"]["S"] != "HEAD"}
        [subject] = [subject] if subject else names or {"task:none"}
        return [event for _, event in run(AuditTable(backend).after(subject, 0, 1000, 0))[0]]

    return trail


@pytest.fixture
def actions(trail):
    """The trail's actions; its chain must be whole."""

    def actions(subject: str | None = None) -> list[str]:
        events = trail(subject)
        assert not events or verify(events[0]["subject"], events) == []
        return [event["action"] for event in events]

    return actions


@pytest.fixture
def records(aws, settings):
    return lambda: aws.stream_event(settings.tasks_table)["Records"]


@pytest.fixture
def published(monkeypatch):
    """Ids and actions that were handed to publishing, batch by batch."""
    batches: list[list[tuple[str, str]]] = []

    async def publish(_: object, events: list[AuditEvent]) -> None:
        batches.append([(event["id"], event["action"]) for event in events])

    monkeypatch.setattr(event_record, "publish", publish)
    return batches


# --- what is recorded -----------------------------------------------------------------------------


def test_a_life_of_a_task_is_audited_in_order(run, backend, fleet, records, actions, trail) -> None:
    task_id = run(submit_collection(backend, BODY, "me", "r-submit"))
    run(cancel_task(backend, task_id, "you", "r-cancel"))
    run(retry_task(backend, task_id, False, "she", "r-retry"))
    run(fleet.settle())
    run(record_task_changes(backend, records()))
    assert actions() == [
        "task.submitted",
        "task.cancelled",
        "task.stopped",
        "task.retried",
        *LIFE[1:],
    ]
    found = [(event["by"], event["request_id"], event["attempt"]) for event in trail()]
    assert found == [
        ("me", "r-submit", 1),
        ("you", "r-cancel", 1),
        ("system", None, 1),
        ("she", "r-retry", 2),
        *[("system", None, 2)] * 3,
    ]
    assert {event["owner"] for event in trail()} == {"me"}


def test_failed_units_are_named_with_symbol_timeframe_window_and_reason(
    run, backend, fleet, exchange, records, trail, actions
) -> None:
    exchange.refused["ETHUSDT"] = "INVALID_SYMBOL"
    run(submit_collection(backend, {**BODY, "symbols": ["BTCUSDT", "ETHUSDT"]}, "me", "r"))
    run(fleet.settle())
    run(record_task_changes(backend, records()))
    [failed] = [event for event in trail() if event["action"] == "task.unit_failed"]
    assert (failed["before"], failed["after"], failed["data"]["failed"]) == (0, 2, 2)
    assert [(unit["symbol"], unit["timeframe"]) for unit in failed["data"]["units"]] == [
        ("ETHUSDT", "1h"),
        ("ETHUSDT", "1d"),
    ]
    for unit in failed["data"]["units"]:
        assert unit["reason"] == "INVALID_SYMBOL"
        assert unit["start"] < unit["end"]
    assert failed["owner"] == "me"
    assert actions()[-2:] == ["task.unit_failed", "task.completed"]


def test_failed_units_of_a_task_that_is_gone_keep_their_numbers(
    run, backend, fleet, exchange, records, trail, clock, aws, settings
) -> None:
    exchange.refused["BTCUSDT"] = "INVALID_SYMBOL"
    run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    clock.advance(settings.retention_seconds * 1000)
    aws.dynamodb.expire(settings.tasks_table)
    run(record_task_changes(backend, records()))
    [failed] = [event for event in trail() if event["action"] == "task.unit_failed"]
    assert {unit["number"] for unit in failed["data"]["units"]} == {0, 1}
    assert failed["owner"] == "me"


def test_an_expired_tasks_removal_is_audited_and_its_trail_stays(
    run, backend, fleet, aws, clock, settings, records, actions
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    clock.advance(settings.retention_seconds * 1000)
    aws.dynamodb.expire(settings.tasks_table)
    run(record_task_changes(backend, records()))
    assert actions() == [*LIFE, "task.expired"]
    clock.advance(30 * 86_400_000)
    aws.dynamodb.expire(settings.audit_table)
    assert len(actions()) == 5
    clock.advance(settings.audit_retention_days * 86_400_000)
    aws.dynamodb.expire(settings.audit_table)
    assert actions() == []


def test_what_the_exchange_lists_is_audited_when_it_changes_and_only_then(
    run, backend, aws, settings, actions, trail, clock
) -> None:
    before = {"BTCUSDT": "TRADING", "OLDUSDT": "TRADING", "ETHUSDT": "TRADING"}
    after = {"BTCUSDT": "TRADING", "NEWUSDT": "TRADING", "ETHUSDT": "BREAK"}
    for symbols in (before, before, after):
        clock.advance(1000)
        run(CatalogueTable(backend).write_catalogue(symbols, 6000, clock()))
    run(CatalogueTable(backend).write_prices({"BTCUSDT": "1.0"}, clock()))
    run(record_market_changes(backend, aws.stream_event(settings.market_table)["Records"]))
    assert actions("market:binance") == ["symbols.changed"] * 2
    changed = trail("market:binance")[1]
    assert (changed["before"], changed["after"], changed["owner"]) == (3, 3, None)
    assert changed["by"] == "system"
    assert changed["data"] == {
        "task_id": None,
        "added": {"count": 1, "symbols": ["NEWUSDT"]},
        "removed": {"count": 1, "symbols": ["OLDUSDT"]},
        "changed": {"count": 1, "symbols": {"ETHUSDT": ["TRADING", "BREAK"]}},
        "halted": {"count": 1, "symbols": ["ETHUSDT"]},
        "resumed": {"count": 0, "symbols": []},
    }


def test_a_refused_list_is_audited_once_with_what_it_misses_and_who_asked(
    run, worker, aws, settings, exchange, actions, trail, clock
) -> None:
    run(refresh_catalogue(worker))
    exchange.symbols = {"ETHUSDT": "TRADING"}
    for _ in range(3):  # the same trouble, minute after minute
        clock.advance(60_000)
        with pytest.raises(CatalogueRefused):
            run(refresh_catalogue(worker, Asked("me", "r", "task")))
    clock.advance(60_000)
    exchange.symbols |= {"BTCUSDT": "TRADING", "OLDUSDT": "BREAK"}
    run(refresh_catalogue(worker))
    exchange.symbols = {"ETHUSDT": "TRADING"}  # the same again, another day
    clock.advance(60_000)
    with pytest.raises(CatalogueRefused):
        run(refresh_catalogue(worker))
    run(record_market_changes(worker, aws.stream_event(settings.market_table)["Records"]))
    assert actions("market:binance") == ["symbols.changed", "symbols.refused", "symbols.refused"]
    refused = trail("market:binance")[1]
    assert (refused["before"], refused["after"], refused["by"]) == (3, 1, "me")
    missing = {"count": 2, "symbols": ["BTCUSDT", "OLDUSDT"]}
    assert refused["data"] == {"task_id": "task", "missing": missing}


def test_a_pause_and_its_end_are_audited_with_who_ordered_them(
    run, worker, aws, settings, actions, trail, clock
) -> None:
    until = clock() + 7_200_000
    run(Pauses(worker).begin(FOREVER_MS, "anna", "maintenance", "r1", clock()))
    clock.advance(1_000)
    run(Pauses(worker).begin(until, "ben", "", "r2", clock()))
    clock.advance(1_000)
    run(Pauses(worker).end("carl", "r3", clock()))
    run(Pauses(worker).end("carl", "r4", clock()))  # there is none any more
    run(record_market_changes(worker, aws.stream_event(settings.market_table)["Records"]))
    assert actions("market:binance") == ["exchange.paused", "exchange.paused", "exchange.resumed"]
    found = [
        (each["by"], each["request_id"], each["before"], each["after"], each["data"]["until"])
        for each in trail("market:binance")
    ]
    assert found == [
        ("anna", "r1", "running", "paused", None),
        ("ben", "r2", "paused", "paused", iso(until)),
        ("carl", "r3", "paused", "running", None),
    ]
    assert trail("market:binance")[0]["detail"] == "maintenance"


def test_a_refresh_of_the_symbols_bears_the_name_and_request_of_whoever_asked(
    run, backend, fleet, aws, settings, trail
) -> None:
    task_id = run(submit_symbol_refresh(backend, "me", "r"))
    run(fleet.settle())
    run(record_market_changes(backend, aws.stream_event(settings.market_table)["Records"]))
    [changed] = trail("market:binance")
    assert (changed["by"], changed["request_id"]) == ("me", "r")
    assert changed["data"]["task_id"] == task_id


def test_candles_that_were_stored_are_published_and_not_audited(
    run, backend, aws, settings, monkeypatch
) -> None:
    seen: list[AuditEvent] = []

    async def publish(_: object, events: list[AuditEvent]) -> None:
        seen.extend(events)

    monkeypatch.setattr(event_record, "publish", publish)
    hour = 3_600_000
    run(cover(backend, "BTCUSDT", Part("1h", 0, 2 * hour, hour)))
    run(cover(backend, "BTCUSDT", Part("1h", hour, 5 * hour, 4 * hour)))
    run(cover(backend, "BTCUSDT", Part("1d", 0, hour, None)))
    run(record_market_changes(backend, aws.stream_event(settings.market_table)["Records"]))
    assert [(e["action"], e["subject"]) for e in seen] == [
        ("candles.stored", "candles:BTCUSDT")
    ] * 2
    assert [event["data"]["timeframes"] for event in seen] == [
        {
            "1h": {
                "newest_open_time": "1970-01-01T01:00:00.000Z",
                "from": "1970-01-01T00:00:00.000Z",
                "to": "1970-01-01T02:00:00.000Z",
            }
        },
        {
            "1h": {
                "newest_open_time": "1970-01-01T04:00:00.000Z",
                "from": "1970-01-01T02:00:00.000Z",
                "to": "1970-01-01T05:00:00.000Z",
            }
        },
    ]
    assert not aws.items(settings.audit_table)


def test_a_page_of_events_is_one_read_and_one_write_each(run, backend, fleet, aws, records) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    first = len(aws.calls)
    run(record_task_changes(backend, records()))
    mine = [c.name for c in aws.calls[first:] if c.parameters.get("TableName") == "audit"]
    assert mine == ["dynamodb.Query", *["dynamodb.PutItem"] * 4]


# --- exactly once ---------------------------------------------------------------------------------


def test_a_batch_delivered_again_and_in_pieces_is_audited_once(
    run, backend, fleet, records, actions, trail
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    for start in range(len(records())):
        run(record_task_changes(backend, records()[start:]))
        run(record_task_changes(backend, records()[: start + 1]))
    assert actions() == LIFE
    assert not any(event["late"] for event in trail())


@pytest.mark.parametrize("hook", [CrashAfter, lambda n: LoseAnswer("dynamodb.PutItem", n)])
@pytest.mark.parametrize("number", range(1, 7))
def test_a_crash_or_a_lost_answer_at_any_call_leaves_one_event_each(
    run, backend, fleet, aws, records, actions, published, hook, number
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    aws.hooks.append(hook(number))
    for _ in range(3):
        try:
            run(record_task_changes(backend, records()))
        except (Crash, CallFailed):
            continue
    assert actions() == LIFE
    assert [action for _, action in published[-1]] == LIFE


def test_a_write_that_its_own_client_sent_twice_is_one_event(
    run, backend, fleet, aws, settings, clock, records, actions, published
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())

    async def twice(service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        if operation == "PutItem":
            await aws(service, operation, **parameters)
        return await aws(service, operation, **parameters)

    run(record_task_changes(Backend(twice, settings, clock), records()))
    assert actions() == LIFE
    assert [action for _, action in published[-1]] == LIFE


@pytest.mark.parametrize("number", range(1, 5))
def test_two_invocations_with_the_same_batch_do_not_fork_the_chain(
    run, backend, fleet, aws, records, actions, number
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    other = Meanwhile(adds_event, lambda: record_task_changes(backend, records()), number)
    aws.hooks.append(other)
    run(record_task_changes(backend, records()))
    assert other.left == 0
    assert actions() == LIFE


def test_a_trail_that_cannot_be_written_fails_the_batch_so_that_it_comes_again(
    run, backend, aws, records, actions
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    aws.hooks.append(Refuse("dynamodb.PutItem"))
    with pytest.raises(CallFailed):
        run(record_task_changes(backend, records()))
    run(record_task_changes(backend, records()))
    assert actions() == ["task.submitted"]


def test_what_was_recorded_before_is_published_again_in_order(
    run, backend, fleet, records, published, monkeypatch
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())

    async def refuse(*_: object) -> None:
        raise CallFailed("events", "PutEvents", "InternalFailure", "refused")

    with monkeypatch.context() as patch:
        patch.setattr(event_record, "publish", refuse)
        with pytest.raises(CallFailed):
            run(record_task_changes(backend, records()))
    run(record_task_changes(backend, records()))
    assert [action for _, action in published[-1]] == LIFE
    run(record_task_changes(backend, records()))
    assert published[-1] == published[-2]


@pytest.mark.parametrize("stream", [{"S": "x"}, {"S": "7"}, {"N": "7"}, {"L": []}, None])
def test_an_event_whose_place_somebody_altered_holds_up_nothing(
    run, backend, fleet, aws, settings, records, trail, stream
) -> None:
    run(submit_collection(backend, {**BODY, "force": True}, "me", "r"))
    run(record_task_changes(backend, records()))
    [key] = aws.dynamodb.tables["audit"].items
    altered = dict(aws.dynamodb.tables["audit"].items[key])
    del altered["stream"]
    aws.dynamodb.tables["audit"].items[key] = altered | ({"stream": stream} if stream else {})
    run(fleet.settle())
    run(record_task_changes(backend, records()[1:]))
    run(record_task_changes(backend, records()[1:]))
    assert [event["action"] for event in trail()] == LIFE
    faults = verify(trail()[0]["subject"], trail())
    assert {(fault.seq, fault.kind) for fault in faults} == {(1, "altered")}
    assert not aws.sqs.bodies(settings.stream_failure_queue_url)


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_records_in_any_order_and_number_become_one_whole_chain(data: st.DataObject) -> None:
    """Stream order is never relied upon: what comes late is added late."""
    clock = Clock()
    chosen = Settings(
        exchange_url="http://exchange.test",
        **{
            name: name
            for name in (
                *("tasks_table", "market_table", "connections_table", "audit_table"),
                *("candles_bucket", "plan_queue_url", "urgent_queue_url", "work_queue_url"),
                *("dead_letter_queue_url", "stream_failure_queue_url", "unreadable_queue_url"),
            )
        },
    )
    aws = Aws.for_settings(clock, chosen)
    worker = Worker(aws, chosen, clock, Exchange(clock))  # type: ignore[arg-type]
    loop = SimulatedLoop(clock)

    async def quiet(*_: object) -> None:
        return

    original = event_record.publish, event_record.announce
    event_record.publish = event_record.announce = quiet
    try:
        run = loop.run_until_complete
        task_id = run(submit_collection(worker, BODY, "me", "r"))
        run(Fleet(aws, worker).settle())
        records = aws.stream_event("tasks_table")["Records"]
        for _ in range(data.draw(st.integers(0, 3))):
            picked = data.draw(st.lists(st.sampled_from(records), max_size=6))
            run(record_task_changes(worker, picked))
        rest = data.draw(st.permutations(records))
        run(record_task_changes(worker, list(rest)))
        events = [
            event for _, event in run(AuditTable(worker).after(f"task:{task_id}", 0, 100, 0))[0]
        ]
    finally:
        event_record.publish, event_record.announce = original
        loop.close()
    assert verify(f"task:{task_id}", events) == []
    assert sorted(event["action"] for event in events) == sorted(LIFE)
    newest: tuple[int, int] = (0, 0)
    for event in events:
        sequence, _, index = event["stream"].partition(":")
        place = int(sequence), int(index)
        assert event["late"] == (place < newest)
        newest = max(newest, place)


# --- a chain that is quiet for longer than its events are kept ------------------------------------


@pytest.fixture
def lists(run, backend, aws, settings, clock):
    """The exchange lists these symbols from now on; recorded, by default."""
    read = [0]

    def lists(*symbols: str, record: bool = True) -> list[Any]:
        clock.advance(1000)
        run(
            CatalogueTable(backend).write_catalogue(
                dict.fromkeys(symbols, "TRADING"), 6000, clock()
            )
        )
        fresh = aws.stream_event(settings.market_table)["Records"][read[0] :]
        read[0] += len(fresh)
        if record:
            run(record_market_changes(backend, fresh))
        return fresh

    return lists


@pytest.fixture
def audit_items(aws):
    return aws.dynamodb.tables["audit"].items


@pytest.fixture
def retention_ms(settings):
    return settings.audit_retention_days * 86_400_000


MARKET = "market:binance"
HEAD = ("MARKET#binance", "HEAD")


@pytest.mark.parametrize("deleted", [(1, 2), (2,), (1,), ()])
def test_an_event_follows_the_last_though_it_expired_in_any_order(
    lists, run, backend, aws, clock, trail, audit_items, retention_ms, deleted
) -> None:
    lists("A")
    lists("A", "B")
    exported = {event["seq"]: event["hash"] for event in trail(MARKET)}
    clock.advance(retention_ms)
    for number in deleted:
        del audit_items["MARKET#binance", f"{number:012d}"]
    lists("A", "B", "C")
    found, _ = run(AuditTable(backend).after(MARKET, 0, 100, clock()))
    assert [number for number, _ in found] == [3]
    events = [event for _, event in found]
    assert events[0]["previous_hash"] == exported[2]
    assert verify(MARKET, events, exported) == []
    assert [fault.kind for fault in verify(MARKET, events)] == ["missing"]


def test_what_expired_and_comes_again_is_not_recorded_again(
    lists, run, backend, aws, clock, settings, audit_items, retention_ms, published
) -> None:
    fresh = lists("A")
    first = published[-1]
    clock.advance(retention_ms)
    assert aws.dynamodb.expire(settings.audit_table) == 1
    run(record_market_changes(backend, fresh))
    assert list(audit_items) == [HEAD]
    assert published[-1] == first == [("market:binance:1", "symbols.changed")]


def test_a_head_costs_no_read_and_no_call_more(lists, aws) -> None:
    first = len(aws.calls)
    lists("A")
    mine = [call.name for call in aws.calls[first:] if "'audit'" in str(call.parameters)]
    assert mine == ["dynamodb.Query", "dynamodb.TransactWriteItems"]


@pytest.mark.parametrize(
    "hook", [CrashAfter, lambda n: LoseAnswer("dynamodb.TransactWriteItems", n)]
)
@pytest.mark.parametrize("number", range(1, 6))
def test_a_crash_or_a_lost_answer_leaves_one_event_each_and_the_head_at_the_last(
    lists, run, backend, aws, actions, audit_items, hook, number
) -> None:
    fresh = [*lists("A", record=False), *lists("A", "B", record=False)]
    aws.hooks.append(hook(number))
    for _ in range(3):
        try:
            run(record_market_changes(backend, fresh))
        except (Crash, CallFailed):
            continue
    assert actions(MARKET) == ["symbols.changed"] * 2
    assert json.loads(audit_items[HEAD]["event"]["S"])["seq"] == 2


def test_two_invocations_with_the_same_change_of_the_market_record_it_once(
    lists, run, backend, aws, actions
) -> None:
    lists("A")
    fresh = lists("A", "B", record=False)
    writes = lambda called: called.operation == "TransactWriteItems"  # noqa: E731
    other = Meanwhile(writes, lambda: record_market_changes(backend, fresh))
    aws.hooks.append(other)
    run(record_market_changes(backend, fresh))
    assert other.left == 0
    assert len(actions(MARKET)) == 2


@pytest.mark.parametrize("name", ["gone", "behind", "other", "no JSON", "no text", "too far"])
def test_a_head_that_somebody_altered_is_not_believed_where_there_are_events(
    lists, aws, settings, actions, audit_items, name
) -> None:
    lists("A")
    behind = audit_items[HEAD]
    lists("A", "B")
    whole = audit_items.pop(HEAD)
    event = json.loads(whole["event"]["S"])
    altered = {
        "behind": behind["event"],
        "other": {"S": json.dumps({**event, "seq": 7})},
        "no JSON": {"S": "HEAD"},
        "no text": {"N": "7"},
        "too far": {"S": json.dumps(sealed(event, {**event, "seq": 10**12}))},
    }
    if name in altered:
        audit_items[HEAD] = {**whole, "event": altered[name]}
    lists("A", "B", "C")
    assert len(actions(MARKET)) == 3
    assert not aws.sqs.bodies(settings.stream_failure_queue_url)
    assert json.loads(audit_items[HEAD]["event"]["S"])["seq"] == 3


def test_a_head_expires_only_where_its_schedule_was_deleted(
    run, backend, aws, clock, settings, audit_items, retention_ms
) -> None:
    last = None
    for action in ("schedule.created", "schedule.deleted"):
        event = {"subject": "schedule:one", "action": action, "recorded_at": iso(clock())}
        last = sealed(event, last)
        run(AuditTable(backend).add(last, clock() // 1000 + retention_ms // 1000))
        head = audit_items["SCHEDULE#one", "HEAD"]
        assert ("ttl" in head) == (action == "schedule.deleted")
    clock.advance(retention_ms)
    aws.dynamodb.expire(settings.audit_table)
    assert run(AuditTable(backend).newest("schedule:one", 1)) == [last]
    clock.advance(LEAST_TASK_DAYS * 86_400_000)
    aws.dynamodb.expire(settings.audit_table)
    assert not audit_items


def test_a_tasks_chain_outlasts_the_task_however_short_events_are_kept(
    run, backend, aws, clock, fleet, settings, records, actions
) -> None:
    brief = replace(backend, settings=replace(settings, audit_retention_days=1))
    run(submit_collection(brief, BODY, "me", "r"))
    run(fleet.settle())
    run(record_task_changes(brief, records()))
    recorded = len(records())
    clock.advance(LEAST_TASK_DAYS * 86_400_000 - 3_600_000)
    aws.dynamodb.expire(settings.audit_table)
    aws.dynamodb.expire(settings.tasks_table)
    run(record_task_changes(brief, records()[recorded:]))
    assert actions() == [*LIFE, "task.expired"]


# --- our own bugs ---------------------------------------------------------------------------------


@pytest.fixture
def broken(monkeypatch):
    """Happenings break at a task's start, as a bug of ours would, while it is in force."""
    original = task_happenings.of_task

    def of_task(change: Any) -> Any:
        if change.new.get("state") == "running":
            raise KeyError("a bug")
        return original(change)

    with monkeypatch.context() as patch:
        patch.setattr(happenings, "OF_KIND", [of_task])
        yield patch


def test_a_record_that_breaks_our_code_is_set_aside_and_the_rest_goes_on(
    run, backend, fleet, aws, settings, records, actions, broken, capsys, published
) -> None:
    task_id = run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    run(record_task_changes(backend, records()))
    assert actions() == ["task.submitted", "task.completed"]
    assert [action for _, action in published[-1]] == ["task.submitted", "task.completed"]
    bodies = aws.sqs.bodies(settings.stream_failure_queue_url)
    kept = [json.loads(body) for body in bodies]
    assert {body["source"] for body in kept} == {"tasks"}
    assert all(body["record"] in records() for body in kept)
    assert all("a bug" in body["error"] for body in kept)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    aside = [line for line in lines if line.get("event") == "stream_record_set_aside"]
    assert len(aside) == len(kept)
    assert all(line["level"] == "error" and task_id in str(line["keys"]) for line in aside)


def test_what_was_set_aside_is_replayed_late_once_and_with_its_own_time(
    run, backend, fleet, aws, settings, clock, records, actions, trail, broken, published
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    clock.advance(5_000)
    run(fleet.settle())
    run(record_task_changes(backend, records()))
    broken.undo()
    clock.advance(86_400_000)
    counts = run(replay(backend, lambda: 60_000))
    assert counts["left"] == 0
    assert counts["events"] == 2
    assert actions() == ["task.submitted", "task.completed", "task.planned", "task.started"]
    assert [event["late"] for event in trail()] == [False, False, True, True]
    late, ended = trail()[-1], trail()[1]
    assert late["at"] <= ended["at"] < late["recorded_at"]
    assert not aws.sqs.bodies(settings.stream_failure_queue_url)
    assert {action for batch in published for _, action in batch} == set(LIFE)
    run(record_task_changes(backend, records()))
    assert len(actions()) == 4


def test_a_replay_that_breaks_off_or_runs_twice_records_once(
    run, backend, fleet, aws, settings, clock, records, actions, broken
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    run(record_task_changes(backend, records()))
    run(record_task_changes(backend, records()))  # set aside twice, by a redelivery
    broken.undo()
    aws.hooks.append(LoseAnswer("dynamodb.PutItem"))
    with pytest.raises(CallFailed):
        run(replay(backend, lambda: 60_000))
    clock.advance(61_000)
    run(replay(backend, lambda: 60_000))
    assert sorted(actions()) == sorted(LIFE)
    assert not aws.sqs.bodies(settings.stream_failure_queue_url)


def test_what_still_breaks_and_what_is_no_record_stays_in_the_queue(
    run, backend, fleet, aws, settings, records, actions, broken
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    run(record_task_changes(backend, records()))
    queue = settings.stream_failure_queue_url
    for body in ("no JSON", '{"requestContext": {"condition": "RetryAttemptsExhausted"}}', "[]"):
        run(aws("sqs", "SendMessage", QueueUrl=queue, MessageBody=body))
    before = aws.sqs.bodies(queue)
    counts = run(replay(backend, lambda: 60_000))
    assert counts == {"replayed": 0, "events": 0, "left": len(before)}
    assert aws.sqs.bodies(queue) == before
    assert run(replay(backend, lambda: 9_000)) == {"replayed": 0, "events": 0, "left": 0}


def test_a_replay_is_not_over_because_a_short_poll_found_nothing(
    run, backend, fleet, aws, settings, records, actions, broken
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    run(record_task_changes(backend, records()))
    broken.undo()
    queue = aws.sqs.queues[settings.stream_failure_queue_url]
    queue.missed_polls = 1
    assert run(aws("sqs", "ReceiveMessage", QueueUrl=settings.stream_failure_queue_url)) == {}
    queue.missed_polls = 1
    before = len(queue.messages)
    assert run(replay(backend, lambda: 60_000))["replayed"] == before > 0
    assert not queue.messages


def test_a_record_that_cannot_be_set_aside_fails_the_batch(
    run, backend, fleet, aws, records, broken
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    aws.hooks.append(Refuse("sqs.SendMessage"))
    with pytest.raises(CallFailed):
        run(record_task_changes(backend, records()))


def test_a_bug_in_publishing_sets_aside_what_was_to_be_told(
    run, backend, fleet, aws, settings, records, actions, monkeypatch
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())

    async def breaks(*_: object) -> None:
        raise KeyError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(event_record, "publish", breaks)
        run(record_task_changes(backend, records()))
    assert actions() == LIFE
    assert len(aws.sqs.bodies(settings.stream_failure_queue_url)) == 3
    counts = run(replay(backend, lambda: 60_000))
    assert counts == {"replayed": 3, "events": 4, "left": 0}
    assert actions() == LIFE


def test_a_record_that_is_no_change_is_set_aside(run, backend, aws, settings) -> None:
    run(record_task_changes(backend, [{"dynamodb": {}}]))
    [body] = aws.sqs.bodies(settings.stream_failure_queue_url)
    assert json.loads(body)["record"] == {"dynamodb": {}}


def test_a_chain_under_constant_contention_fails_its_batch_rather_than_looping(
    run, backend, records, monkeypatch
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))

    async def lose(*_: object) -> None:
        raise ConditionFailed("PutItem", None)

    monkeypatch.setattr(AuditTable, "add", lose)
    with pytest.raises(CallFailed, match="Contention"):
        run(record_task_changes(backend, records()))


def test_a_bug_in_announcing_is_logged_and_holds_back_nothing(
    run, backend, records, actions, monkeypatch, capsys
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))

    async def breaks(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(event_record, "announce", breaks)
    run(record_task_changes(backend, records()))
    assert actions() == ["task.submitted"]
    assert "announcing_failed" in capsys.readouterr().err
