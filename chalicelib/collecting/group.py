"""Collecting a group: some units of one symbol that are fetched, stored and counted together.

Counting is the caller's (collecting/collect.py); a group says what there is to count.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from chalicelib.candles.coverage import CoveredPart
from chalicelib.candles.coverage_table import Coverages, CoverageTable
from chalicelib.collecting.fetch import SHORT_WAIT_MS, Fetched, fetch
from chalicelib.collecting.gate import Gate, Withheld
from chalicelib.collecting.store import Result, Stored, failure, store
from chalicelib.core.backend import Backend
from chalicelib.core.errors import ExchangeUnavailable
from chalicelib.core.logs import log
from chalicelib.core.together import together
from chalicelib.exchange.binance import Permit
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.worker import Worker
from chalicelib.work.messages import Unit

#: How long the fleet pauses where the exchange does not even answer a ping.
DOWN_PAUSE_MS = 15_000
#: After this many deliveries a unit in transient trouble fails with its reason. The queue's
#: maxReceiveCount is one more: dead letters are for crashes.
MOST_DELIVERIES = 4


@dataclass(frozen=True)
class Group:
    """What came of some units, by their number.

    A unit with neither a result nor trouble was not finished: it is left for later. `stopped`: the
    task does not want its units any more; `wait_until_ms`: go on then, 0 for at once. `permit`: for
    requests that this group still needs.
    """

    results: Mapping[int, Result]
    unavailable: Mapping[int, ExchangeUnavailable]
    stopped: bool
    wait_until_ms: int
    permit: Permit


async def collect_units(
    worker: Worker,
    budget: Budget,
    symbol: str,
    units: Sequence[Unit],
    *,
    task_id: str,
    authorised: Callable[[], Awaitable[bool]],
    remaining_ms: Callable[[], int],
) -> Group:
    """Fetch, check and store some units of one symbol, and record what they cover.

    `authorised` is asked before requests leave: does the task still want its units?
    """
    gate = Gate(budget, authorised, remaining_ms)
    fetched = await fetch(worker, budget, symbol, units, gate)
    withheld = gate.withheld
    stored = {}
    if withheld is None or not (withheld.stopped or withheld.out_of_time):
        stored = await _store_all(worker, symbol, units, fetched, task_id)
    return Group(
        results={number: failure(error) for number, error in fetched.refused.items()}
        | {number: result for number, (result, _) in stored.items()},
        unavailable=fetched.unavailable,
        stopped=withheld is not None and withheld.stopped,
        wait_until_ms=_wait_until_ms(worker, withheld),
        permit=gate.permit,
    )


def _wait_until_ms(backend: Backend, withheld: Withheld | None) -> int:
    """When the units that are left may go on; 0 for at once."""
    if withheld is None:
        return 0
    # Long enough that they go on in another invocation.
    return backend.now_ms() + SHORT_WAIT_MS + 1000 if withheld.out_of_time else withheld.until_ms


async def _store_all(
    backend: Backend, symbol: str, units: Sequence[Unit], fetched: Fetched, task_id: str
) -> dict[int, Stored]:
    """Store the units whose pages are all there, and record what they cover."""
    whole = [unit for unit in units if fetched.is_whole(unit)]
    results: dict[int, Stored] = {}

    async def collected(known: Coverages) -> list[CoveredPart]:
        """Called again after a race: what is absent may have been stored meanwhile."""
        again = [
            unit for unit in whole if unit.number not in results or results[unit.number].is_gappy
        ]
        stored = await together(
            *(store(backend, symbol, unit, fetched.found(unit), task_id, known) for unit in again)
        )
        for unit, one in zip(again, stored, strict=True):
            # What was stored and revised the first time counts.
            first = results.get(unit.number, one)
            results[unit.number] = first._replace(part=first.part and one.part)
        return [part for _, part in results.values() if part is not None]

    if whole:
        await CoverageTable(backend).extend_coverage(symbol, collected, backend.now_ms())
    return results


async def judged(worker: Worker, group: Group, deliveries: int) -> Group:
    """The group with its transient trouble judged.

    Where the exchange is down, the fleet pauses and the group waits. Where this is the last
    delivery, the units fail. Else they stay in trouble, and another delivery may help.
    """
    if not group.unavailable:
        return group
    try:
        is_up = await worker.exchange.is_up(group.permit)
    except Withheld as why:
        return replace(
            group,
            stopped=why.stopped,
            wait_until_ms=_wait_until_ms(worker, why),
            unavailable={},
        )
    if not is_up:
        until_ms = worker.now_ms() + DOWN_PAUSE_MS
        await Ledger(worker).pause(until_ms, "the exchange does not answer")
        log("exchange_down", level="warning", until=until_ms)
        return replace(group, wait_until_ms=until_ms, unavailable={})
    if deliveries < MOST_DELIVERIES:
        return group
    failed = {number: failure(error) for number, error in group.unavailable.items()}
    return replace(group, results={**group.results, **failed}, unavailable={})
