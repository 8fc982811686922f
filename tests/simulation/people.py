"""People of the simulation: they ask, look, cancel, retry, and believe what was answered; one may
pause all requests to the exchange, and strangers may use it from the same address."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from chalicelib.api.idempotency import answer_once
from chalicelib.core import times
from chalicelib.core.errors import (
    CallFailed,
    Conflict,
    QuotaExceeded,
    RequestRejected,
    TaskExpired,
    TaskNotFound,
)
from chalicelib.exchange.pause import Pauses
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.retry import retry_task
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import view_task
from tests.doubles.tasks import progs_of
from tests.simulation.checks import Violation
from tests.simulation.processes import Container, Crash

if TYPE_CHECKING:
    from tests.simulation.world import World

ENDED = ("completed", "failed", "cancelled")
FRAMES = ("30m", "1h", "1d", "15m", "2h", "4h")
#: Seconds until a person looks at the task again.
_LOOKS_AFTER = (1, 5, 30, 120, 300)
#: Windows around New Year fall into two objects of 15m to 1h, and one of the others, with a handful
#: of candles.
NEW_YEAR_MS = times.parse_time("2026-01-01")


class Somebody:
    """Who acts in a world. `wakes_ms` is when they do something next."""

    def __init__(self, world: World, random: Random) -> None:
        self.world = world
        self.wakes_ms = 0
        self.done = False
        self._random = random

    async def _sleep(self, seconds: float) -> None:
        self.wakes_ms = self.world.clock() + int(seconds * 1000)
        await asyncio.sleep(seconds)


class Person(Somebody):
    """`task_id` once it is known; `receipt_step`: the world's step of the last cancel's receipt."""

    def __init__(self, world: World, symbols: tuple[str, ...]) -> None:
        super().__init__(world, world.random)
        self.symbols = symbols
        self.task_id: str | None = None
        self.receipt_step: int | None = None
        self.has_key = world.random.random() < 0.5
        self._key = f"key-{symbols[0]}" if self.has_key else None
        self._seen: dict[int, int] = {}
        self._retries = world.random.choice((0, 0, 1, 2))
        self._cancels = world.random.choice((0, 0, 1))
        if world.hasty:
            self._retries, self._cancels = 2, 1
        #: Draws the task's own retries, in a third of the tasks.
        self._policies = Random(f"{world.seed} {symbols[0]}")

    async def live(self) -> None:
        world = self.world
        try:
            await self._sleep(world.random.random() * (1 if world.hasty else 30))
            await self._submit()
            if self.task_id is not None:
                await self._follow()
        finally:
            self.done = True

    def _body(self) -> dict[str, Any]:
        random = self.world.random
        step = 3_600_000
        return {
            "symbols": list(self.symbols),
            # Most tasks fit into their queue at once; a few have many more units than that.
            "timeframes": random.sample(FRAMES, random.choice((1, 1, 1, 1, 1, 2, 2, len(FRAMES)))),
            "start": NEW_YEAR_MS - random.choice((1, 2)) * step,
            "end": NEW_YEAR_MS + random.choice((1, 2)) * step,
            "priority": random.choice(("normal", "high", "low")),
            "tolerated_failure_percentage": random.choice((0, 30, 100)),
            "timeout_seconds": random.choice((900, 86_400)),
            "retries": self._policies.choice((0, 0, 0, 0, 1, 3)),
            "retry_backoff_seconds": self._policies.choice((1, 30, 600)),
        }

    async def _submit(self) -> None:
        body = self._body()
        for _ in range(8):
            container = Container(self.world)
            backend = container.worker

            async def work(
                task_id: str, _: bool, backend: Any = backend
            ) -> tuple[int, dict[str, Any]]:
                made = await submit_collection(backend, body, "me", "r", task_id)
                self.world.faults.seen["deduplicated"] += made != task_id
                return 202, {"task_id": made}

            try:
                answer = await answer_once(backend, "me", self._key, ("/start", body), work)
            except (Crash, CallFailed, Conflict):
                if self._key is None and self.world.random.random() < 0.5:
                    return  # gives up; a task may be there all the same
                await self._sleep(self.world.random.choice((2, 40)))
                continue
            except QuotaExceeded as refused:
                self.world.faults.seen["quota_refuses"] += 1
                await self._sleep(refused.retry_after)
                continue
            self.task_id = answer.body["task_id"]
            return

    async def _follow(self) -> None:
        world = self.world
        while True:
            await self._sleep(world.random.choice((1, 2, 5) if world.hasty else _LOOKS_AFTER))
            view = await self._look()
            if view is None:
                return
            if view["status"] in ENDED:
                if not self._retries:
                    await self._outlive()
                    return
                self._retries -= 1
                await self._retry()
            elif self._cancels and world.random.random() < 0.5:
                self._cancels -= 1
                await self._cancel()
                if self._retries and world.random.random() < 0.5:  # changes their mind at once
                    self._retries -= 1
                    await self._retry()

    async def _outlive(self) -> None:
        """Sometimes look again after the retention: the task must be gone, deleted or not."""
        if self.world.random.random() < 0.3:
            # Whoever ended it may have had a clock some seconds ahead.
            await self._sleep(self.world.settings.retention_seconds + 10)
            view = await self._look()
            # One that was stopped is kept until its result stands, however often that dies; then it
            # must be gone at once.
            # And one whose next attempt opens by itself is kept until its last one has expired.
            while view is not None and (view["result"] is None or self._policies_wait(view)):
                await self._sleep(60)
                view = await self._look()
            if view is not None:
                raise Violation("expiry", "an expired task was shown")

    def _policies_wait(self, view: dict[str, Any]) -> bool:
        """Whether the task still is, or was until just now, of interest to its own retries."""
        ended = view["completed_at"]
        if view["next_attempt_at"] or ended is None:
            return True
        lives_ms = (self.world.settings.retention_seconds + 10) * 1000
        return self.world.clock() < times.parse_time(ended) + lives_ms

    async def _look(self) -> dict[str, Any] | None:
        """Read the task without faults and hold it against what was seen before."""
        assert self.task_id is not None
        backend = self.world.honest
        try:
            view = await view_task(backend, self.task_id)
        except (TaskExpired, TaskNotFound):
            return None
        attempt, progress = view["attempt"], view["progress"]
        if progress < self._seen.get(attempt, 0):
            raise Violation("progress", f"went from {self._seen[attempt]} to {progress}")
        if attempt < max(self._seen, default=0):
            raise Violation("attempt", "went back")
        if (progress == 100) != (view["status"] == "completed"):
            raise Violation("progress", f"{progress} while {view['status']}")
        self._seen[attempt] = progress
        if view["message"].startswith("Retrying "):
            await self._hold_against_units(view["message"])
        return view

    async def _hold_against_units(self, message: str) -> None:
        """What the task is said to retry, it has not counted yet."""
        assert self.task_id is not None
        self.world.faults.seen["retry_shown"] += 1
        table = TaskTable(self.world.honest)
        task = await table.read(self.task_id)
        assert task is not None
        progs = await progs_of(self.world.honest, self.task_id)
        left = [
            f"{unit.symbol} {unit.timeframe}"
            for prog in progs
            for number, unit in enumerate(await table.read_units(task, prog.number))
            if prog.attempt == task.attempt and number not in prog.done
        ]
        if not message.startswith(tuple(f"Retrying {label}: " for label in left)):
            raise Violation("trouble", f"{message}, and only {left} are left")

    async def _cancel(self) -> None:
        assert self.task_id is not None
        self.world.faults.seen["cancel"] += 1
        for _ in range(5):
            try:
                _, receipt = await cancel_task(Container(self.world).worker, self.task_id)
            except (Crash, CallFailed):
                await self._sleep(2)
                continue
            except RequestRejected:
                return
            self.receipt_step = self.world.step
            counts = receipt.counts
            self.world.receipts.append(
                (self.task_id, len(self.world.records()), counts["succeeded"], counts["failed"])
            )
            return

    async def _retry(self) -> None:
        assert self.task_id is not None
        self.world.faults.seen["retry"] += 1
        self.receipt_step = None
        for _ in range(3):
            try:
                await retry_task(Container(self.world).worker, self.task_id)
                return
            except (Crash, CallFailed):
                await self._sleep(1)
            except RequestRejected:
                return


@dataclass
class Hold:
    """A pause that was ordered: the world's step at its receipt, and at which resuming began; when
    it began and ended, in epoch ms."""

    step: int
    resumed_step: int
    since_ms: int
    until_ms: int

    def covers(self, step: int, now_ms: int) -> bool:
        """Whether a look at this step, by a clock that said `now_ms`, must have seen it."""
        return self.step < step <= self.resumed_step and now_ms < self.until_ms


class Operator(Somebody):
    """Pauses all requests now and then, and resumes them, or lets a pause end by itself.

    Draws from a Random of its own, and meets no fault of AWS: a pause that was answered stands.
    """

    async def live(self) -> None:
        try:
            for _ in range(self._random.choice((1, 1, 2))):
                await self._sleep(self._random.random() * 60)
                await self._pause(self._random.choice((20, 200, 1_200)))
        finally:
            self.done = True

    async def _pause(self, seconds: int) -> None:
        world = self.world
        world.faults.seen["pause"] += 1
        since_ms = world.clock()
        ends_itself = self._random.random() < 0.4
        until_ms = since_ms + seconds * 1000 if ends_itself else times.FOREVER_MS
        await Pauses(world.honest).begin(until_ms, "operator", "", "r", since_ms)
        hold = Hold(world.step, 1 << 60, since_ms, until_ms)
        world.holds.append(hold)
        await self._sleep(seconds)
        if not ends_itself:
            hold.resumed_step, hold.until_ms = world.step, world.clock()
            await Pauses(world.honest).end("operator", "r", world.clock())


class Stranger(Somebody):
    """Somebody who uses up a part of the address's weight, more or less in each minute.

    Draws from a Random of its own.
    """

    async def live(self) -> None:
        try:
            while self.world.faults.on:
                await self._ask_for_a_minute()
        finally:
            self.done = True

    async def _ask_for_a_minute(self) -> None:
        world, limit = self.world, self.world.exchange.weight_limit or 0
        for _ in range(6):
            await self._sleep(self._random.random() * 20)
            world.exchange.weight_by_minute[world.clock() // times.MINUTE] += (
                limit * self._random.choice((0, 1, 2, 10)) // 100
            )
            world.faults.seen["stranger"] += 1
