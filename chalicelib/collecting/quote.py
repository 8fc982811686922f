"""What a request would take, before it is started: POST /start with `dry_run`. Nothing is stored.

The windows are those that the plan would cut, by the same functions (collecting/load.py), from the
summaries as they are now. Symbols with equal summaries are counted once, so that the first run of
thousands costs no more than that of one. Calls to AWS: three, one for each hundred symbols, one
where tasks are active, and one for `top=`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from chalicelib.aws import prices
from chalicelib.candles.coverage_table import Coverages, CoverageTable
from chalicelib.candles.summary import Summary
from chalicelib.collecting.cost import LOOKUP_REQUESTS, Ahead, seconds_of, used_by
from chalicelib.collecting.load import GROUP_MS, REQUEST_MS, SOURCES, Load, load_of
from chalicelib.collecting.ranges import lookups
from chalicelib.core.backend import Backend
from chalicelib.core.symbols import DELISTED
from chalicelib.core.times import FOREVER_MS, iso
from chalicelib.exchange.catalogue_table import Catalogue, CatalogueTable
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.ledger_state import LedgerState, next_minute_ms
from chalicelib.exchange.share import Allowance, weight_limits
from chalicelib.exchange.volume_table import VolumeTable
from chalicelib.exchange.weights import IN_FLIGHT, KLINES_WEIGHT
from chalicelib.tasks import states
from chalicelib.tasks.selection import resolved
from chalicelib.tasks.table import TaskTable
from chalicelib.work import priorities
from chalicelib.work.request import CollectionRequest, parse_start, too_large, unknown_in
from chalicelib.work.selector import is_plain, needs_volumes

_OF_SOURCE = ("windows", "requests", "weight", "candles")
#: Active tasks whose remaining units are counted.
_MOST_TASKS = 100
#: What one candle takes in an object, and an object besides (docs/BENCHMARKS.md, objects).
_CANDLE_BYTES, _OBJECT_BYTES = 44, 3_000

View = dict[str, Any]


async def quote(backend: Backend, body: object, global_figures: bool) -> View:
    """The answer of a POST /start body that asks for a quote.

    `global_figures`: whether the caller may know what others use. Raises what submitting it would:
    InvalidRequest, PlanTooLarge, ExchangeRootChanged. Symbols that may be new are no error here.
    """
    now_ms = backend.now_ms()
    catalogue = await CatalogueTable(backend).read_own_catalogue()
    known = catalogue.known if catalogue else None
    unknown = unknown_in(body, known)
    new = {*unknown}
    listed = None if known is None else {**known, **dict.fromkeys(unknown, "")}
    request = parse_start(body, listed, backend.settings, now_ms)
    chosen = await _chosen(backend, request.symbols, catalogue)
    named = tuple(symbol for symbol in chosen if symbol not in new)
    stored = await CoverageTable(backend).coverage_of([*named])
    load = _load(backend, request, named, stored, now_ms)
    asked_first = _lookups(request, named, stored, now_ms)
    ledger = await Ledger(backend).read()
    ahead, others = await _ahead(backend, request, ledger, catalogue)
    used = used_by(load, asked_first)
    requests = load.of_all("requests") + asked_first * LOOKUP_REQUESTS
    weight = load.of_all("weight") + asked_first * LOOKUP_REQUESTS * KLINES_WEIGHT
    new_bytes = load.figures["fresh"] * _CANDLE_BYTES + load.figures["objects"] * _OBJECT_BYTES
    delisted = [each for each in named if (known or {}).get(each) == DELISTED]
    return {
        "dry_run": True,
        "symbols": len(named),
        "timeframes": list(request.timeframes),
        "units": {
            "total": min(load.figures["units"], backend.settings.max_units),
            "from_store": load.figures["from_store"],
        },
        "sources": {
            source: {what: load.sources[source, what] for what in _OF_SOURCE} for source in SOURCES
        },
        "requests": requests,
        "weight": weight,
        "candles": load.figures["candles"],
        "bytes_stored": new_bytes,
        "seconds": seconds_of(load, weight, asked_first, ahead, now_ms),
        "budget": {
            "limit": ahead.budget.limit,
            "left": ahead.budget.left,
            "resets_at": iso(next_minute_ms(now_ms)),
            "workers": ahead.workers,
            "weight_of_other_tasks": ahead.weight,
        }
        if global_figures
        else None,
        "aws": used,
        "dollars": round(prices.dollars(used), 6),
        "storage_dollars_per_month": round(new_bytes / 1e9 * prices.S3_GB_MONTH, 6),
        "prices": {
            "as_of": prices.AS_OF,
            "region": prices.REGION,
            "source": prices.SOURCE,
            "dollars": dict(prices.OF),
        },
        "unknown_symbols": unknown,
        "delisted_symbols": delisted,
        "assumptions": _assumptions(request, named, stored, catalogue, ledger, others, now_ms),
    }


async def _chosen(
    backend: Backend, asked: tuple[str, ...] | None, catalogue: Catalogue | None
) -> tuple[str, ...]:
    """The symbols that a plan would find now, with the volumes that were stored last."""
    if asked is not None and is_plain(asked):
        return asked
    sizes = (await VolumeTable(backend).read()).volumes if needs_volumes(asked or ()) else {}
    return resolved(asked, catalogue, sizes) if catalogue else ()


def _load(
    backend: Backend,
    request: CollectionRequest,
    symbols: Sequence[str],
    stored: Mapping[str, Coverages],
    now_ms: int,
) -> Load:
    """What all symbols take together. Raises PlanTooLarge as the plan does: units for gaps alone
    are left out where there are too many."""
    seen: dict[tuple[object, ...], tuple[Load, int]] = {}
    figures: Counter[str] = Counter()
    sources: Counter[tuple[str, str]] = Counter()
    messages: list[int] = []
    busy_ms = longest_ms = again = 0
    for symbol in symbols:
        known = stored.get(symbol, {})
        frames = request.timeframes_of(symbol)
        alike = (*frames, *sorted(known.items()))
        if alike not in seen:
            seen[alike] = load_of(
                request,
                frames,
                known,
                backend.settings.backfill_candles,
                now_ms,
                has_archive=bool(backend.settings.archive_root),
            )
        one, for_gaps = seen[alike]
        again += for_gaps
        figures.update(one.figures)
        if figures["units"] - again > backend.settings.max_units:
            raise too_large(figures["units"] - again, backend.settings)
        sources.update(one.sources)
        messages += one.messages
        busy_ms, longest_ms = busy_ms + one.busy_ms, max(longest_ms, one.longest_ms)
    return Load(figures, sources, (*messages,), busy_ms, longest_ms)


def _lookups(
    request: CollectionRequest,
    symbols: Sequence[str],
    stored: Mapping[str, Coverages],
    now_ms: int,
) -> int:
    """How many first candles the plan looks up."""
    pairs = [
        (symbol, timeframe) for symbol in symbols for timeframe in request.timeframes_of(symbol)
    ]
    return len(lookups(request, pairs, stored, now_ms))


async def _ahead(
    backend: Backend, request: CollectionRequest, ledger: LedgerState, catalogue: Catalogue | None
) -> tuple[Ahead, int]:
    """What stands before the request, and how many active tasks that is."""
    now_ms = backend.now_ms()
    rows, _ = await TaskTable(backend).first_active()
    before = priorities.PRIORITIES[: priorities.PRIORITIES.index(request.priority) + 1]
    rows = [
        row
        for row in rows
        if row.is_active and row.task_type == states.DATA_COLLECTION and row.priority in before
    ]
    tasks = await TaskTable(backend).read_all(row.task_id for row in rows[:_MOST_TASKS])
    # Of a part, what is finished is known from the item; what is open counts in full.
    units = sum(max(0, task.total_units - task.kept_units) for task in tasks.values())
    hold = ledger.hold_at(now_ms)
    limits = weight_limits(catalogue, backend.settings)
    ends = [ledger.paused_until]
    if hold is not None and hold.until_ms < FOREVER_MS:
        ends.append(hold.until_ms)
    ahead = Ahead(
        weight=units * KLINES_WEIGHT,
        waits_ms=max(0, max(ends) - now_ms),
        workers=priorities.workers_of(request.priority, backend.settings.collectors),
        budget=Allowance(
            ledger.spent_at(now_ms, limits), limits, request.priority == priorities.HIGH
        ),
    )
    return ahead, len(rows)


def _assumptions(
    request: CollectionRequest,
    symbols: Sequence[str],
    stored: Mapping[str, Coverages],
    catalogue: Catalogue | None,
    ledger: LedgerState,
    others: int,
    now_ms: int,
) -> list[str]:
    """What the figures take for granted, in sentences."""
    said = [
        f"a request takes {REQUEST_MS} ms, and {IN_FLIGHT} of a worker are in flight at once; "
        f"storing and counting takes {GROUP_MS} ms",
        "the exchange has a candle for each place in the range that was never asked for; what "
        "comes of gaps that are asked for again is not counted",
    ]
    if catalogue is None:
        said.append("the list of symbols was never read: only named symbols are counted")
    unlisted = sum(
        (known := stored.get(symbol, {}).get(timeframe, Summary())).listed is None
        and (request.start_ms is not None or known.last is None)
        for symbol in symbols
        for timeframe in request.timeframes_of(symbol)
    )
    if unlisted:
        said.append(
            f"of {unlisted} symbols and timeframes it is not known when the first candle opened: "
            "all of the range is counted; where they begin within it, fewer candles come, and "
            "finding that takes up to four requests of each"
        )
    if others:
        said.append(
            f"the {others} active tasks of the same or a higher priority go first, with one "
            "request for each unit left; what unplanned tasks take is not known"
        )
    if others > _MOST_TASKS:
        said.append(f"of the active tasks, the {_MOST_TASKS} oldest are counted")
    hold = ledger.hold_at(now_ms)
    if hold is not None and hold.until_ms >= FOREVER_MS:
        said.append("requests are paused until a person resumes them: that time is not counted")
    return said
