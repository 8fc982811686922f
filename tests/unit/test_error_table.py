"""Every documented error at every place that calls AWS, one at a time.

The table is generated: stories that together are a task's whole life are played on the doubles and
every call site is recorded, by the trigger it runs under and the functions that lead to it. Then
each story is played again and again, with one error at one site, and must come to the same end.
"""

from __future__ import annotations

import ast
import asyncio
import io
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from chalice.test import Client

from app import app
from chalicelib import wiring
from chalicelib.audit import bucket, export
from chalicelib.aws.stream import change_of
from chalicelib.aws.wire import item_from_wire
from chalicelib.candles.store import CandleStore
from chalicelib.collecting import sweep as collecting_sweep
from chalicelib.core.errors import CallFailed, CollectorError
from chalicelib.core.times import iso
from chalicelib.core.together import together
from chalicelib.events import happenings, replay
from chalicelib.events import record as event_record
from chalicelib.exchange import refresh
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.worker import Worker
from chalicelib.functions import batches
from chalicelib.live import announce, push, receive
from chalicelib.live.connections import ConnectionTable
from chalicelib.schedules import watch as schedule_watch
from chalicelib.schedules.definition import Definition, Fields
from chalicelib.schedules.edits import made
from chalicelib.schedules.table import ScheduleTable
from chalicelib.tasks import states
from chalicelib.webhooks.retry import Answer
from chalicelib.work.request import CollectionRequest
from infra.package import ROOT
from tests.doubles.aws import Aws, Called, Hook
from tests.doubles.clock import Clock, SimulatedLoop
from tests.doubles.error_codes import (
    TROUBLES,
    Always,
    CallSite,
    Moment,
    OneError,
    Recorder,
    Trouble,
)
from tests.doubles.exchange import Exchange
from tests.doubles.faults import Meanwhile, is_update_of
from tests.doubles.fleet import Crash
from tests.doubles.senders import Sender
from tests.doubles.settings import doubled_settings
from tests.simulation.checks import check_history
from tests.simulation.small import small_plans

#: A range around New Year, so that hourly candles fall into two objects.
BODY: dict[str, Any] = {
    "symbols": ["BTCUSDT", "ETHUSDT"],
    "timeframes": ["1h", "1d"],
    "start": "2025-12-31T22:00:00Z",
    "end": "2026-01-01T02:00:00Z",
}
#: A task that has not ended by then hangs.
PATIENCE_MS = 3 * 3_600_000
MINUTE_MS = 60_000
RETENTION_SECONDS = 86_400
#: Fewer call sites or cases than this would mean that the table no longer finds them.
LEAST_SITES, LEAST_CASES = 120, 1_700

QUEUES = ("plan", "urgent", "work", "bury", "webhooks", "push")

PUSH = "apigatewaymanagementapi.PostToConnection"
#: What is kept silent on purpose: (last function, operation) -> why.
SILENT = {
    ("connections.ConnectionTable.send", PUSH): (
        "GoneException is the documented answer for a closed connection: its rows are deleted"
    ),
}


class Life:
    """One installation: doubles, triggers that come when they are due, and people who repeat."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.settings = doubled_settings(
            backfill_candles=3,
            retention_seconds=RETENTION_SECONDS,  # longer than any error delays a story
            audit_retention_days=5,  # so many days does the first export look back
        )
        self.aws = Aws.for_settings(self.clock, self.settings)
        self.aws.dynamodb.careful = False  # our gateways build what they send and only read answers
        self.exchange = Exchange(self.clock)
        self.loop = SimulatedLoop(self.clock)
        self.worker = Worker(self.aws, self.settings, self.clock, self.exchange)  # type: ignore[arg-type]
        self.budget = Budget(self.worker)
        self.sender = Sender()
        self.edge = "nobody"
        self.surfaced: set[str] = set()
        self.error: OneError | None = None
        self.streamed = 0
        self.next_sweep = self.clock() + MINUTE_MS
        # For tests.simulation.checks, which hold a whole history against the invariants.
        self.people: list[Any] = []
        self.receipts: list[tuple[str, int, int, int]] = []

    def records(self) -> list[dict[str, Any]]:
        return self.aws.dynamodb.tables["tasks"].stream

    # --- triggers -------------------------------------------------------------------------------

    def invoke(self, edge: str, work: Callable[[], Any]) -> tuple[bool, Any]:
        """One invocation; (True, its answer) or (False, what it raised), as its trigger sees it."""
        before = self.error is None or self.error.struck is not None
        self.edge = edge
        log = io.StringIO()
        outcome: tuple[bool, Any]
        try:
            with redirect_stderr(log):
                outcome = True, work()
        except (CollectorError, Crash) as error:
            outcome = False, error
        self.edge = "nobody"
        if self.error is None or before or self.error.struck is None:
            return outcome
        if not outcome[0]:
            self.surfaced.add("raised")
        if log.getvalue():
            self.surfaced.add("logged")
        if self.error.asked_again:
            self.surfaced.add("asked again")
        answer = outcome[1]
        if isinstance(answer, dict) and answer.get("batchItemFailures"):
            self.surfaced.add("batch failure")
        if getattr(answer, "status_code", 0) >= 500:
            self.surfaced.add("HTTP problem")
        return outcome

    def run(self, edge: str, work: Callable[[], Awaitable[Any]]) -> tuple[bool, Any]:
        return self.invoke(edge, lambda: self.loop.run_until_complete(work()))  # type: ignore[arg-type]

    def deliver(self, name: str) -> int:
        """Give one batch of a queue to its function; returns how many messages that were."""
        url, most, function = {
            "plan": (self.settings.plan_queue_url, 1, self._plan),
            "urgent": (self.settings.urgent_queue_url, 2, self._collect),
            "work": (self.settings.work_queue_url, 2, self._collect),
            "bury": (self.settings.dead_letter_queue_url, 10, self._bury),
            "webhooks": (self.settings.webhook_queue_url, 10, self._deliver),
            "push": (self.settings.push_queue_url, 10, self._push),
        }[name]
        records = self.aws.sqs.receive(url, most)
        if not records:
            return 0
        edge = "collect" if name in ("urgent", "work") else name
        fine, answer = self.run(edge, lambda: function({"Records": records}))
        if fine:
            failed = {entry["itemIdentifier"] for entry in answer["batchItemFailures"]}
            for record in records:
                if record["messageId"] not in failed:
                    self.aws.sqs.delete(url, record["receiptHandle"])
        return len(records)

    async def _plan(self, event: dict[str, Any]) -> dict[str, Any]:
        return await batches.plan_batch(self.worker, event)

    async def _collect(self, event: dict[str, Any]) -> dict[str, Any]:
        return await batches.collect_batch(self.worker, self.budget, event, lambda: 60_000)

    async def _bury(self, event: dict[str, Any]) -> dict[str, Any]:
        return await batches.bury_batch(self.worker, event)

    async def _push(self, event: dict[str, Any]) -> dict[str, Any]:
        means = push.Means(
            lambda work: together(*work),
            asyncio.sleep,
            CandleStore(self.worker),
        )
        return await push.push_batch(self.worker, means, event)

    async def _deliver(self, event: dict[str, Any]) -> dict[str, Any]:
        return await batches.deliver_batch(self.worker, self.sender, event)

    def stream(self) -> None:
        """Hand the stream's new records on; a batch that fails comes again."""
        end = len(self.records())
        fresh = self.records()[self.streamed : end]
        if (
            fresh
            and self.run("stream", lambda: event_record.record_task_changes(self.worker, fresh))[0]
        ):
            self.streamed = end

    def market_stream(self) -> None:
        """Hand the Market stream's records on, to who announces them."""
        fresh = [change_of(record) for record in self.aws.stream_event("market")["Records"]]
        self.run("market stream", lambda: announce.announce(self.worker, fresh))

    def sweep(self) -> None:
        self.run("sweep", lambda: collecting_sweep.sweep(self.worker))

    def prices(self) -> None:
        """The refresh of one minute, and of the next where that failed."""
        for _ in range(2):
            fine, _ = self.run("prices", lambda: refresh.refresh_prices(self.worker))
            if fine:
                return

    def schedule(self) -> None:
        """EventBridge fires, twice, and tries a failed invocation again."""
        request = CollectionRequest(None, ("1h", "1d"))
        fields: Fields = {
            "name": "",
            "expression": "cron(0 6 * * ? *)",
            "timezone": "UTC",
            "enabled": True,
            "overlap": "skip",
            "catch_up": False,
            "max_lag_seconds": None,
            "request": request.pack(),
        }
        daily = made("schedule", Definition(fields), self.clock(), "anonymous", "r")
        self.loop.run_until_complete(ScheduleTable(self.worker).create(daily))
        at_ms = (self.clock() // MINUTE_MS + 1) * MINUTE_MS
        for _ in range(2):
            for _ in range(3):
                fine, _ = self.run(
                    "schedule",
                    lambda: schedule_watch.run_schedule(
                        self.worker, "anonymous", "schedule", at_ms, 1, "r"
                    ),
                )
                if fine:
                    break

    def watch(self) -> None:
        self.run("watch", lambda: schedule_watch.watch_schedules(self.worker, "watch"))

    def socket(self, edge: str, work: Callable[[], Awaitable[Any]]) -> None:
        """A client that asks once more where its message was answered with an error."""
        for _ in range(2):
            if self.run(edge, work)[0]:
                return

    def settle(self) -> None:
        """Let everything come that is due, until nothing is left to do. Fails where that hangs."""
        until = self.clock() + PATIENCE_MS
        while True:
            self.stream()
            if sum(self.deliver(name) for name in QUEUES):
                continue
            at_ms = self.aws.sqs.next_visible_at()
            if at_ms is None and not self.active() and self.streamed == len(self.records()):
                return
            assert self.clock() < until, f"never came to rest: {self.active()}"
            self.clock.advance_to(min(at_ms or self.next_sweep, self.next_sweep))
            if self.clock() >= self.next_sweep:
                self.next_sweep = self.clock() + MINUTE_MS
                self.sweep()
                self.watch()

    def active(self) -> list[str]:
        """Tasks that have not ended, and schedules that are half changed."""
        return [
            item["sk"]["S"] if "schedule_id" in item and "rev" in item else item["pk"]["S"]
            for item in self.aws.items("tasks")
            if item.get("active") == {"S": "1"} or _is_half_done(item)
        ]

    # --- people ---------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: object = None, key: str | None = None) -> Any:
        """One request, asked again while the answer is that something failed behind it."""
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        content = b"" if body is None else json.dumps(body).encode()
        name = f"{method} {path.partition('?')[0]}"
        for segment in path.split("/"):
            name = name.replace(segment, "{id}") if len(segment) == 36 else name
        for _ in range(4):
            _, answer = self.invoke(
                name, lambda: CLIENT.http.request(method, PREFIX + path, headers, content)
            )
            problem = json.loads(answer.body) if answer.status_code >= 400 else {}
            if problem.get("reason") not in ("BACKEND_UNAVAILABLE", "IDEMPOTENCY_KEY_IN_FLIGHT"):
                assert answer.status_code < 500, answer.body
                return answer
            assert (answer.status_code, problem["status"]) in ((503, 503), (409, 409))
            self.clock.advance(15_000)
        raise AssertionError(f"{name} failed again and again: {answer.body}")

    def start(self, key: str | None = None, **more: Any) -> str:
        answer = self.ask("POST", "/start", {**BODY, **more}, key)
        assert answer.status_code == 202, answer.body
        return str(answer.json_body["task_id"])

    def cancel(self, task_id: str, key: str | None = None) -> None:
        answer = self.ask("POST", f"/task/{task_id}/cancel", key=key)
        if answer.status_code in (200, 202):
            units = answer.json_body["units"]
            receipt = (task_id, len(self.records()), units["succeeded"], units["failed"])
            self.receipts.append(receipt)

    def retry(self, task_id: str, key: str | None = None) -> None:
        answer = self.ask("POST", f"/task/{task_id}/retry", key=key)
        # Where the first try's answer was lost, a repetition meets the attempt that it started.
        assert answer.status_code in (202, 409), answer.body
        assert f"TASK#{task_id}" in self.active()


def _is_half_done(item: dict[str, Any]) -> bool:
    """Whether a schedule still has something to be told, or a task to be made."""
    if "synced_rev" not in item:
        return False
    return item["rev"] != item["synced_rev"] or bool({"starting", "removed"} & set(item))


class CrashIn(Hook):
    """The process dies at its first call under one trigger."""

    def __init__(self, life: Life, edge: str) -> None:
        self._life, self._edge = life, edge

    async def before(self, called: Called) -> None:
        if self._life.edge == self._edge:
            raise Crash(called.name)


# --- stories ------------------------------------------------------------------------------------


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
    life.exchange.revision += 1
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

    async def die() -> None:
        raise Crash

    hook = Meanwhile(lambda called: called.operation == "SendMessageBatch", die)
    life.aws.hooks.append(hook)
    life.deliver("plan")
    life.aws.hooks.remove(hook)
    life.ask("GET", f"/task/{task_id}")
    life.settle()


def a_worker_that_died_before_it_told_the_task(life: Life) -> None:
    life.start(symbols=["BTCUSDT"], timeframes=["1d"])
    life.deliver("plan")

    async def die() -> None:
        raise Crash

    hook = Meanwhile(is_update_of("META"), die)
    life.aws.hooks.append(hook)
    life.deliver("work")
    life.aws.hooks.remove(hook)
    life.settle()


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


def the_exchange_throttles_and_falls_silent(life: Life) -> None:
    life.exchange.throttled_until = life.clock() + 30_000
    task_id = life.start()
    life.deliver("plan")
    life.deliver("work")
    life.ask("GET", f"/task/{task_id}")
    life.ask("GET", "/status")
    life.settle()
    life.exchange.down = True
    life.start()
    life.deliver("plan")
    life.deliver("work")
    life.exchange.down = False
    life.settle()


def one_symbol_gets_no_answer_at_first(life: Life) -> None:
    life.exchange.unavailable.add("ETHUSDT")
    life.start()
    for _ in range(4):
        life.deliver("plan")  # again whenever the window has room
        life.deliver("work")
    life.exchange.unavailable.clear()
    life.settle()


def the_first_day(life: Life) -> None:
    """Nothing is known yet: a schedule loads the catalogue, then a refresh does, then prices."""
    life.aws.dynamodb.tables["market"].items.clear()
    life.schedule()
    life.settle()
    life.ask("POST", "/refresh-symbols", key="refresh-key")
    life.settle()
    life.ask("GET", "/latest-prices?symbols=BTCUSDT")


def nothing_trades(life: Life) -> None:
    life.aws.dynamodb.tables["market"].items.clear()
    life.exchange.symbols = {"OLDUSDT": "BREAK"}
    life.schedule()
    life.settle()


def a_refresh_while_the_exchange_is_down(life: Life) -> None:
    life.exchange.throttled_until = life.clock() + PATIENCE_MS
    life.prices()
    life.ask("POST", "/refresh-symbols")
    life.settle()


def _scheduled(life: Life, **fields: Any) -> str:
    """A schedule made over HTTP; its path."""
    request = {name: BODY[name] for name in ("symbols", "timeframes")}
    body = {"expression": "cron(0 * * * ? *)", "request": request, **fields}
    answer = life.ask("POST", "/schedules", body, "schedule-key")
    assert answer.status_code == 201, answer.body
    return f"/schedules/{answer.json_body['schedule_id']}"


def _fire(life: Life, path: str) -> None:
    """EventBridge fires the next run, twice, each up to three times; ours may have died with it."""
    item = next(item for item in life.aws.items("tasks") if "synced_rev" in item)
    life.clock.advance_to(int(item["next_run_at"]["N"]))
    event = life.aws.scheduler.firing(path.rpartition("/")[2], str(iso(life.clock())))
    for _ in range(2):
        for _ in range(3):
            if life.run("schedule", lambda: schedule_watch.receive_firing(life.worker, event, "r"))[
                0
            ]:
                break


def a_schedule_and_its_life(life: Life) -> None:
    path = _scheduled(life, overlap="queue")
    life.watch()
    _fire(life, path)
    _fire(life, path)  # waits for the first
    for _ in range(3):
        life.settle()
        life.clock.advance(MINUTE_MS)
        life.watch()
    life.settle()
    for method, where, body in (
        ("GET", "/schedules", None),
        ("GET", path, None),
        ("PATCH", path, {"expression": "rate(1 day)", "name": "slower"}),
        ("POST", f"{path}/run", None),
        ("PATCH", path, {"enabled": False}),
    ):
        answer = life.ask(method, where, body, "run-key" if method == "POST" else None)
        assert answer.status_code < 400, answer.body
    life.settle()
    assert life.ask("DELETE", path).status_code in (200, 404)
    life.settle()


def a_schedule_whose_runs_never_came(life: Life) -> None:
    _scheduled(life, catch_up=True)
    life.watch()
    life.clock.advance(2 * MINUTE_MS * 60)
    for _ in range(2):
        life.watch()
        life.clock.advance(MINUTE_MS)
    life.settle()


def a_schedule_half_made(life: Life) -> None:
    """EventBridge never heard of it, though it was made, changed and deleted."""
    for name in ("CreateSchedule", "UpdateSchedule", "DeleteSchedule"):

        async def fail(name: str = name) -> None:
            raise CallFailed("scheduler", name, "InternalServerException", "part of the story")

        hook = Meanwhile(lambda called, name=name: called.operation == name, fail)  # type: ignore[misc]
        life.aws.hooks.append(hook)
        if name == "CreateSchedule":
            path = _scheduled(life)
        elif name == "UpdateSchedule":
            life.ask("PATCH", path, {"enabled": False})
        else:
            life.ask("DELETE", path)
        life.aws.hooks.remove(hook)
        life.watch()
        life.watch()


def a_schedule_whose_webhook_comes_and_goes(life: Life) -> None:
    request = {name: BODY[name] for name in ("symbols", "timeframes")}
    hook = {"url": "https://hooks.acme.com/in", "secret": "x" * 24}
    path = _scheduled(life, request={**request, "webhook": hook})
    life.ask("PATCH", path, {"request": {**request, "webhook": {**hook, "secret": "y" * 24}}})
    life.watch()
    _fire(life, path)
    life.settle()
    life.ask("PATCH", path, {"request": request})
    assert "yyy" not in str([item for item in life.aws.items("tasks") if _is_beside(item)])
    life.ask("DELETE", path)
    life.watch()
    life.settle()
    assert not [item for item in life.aws.items("tasks") if _is_beside(item)]


def _is_beside(item: dict[str, Any]) -> bool:
    return bool(item["sk"]["S"].startswith(("WEBHOOK#", "LAG#")))


def a_promise_that_is_broken(life: Life) -> None:
    path = _scheduled(life, freshness={"max_lag_seconds": 60})
    life.clock.advance(2 * MINUTE_MS * 60)
    for _ in range(3):
        life.watch()
        life.settle()
        life.clock.advance(MINUTE_MS)
    life.watch()
    assert life.ask("GET", path).json_body["freshness"]["promised_seconds"] == 60
    life.ask("PATCH", path, {"enabled": False})
    life.settle()


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
    hook = Always(_named(PUSH), "ForbiddenException")
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
    hook = Always(_named(PUSH, "'three'"), "LimitExceededException")
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


def keys_that_are_rejected_and_taken_over(life: Life) -> None:
    refused = life.ask("POST", "/start", {**BODY, "symbols": ["NOPE"]}, "used")
    assert refused.status_code == 400
    task_id = life.start("used")
    assert life.ask("POST", "/start", {}, "used").status_code == 422

    async def fail() -> None:
        raise CallFailed("dynamodb", "PutItem", "InternalServerError", "part of the story")

    hook = Meanwhile(lambda called: called.name == "dynamodb.GetItem", fail)
    life.aws.hooks.append(hook)
    life.invoke("POST /start", lambda: _post("/start", BODY, "broken"))
    life.aws.hooks.remove(hook)
    assert life.start("broken") != task_id
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
    frames = ["1h", "2h", "4h", "1d"]
    life.start(timeframes=frames, start="2025-12-31T23:00:00Z", end="2026-01-01T02:00:00Z")
    life.deliver("plan")
    life.deliver("work")

    async def die() -> None:
        raise Crash

    hook = Meanwhile(lambda called: called.operation == "SendMessageBatch", die)
    life.aws.hooks.append(hook)
    life.deliver("plan")
    life.aws.hooks.remove(hook)
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
    assert bucket.decode(stored)[0]["action"] == "task.submitted"


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


STORIES = (
    a_collection_with_a_key,
    an_urgent_collection_without_a_key,
    a_collection_where_much_is_stored,
    a_refused_symbol_and_a_retry,
    too_many_failures,
    a_cancel_and_a_retry,
    a_cancel_before_the_plan,
    half_a_cancel_and_a_sweep,
    half_a_cancel_and_a_retry,
    half_a_cancel_and_another,
    a_plan_message_that_vanished,
    work_messages_that_vanished,
    a_plan_that_died_before_it_sent,
    a_worker_that_died_before_it_told_the_task,
    dead_letters_and_a_retry,
    a_plan_that_always_dies_and_a_retry,
    a_task_out_of_time_and_a_retry,
    the_exchange_throttles_and_falls_silent,
    one_symbol_gets_no_answer_at_first,
    the_first_day,
    nothing_trades,
    a_refresh_while_the_exchange_is_down,
    a_schedule_and_its_life,
    a_schedule_whose_runs_never_came,
    a_schedule_half_made,
    a_schedule_whose_webhook_comes_and_goes,
    a_promise_that_is_broken,
    sockets,
    a_market_that_nobody_listens_to_any_more,
    keys_that_are_rejected_and_taken_over,
    a_webhook_with_trouble,
    a_low_task_that_lets_another_go_first,
    a_large_task,
    an_expired_task,
    the_trail_is_read,
    days_are_exported,
    a_record_is_set_aside_and_replayed,
)
Story = Callable[[Life], None]

CLIENT = Client(app)
PREFIX = next(path for path in app.routes if path.endswith("/start")).removesuffix("/start")


def _post(path: str, body: object = None, key: str | None = None) -> Any:
    headers = {"Content-Type": "application/json", **({"Idempotency-Key": key} if key else {})}
    content = b"" if body is None else json.dumps(body).encode()
    return CLIENT.http.request("POST", PREFIX + path, headers, content)


@contextmanager
def a_life() -> Iterator[Life]:
    """A new installation whose catalogue is loaded, behind the application's routes."""
    life = Life()
    original = wiring.backend
    wiring.backend = lambda: life.worker  # type: ignore[assignment,misc]
    try:
        with small_plans():
            known = CatalogueTable(life.worker).write_catalogue(
                life.exchange.symbols, 6000, life.clock()
            )
            life.loop.run_until_complete(known)
            yield life
    finally:
        wiring.backend = original  # type: ignore[misc]
        life.loop.close()


# --- the table ----------------------------------------------------------------------------------


@cache
def table() -> dict[CallSite, tuple[Story, int]]:
    """Call site -> the story that reaches it first, and how often that does."""
    found: dict[CallSite, tuple[Story, int]] = {}
    for story in STORIES:
        with a_life() as life:
            recorder = Recorder(lambda life=life: life.edge)  # type: ignore[misc]
            life.aws.hooks.append(recorder)
            story(life)
        for site, times in Counter(recorder.sites).items():
            if site.edge != "nobody":
                found.setdefault(site, (story, times))
    return found


@cache
def ending(story: Story) -> frozenset[tuple[Any, ...]]:
    """How the tasks of a story end where nothing goes wrong."""
    with a_life() as life:
        story(life)
        return _ending(life)


def _ending(life: Life) -> frozenset[tuple[Any, ...]]:
    """What became of the tasks: type, state, units failed, the error's reason."""
    ends = {}
    for record in life.records():
        image = record["dynamodb"].get("NewImage", {})
        if image.get("sk") == {"S": "META"}:
            ends[image["pk"]["S"]] = item_from_wire(
                {name: value for name, value in image.items() if "B" not in value}
            )
    return frozenset(
        (
            meta["task_type"],
            meta["state"],
            meta.get("result", {}).get("failed"),
            meta.get("error", "").split(":")[0],
        )
        for meta in ends.values()
    )


def cases(site: CallSite, times: int) -> Iterator[tuple[Trouble, int]]:
    """(what goes wrong, at which call): each code at the first, each moment at the last too."""
    moments = set()
    for trouble in TROUBLES[site.name]:
        yield trouble, 1
        if times > 1 and trouble.moment not in moments:
            moments.add(trouble.moment)
            yield trouble, times


def play(story: Story, site: CallSite, trouble: Trouble, number: int) -> None:
    """Play a story with one error. Raises AssertionError where it does not end as it should."""
    with a_life() as life:
        life.error = OneError(life.aws, lambda: life.edge, site, trouble, number)
        life.aws.hooks.append(life.error)
        story(life)
        life.settle()
        assert life.error.struck is not None, "the call was never made"
        assert _ending(life) == ending(story), f"ended as {sorted(_ending(life), key=str)}"
        check_history(_as_world(life))
        quiet = (site.functions[-1], site.name) in SILENT
        seen = life.surfaced or trouble.moment is Moment.REPEATED or quiet
        assert seen, "the error was swallowed"


def _as_world(life: Life) -> Any:
    """A life, as far as the simulation's checks of a history look at a world.

    Those know collections only; a refresh has no units to count.
    """
    refreshes = {
        record["dynamodb"]["Keys"]["pk"]["S"]
        for record in life.records()
        if record["dynamodb"].get("NewImage", {}).get("task_type") == {"S": states.SYMBOL_REFRESH}
    }
    collections = [
        record
        for record in life.records()
        if record["dynamodb"]["Keys"]["pk"]["S"] not in refreshes
    ]
    return SimpleNamespace(
        records=lambda: collections,
        exchange=life.exchange,
        aws=life.aws,
        people=[],
        receipts=life.receipts,
        settings=life.settings,
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "site" in metafunc.fixturenames:
        metafunc.parametrize("site", sorted(table()), ids=str)


def wrong_at(site: CallSite) -> list[str]:
    """What each error at a call site leads to that should not be."""
    story, times = table()[site]
    wrong = []
    for trouble, number in cases(site, times):
        try:
            play(story, site, trouble, number)
        except AssertionError as error:
            wrong.append(f"{story.__name__}: {trouble} at call {number}: {error}")
    return wrong


@pytest.mark.timeout(1500)
def test_any_one_error_at_this_call_leaves_every_unit_counted_once(
    site: CallSite, wrong_with: Callable[[CallSite], list[str]]
) -> None:
    wrong = wrong_with(site)
    assert not wrong, "\n".join(wrong)


def test_the_table_covers_every_operation_and_says_how_large_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sites = table()
    count = sum(len(list(cases(site, times))) for site, (_, times) in sites.items())
    codes = len({trouble for troubles in TROUBLES.values() for trouble in troubles})
    with capsys.disabled():
        print(f"\n{len(sites)} call sites × {codes} codes = {count} cases")
    assert {site.name for site in sites} == set(TROUBLES)
    assert len(sites) >= LEAST_SITES
    assert count >= LEAST_CASES


def test_every_gateway_function_that_calls_aws_is_in_the_table() -> None:
    calling = set()
    for file in (ROOT / "chalicelib").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ClassDef):
                continue
            for function in node.body:
                if "self._call(" in ast.unparse(function):
                    name = getattr(function, "name", "")
                    calling.add(f"{file.stem}.{node.name}.{name}")
    assert calling
    assert calling - {site.functions[-1] for site in table()} == set()


def test_what_is_kept_silent_is_still_there() -> None:
    there = {(site.functions[-1], site.name) for site in table()}
    assert set(SILENT) <= there


# --- errors that stay ---------------------------------------------------------------------------


def _named(name: str, about: str = "") -> Callable[[Called], bool]:
    """Calls of an operation whose parameters name something."""
    return lambda called: called.name == name and about in str(called.parameters)


@pytest.mark.parametrize(
    ("name", "about", "error"),
    [
        ("s3.PutObject", "", "WORKER_GAVE_UP"),
        ("s3.GetObject", "", "WORKER_GAVE_UP"),
        ("dynamodb.UpdateItem", "LIMIT#", "WORKER_GAVE_UP"),
        ("dynamodb.GetItem", "COVER#", "WORKER_GAVE_UP"),
        ("dynamodb.BatchWriteItem", "", "PLANNING_FAILED"),
        ("sqs.SendMessage", "/plan", "DEADLINE_EXCEEDED"),
        ("sqs.SendMessageBatch", "", "PLANNING_FAILED"),
    ],
)
def test_a_task_ends_with_its_reason_though_access_stays_denied(
    name: str, about: str, error: str
) -> None:
    with a_life() as life:
        life.aws.hooks.append(Always(_named(name, about), "AccessDeniedException"))
        task_id = life.start(timeout_seconds=7200)
        life.settle()
        view = life.ask("GET", f"/task/{task_id}").json_body
        assert view["status"] == "failed"
        assert error in view["error"]
        check_history(_as_world(life))


def test_a_task_whose_messages_vanished_ends_in_time_though_no_queue_can_be_looked_at() -> None:
    with a_life() as life:
        life.aws.hooks.append(Always(_named("sqs.GetQueueAttributes"), "AccessDeniedException"))
        task_id = life.start(timeout_seconds=7200)
        life.deliver("plan")
        life.aws.sqs.queues[life.settings.work_queue_url].messages.clear()
        life.settle()
        error = life.ask("GET", f"/task/{task_id}").json_body["error"]
        assert error.startswith("DEADLINE_EXCEEDED")


def test_a_task_goes_on_while_its_trail_cannot_be_written_which_is_then_made_up_for() -> None:
    with a_life() as life:
        hook = Always(_named("dynamodb.PutItem", "'audit'"), "AccessDeniedException")
        life.aws.hooks.append(hook)
        task_id = life.start()
        for queue in ("plan", "work") * 4:
            life.stream()
            life.deliver(queue)
        assert life.ask("GET", f"/task/{task_id}").json_body["status"] == "completed"
        assert not life.aws.items("audit")
        life.aws.hooks.remove(hook)
        life.settle()
        assert life.aws.items("audit")
        check_history(_as_world(life))


def test_a_task_completes_though_no_update_can_be_pushed() -> None:
    with a_life() as life:
        life.aws.hooks.append(Always(_named(PUSH), "ForbiddenException"))
        life.run(
            "connect", lambda: ConnectionTable(life.worker).enlist("c", ["tasks"], life.clock())
        )
        task_id = life.start()
        life.settle()
        assert life.ask("GET", f"/task/{task_id}").json_body["status"] == "completed"
