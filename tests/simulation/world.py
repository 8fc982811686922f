"""A whole simulated installation: queues and their event sources, schedules, stream, people.

One seed makes one schedule: the same tasks, faults, delays and crashes every time.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from chalicelib.candles.summary import Seen
from chalicelib.collecting import sweep
from chalicelib.core import timeframes, times
from chalicelib.core.backend import Backend
from chalicelib.events import record as event_record
from chalicelib.exchange.binance import IN_FLIGHT
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.share import DEFAULT_WEIGHT_LIMIT
from chalicelib.exchange.worker import Worker
from chalicelib.functions import batches, records
from chalicelib.schedules import watch
from chalicelib.schedules.definition import Definition, Fields
from chalicelib.schedules.edits import made
from chalicelib.schedules.table import ScheduleTable
from chalicelib.work import priorities
from chalicelib.work.messages import CollectMessage, Unit
from chalicelib.work.request import CollectionRequest
from tests.doubles.aws import Aws
from tests.doubles.clock import Clock, SimulatedLoop
from tests.doubles.exchange import Exchange
from tests.doubles.settings import doubled_settings
from tests.simulation.checks import (
    Violation,
    check_history,
    check_outstanding,
)
from tests.simulation.counts import Recount
from tests.simulation.faults import Faults
from tests.simulation.objects import check_objects, check_written
from tests.simulation.people import FRAMES, NEW_YEAR_MS, Hold, Operator, Person, Stranger
from tests.simulation.processes import Container, Crash, Looks

#: Faults happen for this long; then everything must come to rest on its own.
STORM_MS = 300_000
#: Where messages are lost, they are for so long: some of those that are sent again, too.
LOSSES_MS = 3_600_000
#: By then at the latest every task must have ended.
PATIENCE_MS = 3 * 3_600_000
#: Each person's own, so that a request tells whose task it serves; the last is the schedule's.
SYMBOLS = (("AUSDT", "BUSDT"), ("CUSDT", "DUSDT"), ("EUSDT",), ("FUSDT",))
EVERY = tuple(symbol for own in SYMBOLS for symbol in own)
#: A message of a task that is not there: it is acknowledged, and nothing happens.
_NOBODYS = CollectMessage("nobody's", 1, 0, "normal", "AUSDT", (Unit(0, "1h", 0, 3_600_000),))
Handler = Callable[[Container, dict[str, Any]], Awaitable[dict[str, Any]]]


@dataclass
class Source:
    """An SQS event source mapping: batch size, MaximumConcurrency, what is running."""

    url: str
    handler: Handler
    batch: int
    concurrency: int
    timeout_ms: int
    running: int = 0


def _limits(random: Random) -> dict[str, int]:
    """What each owner may use: mostly as much as they like."""
    if random.random() >= 0.15:
        return {}
    return {"owner_active_tasks": random.choice((1, 2)), "owner_units_per_day": 40}


@dataclass
class World:
    seed: int
    random: Random = field(init=False)
    step: int = 0
    sweeps: bool = True
    buries: bool = True

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self._besides = Random(self.seed ^ 0xBE51DE)
        self.faults = Faults(self.random)
        self.clock = Clock()
        self.settings = doubled_settings(
            backfill_candles=3,
            collect_timeout_seconds=30,
            low_priority_patience_seconds=self.random.choice((60, 3600)),
            default_symbols=EVERY,
            **_limits(Random(self.seed ^ 0x9107A)),
        )
        self.aws = Aws.for_settings(self.clock, self.settings)
        self.aws.dynamodb.careful = False  # our gateways build what they send and only read answers
        #: Requests that left after a cancel's receipt, by task, receipt and container.
        self.late_requests: Counter[tuple[str, int, int]] = Counter()
        self.exchange = Exchange(self.clock, symbols=dict.fromkeys(EVERY, "TRADING"))
        for symbol in self.random.sample(EVERY, self.random.choice((0, 0, 1))):
            self.exchange.refused[symbol] = "INVALID_SYMBOL"
            self.faults.seen["refused_symbol"] += 1
        # Half-hours and quarters around New Year; no window has nothing else.
        odd = [NEW_YEAR_MS + quarters * 15 * 60_000 for quarters in (-3, -2, 2, 3)]
        self.exchange.broken = set(self._besides.sample(odd, self._besides.choice((0, 1, 2))))
        self.faults.seen["impossible_candle"] += len(self.exchange.broken)
        self.started_ms = self.clock()
        self._draw_history(Random(self.seed ^ 0x9A95))
        self.oddities = Random(self.seed ^ 0x0DD)
        self._odd_rate = self.oddities.choice((0, 0, 0, 0.02, 0.1))
        #: (symbol, timeframe, open time) of rows that came so that nobody could use them.
        self.spoiled: set[tuple[str, str, int]] = set()
        #: (symbol, timeframe, start of an object) -> its states, in the order they were written.
        self.written: dict[tuple[str, str, int], list[Seen]] = {}
        self._watch_objects()
        self._losses = Random(self.seed ^ 0x1057)
        self.faults.rates["message_lost"] = self._losses.choice((*[0.0] * 9, 0.5))
        #: Whether somebody else's messages wait in the work queue as long as a task is active.
        self.busy = self._losses.random() < 0.1
        #: Whether people ask at the same moment, and cancel while workers are at work.
        self.hasty = Random(self.seed ^ 0x4A57E).random() < 0.05
        #: (task id, attempt, PROG item, unit) of what was in messages that were lost.
        self.lost: set[tuple[str, int, int, int]] = set()
        #: (task id, attempt, PROG item) -> when sweep sent its messages again, in epoch ms.
        self.sent_again: dict[tuple[str, int, int], list[int]] = {}
        self.people: list[Person] = []
        pausing = Random(self.seed ^ 0x9A05E)
        #: Whoever pauses all requests, in a few worlds.
        self.operators = [Operator(self, pausing)] if pausing.random() < 0.12 else []
        self.holds: list[Hold] = []
        crowding = Random(self.seed ^ 0xC06D)
        #: Whoever asks the exchange from the same address, where its limit is small.
        self.strangers: list[Stranger] = []
        if crowding.random() < 0.12:
            self.crowd(crowding, crowding.choice((0, 0, 1, 2)))
        #: (world step, until in ms) of every time that the breaker was opened.
        self.pauses: list[tuple[int, int]] = []
        #: Found inside a worker, whose own handlers must not swallow it.
        self.violation: Violation | None = None
        self.broken: BaseException | None = None
        #: (task id, stream length, succeeded, failed) of every cancel's receipt.
        self.receipts: list[tuple[str, int, int, int]] = []
        #: Gateways without faults, for looking.
        self.honest = Backend(self.aws, self.settings, self.clock)
        self.aws.hooks.append(Recount(self))
        self._idle: dict[str, list[Container]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._streamed = 0
        self._streaming = False

    def limit(self, **limits: int) -> None:
        """Set what each owner, or all of them, may use, before anything runs."""
        self.settings = replace(self.settings, **limits)
        self.honest = Backend(self.aws, self.settings, self.clock)

    def crowd(self, random: Random, strangers: int) -> None:
        """Give the exchange a limit that one task can use up, and strangers at the same address."""
        self.exchange.weight_limit = random.choice((50, 100))
        self.limit(budget_percent=random.choice((82, 98)))
        self.exchange.enforces_limit = True
        self.faults.seen["small_limit"] += 1
        self.strangers = [Stranger(self, random) for _ in range(strangers)]

    @property
    def all_people(self) -> list[Person | Operator | Stranger]:
        return [*self.people, *self.operators, *self.strangers]

    def odd_row(self) -> str | None:
        """What happens to a row of the page that is sent now, if anything."""
        if not self.faults.on or self.oddities.random() >= self._odd_rate:
            return None
        kind = self.oddities.choice(("exchange_nulls_a_row", "exchange_misdates_a_row"))
        self.faults.seen[kind] += 1
        return kind

    def _watch_objects(self) -> None:
        """Look at what each write of an object replaces."""
        s3 = self.aws.s3
        put, objects = s3._PutObject, s3.buckets["candles"].objects

        def watched(**parameters: Any) -> dict[str, Any]:
            before = objects.get(parameters["Key"])
            answer = put(**parameters)
            if parameters["Key"].startswith("candles/"):
                self._look_at(parameters["Key"], before, objects[parameters["Key"]])
            return answer

        s3._PutObject = watched  # type: ignore[method-assign]

    def _look_at(self, key: str, before: bytes | None, after: bytes) -> None:
        try:
            state = check_written(self, key, before, after)
        except Violation as violation:
            self.violation = self.violation or violation
            return
        parts = dict(part.split("=") for part in key.split("/")[1:-1])
        which = parts["symbol"], parts["timeframe"], state.cell.start_ms
        self.written.setdefault(which, []).append(state)

    def _draw_history(self, random: Random) -> None:
        """What candles the exchange has of the hours that people ask for, and when it serves them.

        Outages, some of them filled later; candles that it drops; a late listing; grids that shift.
        """
        around = [NEW_YEAR_MS + half * 1_800_000 for half in range(-4, 5)]
        if random.random() < 0.15:
            self.exchange.listed_ms = random.choice(around)
            self.faults.seen["listed_late"] += 1
        for timeframe in FRAMES:
            if random.random() < 0.1:
                length = timeframes.LENGTH_MS[timeframe]
                shift = random.randrange(length)
                changes = random.choice(around)
                opens = range(
                    timeframes.floor(timeframe, around[0]) - 2 * length, around[-1], length
                )
                self.exchange.own_grid[timeframe] = [
                    at_ms + shift if at_ms >= changes else at_ms for at_ms in opens
                ]
                self.faults.seen["own_grid"] += 1
        for at_ms in random.sample(around, random.choice((0, 0, 0, 1, 4))):
            at_ms = random.choice((at_ms, at_ms + 900_000))
            moment = self.started_ms + random.randrange(2 * STORM_MS)
            kind = random.choice(("outage", "filled_late", "dropped"))
            self.faults.seen[kind] += 1
            if kind == "outage":
                self.exchange.outage.add(at_ms)
            else:
                span = (0, moment) if kind == "filled_late" else (moment, times.FOREVER_MS)
                self.exchange.unserved[at_ms] = span
        for at_ms in random.sample(around, random.choice((0, 0, 3, 9))):
            moment = self.started_ms + random.randrange(STORM_MS)
            self.exchange.revised_at[at_ms] = moment // 1000 * 1000
            self.faults.seen["revised_candle"] += 1

    # --- running ------------------------------------------------------------------------------

    def run(self) -> None:
        """Play the schedule. Raises Violation."""
        ids = Random(self.seed ^ 0x5EED)
        original, level = uuid.uuid4, os.environ.get("LOG_LEVEL")
        logged = batches.log
        batches.log = records.log = sweep.log = self._logged
        uuid.uuid4 = lambda: uuid.UUID(int=ids.getrandbits(128), version=4)
        os.environ["LOG_LEVEL"] = "OFF"
        loop = SimulatedLoop(self.clock)
        loop.set_exception_handler(lambda *_: None)  # crashed processes leave tasks behind
        try:
            loop.run_until_complete(self._play())
        finally:
            uuid.uuid4 = original
            batches.log = records.log = sweep.log = logged
            try:
                loop.run_until_complete(_cancel_all())
            finally:
                loop.close()
            if level is None:
                del os.environ["LOG_LEVEL"]
            else:
                os.environ["LOG_LEVEL"] = level
        check_history(self)
        check_objects(self)

    def _logged(self, event: str, error: str = "", **_: Any) -> None:
        """A message or a sweep fails through what AWS or the exchange did, never through us."""
        if event in ("record_failed", "sweep_failed") and not error.startswith(
            ("CallFailed", "ConditionFailed")
        ):
            self.violation = Violation("bug", f"{event}: {error}")

    async def _play(self) -> None:
        s = self.settings
        sources = [
            Source(s.plan_queue_url, _plan, 1, 2, 120_000),
            Source(s.urgent_queue_url, _collect, 5, 2, 30_000),
            Source(s.work_queue_url, _collect, 5, 3, 30_000),
        ]
        if self.buries:
            sources.append(Source(s.dead_letter_queue_url, _bury, 10, 2, 60_000))
        self.people = [
            Person(self, own) for own in SYMBOLS[: self.random.choice((1, 1, 1, 1, 2, 3))]
        ]
        if self.exchange.weight_limit != DEFAULT_WEIGHT_LIMIT:
            table, known = CatalogueTable(self.honest), self.exchange.symbols
            await table.write_catalogue(known, self.exchange.weight_limit or 0, self.started_ms)
        for person in self.all_people:
            self._spawn(person.live())
        next_minute = self.clock() // 60_000 * 60_000 + 60_000
        if self.random.random() < 0.2:
            self._fire_schedule()
        while True:
            now_ms = self.clock()
            if self.faults.on and now_ms - self.started_ms > STORM_MS:
                self.faults.on = False
            if now_ms >= next_minute:
                next_minute += 60_000
                self._minute()
            if self.busy:
                self._keep_busy()
            for source in sources:
                self._poll(source)
            self._stream()
            if self.violation or self.broken:
                raise self.violation or self.broken  # type: ignore[misc]
            if self._at_rest():
                return
            if now_ms - self.started_ms > PATIENCE_MS:
                raise Violation("liveness", f"still not at rest: {self._unrest()}")
            await asyncio.sleep(self._until_next(sources, next_minute))

    def _until_next(self, sources: list[Source], next_minute: int) -> float:
        """Seconds to the next moment at which something may have to be started."""
        idle = [person for person in self.all_people if not person.done]
        if len(self._tasks) > len(idle):
            return self.random.choice((0.2, 0.7, 2.0))
        ahead = [next_minute]
        ahead += [person.wakes_ms for person in idle]
        for source in sources:
            ahead += [m.visible_at for m in self.aws.sqs.queues[source.url].messages]
        return max(0.05, (min(ahead) - self.clock()) / 1000)

    def _keep_busy(self) -> None:
        """See that somebody's message waits in the work queue while a task is active."""
        url = self.settings.work_queue_url
        if self._is_active() and _NOBODYS.encode() not in self.aws.sqs.bodies(url):
            self.aws.sqs.apply(
                "SendMessage",
                {"QueueUrl": url, "MessageBody": _NOBODYS.encode(), "DelaySeconds": 30},
            )

    def _is_active(self) -> bool:
        return any(item.get("active") == {"S": "1"} for item in self.aws.items("tasks"))

    def _at_rest(self) -> bool:
        if not all(person.done for person in self.all_people) or self._tasks:
            return False
        queues = self.aws.sqs.queues.values()
        if any(queue.messages for queue in queues) or self._streamed < len(self.records()):
            return False
        return not self._is_active()

    def _unrest(self) -> dict[str, Any]:
        return {
            "people": [person.done for person in self.people],
            "queues": {url: len(q.messages) for url, q in self.aws.sqs.queues.items()},
            "active": [
                (item["pk"]["S"], item["state"]["S"])
                for item in self.aws.items("tasks")
                if item.get("active") == {"S": "1"}
            ],
            "running": len(self._tasks),
            "stream": (self._streamed, len(self.records())),
        }

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.broken = task.exception()

    async def pause(self) -> None:
        """Let others run: mostly not at all, sometimes long."""
        draw = self.random.random()
        if draw < 0.8:
            return
        if draw < 0.98:
            await asyncio.sleep(self.random.random() * 0.2)
        else:
            await asyncio.sleep(self.random.random() * (8 if self.faults.on else 1))

    # --- queues -------------------------------------------------------------------------------

    def _poll(self, source: Source) -> None:
        while source.running < source.concurrency:
            records = self.aws.sqs.receive(source.url, self.random.randint(1, source.batch))
            if not records:
                return
            if self.faults.rates["message_lost"]:
                records = [record for record in records if not self._loses(source.url, record)]
            if not records:
                continue
            if self.faults.hit("throttled_receive"):
                continue  # received, not invoked: hidden until the visibility timeout, one more
            for record in records:
                if self.faults.hit("duplicate_delivery"):
                    self._visible_in(source.url, record, 0)
                elif self.faults.hit("early_redelivery"):
                    self._visible_in(source.url, record, self.random.randint(1, 20_000))
            source.running += 1
            self._spawn(self._invoke(source, records))

    def _loses(self, url: str, record: dict[str, Any]) -> bool:
        """Whether this message is gone, acknowledged by nobody of ours."""
        over = self.clock() - self.started_ms > LOSSES_MS
        if over or self._losses.random() >= self.faults.rates["message_lost"]:
            return False
        self.faults.seen["message_lost"] += 1
        self.aws.sqs.delete(url, record["receiptHandle"])
        message = json.loads(record["body"])
        units = message.get("units", ())
        self.lost |= {(message["task"], message["attempt"], message["prog"], u[0]) for u in units}
        return True

    def _visible_in(self, url: str, record: dict[str, Any], ms: int) -> None:
        for message in self.aws.sqs.queues[url].messages:
            if message.id == record["messageId"]:
                message.visible_at = self.clock() + ms

    async def _invoke(self, source: Source, records: list[dict[str, Any]]) -> None:
        container = self._container(source.url)
        container.queue = source.url
        container.deadline_ms = self.clock() + source.timeout_ms
        try:
            answer = await source.handler(container, {"Records": records})
        except Crash:
            return
        finally:
            source.running -= 1
        if container.dead:
            return
        self._idle.setdefault(source.url, []).append(container)
        for record in self._acknowledged(answer, records):
            self.aws.sqs.delete(source.url, record["receiptHandle"])

    def _acknowledged(self, answer: Any, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        deleted = acknowledged(answer, records)
        named = len(answer["batchItemFailures"])
        if len(deleted) + named != len(records):
            self.violation = Violation("batch", f"{answer} does not name messages of the batch")
        return deleted

    def _container(self, kind: str) -> Container:
        idle = self._idle.get(kind)
        if idle and self.random.random() < 0.8:
            container = idle.pop()
            if container.dead:
                self.violation = Violation("leftover", "an invocation left something running")
            return container
        return Container(self, self.random.choice((0, 0, 0, -1500, 700, 4000)))

    # --- the clock's triggers -----------------------------------------------------------------

    def _minute(self) -> None:
        if self.random.random() < 0.3:
            # DynamoDB deletes what has expired at once, or days later; both are seen.
            self.faults.seen["ttl_deleted"] += self.aws.dynamodb.expire("tasks")
        if not self.sweeps or self.faults.hit("skipped_sweep"):
            return
        for _ in range(2 if self.faults.hit("double_sweep") else 1):
            self._spawn(self._sweep())

    async def _sweep(self) -> None:
        container = Container(self, self.random.choice((0, 0, -1500, 4000)))
        container.sweeps = True
        container.deadline_ms = self.clock() + 60_000
        try:
            await sweep.sweep(container.worker)
            await watch.watch_schedules(container.worker, "watch")
        except Crash:
            return
        except Exception:  # noqa: BLE001 - a failed invocation; the next minute comes
            return

    def _fire_schedule(self) -> None:
        self.faults.seen["schedule_fired_twice"] += 1
        for _ in range(2):
            self._spawn(self._scheduled())

    async def _scheduled(self) -> None:
        for _ in range(3):  # EventBridge tries a failed invocation again
            try:
                await self._fire(Container(self).worker)
                return
            except Crash:
                await asyncio.sleep(30)
            except Exception:  # noqa: BLE001 - as above
                await asyncio.sleep(30)

    async def _fire(self, worker: Worker) -> None:
        """One run of a daily schedule, which is there from the beginning."""
        request = CollectionRequest(tuple(SYMBOLS[-1]), ("1d",))
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
        daily = made("schedule", Definition(fields), self.started_ms, "anonymous", "r")
        await ScheduleTable(self.honest).create(daily)
        at_ms = (self.started_ms // 60_000 + 1) * 60_000
        await watch.run_schedule(worker, "anonymous", "schedule", at_ms, 1, "r")

    # --- the stream ---------------------------------------------------------------------------

    def records(self) -> list[dict[str, Any]]:
        return self.aws.dynamodb.tables["tasks"].stream

    def _stream(self) -> None:
        # A stream is polled now and then, and its batches hold what has come meanwhile.
        if self._streaming or self._streamed == len(self.records()):
            return
        if self.random.random() < 0.3:
            self._streaming = True
            self._spawn(self._consume())

    async def _consume(self) -> None:
        end = min(len(self.records()), self._streamed + self.random.randint(1, 40))
        records = self.records()[self._streamed : end]
        if self.faults.on and self._besides.random() < 0.1:
            self.faults.seen["stream_beside"] += 1
            self._spawn(self._beside(records))
        try:
            await event_record.record_task_changes(Container(self).worker, records)
            if self.faults.hit("stream_redelivery"):
                return
            self._streamed = end
        except Crash:
            return
        except Exception:  # noqa: BLE001 - the batch comes again
            return
        finally:
            self._streaming = False

    async def _beside(self, records: list[dict[str, Any]]) -> None:
        """An invocation that its poller took for dead is at work on the same batch."""
        container = Container(self, self._besides.choice((-1500, 700, 4000)))
        try:
            await event_record.record_task_changes(container.worker, records)
        except Crash:
            return
        except Exception:  # noqa: BLE001 - nobody hears of it
            return

    # --- what is watched ----------------------------------------------------------------------

    def dispatched(self, task_id: str, others_seen: bool | None) -> None:
        """A plan has put messages of a task into a queue, after its last look at the others."""
        self.violation = check_outstanding(self, task_id) or self.violation
        meta = self.aws.dynamodb.tables["tasks"].items[f"TASK#{task_id}", "META"]
        patience_ms = self.settings.low_priority_patience_seconds * 1000
        # A clock of ours may be some seconds ahead of all others.
        young = self.clock() + 10_000 - int(meta["started_at"]["N"]) < patience_ms
        if meta["priority"]["S"] == priorities.LOW and young and others_seen is not False:
            seen = "without a look at them" if others_seen is None else "though it saw them"
            self.violation = Violation("yielding", f"{task_id} went before others, {seen}")

    def requested(self, container: Container, symbol: str, looks: Looks, came: int) -> None:
        """An exchange request leaves a worker: was it still authorised when the worker looked?

        `came`: the world's step at which the request came to the gate.
        """
        if min(looks.task[0], looks.limit[0]) <= came:
            self.violation = Violation("permit", f"{symbol} was asked for without a look before")
        for person in self.people:
            ack = person.receipt_step
            if ack is None or looks.task[1] != f"TASK#{person.task_id}":
                continue
            # What was permitted before the receipt is in flight: no more than a worker may have.
            late = self.late_requests
            late[person.task_id, ack, id(container)] += 1
            if looks.task[0] > ack or late[person.task_id, ack, id(container)] > IN_FLIGHT:
                self.violation = Violation(
                    "cancel", f"{symbol} was asked for after its cancel's receipt"
                )
        for step, until_ms in self.pauses:
            if step < looks.limit[0] and looks.limit[1] < until_ms:
                self.violation = Violation("breaker", f"{symbol} was asked for during a pause")
        if any(hold.covers(*looks.limit) for hold in self.holds):
            self.violation = Violation("pause", f"{symbol} was asked for, and a person paused it")


async def _cancel_all() -> None:
    """End whatever a schedule that broke off left running."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def acknowledged(answer: Any, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records that SQS deletes, by Lambda's rules for partial batch responses.

    No failures named: all. A malformed answer, or an id that is empty or unknown: none.
    """
    if answer is None or answer == {}:
        return records
    if not isinstance(answer, dict) or not isinstance(answer.get("batchItemFailures"), list):
        return []
    ids = {record["messageId"] for record in records}
    failed = set()
    for entry in answer["batchItemFailures"]:
        if not isinstance(entry, dict) or entry.get("itemIdentifier") not in ids:
            return []
        failed.add(entry["itemIdentifier"])
    return [record for record in records if record["messageId"] not in failed]


async def _plan(container: Container, event: dict[str, Any]) -> dict[str, Any]:
    return await batches.plan_batch(container.worker, event)


async def _collect(container: Container, event: dict[str, Any]) -> dict[str, Any]:
    return await batches.collect_batch(
        container.worker, container.budget, event, container.remaining_ms
    )


async def _bury(container: Container, event: dict[str, Any]) -> dict[str, Any]:
    return await batches.bury_batch(container.worker, event)
