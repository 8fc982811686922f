"""Stories of tasks: collected, cancelled, retried, lost and found."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from chalicelib.core import times
from chalicelib.core.errors import CallFailed
from tests.doubles.aws import Called, Hook
from tests.doubles.faults import Meanwhile, is_update_of, named
from tests.doubles.fleet import Crash
from tests.unit.error_table.life import (
    BODY,
    CLIENT,
    MINUTE_MS,
    PATIENCE_MS,
    PREFIX,
    RETENTION_SECONDS,
    Life,
)


class CrashIn(Hook):
    """The process dies at its first call under one trigger."""

    def __init__(self, life: Life, edge: str) -> None:
        self._life, self._edge = life, edge

    async def before(self, called: Called) -> None:
        if self._life.edge == self._edge:
            raise Crash(called.name)


def a_collection_with_a_key(life: Life) -> None:
    life.prices()
    task_id = life.start("a-key")
    assert life.start("a-key") == task_id
    for path in (f"/task/{task_id}", "/tasks/active", "/status"):
        life.ask("GET", path)
    life.deliver("plan")
    life.deliver("work")
    for path in (f"/task/{task_id}", "/tasks", "/tasks/active", "/tasks/stats"):
        life.ask("GET", path)
    life.settle()
    for path in (f"/task/{task_id}", "/tasks?status=completed", "/latest-prices"):
        life.ask("GET", path)


def an_urgent_collection_without_a_key(life: Life) -> None:
    """And the exchange has counted more than the ledger knows."""
    life.exchange.weight_by_minute[life.clock() // MINUTE_MS] = 1000
    life.start(priority="high")
    life.settle()


def a_collection_where_much_is_stored(life: Life) -> None:
    life.start(start="2025-12-31T23:00:00Z", end="2026-01-01T01:00:00Z")
    life.settle()
    life.clock.advance(MINUTE_MS)
    life.exchange.revised_at[times.parse_time("2026-01-01")] = life.clock() // 1000 * 1000
    life.start()
    life.settle()
    life.start(symbols=["BTCUSDT"])
    life.settle()


def a_refused_symbol_and_a_retry(life: Life) -> None:
    life.exchange.refused["ETHUSDT"] = "INVALID_SYMBOL"
    task_id = life.start()
    life.settle()
    life.ask("GET", f"/task/{task_id}")
    life.retry(task_id, "retry-key")
    life.retry(task_id, "retry-key")
    life.settle()


def too_many_failures(life: Life) -> None:
    life.exchange.refused["ETHUSDT"] = "INVALID_SYMBOL"
    life.start(tolerated_failure_percentage=10)
    life.settle()


def a_cancel_and_a_retry(life: Life) -> None:
    task_id = life.start()
    life.deliver("plan")
    life.deliver("work")
    life.cancel(task_id, "cancel-key")
    life.ask("GET", f"/task/{task_id}")
    life.cancel(task_id)
    life.settle()
    life.retry(task_id)
    life.settle()


def a_cancel_before_the_plan(life: Life) -> None:
    life.cancel(life.start())
    life.settle()


def _half_cancelled(life: Life) -> str:
    """A cancel that died between its two halves, and whose caller gave up."""
    task_id = life.start()
    life.deliver("plan")

    async def fail() -> None:
        raise CallFailed("dynamodb", "UpdateItem", "InternalServerError", "part of the story")

    hook = Meanwhile(is_update_of("PROG#"), fail)
    life.aws.hooks.append(hook)
    life.invoke("POST /task/{id}/cancel", lambda: _post(f"/task/{task_id}/cancel"))
    life.aws.hooks.remove(hook)
    return task_id


def half_a_cancel_and_a_sweep(life: Life) -> None:
    _half_cancelled(life)
    life.settle()


def half_a_cancel_and_a_retry(life: Life) -> None:
    life.retry(_half_cancelled(life), "retry-key")
    life.settle()


def half_a_cancel_and_another(life: Life) -> None:
    life.cancel(_half_cancelled(life))
    life.settle()


def _die_at(chosen: Callable[[Called], bool], life: Life, queue: str) -> None:
    """Deliver one batch of a queue; its function dies at the first call that is chosen."""

    async def die() -> None:
        raise Crash

    hook = Meanwhile(chosen, die)
    life.aws.hooks.append(hook)
    life.deliver(queue)
    life.aws.hooks.remove(hook)


def a_plan_message_that_vanished(life: Life) -> None:
    life.start()
    life.aws.sqs.queues[life.settings.plan_queue_url].messages.clear()
    life.settle()


def work_messages_that_vanished(life: Life) -> None:
    life.start()
    life.deliver("plan")
    life.aws.sqs.queues[life.settings.work_queue_url].messages.clear()
    life.settle()


def a_plan_that_died_before_it_sent(life: Life) -> None:
    task_id = life.start()
    _die_at(named("sqs.SendMessageBatch"), life, "plan")
    life.ask("GET", f"/task/{task_id}")
    life.settle()


def a_worker_that_died_before_it_told_the_task(life: Life) -> None:
    life.start(symbols=["BTCUSDT"], timeframes=["1d"])
    life.deliver("plan")
    _die_at(is_update_of("META"), life, "work")
    life.settle()


def a_task_that_sweep_ends(life: Life) -> None:
    """The worker that counted its last unit died, and its message with it."""
    life.start(symbols=["BTCUSDT"], timeframes=["1d"])
    life.deliver("plan")
    _die_at(named("dynamodb.BatchGetItem"), life, "work")
    life.aws.sqs.queues[life.settings.work_queue_url].messages.clear()
    life.settle()


def a_task_that_a_dead_letter_ends(life: Life) -> None:
    async def crash(asked: tuple[str, str, int, int]) -> None:
        raise Crash

    life.exchange.on_request = crash
    task_id = life.start(symbols=["BTCUSDT"], timeframes=["1d"])
    life.settle()
    life.ask("GET", f"/task/{task_id}")


def dead_letters_and_a_retry(life: Life) -> None:
    async def crash(asked: tuple[str, str, int, int]) -> None:
        if asked[0] == "ETHUSDT":
            raise Crash

    life.exchange.on_request = crash
    task_id = life.start()
    life.settle()
    life.ask("GET", f"/task/{task_id}")
    life.exchange.on_request = None
    life.retry(task_id, "retry-key")
    life.settle()


def a_plan_that_always_dies_and_a_retry(life: Life) -> None:
    hook = CrashIn(life, "plan")
    life.aws.hooks.append(hook)
    task_id = life.start()
    life.settle()
    life.aws.hooks.remove(hook)
    life.retry(task_id, "retry-key")
    life.settle()


def a_task_out_of_time_and_a_retry(life: Life) -> None:
    task_id = life.start(timeout_seconds=1800)
    life.deliver("plan")
    life.deliver("work")
    life.aws.sqs.queues[life.settings.work_queue_url].messages.clear()
    life.clock.advance(1_801_000)
    life.settle()
    life.retry(task_id, "retry-key")
    life.settle()


def keys_that_are_rejected_and_taken_over(life: Life) -> None:
    refused = life.ask("POST", "/start", {**BODY, "symbols": ["NOPE"]}, "used")
    assert refused.status_code == 400
    task_id = life.start("used")
    assert life.ask("POST", "/start", {}, "used").status_code == 422

    async def fail() -> None:
        raise CallFailed("dynamodb", "PutItem", "InternalServerError", "part of the story")

    hook = Meanwhile(lambda called: called.name == "dynamodb.GetItem", fail)
    life.aws.hooks.append(hook)
    another = {**BODY, "force": True}
    life.invoke("POST /start", lambda: _post("/start", another, "broken"))
    life.aws.hooks.remove(hook)
    assert life.start("broken", force=True) != task_id
    assert life.start() == task_id  # runs already
    life.settle()


def a_low_task_that_lets_another_go_first(life: Life) -> None:
    life.start()
    life.deliver("plan")
    life.start(priority="low")
    for _ in range(2):  # gives way, and is asked for once more meanwhile
        life.deliver("plan")
        life.clock.advance(6_000)
    life.settle()


def a_large_task(life: Life) -> None:
    """Its messages leave in several dispatches, of which one dies."""
    frames = ["15m", "30m", "1h", "1d"]
    life.start(timeframes=frames, start="2025-12-31T23:00:00Z", end="2026-01-01T02:00:00Z")
    life.deliver("plan")
    life.deliver("work")
    _die_at(named("sqs.SendMessageBatch"), life, "plan")
    life.settle()


def an_expired_task(life: Life) -> None:
    task_id = life.start()
    life.settle()
    life.clock.advance(RETENTION_SECONDS * 1000 + PATIENCE_MS)
    assert life.ask("GET", f"/task/{task_id}").status_code == 410
    life.aws.dynamodb.expire("tasks")
    life.settle()
    assert life.ask("GET", f"/task/{task_id}").status_code == 410
    assert life.ask("GET", "/task/unknown").status_code == 404


def _post(path: str, body: object = None, key: str | None = None) -> Any:
    headers = {"Content-Type": "application/json", **({"Idempotency-Key": key} if key else {})}
    content = b"" if body is None else json.dumps(body).encode()
    return CLIENT.http.request("POST", PREFIX + path, headers, content)


def messages_that_cannot_be_read(life: Life) -> None:
    s, sent = life.settings, life.aws.sqs
    for url in (s.plan_queue_url, s.urgent_queue_url, s.work_queue_url, s.dead_letter_queue_url):
        sent.apply("SendMessage", {"QueueUrl": url, "MessageBody": "nonsense"})
    life.settle()
    assert set(map(_body_set_aside, sent.bodies(s.unreadable_queue_url))) == {"nonsense"}


def _body_set_aside(message: str) -> str:
    return str(json.loads(message)["record"]["body"])
