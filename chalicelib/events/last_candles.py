"""The last candles of symbols that trade no more: collected at once, while the exchange has them.

The Market table's stream brings each change of the catalogue until it was handled. The task's id
follows from the catalogue's revision, so one task is made of it, however often the change comes.
"""

from __future__ import annotations

import uuid

from chalicelib.audit.table import AuditTable
from chalicelib.aws.stream import Change
from chalicelib.candles.coverage_table import CoverageTable
from chalicelib.core.backend import Backend
from chalicelib.core.logs import log
from chalicelib.core.symbols import TRADING
from chalicelib.core.timeframes import LENGTH_MS
from chalicelib.exchange.catalogue_table import CatalogueChange, catalogue_change
from chalicelib.tasks import states
from chalicelib.tasks.submit import submit
from chalicelib.work.request import CollectionRequest

_NAMESPACE = uuid.UUID("0f1d2c55-2f0e-4c1b-9a83-6c0e0f6a4d27")


async def collect_last_candles(backend: Backend, change: Change) -> None:
    """Start one task for the symbols that have stopped trading with a change of the catalogue, in
    the timeframes that are held of them; nothing for any other change.

    Safe to repeat. Raises CallFailed.
    """
    catalogue = catalogue_change(change)
    stopped = [] if catalogue is None else stopped_in(catalogue)
    if catalogue is None or not stopped:
        return
    held = await _held(backend, stopped)
    task_id = _task_id(catalogue)
    # A change that was set aside may come weeks later, when the task has expired.
    if not held or await AuditTable(backend).owner_of_task(task_id) is not None:
        return
    frames = {timeframe for timeframes in held.values() for timeframe in timeframes}
    request = CollectionRequest(
        symbols=tuple(held),
        timeframes=tuple(timeframe for timeframe in LENGTH_MS if timeframe in frames),
        only=held,
    )
    await submit(
        backend,
        states.DATA_COLLECTION,
        request,
        owner=states.SHARED_OWNER,
        request_id=change.sequence,
        task_id=task_id,
        source=states.BY_DELISTING,
        counts=False,  # the collector's own work
    )
    log("last_candles_collected", task_id=task_id, symbols=len(held))


def stopped_in(catalogue: CatalogueChange) -> list[str]:
    """The symbols that traded before a change, and do not after it: halted or not listed. Pure."""
    before, after = catalogue.before, catalogue.after
    return sorted(
        symbol
        for symbol, status in before.items()
        if status == TRADING and after.get(symbol) != TRADING
    )


async def _held(backend: Backend, symbols: list[str]) -> dict[str, list[str]]:
    """symbol -> the timeframes of which candles are stored, where there are any."""
    stored = await CoverageTable(backend).coverage_of(symbols)
    held = {
        symbol: [timeframe for timeframe, known in sorted(coverages.items()) if known.covered]
        for symbol, coverages in sorted(stored.items())
    }
    return {symbol: timeframes for symbol, timeframes in held.items() if timeframes}


def _task_id(catalogue: CatalogueChange) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{catalogue.exchange}#{catalogue.refreshed_at}"))
