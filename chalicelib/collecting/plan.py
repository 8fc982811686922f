"""From a stored request to units and PROG items.

Planning is safe to run twice, and to stop anywhere, because of its order:
1. the units are stored under this plan's own id, so two plans at once never mix; they are cut as
   they are stored, so a plan of any size takes little memory;
2. META moves to running with that id: one plan wins, the others go on with the winner's;
3. the first messages are sent (collecting/dispatch.py); dispatch messages ask for the others.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from itertools import chain

from chalicelib.candles.coverage_table import Coverages, CoverageTable
from chalicelib.candles.summary import Summary
from chalicelib.collecting.dispatch import dispatch
from chalicelib.collecting.listing import find_listings
from chalicelib.collecting.ranges import Pair, Wanted, lookups, wanted
from chalicelib.collecting.verify import plan_verification
from chalicelib.core.backend import Backend
from chalicelib.core.errors import (
    CollectorError,
    ConditionFailed,
    ExchangeError,
    ExchangeRefused,
    NotAsked,
    PlanTooLarge,
    QuotaExceeded,
)
from chalicelib.core.logs import log
from chalicelib.core.task_keys import CHILD_TTL_SECONDS
from chalicelib.core.together import together
from chalicelib.exchange.catalogue_table import Asked, CatalogueTable
from chalicelib.exchange.refresh import recent_volumes, refresh_catalogue, refresh_prices
from chalicelib.exchange.worker import Worker
from chalicelib.tasks import states
from chalicelib.tasks.finish import expiry, fail_task
from chalicelib.tasks.message import notice_of
from chalicelib.tasks.part import begun_again, part_sizes, part_start
from chalicelib.tasks.policy import ask_for_next_attempt
from chalicelib.tasks.quotas import start_within_quota
from chalicelib.tasks.retry import open_next_attempt
from chalicelib.tasks.selection import resolved
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.task import Task, TaskValues
from chalicelib.work import priorities
from chalicelib.work.messages import VERIFYING, PlanMessage
from chalicelib.work.request import CollectionRequest, too_large
from chalicelib.work.selector import is_plain, needs_volumes
from chalicelib.work.units import PlannedUnit, packs

#: Entries of a request that an error names.
_MOST_NAMED = 10


class NoSymbols(CollectorError):
    reason = "NO_SYMBOLS"


async def plan_task(worker: Worker, message: PlanMessage) -> None:
    """Plan one task and send its first messages, or what an earlier delivery left of that."""
    task = await TaskTable(worker).read(message.task_id)
    if task is None or task.attempt != message.attempt:
        log("plan_outdated", task_id=message.task_id, attempt=message.attempt)
        return
    if not task.is_active:
        if (task.next_attempt_at or 0) > worker.now_ms():  # clocks differ by a little
            await ask_for_next_attempt(worker, task)
        await open_next_attempt(worker, task)
        return
    try:
        if task.task_type == states.SYMBOL_REFRESH:
            await _refresh(worker, task)
            return
        if task.state == states.PENDING:
            started = await _start(worker, task)
            if started is None:
                return
            task = started
        await dispatch(worker, task)
    except (PlanTooLarge, NoSymbols, ExchangeRefused, QuotaExceeded) as error:
        await fail_task(worker, task, error.reason, error.detail)
    except NotAsked as why:
        # Sweep asks for a plan again after a minute, however long nobody may ask the exchange.
        log("plan_waits", task_id=task.task_id, attempt=task.attempt, until=why.until_ms)


async def _start(worker: Worker, task: Task) -> Task | None:
    """Move the task to running with a plan; returns it after that, None where it is over.

    Raises QuotaExceeded where its owner has not as many units left today.
    """
    table = TaskTable(worker)
    task_id, attempt, now_ms = task.task_id, task.attempt, worker.now_ms()
    values: TaskValues = {"started_at": now_ms, "message": "Planned"}
    ttl = now_ms // 1000 + CHILD_TTL_SECONDS
    if task.plan_id is not None:
        values["kept_units"] = await _begin_again(worker, task, ttl)
    else:
        symbols = await _symbols(worker, CollectionRequest.unpack(task.request))
        units, said = await _units(worker, task, symbols, now_ms)
        plan_id = uuid.uuid4().hex[:12]
        sizes = await table.write_units(
            task_id, plan_id, enumerate(packs(units)), ttl, asyncio.sleep
        )
        values |= {
            "plan_id": plan_id,
            "progs_total": len(sizes),
            "total_units": sum(sizes),
            "kept_units": 0,
            "symbols_count": len(symbols),
        }
        if said is not None:
            values |= {"notice": said, "message": f"Planned; {said}"}
    try:
        planned = await start_within_quota(worker, task, values)
        log(
            "task_planned",
            task_id=task_id,
            attempt=attempt,
            units=planned.total_units,
            progs=planned.progs_total,
        )
        return planned
    except ConditionFailed:
        now = await table.read(task_id)
        if now and now.attempt == attempt and now.state == states.RUNNING:
            return now  # another delivery won; go on with its plan
        return None


async def _begin_again(worker: Worker, task: Task, ttl: int) -> int:
    """Ready a retry, which keeps its plan, part by part; how many units older attempts collected.

    Its parts begin with what was collected, and what the attempt does not write itself must outlive
    it. Nothing is counted meanwhile: the older attempts are over, and this one does not run yet.
    """
    table, task_id = TaskTable(worker), task.task_id
    assert task.plan_id is not None, "only a task that was planned is retried with its plan"
    kept = 0
    for number, size in enumerate(part_sizes(task.progs_total)):
        numbers = range(part_start(number), part_start(number) + size)
        units = await table.units_of(task, numbers)
        await table.write_units(task_id, task.plan_id, units.items(), ttl, asyncio.sleep)
        progs = await table.read_progs(task_id, numbers)
        part = begun_again(number, task.attempt, size, progs)
        await together(*(table.keep_prog(task_id, at, ttl) for at in sorted(part.finished)))
        await table.begin_part(task_id, part, ttl)
        kept += part.succeeded
    return kept


async def _units(
    worker: Worker, task: Task, symbols: tuple[str, ...], now_ms: int
) -> tuple[Iterator[PlannedUnit], str | None]:
    """The units of a task in order, cut as they are taken, and what people are told of its range.

    Raises PlanTooLarge.
    """
    request = CollectionRequest.unpack(task.request)
    most = worker.settings.max_units
    if request.fill in VERIFYING:
        return iter(await plan_verification(worker, request, symbols)), None
    pairs = [
        (symbol, timeframe) for symbol in symbols for timeframe in request.timeframes_of(symbol)
    ]
    stored = await _stored(worker, task, request, pairs, now_ms)
    found: list[tuple[Pair, Wanted]] = []
    count = 0
    for symbol, timeframe in pairs:
        known = stored.get(symbol, {}).get(timeframe, Summary())
        asked = wanted(
            timeframe,
            now_ms,
            request.start_ms,
            request.end_ms,
            known,
            worker.settings.backfill_candles,
            request.fill,
        )
        found.append(((symbol, timeframe), asked))
        count += asked.window_count
        if count > most:
            raise too_large(count, worker.settings)
    return _cut(found, most - count), notice_of(request, stored)


def _cut(found: list[tuple[Pair, Wanted]], room: int) -> Iterator[PlannedUnit]:
    """The units of what was found; `room`: for windows that are asked for again."""
    for pair, asked in found:
        again = asked.again[:room]  # what finds no room is due in the next run, too
        room -= len(again)
        for window in chain(again, asked.windows):
            yield PlannedUnit(*pair, *window)


async def _symbols(worker: Worker, request: CollectionRequest) -> tuple[str, ...]:
    """The symbols to collect. Raises NoSymbols, ExchangeError."""
    asked = request.symbols
    if asked is not None and is_plain(asked):
        return asked
    table = CatalogueTable(worker)
    catalogue = await table.read_own_catalogue()
    if catalogue is None:
        await refresh_catalogue(worker)
        catalogue = await table.read_own_catalogue()
    volumes = await recent_volumes(worker) if needs_volumes(asked or ()) else {}
    symbols = resolved(asked, catalogue, volumes) if catalogue else ()
    if symbols:
        return symbols
    if asked is None:
        raise NoSymbols("the exchange lists no symbol that trades")
    more = f" and {len(asked) - _MOST_NAMED} more" if len(asked) > _MOST_NAMED else ""
    raise NoSymbols(
        f"no symbol is selected by {', '.join(asked[:_MOST_NAMED])}{more}; without status=, only "
        "symbols that trade are"
    )


async def _stored(
    worker: Worker, task: Task, request: CollectionRequest, pairs: list[Pair], now_ms: int
) -> dict[str, Coverages]:
    """What is stored of the symbols; the first candles of a long range are looked up."""
    stored = await CoverageTable(worker).coverage_of(
        [*dict.fromkeys(symbol for symbol, _ in pairs)]
    )
    if request.start_ms is None:
        return stored

    async def authorised() -> bool:
        now = await TaskTable(worker).read(task.task_id)
        return now is not None and now.is_active and now.attempt == task.attempt

    first, high = lookups(request, pairs, stored, now_ms), task.priority == priorities.HIGH
    await find_listings(worker, first, stored, request.start_ms, authorised, high)
    return stored


async def _refresh(worker: Worker, task: Task) -> None:
    """Do all of a symbol_refresh task: refresh the catalogue, then the prices."""
    task_id, attempt = task.task_id, task.attempt
    if task.state == states.PENDING:
        try:
            task = await TaskTable(worker).move(
                task_id,
                attempt,
                states.RUNNING,
                started_at=worker.now_ms(),
                total_units=1,
                progs_total=0,
                message="Asking the exchange for its symbols",
            )
        except ConditionFailed:
            return
    try:
        accept = CollectionRequest.unpack(task.request).accept_refused
        refreshed = await refresh_catalogue(worker, _asked(task), accept)
        # Prices, too: a new stack has some before the first minute is over.
        await refresh_prices(worker)
    except NotAsked:
        raise  # no failure: the task waits
    except ExchangeError as error:
        await fail_task(worker, task, error.reason, error.detail)
        return
    await _complete_refresh(worker, task_id, attempt, len(refreshed.symbols), refreshed.added)


def _asked(task: Task) -> Asked:
    """Who asked for this attempt: whoever retried the task, else its owner."""
    if task.moved_by is not None:
        return Asked(by=task.moved_by, request_id=task.moved_request_id, task_id=task.task_id)
    return Asked(by=task.owner, request_id=task.request_id, task_id=task.task_id)


async def _complete_refresh(
    backend: Backend, task_id: str, attempt: int, count: int, added: int
) -> None:
    now_ms = backend.now_ms()
    try:
        await TaskTable(backend).move(
            task_id,
            attempt,
            states.COMPLETED,
            remove=("active",),
            completed_at=now_ms,
            message=f"{count} symbols known, {added} of them new",
            result={"units": 1, "succeeded": 1, "failed": 0, "symbols": count, "new": added},
            ttl=expiry(backend),
        )
    except ConditionFailed:
        log("refresh_not_completed", task_id=task_id)
