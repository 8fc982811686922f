"""Promised freshness: measured every minute, reported, and repaired where a promise is broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from chalicelib.aws.item_table import readable
from chalicelib.candles.coverage_table import CoverageTable
from chalicelib.candles.lag import Lag, Stored, lag_of
from chalicelib.core import metrics
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed, QuotaExceeded
from chalicelib.core.logs import log
from chalicelib.core.symbols import TRADING
from chalicelib.exchange.catalogue_table import Catalogue, CatalogueTable
from chalicelib.exchange.volume_table import VolumeTable
from chalicelib.schedules import firings
from chalicelib.schedules.schedule import MeasuredLag, Schedule
from chalicelib.schedules.table import ScheduleTable
from chalicelib.tasks import states
from chalicelib.tasks.selection import resolved
from chalicelib.tasks.submit import submit
from chalicelib.tasks.table import TaskTable
from chalicelib.work import priorities
from chalicelib.work.request import CollectionRequest
from chalicelib.work.selector import is_plain, needs_volumes

#: A repair that did not help is tried again after a minute, then two, four, ... up to an hour. It
#: may never help: the exchange may not have candles of the symbol.
_FIRST_WAIT_MS, _LONGEST_WAIT_MS = 60_000, 3_600_000


async def measure_freshness(backend: Backend, request_id: str) -> int:
    """Measure every schedule with a promise; returns how many failed.

    The metric of a timeframe is the worst over all schedules.
    """
    watched, _ = await ScheduleTable(backend).watched()
    promised, odd = readable(
        lambda schedule: (schedule, CollectionRequest.unpack(schedule.request)),
        (each for each in watched if each.enabled and each.max_lag_seconds is not None),
    )
    if not promised:
        return len(odd)
    catalogue = await CatalogueTable(backend).read_catalogue() or Catalogue({}, 0, 0)
    volumes: Mapping[str, float] = {}
    if any(needs_volumes(request.symbols or ()) for _, request in promised):
        volumes = (await VolumeTable(backend).read()).volumes
    wanted = [_symbols(request, catalogue, volumes) for _, request in promised]
    stored = await CoverageTable(backend).coverage_of(
        sorted({name for names in wanted for name in names})
    )
    worst: dict[str, int] = {}
    failed, broken = len(odd), 0
    for (schedule, request), symbols in zip(promised, wanted, strict=True):
        lag = _lag(schedule, request, symbols, stored, backend.now_ms())
        for timeframe, ms in lag.worst.items():
            worst[timeframe] = max(ms, worst.get(timeframe, 0))
        broken += bool(lag.behind)
        try:
            await _report(backend, schedule, lag)
            await _judge(backend, schedule, lag, request_id)
        except ConditionFailed:  # changed meanwhile; the next minute measures again
            continue
        except QuotaExceeded as error:  # the next repair is due after a while, as if it had failed
            schedule_id = schedule.schedule_id
            log("repair_refused", level="warning", schedule_id=schedule_id, error=error.detail)
        except CallFailed as error:
            failed += 1
            schedule_id = schedule.schedule_id
            log("freshness_failed", level="error", schedule_id=schedule_id, error=error.detail)
    for timeframe, ms in sorted(worst.items()):
        metrics.measure("FreshnessLag", ms / 1000, Timeframe=timeframe)
    metrics.measure("FreshnessBroken", broken)
    return failed


def _symbols(
    request: CollectionRequest, catalogue: Catalogue, volumes: Mapping[str, float]
) -> tuple[str, ...]:
    """The symbols that are promised. Halted and delisted ones get no new candles: left out.

    The largest ones are known once a run has asked for volumes; until then none are promised.
    """
    symbols, known = request.symbols, catalogue.known
    if symbols is not None and needs_volumes(symbols) and not volumes:
        return ()
    if symbols is None or not is_plain(symbols):
        symbols = resolved(symbols, catalogue, volumes)
    return tuple(name for name in symbols if known.get(name, TRADING) == TRADING)


def _lag(
    schedule: Schedule,
    request: CollectionRequest,
    symbols: tuple[str, ...],
    stored: Stored,
    now_ms: int,
) -> Lag:
    most_ms = (schedule.max_lag_seconds or 0) * 1000
    return lag_of(symbols, request.timeframes, stored, schedule.created_at, most_ms, now_ms)


async def _report(backend: Backend, schedule: Schedule, lag: Lag) -> None:
    seconds = {timeframe: ms // 1000 for timeframe, ms in lag.worst.items()}
    measured = MeasuredLag(
        lag_seconds=max(seconds.values(), default=0),
        timeframes=seconds,
        behind=sum(map(len, lag.behind.values())),
        measured_at=backend.now_ms(),
    )
    await ScheduleTable(backend).write_lag(schedule, measured)


async def _judge(backend: Backend, schedule: Schedule, lag: Lag, request_id: str) -> None:
    """Note when a promise is broken or kept again; collect exactly what is behind."""
    if not lag.behind:
        if schedule.breached_since is not None:
            kept = replace(schedule, breached_since=None, repairs=0)
            await ScheduleTable(backend).replace(schedule, kept)
        return
    new = schedule
    if schedule.breached_since is None:
        new = replace(
            schedule,
            breached_since=backend.now_ms(),
            breaches=schedule.breaches + 1,
            repairs=0,
        )
    repairing = await _may_repair(backend, new)
    if repairing:
        new = replace(new, repairs=new.repairs + 1, last_repair_at=backend.now_ms())
        new = replace(new, last_repair_task_id=firings.repair_id_of(new))
    if new is schedule:
        return
    await ScheduleTable(backend).replace(schedule, new)
    if new.breaches > schedule.breaches:
        metrics.count("FreshnessBreaches")
    if repairing:
        await _repair(backend, new, lag, request_id)


async def _may_repair(backend: Backend, schedule: Schedule) -> bool:
    """Not while the last repair runs, and not again and again where it does not help."""
    if schedule.last_repair_task_id is not None:
        task = await TaskTable(backend).read(schedule.last_repair_task_id)
        if task and task.is_active:
            return False
    tried = schedule.repairs
    if not tried or schedule.last_repair_at is None:
        return True
    wait_ms = min(_FIRST_WAIT_MS << min(tried - 1, 10), _LONGEST_WAIT_MS)
    return backend.now_ms() - schedule.last_repair_at >= wait_ms


async def _repair(backend: Backend, schedule: Schedule, lag: Lag, request_id: str) -> None:
    behind = {frame for frames in lag.behind.values() for frame in frames}
    promised = CollectionRequest.unpack(schedule.request).timeframes
    request = CollectionRequest(
        symbols=tuple(lag.behind),
        timeframes=tuple(frame for frame in promised if frame in behind),
        priority=priorities.HIGH,
        only={symbol: list(frames) for symbol, frames in lag.behind.items()},
    )
    await submit(
        backend,
        states.DATA_COLLECTION,
        request,
        owner=schedule.owner,
        request_id=request_id,
        task_id=schedule.last_repair_task_id,
        source=states.BY_FRESHNESS,
        schedule_id=schedule.schedule_id,
    )
    log(
        "freshness_breached",
        level="warning",
        schedule_id=schedule.schedule_id,
        task_id=schedule.last_repair_task_id,
        behind=sum(map(len, lag.behind.values())),
    )
