"""What the trail relies on, on an AWS that others wrote: one event per number, pages by number and
by day, an export that is written once, and records that are set aside."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.audit.bucket import EVENTS, MANIFEST, AuditExports
from chalicelib.audit.chain import AuditEvent, sealed, verify
from chalicelib.audit.export import export_audit
from chalicelib.audit.query import AuditQuery, page_of_audit
from chalicelib.audit.table import AuditTable
from chalicelib.aws.calls import run
from chalicelib.aws.set_aside import SetAsideQueue
from chalicelib.core.errors import ConditionFailed
from chalicelib.core.settings import Settings
from chalicelib.core.times import DAY, iso
from chalicelib.exchange.worker import Worker
from tests.aws.endpoint import Endpoint
from tests.doubles.exports import decode
from tests.doubles.settings import backend_of

NOW = int(time.time() * 1000)
TTL = NOW // 1000 + 86_400


@pytest.fixture
def table(endpoint: Endpoint) -> AuditTable:
    return AuditTable(backend_of(endpoint.signed, audit_table=endpoint.new_table("AuditTable")))


def chain(subject: str, count: int, at_ms: int) -> list[AuditEvent]:
    events: list[AuditEvent] = []
    for number in range(count):
        event = {
            "subject": subject,
            "action": "task.started",
            "at": iso(at_ms),
            "recorded_at": iso(at_ms + number),
            "owner": "me",
            "by": "Zoë",
            "attempt": 1,
            "data": {"share": 0.5, "symbols": ["BTCUSDT", "币安人生USDT"]},
            "stream": f"{number}:0",
            "late": False,
        }
        events.append(sealed(event, events[-1] if events else None))
    return events


def test_an_event_is_stored_once_per_number_and_comes_back_as_it_was(table: AuditTable) -> None:
    events = chain("task:one", 12, NOW)
    for event in events:
        run(table.add(event, TTL))
    with pytest.raises(ConditionFailed):
        run(table.add({**events[3], "by": "somebody else"}, TTL))
    found, following = run(table.after("task:one", 0, 100, 0))
    assert ([event for _, event in found], following) == (events, None)
    assert verify("task:one", [event for _, event in found]) == []
    found, following = run(table.after("task:one", 4, 3, 0))
    assert ([number for number, _ in found], following) == ([5, 6, 7], 7)
    assert run(table.after("task:one", 4, 3, TTL * 1000)) == ([], 7)
    assert run(table.newest("task:one", 2)) == [events[11], events[10]]
    assert run(table.newest("task:one", 50, before=3)) == [events[1], events[0]]
    assert run(table.newest("task:one", 50, before=1)) == []
    assert run(table.newest("task:two", 1)) == []
    assert run(table.owner_of_task("one")) == "me"
    assert run(table.owner_of_task("two")) is None


def test_a_markets_newest_event_is_there_though_it_expired(endpoint: Endpoint) -> None:
    name = endpoint.new_table("AuditTable")
    table = AuditTable(backend_of(endpoint.signed, audit_table=name))
    events = chain("market:binance", 3, NOW)
    for event in events[:2]:
        run(table.add(event, TTL))
    with pytest.raises(ConditionFailed):
        run(table.add({**events[1], "by": "somebody else"}, TTL))
    assert run(table.newest("market:binance", 1)) == [events[1]]
    assert run(table.newest("market:binance", 5)) == [events[1], events[0]]
    for number in (1, 2):
        key = {"pk": {"S": "MARKET#binance"}, "sk": {"S": f"{number:012d}"}}
        run(endpoint.signed("dynamodb", "DeleteItem", TableName=name, Key=key))
    assert run(table.newest("market:binance", 1)) == [events[1]]
    assert run(table.newest("market:binance", 50, before=2)) == []
    run(table.add(events[2], TTL))
    assert run(table.newest("market:binance", 5)) == [events[2]]
    assert run(table.after("market:binance", 0, 100, 0)) == ([(3, events[2])], None)
    found, _ = run(table.of_day(str(iso(NOW))[:10], "", "~", 100))
    assert [event for _, event in found] == [events[2]]


def test_a_day_is_paged_by_the_moment_of_recording(table: AuditTable) -> None:
    noon = NOW // DAY * DAY + DAY // 2
    events = chain("task:one", 5, noon) + chain("market:binance", 5, noon)
    for event in [*events, *chain("task:next-day", 2, noon + DAY)]:
        run(table.add(event, TTL))
    day, found, after = str(iso(noon))[:10], [], ""
    following: str | None = after
    while following is not None:
        page, following = run(table.of_day(day, following, "~", 3))
        found += page
    key = lambda event: (event["recorded_at"], event["subject"], event["seq"])  # noqa: E731
    assert [event for _, event in found] == sorted(events, key=key)
    start, until = str(iso(noon + 1)), str(iso(noon + 3))
    page, _ = run(table.of_day(day, start, until, 100))
    assert {event["recorded_at"] for _, event in page} == {iso(noon + 1), iso(noon + 2)}
    assert run(table.of_day(day, until, start, 100)) == ([], None)


def test_the_manifest_that_stands_is_never_replaced(endpoint: Endpoint) -> None:
    exports = AuditExports(backend_of(endpoint.pooled, candles_bucket=endpoint.new_bucket()))

    def wait(work: Any) -> Any:
        return endpoint.runner.run(work)

    assert wait(exports.read("2026-11-22", MANIFEST)) is None
    assert wait(exports.write_manifest("2026-11-22", b"first")) == b"first"
    assert wait(exports.write_manifest("2026-11-22", b"second")) == b"first"
    assert wait(exports.read("2026-11-22", MANIFEST)) == b"first"


def test_a_days_events_are_exported_and_read_back(endpoint: Endpoint, settings: Settings) -> None:
    chosen = replace(
        settings,
        audit_table=endpoint.new_table("AuditTable"),
        candles_bucket=endpoint.new_bucket(),
        audit_retention_days=3,
    )
    worker = Worker(endpoint.pooled, chosen, lambda: NOW, None)  # type: ignore[arg-type]
    events = chain("task:one", 4, NOW // DAY * DAY - 2 * DAY)

    async def work() -> list[str]:
        for event in events:
            await AuditTable(worker).add(event, TTL)
        return await export_audit(worker)

    days = endpoint.runner.run(work())
    day = events[0]["recorded_at"][:10]
    assert days[0] == day
    stored = endpoint.runner.run(AuditExports(worker).read(day, EVENTS))
    assert decode(stored) == events
    assert endpoint.runner.run(export_audit(worker)) == []
    asked = AuditQuery("me", 100, from_ms=NOW - 3 * DAY)
    assert endpoint.runner.run(page_of_audit(worker, asked)) == (events, None)


def test_a_record_is_set_aside_whole_and_taken_once(endpoint: Endpoint) -> None:
    queue = SetAsideQueue(endpoint.signed, endpoint.new_queue())
    record = {"dynamodb": {"SequenceNumber": "1", "NewImage": {"request": {"B": "eJw="}}}}
    run(queue.put("tasks", record, "KeyError('币')"))
    [taken] = run(queue.take())
    assert taken.record == record
    assert run(queue.take()) == []
    run(queue.done(taken))
