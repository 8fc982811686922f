"""The daily export: a day once, whole, linked to the one before, and readable by others."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from chalicelib.audit import export as audit_export
from chalicelib.audit.bucket import ALTERED, EVENTS, HEADS, MANIFEST, export_key
from chalicelib.audit.chain import FIELDS, AuditEvent, digest, sealed, verify
from chalicelib.audit.export import DayNotOver, export_audit
from chalicelib.audit.table import AuditTable, event_of
from chalicelib.core.errors import CallFailed
from chalicelib.core.times import DAY, HOUR, iso
from tests.doubles.exports import decode
from tests.doubles.faults import CrashAfter, LoseAnswer, Meanwhile
from tests.doubles.fleet import Crash


class Writer:
    def __init__(self, run: Any, worker: Any, clock: Any) -> None:
        self.run, self.worker, self.clock = run, worker, clock
        self.ends: dict[str, AuditEvent] = {}

    def add(self, subject: str = "task:one", **more: Any) -> AuditEvent:
        event = sealed(
            {
                "subject": subject,
                "action": "task.started",
                "at": iso(self.clock() - 5),
                "recorded_at": iso(self.clock()),
                "late": False,
                **more,
            },
            self.ends.get(subject),
        )
        self.run(AuditTable(self.worker).add(event, 1 << 40))
        self.ends[subject] = event
        return event


@pytest.fixture
def writer(run, worker, clock):
    clock.advance_to((clock() // DAY + 1) * DAY + HOUR)
    return Writer(run, worker, clock)


@pytest.fixture
def objects(aws):
    return aws.s3.buckets["candles"].objects


@pytest.fixture
def export(run, worker):
    return lambda day=None: run(export_audit(worker, day))


def manifest(objects: dict[str, bytes], day: str) -> Any:
    return json.loads(objects[export_key(day, MANIFEST)])


def day_of(at_ms: int) -> str:
    return str(iso(at_ms))[:10]


def test_a_day_that_is_over_is_exported_with_its_manifest(writer, clock, objects, export) -> None:
    today = day_of(clock())
    events = [
        writer.add(data={"symbols": ["BTCUSDT"], "share": 0.5}, before="pending", attempt=1),
        writer.add("market:binance", data=None, owner=None, detail="é", after=[1, None]),
        writer.add(by="me", request_id="r", late=True),
    ]
    clock.advance(DAY)
    writer.add()
    assert export() == [today]
    stored = objects[export_key(today, EVENTS)]
    exported = decode(stored)
    key = lambda event: (event["recorded_at"], event["subject"], event["seq"])  # noqa: E731
    assert exported == sorted(events, key=key)
    mine = [event for event in exported if event["subject"] == "task:one"]
    assert verify("task:one", mine) == []
    assert manifest(objects, today) == {
        "v": 1,
        "day": today,
        "events": 3,
        "events_sha256": hashlib.sha256(stored).hexdigest(),
        "previous_day": None,
        "previous_manifest_sha256": None,
        "chains": 2,
        "heads": {
            "task:one": {"seq": 2, "hash": events[2]["hash"]},
            "market:binance": {"seq": 1, "hash": events[1]["hash"]},
        },
    }


def test_others_read_the_export_as_it_is(writer, clock, objects, export, tmp_path: Path) -> None:
    today = day_of(clock())
    writer.add(data={"units": 3}, attempt=1)
    writer.add()
    clock.advance(2 * DAY)
    export()
    for key, content in objects.items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(content)
    with duckdb.connect() as db:
        files = str(tmp_path / "audit" / "*" / "events.parquet")
        rows = db.execute(
            "SELECT day, seq, action, recorded_at - \"at\", attempt, data->>'$.units' "
            f"FROM read_parquet('{files}', hive_partitioning = true) ORDER BY seq"
        ).fetchall()
        columns = db.execute(f"DESCRIBE SELECT * FROM '{files}'").fetchall()
    assert [str(row[0]) for row in rows] == [today, today]
    assert [row[1] for row in rows] == [1, 2]
    assert {row[3].total_seconds() for row in rows} == {0.005}
    assert [(row[4], row[5]) for row in rows] == [(1, "3"), (None, None)]
    types = {column[0]: column[1] for column in columns}
    assert {name: types[name] for name in ("seq", "at", "late", "data")} == {
        "seq": "BIGINT",
        "at": "TIMESTAMP WITH TIME ZONE",
        "late": "BOOLEAN",
        "data": "VARCHAR",
    }
    assert set(types) >= set(FIELDS)


def test_days_that_were_missed_are_made_up_for_and_linked_in_order(
    writer, clock, objects, export
) -> None:
    first = clock()
    writer.add()
    clock.advance(DAY)
    assert export() == [day_of(first)]
    clock.advance(3 * DAY)
    writer.add()
    assert export() == [day_of(first + n * DAY) for n in (1, 2, 3)]
    assert export() == []
    previous = None
    for number in range(4):
        text = objects[export_key(day_of(first + number * DAY), MANIFEST)]
        found = json.loads(text)
        assert found["previous_manifest_sha256"] == previous
        assert found["events"] == (number == 0)
        previous = hashlib.sha256(text).hexdigest()


def test_the_first_export_begins_with_the_first_day_of_which_anything_is_known(
    writer, clock, export
) -> None:
    clock.advance(5 * DAY)
    began = clock()
    writer.add()
    clock.advance(3 * DAY)
    assert export() == [day_of(began + n * DAY) for n in (0, 1, 2)]


def test_a_table_that_knows_nothing_still_exports_yesterday(writer, clock, export, objects) -> None:
    clock.advance(DAY // 2)
    assert export() == [day_of(clock() - DAY)]
    assert decode(objects[export_key(day_of(clock() - DAY), EVENTS)]) == []


def test_a_day_may_be_asked_for_and_is_never_written_again(
    writer, clock, objects, export, aws
) -> None:
    today = day_of(clock())
    writer.add()
    clock.advance(3 * DAY)
    assert export(today) == [today]
    before = dict(objects)
    assert export(today) == []
    assert objects == before
    with pytest.raises(DayNotOver):
        export(day_of(clock()))
    for bad in ("yesterday", "2026-11-23T12:00:00Z"):
        with pytest.raises(ValueError):
            export(bad)


def test_a_day_that_has_just_ended_waits_for_what_is_still_being_recorded(
    writer, clock, export
) -> None:
    yesterday = clock()
    clock.advance(DAY - HOUR + audit_export.PATIENCE_MS - 1)
    assert export() == [day_of(yesterday - DAY)]
    with pytest.raises(DayNotOver):
        export(day_of(yesterday))
    clock.advance(1)
    assert export(day_of(yesterday)) == [day_of(yesterday)]


@pytest.mark.parametrize("hook", [CrashAfter, lambda n: LoseAnswer("s3.PutObject", n)])
@pytest.mark.parametrize("number", [1, 2])
def test_an_export_that_breaks_off_is_done_again(
    writer, clock, objects, export, aws, hook, number
) -> None:
    writer.add()
    day = day_of(clock())
    clock.advance(DAY)
    aws.hooks.append(hook(number))
    try:
        export()
    except (Crash, CallFailed):
        export()
    assert manifest(objects, day)["events"] == 1
    assert len(decode(objects[export_key(day, EVENTS)])) == 1


def test_two_exports_at_once_leave_one_manifest(
    run, writer, clock, objects, export, aws, worker
) -> None:
    writer.add()
    day = day_of(clock())
    clock.advance(DAY)
    puts = lambda called: called.parameters.get("IfNoneMatch") == "*"  # noqa: E731
    aws.hooks.append(Meanwhile(puts, lambda: export_audit(worker)))
    export()
    assert aws.s3.buckets["candles"].writes[export_key(day, MANIFEST)] == 1
    clock.advance(DAY)
    export()
    text = objects[export_key(day, MANIFEST)]
    after = manifest(objects, day_of(clock() - DAY))
    assert after["previous_manifest_sha256"] == hashlib.sha256(text).hexdigest()


def test_many_chains_have_their_heads_in_a_file_of_their_own(
    writer, clock, objects, export, monkeypatch
) -> None:
    monkeypatch.setattr(audit_export, "MOST_HEADS", 2)
    monkeypatch.setattr(audit_export, "_PAGE", 2)
    day = day_of(clock())
    events = [writer.add(f"task:{name}") for name in ("a", "b", "a", "c")]
    clock.advance(DAY)
    export()
    found = manifest(objects, day)
    stored = objects[export_key(day, HEADS)]
    assert "heads" not in found
    assert found["heads_sha256"] == hashlib.sha256(stored).hexdigest()
    assert decode(stored) == [
        {"subject": "task:a", "seq": 2, "hash": events[2]["hash"]},
        {"subject": "task:b", "seq": 1, "hash": events[1]["hash"]},
        {"subject": "task:c", "seq": 1, "hash": events[3]["hash"]},
    ]


# --- events that somebody altered -----------------------------------------------------------------


@pytest.fixture
def alter(aws):
    """Give an event's item other attributes; None takes one away. Returns the item."""

    def alter(event: AuditEvent, **changes: Any) -> dict[str, Any]:
        items = aws.dynamodb.tables["audit"].items
        [key] = [key for key, item in items.items() if item.get("id") == {"S": event["id"]}]
        whole = {**items[key], **changes}
        items[key] = {name: value for name, value in whole.items() if value is not None}
        return items[key]

    return alter


#: What no column can hold, or not at this key: a hash that was made anew does not help it.
IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "no time": {"at": {"S": "soon"}},
    "a number for a time": {"at": {"N": "5"}},
    "no time at all": {"at": None},
    "a time of no year": {"recorded_at": {"S": "9999999-01-01"}},
    "not recorded": {"recorded_at": None},
    "a text for a number": {"seq": {"S": "x"}},
    "no number": {"seq": None},
    "another number": {"seq": {"N": "7"}},
    "another id": {"id": {"S": "task:two:1"}},
    "no subject": {"subject": None},
    "another subject": {"subject": {"S": "task:two"}},
    "a fraction": {"attempt": {"N": "1.5"}},
    "too large": {"attempt": {"N": "9" * 30}},
    "a number for a text": {"detail": {"N": "7"}},
    "a text for a truth value": {"late": {"S": "no"}},
}
#: What only the hash tells.
POSSIBLE: dict[str, dict[str, Any]] = {
    "bytes": {"by": {"B": b"\x00\xff"}},
    "a set": {"by": {"SS": ["a"]}},
    "infinite": {"data": {"S": "1e999"}},
    "nested beyond reading": {"data": {"S": "[" * 100_000}},
    "no hash": {"hash": None},
    "a list for a hash": {"hash": {"L": []}},
    "nothing before": {"previous_hash": {"NULL": True}},
    "somebody else": {"by": {"S": "somebody else"}},
}


@pytest.mark.parametrize(
    ("name", "with_right_hash"),
    [
        *((name, False) for name in IMPOSSIBLE | POSSIBLE),
        *((name, True) for name in IMPOSSIBLE),
    ],
)
def test_an_altered_event_stops_no_export_and_is_kept_as_it_stands(
    writer, clock, objects, export, alter, capsys, name, with_right_hash
) -> None:
    day, first = day_of(clock()), writer.add(attempt=1)
    second, other = writer.add(), writer.add("task:other")
    item = alter(first, **(IMPOSSIBLE | POSSIBLE)[name])
    if with_right_hash:
        item["hash"] = {"S": digest(event_of(item))}
    clock.advance(DAY)
    writer.add("task:other")
    clock.advance(DAY)
    assert export() == [day, day_of(clock() - DAY)]
    assert decode(objects[export_key(day, EVENTS)]) == [second, other]
    found = manifest(objects, day)
    stored = objects[export_key(day, ALTERED)]
    assert found["altered"] == {
        "object": ALTERED,
        "events": 1,
        "sha256": hashlib.sha256(stored).hexdigest(),
    }
    assert (found["events"], set(found["heads"])) == (2, {"task:one", "task:other"})
    as_json = json.loads(json.dumps(item, default=lambda _: "AP8="))
    assert json.loads(stored) == [{"id": "task:one:1", "item": as_json}]
    assert "altered" not in manifest(objects, day_of(clock() - DAY))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    [line] = [line for line in lines if line["event"] == "audit_events_altered"]
    assert (line["level"], line["ids"], line["count"]) == ("error", ["task:one:1"], 1)


def test_an_event_that_was_rewritten_with_a_right_hash_is_exported_as_any_other(
    writer, clock, objects, export, alter
) -> None:
    """Its successor tells, and so does an export that was made before."""
    day, first, second = day_of(clock()), writer.add(), writer.add()
    item = alter(first, by={"S": "somebody else"})
    item["hash"] = {"S": digest(event_of(item))}
    clock.advance(DAY)
    export()
    assert decode(objects[export_key(day, EVENTS)]) == [event_of(item), second]
    assert "altered" not in manifest(objects, day)
