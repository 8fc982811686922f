"""One installation on the doubles, whose stories the table of errors plays."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from typing import Any

from chalice.test import Client

from app import app
from chalicelib import wiring
from chalicelib.access.keys import create_key
from chalicelib.aws.stream import change_of
from chalicelib.candles.store import CandleStore
from chalicelib.collecting import sweep as collecting_sweep
from chalicelib.core.errors import CollectorError
from chalicelib.core.together import together
from chalicelib.events import record as event_record
from chalicelib.exchange import refresh
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.worker import Worker
from chalicelib.functions import batches
from chalicelib.functions.webhooks import deliver_batch
from chalicelib.live import announce, push
from chalicelib.schedules import watch as schedule_watch
from tests.doubles.aws import Aws
from tests.doubles.clock import Clock, SimulatedLoop
from tests.doubles.error_codes import OneError
from tests.doubles.exchange import Exchange
from tests.doubles.fleet import Crash
from tests.doubles.senders import Sender
from tests.doubles.settings import doubled_settings
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

QUEUES = ("plan", "urgent", "work", "bury", "webhooks", "push")

PUSH = "apigatewaymanagementapi.PostToConnection"

CLIENT = Client(app)
PREFIX = next(path for path in app.routes if path.endswith("/start")).removesuffix("/start")


class Life:
    """One installation: doubles, triggers that come when they are due, and people who repeat."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.settings = doubled_settings(
            backfill_candles=3,
            retention_seconds=RETENTION_SECONDS,  # longer than any error delays a story
            audit_retention_days=5,  # so many days does the first export look back
            # Counted everywhere, and never reached.
            owner_active_tasks=100,
            owner_units_per_day=100_000,
            owner_schedules=100,
            owner_connections=100,
            owner_requests_per_second=1_000,
            owner_webhooks_per_minute=100,
        )
        self.aws = Aws.for_settings(self.clock, self.settings)
        self.aws.dynamodb.careful = False  # our gateways build what they send and only read answers
        self.exchange = Exchange(self.clock)
        self.loop = SimulatedLoop(self.clock)
        self.worker = Worker(self.aws, self.settings, self.clock, self.exchange)  # type: ignore[arg-type]
        self.budget = Budget(self.worker)
        self.sender = Sender()
        #: The key that requests bring; None: none is asked for.
        self.bearer: str | None = None
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
        return await deliver_batch(self.worker, self.sender, event)

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
        for work in (refresh.refresh_prices, refresh.refresh_catalogue_if_due):
            for _ in range(2):
                if self.run("prices", lambda work=work: work(self.worker))[0]:
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

    def require_keys(self) -> None:
        """Ask for keys from now on, and bring an admin's."""
        settings = replace(self.settings, authentication="keys")
        self.worker = Worker(self.aws, settings, self.clock, self.exchange)  # type: ignore[arg-type]
        body = {"owner": "boss", "scopes": ["admin"]}
        with redirect_stderr(io.StringIO()):
            made = self.loop.run_until_complete(create_key(self.worker, body, "deployer"))
        self.bearer = made["key"]

    # --- people ---------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: object = None, key: str | None = None) -> Any:
        """One request, asked again while the answer is that something failed behind it."""
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        if self.bearer is not None:
            headers["Authorization"] = f"Bearer {self.bearer}"
        content = b"" if body is None else json.dumps(body).encode()
        name = f"{method} {path.partition('?')[0]}"
        for segment in path.split("/"):
            name = name.replace(segment, "{id}") if len(segment) in (16, 36) else name
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
