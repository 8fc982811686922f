"""Stories of those who hear of a task: sockets, a webhook, the audit trail and its exports."""

from __future__ import annotations

import json
from typing import Any

from chalicelib.audit import bucket, export
from chalicelib.candles.store import CandleStore
from chalicelib.core.times import iso
from chalicelib.events import happenings, replay
from chalicelib.live import receive
from chalicelib.webhooks.retry import Answer
from tests.doubles.error_codes import Always
from tests.doubles.exports import decode
from tests.doubles.faults import named
from tests.unit.error_table.life import PUSH, Life


def sockets(life: Life) -> None:
    """Two listen to a task, one of them with a ticket; one goes without a word. A third cannot be
    reached, and is hung up on."""
    backend = life.worker
    task_id = life.start()
    ticket = life.ask("POST", "/ws-ticket").json_body["ticket"]
    topics = [f"task:{task_id}", "tasks", "prices:BTCUSDT", "candles:BTCUSDT:1d"]
    for name, shown in (("one", None), ("two", ticket)):
        life.socket("connect", lambda name=name, shown=shown: receive.connect(backend, name, shown))
        _say(life, name, json.dumps({"action": "subscribe", "topics": topics}))
    for text in ('{"action": "ping"}', "no JSON", '{"action": "snapshot", "topics": ["tasks"]}'):
        _say(life, "one", text)
    life.stream()
    life.deliver("push")
    life.deliver("plan")
    life.deliver("work")
    life.stream()
    life.deliver("push")
    hook = Always(named(PUSH), "ForbiddenException")
    life.aws.hooks.append(hook)
    life.deliver("plan")
    life.prices()
    life.market_stream()
    life.deliver("push")
    life.aws.hooks.remove(hook)
    life.aws.sockets.gone.add("two")
    life.prices()
    life.settle()
    life.market_stream()
    life.settle()
    life.socket("connect", lambda: receive.connect(backend, "three"))
    _say(life, "three", json.dumps({"action": "subscribe", "topics": ["prices:BTCUSDT"]}))
    hook = Always(named(PUSH, "'three'"), "LimitExceededException")
    life.aws.hooks.append(hook)
    life.prices()
    life.market_stream()
    life.settle()
    life.aws.hooks.remove(hook)
    _say(life, "one", '{"action": "unsubscribe", "topics": ["tasks"]}')
    life.socket("disconnect", lambda: receive.disconnect(backend, "one"))
    # And nobody is left to hear of this.
    life.start()
    life.settle()


def _say(life: Life, name: str, text: str) -> None:
    life.clock.advance(1000)  # below the limit of messages
    backend = life.worker
    life.socket("message", lambda: receive.receive(backend, CandleStore(backend), name, text))


def a_market_that_nobody_listens_to_any_more(life: Life) -> None:
    """A client went, and its rows with it, but for the one that makes prices be announced."""
    backend = life.worker
    life.prices()
    life.socket("connect", lambda: receive.connect(backend, "one"))
    _say(life, "one", json.dumps({"action": "subscribe", "topics": ["prices:BTCUSDT"]}))
    life.socket("disconnect", lambda: receive.disconnect(backend, "one"))
    life.prices()
    life.market_stream()
    life.settle()


def a_webhook_with_trouble(life: Life) -> None:
    """Tried again, delivered, and given up, after so long that it must be kept for longer; then the
    stream tells everything once more."""
    life.sender.answers = [Answer(503), Answer(204), Answer(404)]
    hook = {"url": "https://hooks.acme.com/in", "secret": "x" * 24}
    task_id = life.start(
        webhook={**hook, "events": ["task.started", "task.cancelled"]}, timeout_seconds=604_800
    )
    life.deliver("plan")
    life.stream()
    life.deliver("webhooks")
    life.clock.advance(5 * 86_400_000)
    life.cancel(task_id)
    life.settle()
    life.ask("GET", f"/task/{task_id}")
    life.ask("GET", "/metrics")
    life.streamed = 0
    life.settle()


def the_trail_is_read(life: Life) -> None:
    task_id = life.start()
    life.settle()
    for question in (f"task_id={task_id}", "action=task.started"):
        events = life.ask("GET", f"/audit?{question}").json_body["events"]
        assert f"task:{task_id}" in {event["subject"] for event in events}


def days_are_exported(life: Life) -> None:
    life.start()
    life.settle()
    first = str(iso(life.clock()))[:10]
    life.clock.advance(2 * 86_400_000)
    for _ in range(3):  # Lambda tries a failed invocation again
        if life.run("export", lambda: export.export_audit(life.worker))[0]:
            break
    manifests = [key for key in life.aws.s3.buckets["candles"].objects if "manifest" in key]
    assert len(manifests) == 2
    stored = life.aws.s3.buckets["candles"].objects[bucket.export_key(first, "events.parquet")]
    assert decode(stored)[0]["action"] == "task.submitted"


def a_record_is_set_aside_and_replayed(life: Life) -> None:
    def breaks(_: object) -> Any:
        raise KeyError("a bug of ours")

    before = happenings.OF_KIND
    happenings.OF_KIND = [breaks]
    try:
        life.start()
        for _ in range(3):
            life.stream()
    finally:
        happenings.OF_KIND = before
    queue = life.aws.sqs.queues[life.settings.stream_failure_queue_url]
    assert queue.messages
    for _ in range(4):
        life.run("replay", lambda: replay.replay(life.worker, lambda: 60_000))
        life.clock.advance(61_000)
    assert not queue.messages
    life.settle()
