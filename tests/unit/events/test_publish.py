"""Publishing: every event as its schema says, at least once, counted once, sent to webhooks."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from chalicelib.access import keys
from chalicelib.aws.calls import batched
from chalicelib.aws.wire import item_from_wire
from chalicelib.core.errors import CallFailed, CatalogueRefused
from chalicelib.core.settings import Settings
from chalicelib.events import bus
from chalicelib.events.event import FIELDS, VERSION
from chalicelib.events.publish import publish, published_event
from chalicelib.events.record import record_market_changes, record_task_changes
from chalicelib.events.totals import COUNTED, Totals
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.pause import Pauses
from chalicelib.exchange.refresh import refresh_catalogue
from chalicelib.schedules import manage, watch
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.retry import retry_task
from chalicelib.tasks.submit import submit_collection, submit_symbol_refresh
from chalicelib.webhooks import webhook
from chalicelib.webhooks.items import WebhookItems
from chalicelib.webhooks.retry import Answer
from infra.functions import FUNCTIONS, events
from infra.storage import queues
from tests.doubles.faults import LoseAnswer, Refuse
from tests.doubles.senders import Sender
from tests.event_schemas import ENVELOPE, SCHEMAS, problems, whole

BODY = {"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1h", "1d"]}
HOOK = {"url": "https://hooks.acme.com/in", "secret": "sssssecret-sssssecret-sssssecret"}
DAY_MS = 86_400_000


@pytest.fixture
def streams(run, backend, aws, settings):
    """Hand both streams' new records on, as Lambda does: call it whenever something happened."""
    done = {settings.tasks_table: 0, settings.market_table: 0, settings.keys_table: 0}
    record = {
        settings.tasks_table: record_task_changes,
        settings.market_table: record_market_changes,
        settings.keys_table: record_market_changes,
    }

    def hand_on() -> None:
        for table, start in done.items():
            records = aws.stream_event(table)["Records"]
            run(record[table](backend, records[start:]))
            done[table] = len(records)

    return hand_on


@pytest.fixture
def play(run, backend, worker, fleet, aws, exchange, clock, settings, streams, deliver):
    """Lives that together hold every action there is."""

    def play() -> list[dict[str, Any]]:
        run(CatalogueTable(backend).write_catalogue({"BTCUSDT": "TRADING"}, 6000, backend.now_ms()))
        listed = {"BTCUSDT": "BREAK", "ETHUSDT": "TRADING"}
        run(CatalogueTable(backend).write_catalogue(listed, 6000, backend.now_ms()))
        everything = {**HOOK, "events": list(webhook.ACTIONS)}
        # Some units fail, or all of them; one task is cancelled and run again.
        exchange.refused["ETHUSDT"] = "INVALID_SYMBOL"
        run(submit_collection(backend, {**BODY, "webhook": everything}, "me", "r1"))
        run(submit_collection(backend, {**BODY, "symbols": ["ETHUSDT"]}, "me", "r2"))
        run(fleet.settle())
        exchange.refused.clear()
        cancelled = run(submit_collection(backend, {**BODY, "start": "2025-06-01"}, "me", "r3"))
        run(submit_symbol_refresh(backend, "me", "r4"))
        run(cancel_task(backend, cancelled))
        run(retry_task(backend, cancelled))
        run(fleet.settle())
        listing, exchange.symbols = exchange.symbols, {}
        with pytest.raises(CatalogueRefused):
            run(refresh_catalogue(worker))
        exchange.symbols = listing
        streams()
        assert deliver(Sender(Answer(204), Answer(400))) > 2
        streams()
        _schedules()
        gone = run(submit_collection(backend, BODY, "me", "r5"))
        aws.dynamodb.apply("DeleteItem", {"TableName": settings.tasks_table, "Key": _meta(gone)})
        clock.advance(DAY_MS)
        aws.dynamodb.expire(settings.tasks_table)
        streams()
        return aws.events.details()

    def _schedules() -> None:
        def change(**fields: Any) -> None:
            run(manage.change_schedule(backend, fields, "me", "r", "s1"))
            streams()

        def fire(at_ms: int) -> None:
            run(watch.run_schedule(backend, "me", "s1", at_ms, 1, "r"))
            streams()

        minute = 60_000
        body = {
            "name": "mine",
            "expression": "rate(1 hour)",
            "request": {"symbols": ["BTCUSDT"], "timeframes": ["1h"], "webhook": HOOK},
            "freshness": {"max_lag_seconds": 60},
        }
        run(manage.create_schedule(backend, body, "me", "r", "s1"))
        streams()
        fire(clock() // minute * minute + 60 * minute)
        fire(clock() // minute * minute + 120 * minute)  # the first has not ended: skipped
        change(overlap="queue")
        fire(clock() // minute * minute + 180 * minute)  # the same, and now it waits
        clock.advance(30 * 60 * minute)
        run(watch.watch_schedules(backend, "r"))  # missed, and far behind its promise
        streams()
        change(enabled=False)
        change(enabled=True, name="yours")
        run(manage.delete_schedule(backend, "me", "r", "s1"))
        run(Pauses(backend).begin(clock() + minute, "me", "", "r", clock()))
        run(Pauses(backend).end("me", "r", clock()))
        in_use = replace(backend, settings=replace(settings, authentication="keys"))
        key_id = run(keys.create_key(in_use, {"owner": "me", "scopes": ["read"]}, "boss"))["key_id"]
        run(keys.rotate_key(in_use, key_id, "boss", "r"))
        run(keys.revoke_key(in_use, key_id, "boss", "r"))
        streams()

    return play


def _meta(task_id: str) -> dict[str, Any]:
    return {"pk": {"S": f"TASK#{task_id}"}, "sk": {"S": "META"}}


# --- the schemas --------------------------------------------------------------------------------


def test_every_action_that_happens_has_a_schema_that_holds_and_every_schema_happens(play) -> None:
    details = play()
    happened = {detail["action"] for detail in details}
    assert happened == set(SCHEMAS)
    assert [problem for detail in details for problem in problems(detail)] == []
    assert happened >= {*webhook.ACTIONS, *COUNTED}


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_is_one_and_takes_no_field_it_does_not_know(name: str) -> None:
    schema, resolved = SCHEMAS[name], whole(SCHEMAS[name])
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:market-data-collector:event:{name}:1"
    assert schema["properties"]["action"] == {"const": name}
    assert resolved["properties"]["version"]["const"] == VERSION == 1
    assert {"version", "id", "action", "at", "subject"} <= set(resolved["required"])
    assert set(resolved["properties"]) <= {"version", "truncated", *FIELDS}
    assert resolved["type"] == "object"
    assert schema["unevaluatedProperties"] is False
    for part in _objects(schema):
        assert part.get("additionalProperties") is not None


def test_the_envelope_is_a_schema_and_holds_what_is_said_once() -> None:
    Draft202012Validator.check_schema(ENVELOPE)
    shared = {name for part in ENVELOPE["$defs"].values() for name in part["properties"]}
    for schema in SCHEMAS.values():
        assert set(schema["properties"]) & shared == {"action"}
        assert schema["$ref"].startswith(ENVELOPE["$id"] + "#/$defs/")


def _objects(schema: Any) -> list[dict[str, Any]]:
    """Every part of a schema that describes an object."""
    if isinstance(schema, list):
        return [found for part in schema for found in _objects(part)]
    if not isinstance(schema, dict):
        return []
    own = [schema] if schema.get("type") == "object" else []
    return own + [found for part in schema.values() for found in _objects(part)]


def test_an_event_of_another_shape_is_not_valid(play) -> None:
    for detail in play():
        assert problems({**detail, "surprise": 1})
        assert problems({**detail, "version": 2})
        assert problems({name: value for name, value in detail.items() if name != "id"})


def test_no_event_anywhere_holds_the_secret_of_a_webhook_or_its_path(
    play, aws, settings, run, backend, capsys
) -> None:
    play()
    hidden = ("sssssecret", "/in")
    where = {
        "bus": str(aws.events.published),
        "trail": str(aws.items(settings.audit_table)),
        "queues": str([queue.messages for queue in aws.sqs.queues.values()]),
        "logs": capsys.readouterr().err,
        "streams": str(
            [
                record
                for record in aws.stream_event(settings.tasks_table)["Records"]
                if _is_told(record, settings)
            ]
        ),
    }
    assert where["logs"]
    for place, text in where.items():
        assert not any(word in text for word in hidden), place


def _is_told(record: dict[str, Any], settings: Settings) -> bool:
    """Whether the event source of the Tasks stream lets a record through."""
    source = events(settings)["on_task_change"]["Changed"]["Properties"]
    [pattern] = [json.loads(part["Pattern"]) for part in source["FilterCriteria"]["Filters"]]
    key = record["dynamodb"]["Keys"]["sk"]["S"]
    return any(
        key.startswith(kind["prefix"]) if isinstance(kind, dict) else key == kind
        for kind in pattern["dynamodb"]["Keys"]["sk"]["S"]
    )


# --- at least once, and counted once ------------------------------------------------------------


def _events(many: int, action: str = "task.completed", **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": f"task:t{number}:3",
            "subject": f"task:t{number}",
            "seq": 3,
            "action": action,
            "at": "2026-03-04T05:06:07.000Z",
            "by": "system",
            "detail": "",
            **more,
        }
        for number in range(many)
    ]


def test_events_go_to_the_bus_of_the_stack_in_order_with_source_type_and_time(
    run, backend, aws, settings
) -> None:
    run(publish(backend, _events(23)))
    published = aws.events.published
    assert [json.loads(entry["Detail"])["id"] for entry in published] == [
        f"task:t{number}:3" for number in range(23)
    ]
    assert aws.counts["events.PutEvents"] == 3
    assert {(e["EventBusName"], e["Source"], e["DetailType"]) for e in published} == {
        (settings.event_bus, "market-data-collector", "task.completed")
    }
    assert {entry["Time"] for entry in published} == {1_772_600_767}


def test_nothing_is_asked_of_anybody_where_nothing_happened(run, backend, aws) -> None:
    run(publish(backend, []))
    assert not aws.calls


def test_entries_that_the_bus_refuses_are_sent_again_and_only_those(run, backend, aws) -> None:
    aws.events.refuse_next = 4
    run(publish(backend, _events(10)))
    ids = [detail["id"] for detail in aws.events.details()]
    assert len(ids) == len(set(ids)) == 10


def test_where_the_bus_goes_on_refusing_the_batch_comes_again_with_the_same_ids(
    run, backend, aws
) -> None:
    aws.events.refuse_next = 4
    with pytest.raises(CallFailed):
        run(publish(backend, _events(1)))
    run(publish(backend, _events(1)))
    assert [detail["id"] for detail in aws.events.details()] == ["task:t0:3"]


@given(st.lists(st.integers(0, 200_000), max_size=40))
def test_batches_never_exceed_what_one_request_may_hold(sizes: list[int]) -> None:
    entries = [{"Detail": "x" * size} for size in sizes]
    batches = batched(entries, bus._size, bus.BATCH_ENTRIES, bus.BATCH_BYTES)
    assert [entry for batch in batches for entry in batch] == entries
    for batch in batches:
        assert 1 <= len(batch) <= bus.BATCH_ENTRIES
        total = sum(len(entry["Detail"]) + 300 for entry in batch)
        assert total <= bus.BATCH_BYTES or len(batch) == 1


@pytest.mark.parametrize("letter", ["x", "ü", "\U0001f600"])
def test_an_event_too_large_for_the_bus_goes_without_its_large_parts_and_says_so(
    run, backend, aws, letter: str
) -> None:
    units = {"units": 1, "succeeded": 1, "failed": 0, "text": letter * 300_000}
    big = _events(1, before="running", after="completed", owner="me", attempt=1, data=units)
    run(publish(backend, big))
    [detail] = aws.events.details()
    assert detail["truncated"] is True
    assert "data" not in detail
    assert problems(detail) == []


def test_what_is_the_trails_own_or_unknown_is_not_published() -> None:
    event = {**_events(1)[0], "hash": "h", "previous_hash": "p", "stream": "1:0", "owner": None}
    assert set(published_event(event)) == {
        *("version", "id", "subject", "seq", "action", "at", "by", "detail")
    }


def test_an_event_that_comes_again_is_counted_once(run, backend) -> None:
    for _ in range(3):
        run(publish(backend, _events(2)))
    run(publish(backend, _events(5, "task.failed")[4:]))
    assert run(Totals(backend).read()) == {"task.completed": 2, "task.failed": 1}


def test_an_event_that_was_set_aside_is_counted_once_however_late_it_is_replayed(
    run, backend, aws, clock, settings
) -> None:
    run(publish(backend, _events(1)))
    kept_s = queues(dict.fromkeys(FUNCTIONS, 60))["StreamFailureQueue"]["Properties"]
    clock.advance(DAY_MS + kept_s["MessageRetentionPeriod"] * 1000)
    aws.dynamodb.expire(settings.market_table)
    run(publish(backend, _events(1)))
    assert run(Totals(backend).read()) == {"task.completed": 1}


def test_a_count_whose_answer_was_lost_is_counted_once(run, backend, aws) -> None:
    aws.hooks.append(LoseAnswer("dynamodb.TransactWriteItems"))
    with pytest.raises(CallFailed):
        run(publish(backend, _events(1)))
    run(publish(backend, _events(1)))
    assert run(Totals(backend).read()) == {"task.completed": 1}


class Collide(Refuse):
    """Other counts come in between."""

    async def before(self, called: Any) -> None:
        if called.name == "dynamodb.TransactWriteItems" and self.times:
            self.times -= 1
            code = "TransactionCanceledException"
            raise CallFailed(called.service, called.operation, code, "[None, Conflict]")


def test_a_count_that_collides_with_others_is_made_once_they_are_through(run, backend, aws) -> None:
    aws.hooks.append(Collide("", 5))
    run(publish(backend, _events(1)))
    assert run(Totals(backend).read()) == {"task.completed": 1}


def test_a_count_that_collides_again_and_again_is_not_taken_for_done(run, backend, aws) -> None:
    aws.hooks.append(Collide("", 100))
    with pytest.raises(CallFailed):
        run(publish(backend, _events(1)))
    assert run(Totals(backend).read()) == {}


# --- webhooks -----------------------------------------------------------------------------------


def _queued(aws, settings) -> list[dict[str, Any]]:
    return [json.loads(body) for body in aws.sqs.bodies(settings.webhook_queue_url)]


def test_a_webhook_is_queued_what_it_asked_for_and_nothing_else(
    run, backend, fleet, aws, settings, streams
) -> None:
    wanted = {**HOOK, "events": ["task.started", "task.completed"]}
    task_id = run(submit_collection(backend, {**BODY, "webhook": wanted}, "me", "r"))
    run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    streams()
    queued = _queued(aws, settings)
    assert [message["event"]["action"] for message in queued] == ["task.started", "task.completed"]
    assert {message["task_id"] for message in queued} == {task_id}
    assert queued[1]["event"] in aws.events.details()


def test_deliveries_are_pending_before_they_are_queued_and_a_repetition_keeps_what_is_known(
    run, backend, aws, settings, streams, deliver
) -> None:
    task_id = run(submit_collection(backend, {**BODY, "webhook": HOOK}, "me", "r"))
    run(cancel_task(backend, task_id))
    aws.hooks.append(Refuse("sqs.SendMessageBatch", 5))
    with pytest.raises(CallFailed):
        streams()
    assert [row.state for row in run(WebhookItems(backend).deliveries(task_id))] == ["pending"]
    aws.hooks.clear()
    streams()
    deliver(Sender())
    assert [row.state for row in run(WebhookItems(backend).deliveries(task_id))] == ["delivered"]
    run(record_task_changes(backend, aws.stream_event(settings.tasks_table)["Records"]))
    assert [row.state for row in run(WebhookItems(backend).deliveries(task_id))] == ["delivered"]


@pytest.mark.parametrize(("status", "state"), [(204, "delivered"), (404, "failed")])
def test_what_was_delivered_or_given_up_is_not_queued_again(
    run, backend, aws, settings, clock, deliver, status: int, state: str
) -> None:
    task_id = run(submit_collection(backend, {**BODY, "webhook": HOOK}, "me", "r"))
    ended = [{**_events(1)[0], "subject": f"task:{task_id}"}]
    for _ in range(2):  # what is still to be delivered is queued each time
        run(publish(backend, ended))
    assert len(_queued(aws, settings)) == 2
    clock.advance(1)
    deliver(Sender(Answer(status)))
    assert [row.state for row in run(WebhookItems(backend).deliveries(task_id))] == [state]
    assert _queued(aws, settings) == []
    run(publish(backend, ended))
    assert _queued(aws, settings) == []


def test_characters_that_sqs_does_not_take_are_queued_all_the_same(
    run, backend, aws, settings
) -> None:
    task_id = run(submit_collection(backend, {**BODY, "webhook": HOOK}, "me", "r"))
    text = "bad symbol \uffff\ufffe"
    run(publish(backend, [{**_events(1)[0], "subject": f"task:{task_id}", "detail": text}]))
    (message,) = _queued(aws, settings)
    assert message["event"]["detail"] == text


def test_what_became_of_a_delivery_is_published_and_never_delivered_itself(
    run, backend, aws, settings, streams, deliver
) -> None:
    wanted = {**HOOK, "events": list(webhook.ACTIONS)}
    run(submit_collection(backend, {**BODY, "webhook": wanted}, "me", "r"))
    streams()
    for _ in range(3):
        deliver(Sender(Answer(404)))
        streams()
    actions = [detail["action"] for detail in aws.events.details()]
    assert actions == ["task.submitted", "webhook.failed"]
    assert _queued(aws, settings) == []
    assert not {action for action in webhook.ACTIONS if action.startswith("webhook.")}


def test_reading_webhooks_takes_one_call_for_a_whole_batch_and_none_for_other_events(
    run, backend, aws
) -> None:
    run(publish(backend, _events(80)))
    assert aws.counts["dynamodb.BatchGetItem"] == 1
    aws.counts.clear()
    run(publish(backend, _events(3, "task.expired") + _events(2, "webhook.failed")))
    assert aws.counts["dynamodb.BatchGetItem"] == 0


def test_webhooks_that_were_not_read_at_first_are_read_again(run, backend, aws, settings) -> None:
    for number in range(5):
        hook = webhook.Webhook(HOOK["url"], HOOK["secret"])
        run(WebhookItems(backend).write(f"t{number}", "me", hook, backend.now_ms()))
    aws.dynamodb.leave_unprocessed = 3
    run(publish(backend, _events(5)))
    assert len(_queued(aws, settings)) == 5


def test_a_webhook_lives_as_long_as_its_task_goes_on(run, backend, aws, clock, settings) -> None:
    """A task may be retried after weeks; each event gives its webhook the whole time again."""
    run(
        WebhookItems(backend).write(
            "t0", "me", webhook.Webhook(HOOK["url"], HOOK["secret"]), backend.now_ms()
        )
    )
    for _ in range(8):
        clock.advance(7 * DAY_MS)
        aws.dynamodb.expire(settings.tasks_table)
        run(publish(backend, _events(1)))
        assert run(WebhookItems(backend).read("t0")) is not None
    clock.advance(23 * DAY_MS)
    aws.dynamodb.expire(settings.tasks_table)
    assert run(WebhookItems(backend).read("t0")) is None


def test_a_webhook_outlives_the_events_that_it_did_not_ask_for(
    run, backend, aws, clock, settings
) -> None:
    """Attempts of 13 days each, of which only the end of the last one is delivered."""
    asked = webhook.Webhook(HOOK["url"], HOOK["secret"], ("task.cancelled",))
    run(WebhookItems(backend).write("t0", "me", asked, backend.now_ms()))
    for _ in range(4):
        clock.advance(13 * DAY_MS)
        aws.dynamodb.expire(settings.tasks_table)
        run(publish(backend, _events(1)))
        assert run(WebhookItems(backend).read("t0")) is not None
    assert _queued(aws, settings) == []


def test_the_secret_stands_in_one_item_of_one_table(run, backend, aws, settings, fleet) -> None:
    run(submit_collection(backend, {**BODY, "webhook": HOOK}, "me", "r"))
    run(fleet.settle())
    holding = [
        (table, item["sk"]["S"])
        for table in aws.dynamodb.tables
        for item in aws.items(table)
        if HOOK["secret"] in str(item) or HOOK["secret"] in str(_unpacked(item))
    ]
    assert holding == [(settings.tasks_table, "HOOK")]


def _unpacked(item: dict[str, Any]) -> bytes:
    """A task's request, which is stored compressed."""
    return zlib.decompress(item_from_wire(item)["request"]) if "request" in item else b""


# --- the promise of a version -------------------------------------------------------------------

PROMISED = json.loads(Path(__file__).with_name("event_schemas_v1.json").read_text("utf-8"))


def shape(schema: Any, path: str = "") -> dict[str, Any]:
    """Path of every object in a schema -> what it requires, and its fields with their types."""
    found: dict[str, Any] = {}
    if not isinstance(schema, dict):
        return found
    if "properties" in schema:
        fields = {
            name: {key: part[key] for key in ("type", "const", "enum", "format") if key in part}
            for name, part in schema["properties"].items()
        }
        required = sorted(schema.get("required", []))
        found[path] = {"required": required, "fields": fields, "or": schema.get("anyOf")}
        for name, part in schema["properties"].items():
            found |= shape(part, f"{path}/{name}")
    found |= shape(schema.get("items"), f"{path}[]")
    found |= shape(schema.get("additionalProperties"), f"{path}{{}}")
    return found


def promised(name: str) -> dict[str, Any]:
    """The shape that was promised for an action, its envelope's fields among its own."""
    envelope = PROMISED["envelopes"][PROMISED["events"][name]["envelope"]]
    shapes = {path: then for path, then in PROMISED["events"][name].items() if path != "envelope"}
    top = shapes[""]
    shapes[""] = {
        "required": sorted([*envelope["required"], *top["required"]]),
        "fields": {**envelope["fields"], **top["fields"]},
        "or": top["or"],
    }
    return shapes


@pytest.mark.parametrize("name", sorted(PROMISED["events"]))
def test_a_version_only_ever_gains_optional_fields(name: str) -> None:
    """event_schemas_v1.json is what was published first; it may gain event types, never change."""
    now = shape(whole(SCHEMAS[name]))
    for path, then in promised(name).items():
        assert now[path]["required"] == then["required"], path
        assert now[path]["or"] == then["or"], path
        assert now[path]["fields"].items() >= then["fields"].items(), path


def test_every_type_of_event_is_promised() -> None:
    assert set(PROMISED["events"]) == set(SCHEMAS)
