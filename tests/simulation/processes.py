"""A simulated Lambda container: its own clock, its own calls, and its death at any boundary."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from chalicelib.aws.wire import item_from_wire
from chalicelib.core import timeframes
from chalicelib.core.errors import CallFailed, ExchangeThrottled, ExchangeUnavailable
from chalicelib.exchange.binance import (
    ALL_PRICES_WEIGHT,
    EXCHANGE_INFO_WEIGHT,
    IN_FLIGHT,
    KLINES_WEIGHT,
    PING_WEIGHT,
    Page,
    Permit,
)
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.ledger_state import state_in
from chalicelib.exchange.rows import Listing, Prices
from chalicelib.exchange.worker import Worker
from chalicelib.tasks import states
from chalicelib.work import priorities
from tests.simulation.checks import Violation, check_sent_again

if TYPE_CHECKING:
    from tests.simulation.world import World

#: What AWS answers before it applied anything (documented for the operations we call).
_REFUSALS = ("ThrottlingException", "InternalServerError", "ConnectionError")
FOREVER = 1 << 60


@dataclass
class Looks:
    """What an exchange request is permitted by: its message's last look at its task (world step,
    task's pk), which planning takes at META and collecting at the PROG item; and at ledger and
    breaker (world step, its clock)."""

    task: tuple[int, str] = (-1, "")
    limit: tuple[int, int] = (-1, 0)


#: Each message has its own context, and its requests share what one of them has looked at.
LOOKS: ContextVar[Looks | None] = ContextVar("LOOKS", default=None)
#: The attempt at which this message first found its PROG item: its own.
ATTEMPT: ContextVar[int] = ContextVar("ATTEMPT", default=0)
#: Whether this message saw that a task of normal or high priority is collected; None: never looked.
OTHERS_SEEN: ContextVar[bool | None] = ContextVar("OTHERS_SEEN", default=None)


class Crash(BaseException):
    """The process is gone. No handler of ours may catch it."""


class Container:
    """Gateways over calls that may fail, hang, be lost or repeated, or kill the process."""

    def __init__(self, world: World, skew_ms: int = 0) -> None:
        self.world = world
        self.skew_ms = skew_ms
        self.dead = False
        self.sweeps = False
        #: The queue that it works off, "" for others.
        self.queue = ""
        self.deadline_ms = FOREVER
        self.worker = Worker(
            self.call,
            world.settings,
            self.now_ms,
            ProcessExchange(self),  # type: ignore[arg-type]
        )
        self.budget = Budget(self.worker)

    def now_ms(self) -> int:
        return self.world.clock() + self.skew_ms

    def remaining_ms(self) -> int:
        return self.deadline_ms - self.world.clock()

    @property
    def plans(self) -> bool:
        return self.queue == self.world.settings.plan_queue_url

    def die(self) -> None:
        self.dead = True
        raise Crash

    async def boundary(self) -> None:
        """Between two steps of a process anything else may happen, its own death included."""
        if self.dead:
            raise Crash
        await self.world.pause()
        if self.dead:
            raise Crash
        if self.world.clock() >= self.deadline_ms:
            self.world.faults.seen["timeout"] += 1
            self.die()

    async def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        world, faults = self.world, self.world.faults
        await self.boundary()
        if faults.hit("crash_before_call"):
            self.die()
        if faults.hit("call_refused"):
            raise CallFailed(service, operation, world.random.choice(_REFUSALS), "simulated")
        if operation == "SendMessageBatch" and self.sweeps:
            check_sent_again(world, parameters["Entries"])
        if operation == "SendMessageBatch" and self.plans and faults.hit("crash_between_sends"):
            self.die()
        if operation == "SendMessageBatch" and faults.hit("partial_send"):
            queue = world.aws.sqs.queues[parameters["QueueUrl"]]
            # More than one refusal in a row, so that sending again may fail as well.
            queue.refuse_next = world.random.choice((1, 2, 12, 60))
        world.step += 1
        self._note(operation, parameters)
        failed: CallFailed | None = None
        answer: dict[str, Any] = {}
        times = 2 if faults.hit("call_applied_twice") else 1  # the client's own retry
        # A plan message from a queue's own worker asks for more of a task that was planned.
        if self.queue and parameters.get("QueueUrl") == world.settings.plan_queue_url:
            if faults.hit("refill_twice"):
                times = 2
            elif faults.hit("refill_lost"):
                return {"MessageId": "lost"}
        for _ in range(times):
            try:
                answer, failed = await world.aws(service, operation, **parameters), None
            except CallFailed as error:
                failed = error
        if operation == "SendMessageBatch":
            world.aws.sqs.queues[parameters["QueueUrl"]].refuse_next = 0
        if failed is None:
            self._hold_against_attempt(parameters, answer)
            self._hold_against_ceiling(parameters, answer)
            if operation == "SendMessageBatch" and self.plans:
                task_id = parameters["Entries"][0]["MessageGroupId"]
                world.dispatched(task_id, OTHERS_SEEN.get())
        if faults.hit("crash_after_call"):
            self.die()
        if faults.hit("lost_response"):
            raise CallFailed(service, operation, "ConnectionError", "simulated: answer lost")
        await self.boundary()
        if failed is not None:
            raise failed
        if "IndexName" in parameters and answer["Items"] and faults.hit("index_lags"):
            kept = [item for item in answer["Items"] if world.random.random() < 0.5]
            answer = {**answer, "Items": kept}
        if "IndexName" in parameters:
            OTHERS_SEEN.set(any(_goes_first(item) for item in answer["Items"]))
        return answer

    def _note(self, operation: str, parameters: dict[str, Any]) -> None:
        """Remember what this message looked at, and when the fleet was paused."""
        if operation not in ("GetItem", "UpdateItem"):
            return
        pk, sk = parameters["Key"]["pk"]["S"], parameters["Key"]["sk"]["S"]
        looks = LOOKS.get()
        if looks is None:
            looks = Looks()
            LOOKS.set(looks)
        if operation == "GetItem" and sk.startswith("META" if self.plans else "PROG#"):
            looks.task = (self.world.step, pk)
        elif sk == "LIMIT":
            values = parameters.get("ExpressionAttributeValues", {})
            if ":until" in values:
                self.world.pauses.append((self.world.step, int(values[":until"]["N"])))
            elif ":counted" not in values:
                looks.limit = (self.world.step, self.now_ms())

    def _hold_against_attempt(self, parameters: dict[str, Any], answer: dict[str, Any]) -> None:
        """A message counts for the attempt that it was sent for, never for a newer one."""
        key = parameters.get("Key")
        sk = key["sk"]["S"] if isinstance(key, dict) else ""
        item = answer.get("Item") or answer.get("Attributes")
        if not sk.startswith("PROG#") or item is None:
            return
        attempt = int(item["attempt"]["N"])
        if "Item" in answer and not ATTEMPT.get():
            ATTEMPT.set(attempt)
        counts = "done :units" in parameters.get("UpdateExpression", "")
        if counts and ATTEMPT.get() and ATTEMPT.get() != attempt:
            self.world.violation = Violation("attempt", f"{ATTEMPT.get()} counted for {attempt}")

    def _hold_against_ceiling(self, parameters: dict[str, Any], answer: dict[str, Any]) -> None:
        """The fleet keeps to the operator's ceiling, and leaves to high what is kept for it."""
        values = parameters.get("ExpressionAttributeValues", {})
        if ":weight" not in values:
            return
        state = state_in(item_from_wire(answer["Attributes"]))
        world, limit = self.world, self.world.exchange.weight_limit or 0
        ceiling = limit * world.settings.budget_percent // 100
        if max(state.fleet_share, state.used) > ceiling:
            world.violation = Violation("ceiling", f"{state} is above {ceiling}")
        kept = limit * 2 // 100 if self.queue == world.settings.work_queue_url else 0
        if state.used > state.fleet_share - kept:
            world.violation = Violation("kept for high", f"{state} leaves less than {kept}")


def _goes_first(row: dict[str, Any]) -> bool:
    """Whether a row of the active index is of a task that one of low priority lets go first."""
    kind, state = row["task_type"]["S"], row["state"]["S"]
    collected = kind == states.DATA_COLLECTION and state in states.ACTIVE
    return collected and row["priority"]["S"] != priorities.LOW


class ProcessExchange:
    """The exchange as one container sees it: slow, throttling, failing, or lying."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._in_flight = asyncio.Semaphore(IN_FLIGHT)

    async def klines(
        self, symbol: str, timeframe: str, start_ms: int, end_ms: int, permit: Permit
    ) -> Page:
        world = self._container.world
        async with self._in_flight:
            came = world.step
            await permit(KLINES_WEIGHT)
            world.requested(self._container, symbol, LOOKS.get() or Looks(), came)
            sent_ms = self._container.now_ms()
            await self._trouble()
            page = await world.exchange.klines(symbol, timeframe, start_ms, end_ms, _free)
            page = replace(page, sent_ms=sent_ms)
            await self._container.boundary()
        return self._lie(page, symbol, timeframe, start_ms)

    async def listing(self, permit: Permit) -> Listing:
        await permit(EXCHANGE_INFO_WEIGHT)
        await self._trouble()
        return await self._container.world.exchange.listing(_free)

    async def prices(self, permit: Permit) -> tuple[Prices, int]:
        await permit(ALL_PRICES_WEIGHT)
        await self._trouble()
        return await self._container.world.exchange.prices(_free)

    async def is_up(self, permit: Permit) -> bool:
        await permit(PING_WEIGHT)
        await self._container.boundary()
        return True

    async def _trouble(self) -> None:
        world = self._container.world
        await self._container.boundary()
        if world.faults.hit("exchange_slow"):
            await asyncio.sleep(world.random.choice((1, 5, 12, 20, 40)))
            await self._container.boundary()
        if world.faults.hit("exchange_throttles"):
            until_ms = world.clock() + world.random.choice((1_000, 30_000, 200_000))
            raise ExchangeThrottled("HTTP 429: simulated", until_ms)
        if world.faults.hit("exchange_fails"):
            raise ExchangeUnavailable("HTTP 500: simulated")

    def _lie(self, page: Page, symbol: str, timeframe: str, start_ms: int) -> Page:
        """The page as an exchange that errs in an ordinary way gives it; every row is true."""
        world, rows = self._container.world, list(page.rows)
        if world.faults.hit("exchange_caps_pages"):
            rows = rows[: world.random.choice((1, 2, 5, 100, 500))]
        elif world.faults.hit("exchange_caps_from_the_end"):
            rows = rows[-world.random.choice((1, 2, 5, 100, 500)) :]
        if world.faults.hit("exchange_shuffles_rows"):
            rows = world.random.choice((rows[::-1], [*rows, *rows[:3]]))
        if world.faults.hit("exchange_adds_a_row"):
            length = timeframes.LENGTH_MS[timeframe]
            before = world.exchange.rows(symbol, timeframe, start_ms - length, start_ms)
            rows = [*before[-1:], *rows]
        if world.faults.hit("exchange_ignores_start"):
            now = timeframes.floor(timeframe, world.clock())
            length = timeframes.LENGTH_MS[timeframe]
            # Where it has none then, it answers honestly: an empty answer is not one of these lies.
            rows = list(world.exchange.rows(symbol, timeframe, now - 5 * length, now + 1)) or rows
        return self._spoil(replace(page, rows=rows), symbol, timeframe)

    def _spoil(self, page: Page, symbol: str, timeframe: str) -> Page:
        """The page with one row that says nothing, or opens a thousand times too late."""
        world, rows = self._container.world, list(page.rows)
        kind = world.odd_row()
        if not rows or kind is None:
            return page
        row = rows.pop(world.oddities.randrange(len(rows)))
        world.spoiled.add((symbol, timeframe, row[0]))
        if kind == "exchange_misdates_a_row":
            rows.append((row[0] * 1000, *row[1:]))
            return replace(page, rows=rows)
        return replace(page, rows=rows, unusable=(*page.unusable, -1))


async def _free(weight: int) -> None:
    """What has been paid for already."""
