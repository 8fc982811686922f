"""From a stored request to units and PROG items.

Planning is safe to run twice, and to stop anywhere, because of its order:
1. the units are stored under this plan's own id, so two plans at once never mix;
2. META moves to running with that id: one plan wins, the others go on with the winner's;
3. the first messages are sent (collecting/dispatch.py); dispatch messages ask for the others.
"""

from __future__ import annotations

import uuid

from chalicelib.candles.coverage_table import Coverages, CoverageTable
from chalicelib.candles.summary import Summary
from chalicelib.collecting.dispatch import dispatch
from chalicelib.collecting.ranges import Pair, Wanted, find_listings, is_long, wanted
from chalicelib.collecting.verify import plan_verification
from chalicelib.core.backend import Backend
from chalicelib.core.errors import (
    CollectorError,
    ConditionFailed,
    ExchangeError,
    ExchangeRootChanged,
    NotAsked,
    PlanTooLarge,
    QuotaExceeded,
)
from chalicelib.core.logs import log
from chalicelib.core.symbols import trading
from chalicelib.core.task_keys import CHILD_TTL_SECONDS
from chalicelib.exchange.catalogue_table import Asked, CatalogueTable
from chalicelib.exchange.refresh import refresh_catalogue, refresh_prices
from chalicelib.exchange.worker import Worker
from chalicelib.tasks import states
from chalicelib.tasks.finish import expiry, fail_task, totals
from chalicelib.tasks.message import notice_of
from chalicelib.tasks.quotas import start_within_quota
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.task import Task, TaskValues
from chalicelib.work.messages import VERIFYING, PlanMessage
from chalicelib.work.request import CollectionRequest, too_large
from chalicelib.work.units import PlannedUnit, packs


class NoSymbols(CollectorError):
    reason = "NO_SYMBOLS"


async def plan_task(worker: Worker, message: PlanMessage) -> None:
    """Plan one task and send its first messages, or what an earlier delivery left of that."""
    task = await TaskTable(worker).read(message.task_id)
    if task is None or task.attempt != message.attempt:
        log("plan_outdated", task_id=message.task_id, attempt=message.attempt)
        return
    if not task.is_active:
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
    except (PlanTooLarge, NoSymbols, ExchangeRootChanged, QuotaExceeded) as error:
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
    if task.plan_id is not None:  # a retry keeps its plan, which must outlive it
        for number in range(task.progs_total):
            kept = await table.read_units(task, number)
            await table.write_units(task_id, task.plan_id, {number: kept}, ttl)
        _, progs_kept = await table.read_with_progs(task_id)
        values["kept_units"] = totals(attempt, task.total_units, progs_kept)["succeeded"]
    else:
        units, said = await _units(worker, task, now_ms)
        progs = packs(units)
        plan_id = uuid.uuid4().hex[:12]
        await table.write_units(task_id, plan_id, dict(enumerate(progs)), ttl)
        values |= {
            "plan_id": plan_id,
            "progs_total": len(progs),
            "total_units": sum(map(len, progs)),
            "kept_units": 0,
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


async def _units(worker: Worker, task: Task, now_ms: int) -> tuple[list[PlannedUnit], str | None]:
    """The units of a task in order, and what people are told of its range.

    Raises NoSymbols, PlanTooLarge, ExchangeRootChanged.
    """
    request = CollectionRequest.unpack(task.request)
    most = worker.settings.max_units
    if request.fill in VERIFYING:
        return await plan_verification(worker, request), None
    pairs = [
        (symbol, timeframe)
        for symbol in await _symbols(worker, request)
        for timeframe in request.timeframes_of(symbol)
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
        count += len(asked.windows)
        if count > most:
            raise too_large(count, worker.settings)
    units: list[PlannedUnit] = []
    for pair, asked in found:
        again = asked.again[: most - count]  # what finds no room is due in the next run, too
        count += len(again)
        units += (PlannedUnit(*pair, *window) for window in [*again, *asked.windows])
    return units, notice_of(request, stored)


async def _symbols(worker: Worker, request: CollectionRequest) -> tuple[str, ...]:
    if request.symbols is not None:
        return request.symbols
    catalogue = await CatalogueTable(worker).read_own_catalogue()
    known = catalogue.symbols if catalogue else (await refresh_catalogue(worker)).symbols
    symbols = trading(known)
    if not symbols:
        raise NoSymbols("the exchange lists no symbol that trades")
    return symbols


async def _stored(
    worker: Worker, task: Task, request: CollectionRequest, pairs: list[Pair], now_ms: int
) -> dict[str, Coverages]:
    """What is stored of the symbols; the first candles of a long range are looked up."""
    start_ms = request.start_ms
    stored = await CoverageTable(worker).coverage_of(
        [*dict.fromkeys(symbol for symbol, _ in pairs)]
    )
    if start_ms is None:
        return stored
    end_ms = now_ms if request.end_ms is None else request.end_ms
    long = {timeframe for timeframe in request.timeframes if is_long(timeframe, start_ms, end_ms)}
    looked_up = [pair for pair in pairs if pair[1] in long]

    async def authorised() -> bool:
        now = await TaskTable(worker).read(task.task_id)
        return now is not None and now.is_active and now.attempt == task.attempt

    await find_listings(worker, looked_up, stored, start_ms, authorised)
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
