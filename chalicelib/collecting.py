"""Collecting candles: from one message, or for a caller who waits.

One message: is the task still wanted and the exchange not paused -> weight from the shared ledger
-> pages, several in flight -> valid closed candles -> Parquet objects -> coverage -> the fence.
Whatever is not finished goes back: throttled or out of time as a new message, transient trouble as
a failed one that returns after a backoff.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from chalicelib import coverage, timeframes
from chalicelib.budget import Budget
from chalicelib.candles import Candles, Row, is_valid, missing
from chalicelib.errors import ExchangeRefused, ExchangeThrottled, ExchangeUnavailable
from chalicelib.finishing import finish_prog
from chalicelib.gateways.binance import KLINES_WEIGHT, PAGE_LIMIT
from chalicelib.gateways.task_table import OPEN
from chalicelib.logs import log
from chalicelib.messages import CollectMessage, Unit
from chalicelib.planning_rules import PAGE_CANDLES, bounds, pages
from chalicelib.together import together
from chalicelib.wiring import Bench

#: Pages that one authorisation covers, all in flight at once: a cancel waits for no more.
GROUP_PAGES = 12
#: Stop taking on work when a group might no longer end in time.
RESERVE_MS = 15_000
#: How long the fleet pauses where the exchange does not even answer a ping.
DOWN_PAUSE_MS = 15_000
#: Waits up to this long happen in the worker; longer ones in the queue.
SHORT_WAIT_MS = 2_000
#: Never ask again at once, whatever a Retry-After of 0 may say.
LEAST_WAIT_MS = 200
#: After this many deliveries a unit in transient trouble fails with its reason. The queue's
#: maxReceiveCount is one more: dead letters are for crashes.
MOST_DELIVERIES = 4


class Outcome(Enum):
    DONE = "done"
    RETRY = "retry"


@dataclass
class Result:
    """What one unit came to: candles stored and rejected, or a reason why not."""

    stored: int = 0
    rejected: int = 0
    reason: str | None = None
    detail: str = ""


@dataclass
class Group:
    """Units collected together: their results, and the trouble that ended the group early."""

    results: dict[int, Result] = field(default_factory=dict)
    parts: list[tuple[str, int, int, int | None, list[tuple[int, int, str]]]] = field(
        default_factory=list
    )
    throttled: ExchangeThrottled | None = None
    unavailable: dict[int, ExchangeUnavailable] = field(default_factory=dict)
    stopped: bool = False
    wait_until_ms: int = 0


async def collect_message(
    bench: Bench,
    budget: Budget,
    message: CollectMessage,
    deliveries: int,
    remaining_ms: Callable[[], int],
) -> Outcome:
    """Collect the units of one message that have not been counted yet.

    RETRY: the delivery has failed and shall come back; DONE: acknowledge it (what is left, if
    anything, went back as a new message).
    """
    task_id, attempt, number = message.task_id, message.attempt, message.prog
    prog = await bench.tasks.read_prog(task_id, number)
    if prog is None or prog["attempt"] != attempt or prog["state"] != OPEN:
        log("message_outdated", task_id=task_id, attempt=attempt, prog=number)
        return Outcome.DONE
    left = [unit for unit in message.units if unit.number not in prog.get("done", ())]
    if not left:  # counted by another delivery, which may have died before it told META
        await finish_prog(bench, task_id, attempt, number, prog)

    async def authorised() -> bool:
        current = await bench.tasks.read_prog(task_id, number)
        return bool(current and current["attempt"] == attempt and current["state"] == OPEN)

    troubled: list[Unit] = []  # failed in this delivery; they come back with it
    while left:
        if remaining_ms() < RESERVE_MS:
            return await _hand_on(bench, message, left + troubled, 0)
        units = _group(left)
        group = await collect_units(
            bench, budget, message.symbol, units, task_id, authorised, remaining_ms
        )
        await _judge_unavailable(bench, group, deliveries)
        if group.results and not await _count(bench, message, units, group):
            return Outcome.DONE
        left = [unit for unit in left if unit.number not in group.results]
        if group.stopped:
            return Outcome.DONE
        if group.wait_until_ms:
            wait_ms = max(0, group.wait_until_ms - bench.now_ms())
            if wait_ms > SHORT_WAIT_MS:
                return await _hand_on(bench, message, left + troubled, -(-wait_ms // 1000))
            await asyncio.sleep(max(wait_ms, LEAST_WAIT_MS) / 1000)
        elif group.unavailable:
            troubled += [unit for unit in left if unit.number in group.unavailable]
            left = [unit for unit in left if unit.number not in group.unavailable]
    return Outcome.RETRY if troubled else Outcome.DONE


async def collect_units(
    bench: Bench,
    budget: Budget,
    symbol: str,
    units: Sequence[Unit],
    task_id: str,
    authorised: Callable[[], Awaitable[bool]],
    remaining_ms: Callable[[], int],
) -> Group:
    """Fetch, check and store some units of one symbol. Counting them is the caller's.

    Every batch of at most GROUP_PAGES requests is authorised anew: the task must still want it,
    the fleet must not be paused, and the shared ledger must grant the weight.
    """
    group = Group()
    wanted = [page for unit in units for page in _pages(unit)]
    rows: dict[int, list[tuple[int, list[Row], int]]] = {unit.number: [] for unit in units}
    for start in range(0, len(wanted), GROUP_PAGES):
        batch = [page for page in wanted[start : start + GROUP_PAGES] if _open(group, page[0])]
        if not batch:
            continue
        if remaining_ms() < RESERVE_MS // 2:
            group.wait_until_ms = bench.now_ms() + SHORT_WAIT_MS + 1000
            return group
        until_ms = await budget.take(len(batch) * KLINES_WEIGHT)
        if until_ms:
            group.wait_until_ms = until_ms
            break
        if not await authorised():
            group.stopped = True
            return group
        await together(*(_fetch(bench, budget, symbol, page, rows, group) for page in batch))
        if group.throttled:
            group.wait_until_ms = group.throttled.until_ms
            break
    whole = [
        unit
        for unit in units
        if len(rows[unit.number]) == len(_pages(unit)) and unit.number not in group.unavailable
    ]
    await together(
        *(_store(bench, symbol, unit, rows[unit.number], task_id, group) for unit in whole)
    )
    if group.parts:
        await bench.market.extend_coverage(symbol, group.parts)
    return group


def _open(group: Group, unit: Unit) -> bool:
    return unit.number not in group.results and unit.number not in group.unavailable


def _group(units: list[Unit]) -> list[Unit]:
    """The next units that are collected and counted together."""
    taken: list[Unit] = []
    load = 0
    for unit in units:
        cost = pages(unit.timeframe, unit.start_ms, unit.end_ms)
        if taken and load + cost > GROUP_PAGES:
            break
        taken.append(unit)
        load += cost
    return taken


def _pages(unit: Unit) -> list[tuple[Unit, int, int]]:
    """The requests of a unit: stretches of time that cannot hold more than one page."""
    if unit.timeframe == "1M":
        return [(unit, unit.start_ms, unit.end_ms)]
    length = timeframes.LENGTH_MS[unit.timeframe] * PAGE_CANDLES
    return [
        (unit, start, min(start + length, unit.end_ms))
        for start in range(unit.start_ms, unit.end_ms, length)
    ]


async def _fetch(
    bench: Bench,
    budget: Budget,
    symbol: str,
    page: tuple[Unit, int, int],
    rows: dict[int, list[tuple[int, list[Row], int]]],
    group: Group,
) -> None:
    unit, start_ms, end_ms = page
    found: list[Row] = []
    at_ms, length = start_ms, timeframes.LENGTH_MS[unit.timeframe]
    try:
        while True:
            if group.throttled:  # another request of this batch was throttled: ask nothing more
                return
            answer = await bench.exchange.klines(symbol, unit.timeframe, at_ms, end_ms)
            await budget.observe(answer.used_weight)
            found += answer.rows
            if len(answer.rows) < PAGE_LIMIT or answer.rows[-1][0] + length >= end_ms:
                break
            # More candles than the grid has places (off-grid ones): go on behind the last.
            at_ms = answer.rows[-1][0] + 1
    except ExchangeRefused as error:
        group.results[unit.number] = Result(reason=error.reason, detail=error.detail)
        return
    except ExchangeThrottled as error:
        group.throttled = error
        await bench.market.pause(error.until_ms, error.detail[:200])
        log("exchange_throttled", level="warning", until=error.until_ms, detail=error.detail)
        return
    except ExchangeUnavailable as error:
        group.unavailable[unit.number] = error
        return
    rows[unit.number].append((start_ms, found, answer.server_ms))


async def _store(
    bench: Bench,
    symbol: str,
    unit: Unit,
    fetched: list[tuple[int, list[Row], int]],
    task_id: str,
    group: Group,
) -> None:
    """Check a unit's rows and merge them into its objects."""
    fetched.sort(key=lambda page: page[0])
    server_ms = min(page[2] for page in fetched)
    candles, rejected = closed_candles(
        (row for page in fetched for row in page[1]), unit.start_ms, unit.end_ms, server_ms
    )
    stored = 0
    for start_ms, end_ms in timeframes.object_cuts(unit.timeframe, unit.start_ms, unit.end_ms):
        part = candles.between(start_ms, end_ms)
        if len(part):
            await bench.candles.merge(symbol, unit.timeframe, part, task_id, bench.now_ms())
            stored += len(part)
    # What was still running at the server's clock is not covered yet.
    end_ms = min(unit.end_ms, timeframes.floor(unit.timeframe, server_ms))
    gaps = [
        (low, high, _reason(low, candles, rejected))
        for low, high in missing(unit.timeframe, candles.open_times, unit.start_ms, end_ms)
    ]
    last = candles.open_times[-1] if len(candles) else None
    group.parts.append((unit.timeframe, unit.start_ms, max(unit.start_ms, end_ms), last, gaps))
    group.results[unit.number] = Result(stored, len(rejected))


def closed_candles(
    rows: Iterable[Row], start_ms: int, end_ms: int, server_ms: int
) -> tuple[Candles, set[int]]:
    """The valid, closed candles that open in [start, end), and the open times of invalid rows.

    A candle is closed when its close time has passed on the server's clock; ours may be wrong.
    """
    candles, rejected = Candles(), set()
    last = -1
    for row in rows:
        open_ms = row[0]
        if not start_ms <= open_ms < end_ms or row[6] >= server_ms:
            continue
        if open_ms <= last or not is_valid(row):
            rejected.add(open_ms)
            continue
        candles.append(row)
        last = open_ms
    return candles, rejected


def _reason(low: int, candles: Candles, rejected: set[int]) -> str:
    if low in rejected:
        return coverage.INVALID
    return coverage.NO_CANDLE


async def _judge_unavailable(bench: Bench, group: Group, deliveries: int) -> None:
    """Transient trouble: is it the exchange, the last try, or worth another delivery?"""
    if not group.unavailable:
        return
    if not await bench.exchange.is_up():
        until_ms = bench.now_ms() + DOWN_PAUSE_MS
        await bench.market.pause(until_ms, "the exchange does not answer")
        group.wait_until_ms = until_ms
        group.unavailable.clear()
        return
    if deliveries >= MOST_DELIVERIES:
        for index, error in group.unavailable.items():
            group.results[index] = Result(reason=error.reason, detail=error.detail)
        group.unavailable.clear()


async def _count(
    bench: Bench, message: CollectMessage, units: Sequence[Unit], group: Group
) -> bool:
    """Count the group's results behind the fence; False where nothing may be counted any more."""
    ok = {
        index: (result.stored, result.rejected)
        for index, result in group.results.items()
        if result.reason is None
    }
    bad = {
        index: (result.reason, result.detail)
        for index, result in group.results.items()
        if result.reason is not None
    }
    last = next(unit for unit in reversed(units) if unit.number in group.results)
    prog = await bench.tasks.count(
        message.task_id,
        message.attempt,
        message.prog,
        ok,
        bad,
        f"{message.symbol} {last.timeframe}",
        bench.now_ms(),
    )
    if prog is None:
        return False
    await finish_prog(bench, message.task_id, message.attempt, message.prog, prog)
    return True


async def _hand_on(
    bench: Bench, message: CollectMessage, left: list[Unit], delay_seconds: int
) -> Outcome:
    """Send what is left as a new message; this delivery is then done with."""
    rest = CollectMessage(
        message.task_id,
        message.attempt,
        message.prog,
        message.priority,
        message.symbol,
        tuple(left),
    )
    unsent = await bench.queue.send_collect([rest], delay_seconds)
    return Outcome.RETRY if unsent else Outcome.DONE


# --- for callers who wait ---------------------------------------------------------------------


async def collect_market_data_async(
    symbols: Sequence[str],
    timeframes_wanted: Sequence[str],
    progress: Callable[[int, int, str], None] | None = None,
    bench: Bench | None = None,
) -> dict[str, object]:
    """Collect from the last stored candle on, in this process, and return when it is done.

    `progress(done, total, label)` is called after each symbol and timeframe. Returns
    {"units", "succeeded", "failed", "candles", "failures": [{symbol, timeframe, reason, detail}]}.
    One failing symbol never stops the others.
    """
    from chalicelib import wiring

    bench = bench or wiring.bench()
    budget = Budget(bench)
    stored = await bench.market.coverage_of(list(dict.fromkeys(symbols)))
    failures: list[dict[str, str]] = []
    done = candles = 0
    total = len(symbols) * len(timeframes_wanted)
    for symbol in symbols:
        left = []
        for index, timeframe in enumerate(timeframes_wanted):
            last = stored.get(symbol, {}).get(timeframe, {}).get("last")
            start, end = bounds(
                timeframe, bench.now_ms(), None, None, last, bench.settings.backfill_candles
            )
            left.append(Unit(index, timeframe, start, max(end, start + 1)))
        deliveries = 0
        while left:
            deliveries += 1
            group = await collect_units(
                bench, budget, symbol, left, "direct", _always, lambda: 1_000_000
            )
            await _judge_unavailable(bench, group, deliveries)
            for unit in left:
                result = group.results.get(unit.number)
                if result is None:
                    continue
                done += 1
                candles += result.stored
                if result.reason:
                    failures.append(
                        {
                            "symbol": symbol,
                            "timeframe": unit.timeframe,
                            "reason": result.reason,
                            "detail": result.detail,
                        }
                    )
                if progress:
                    progress(done, total, f"{symbol} {unit.timeframe}")
            left = [unit for unit in left if unit.number not in group.results]
            if left:
                wait_ms = max(1000 * deliveries, group.wait_until_ms - bench.now_ms())
                await asyncio.sleep(wait_ms / 1000)
    return {
        "units": total,
        "succeeded": total - len(failures),
        "failed": len(failures),
        "candles": candles,
        "failures": failures,
    }


def collect_market_data(symbols: Sequence[str], timeframes: Sequence[str]) -> dict[str, object]:
    """`collect_market_data_async` for callers without an event loop."""
    return asyncio.run(_closing(symbols, timeframes))


async def _closing(symbols: Sequence[str], wanted: Sequence[str]) -> dict[str, object]:
    from chalicelib import wiring

    async with wiring.fresh_bench() as bench:
        return await collect_market_data_async(symbols, wanted, bench=bench)


async def _always() -> bool:
    return True
