"""Collecting a group: some units of one symbol that are fetched, stored and counted together.

Counting is the caller's (collecting/collect.py); a group says what there is to count.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chalicelib.candles.coverage_table import Coverages, CoverageTable, Known
from chalicelib.candles.intervals import Interval
from chalicelib.candles.store import CandleStore
from chalicelib.candles.summary import Seen, Summary, seen
from chalicelib.collecting.fetch import SHORT_WAIT_MS, Fetched, fetch
from chalicelib.collecting.gate import Gate, Withheld
from chalicelib.collecting.needs import needs_of
from chalicelib.collecting.store import Result, failure, store
from chalicelib.collecting.verify import verify
from chalicelib.core.backend import Backend
from chalicelib.core.errors import ExchangeThrottled, ExchangeUnavailable, ObjectDamaged
from chalicelib.core.logs import log
from chalicelib.core.together import together
from chalicelib.exchange.binance import Permit
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.worker import Worker
from chalicelib.work.messages import VERIFYING, Unit

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


@dataclass
class _Looked:
    """What is known of units before anything is asked for, by their number.

    `needs`: of those that need anything: the stretches to ask for, and of these what is `wanted`;
    `results`: of the others.
    `damaged`: the ETag of an object that is to be overwritten. `behind`: by timeframe and start:
    objects whose last write no summary tells of.
    """

    needs: dict[int, Sequence[Interval]] = field(default_factory=dict)
    wanted: dict[int, Sequence[Interval]] = field(default_factory=dict)
    results: dict[int, Result] = field(default_factory=dict)
    damaged: dict[int, str | None] = field(default_factory=dict)
    behind: dict[tuple[str, int], Seen] = field(default_factory=dict)

    def note(self, number: int, stretches: Sequence[Interval], otherwise: Result) -> None:
        """Note what a unit needs, or what came of it where it needs nothing."""
        if stretches:
            self.needs[number] = stretches
        else:
            self.results[number] = otherwise


async def collect_units(
    worker: Worker,
    budget: Budget,
    symbol: str,
    units: Sequence[Unit],
    *,
    fill: str,
    task_id: str,
    authorised: Callable[[], Coroutine[Any, Any, bool]],
    remaining_ms: Callable[[], int],
    high: bool = False,
) -> Group:
    """Fetch, check and store what some units of one symbol need, with what that covers.

    `fill`: as in work/messages.py. `authorised` is asked before requests leave: does the task still
    want its units? `high`: whether its priority is.
    """
    known = await CoverageTable(worker).read(symbol)
    summaries = known.summaries
    looked = await _looked_at(worker, symbol, units, fill, summaries, remaining_ms)
    gate = Gate(budget, authorised, remaining_ms, high)
    asking = [unit for unit in units if unit.number in looked.needs]
    fetched = await fetch(worker, budget, symbol, asking, gate, looked.needs, summaries)
    withheld = gate.withheld
    whole: list[Unit] = []
    if withheld is None or not (withheld.stopped or withheld.out_of_time):
        whole = [unit for unit in asking if fetched.is_whole(unit)]
    stored = await _store_all(worker, symbol, whole, fetched, task_id, known, looked)
    return Group(
        results={number: failure(error) for number, error in fetched.refused.items()}
        | stored
        | looked.results,
        unavailable=fetched.unavailable,
        stopped=withheld is not None and withheld.stopped,
        wait_until_ms=_wait_until_ms(worker, withheld),
        permit=gate.permit,
    )


async def _looked_at(
    worker: Worker,
    symbol: str,
    units: Sequence[Unit],
    fill: str,
    known: Coverages,
    remaining_ms: Callable[[], int],
) -> _Looked:
    """Look at what is stored of units, before anything is asked for."""
    looked = _Looked()
    if fill in VERIFYING:
        verdicts = await verify(worker, symbol, units, fill, remaining_ms)
        for number, verdict in verdicts.items():
            looked.note(number, verdict.needs, verdict.result)
            looked.damaged[number] = verdict.damaged
        return looked
    for unit in units:
        summary = known.get(unit.timeframe, Summary())
        try:
            needs = await needs_of(worker, symbol, unit, fill, summary)
        except ObjectDamaged as error:
            looked.results[unit.number] = failure(error)
            continue
        looked.note(unit.number, needs.stretches, Result(from_store=True))
        looked.wanted[unit.number] = needs.wanted
        looked.behind |= {(unit.timeframe, one.cell.start_ms): one for one in needs.behind}
    return looked


def _wait_until_ms(backend: Backend, withheld: Withheld | None) -> int:
    """When the units that are left may go on; 0 for at once."""
    if withheld is None:
        return 0
    # Long enough that they go on in another invocation.
    return backend.now_ms() + SHORT_WAIT_MS + 1000 if withheld.out_of_time else withheld.until_ms


async def _store_all(
    backend: Backend,
    symbol: str,
    units: Sequence[Unit],
    fetched: Fetched,
    task_id: str,
    known: Known,
    looked: _Looked,
) -> dict[int, Result]:
    """Store units whose stretches are all proven, and enter their objects in the summaries, with
    those that the summaries were behind of."""
    if not units and not looked.behind:
        return {}
    found = [fetched.found(unit)._replace(wanted=looked.wanted.get(unit.number)) for unit in units]
    stored = await together(
        *(
            store(
                backend,
                symbol,
                unit,
                each,
                task_id,
                known.summaries.get(unit.timeframe, Summary()),
                looked.damaged.get(unit.number),
            )
            for unit, each in zip(units, found, strict=True)
        )
    )
    entered = looked.behind | {
        (unit.timeframe, one.cell.start_ms): one
        for unit, each in zip(units, stored, strict=True)
        for one in each.objects
    }

    async def changed(summaries: Coverages) -> Coverages:
        """Called again after a race: another worker may have written some of the objects meanwhile,
        and what it said of them is not what was known of them before they were read."""
        after = dict(summaries)
        for (timeframe, start_ms), one in entered.items():
            before, now = (
                each.get(timeframe, Summary()).told_of(one.bounds)
                for each in (known.summaries, summaries)
            )
            if now != before:
                one = await _as_it_is(backend, symbol, timeframe, start_ms)
            after[timeframe] = after.get(timeframe, Summary()).with_object(one)
        for unit, each in zip(units, found, strict=True):
            if each.listed_ms is not None or each.looked_up_ms is not None:
                summary = after.get(unit.timeframe, Summary())
                since_ms = each.asked[0].start_ms
                after[unit.timeframe] = summary.with_listing(
                    each.listed_ms, each.looked_up_ms, since_ms
                )
        return after

    await CoverageTable(backend).record(symbol, known, changed)
    return {unit.number: each.result for unit, each in zip(units, stored, strict=True)}


async def _as_it_is(backend: Backend, symbol: str, timeframe: str, start_ms: int) -> Seen:
    held = await CandleStore(backend).read(symbol, timeframe, start_ms)
    return seen(timeframe, start_ms, held.candles, held.coverage)


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
    except ExchangeThrottled as error:
        until_ms = await Ledger(worker).throttle(error, worker.now_ms())
        return replace(group, wait_until_ms=until_ms, unavailable={})
    if not is_up:
        until_ms = worker.now_ms() + DOWN_PAUSE_MS
        await Ledger(worker).pause(until_ms, "the exchange does not answer")
        log("exchange_down", level="warning", until=until_ms)
        return replace(group, wait_until_ms=until_ms, unavailable={})
    if deliveries < MOST_DELIVERIES:
        return group
    failed = {number: failure(error) for number, error in group.unavailable.items()}
    return replace(group, results={**group.results, **failed}, unavailable={})
