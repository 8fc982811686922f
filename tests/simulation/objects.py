"""What objects and summaries say they hold, against what the exchange served."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from chalicelib.aws.wire import item_from_wire
from chalicelib.candles import store as candle_store
from chalicelib.candles.candles import Candles
from chalicelib.candles.coverage import Coverage
from chalicelib.candles.coverage_table import coverages_in
from chalicelib.candles.gaps import BEFORE_LISTING
from chalicelib.candles.intervals import Interval, outside, union
from chalicelib.candles.store import CandleStore
from chalicelib.candles.summary import Cell, Seen, Summary, seen, whole
from chalicelib.core import timeframes, times
from tests.doubles.settings import backend_of
from tests.simulation.checks import Violation, may_miss, stored_objects, stored_summaries

if TYPE_CHECKING:
    from tests.simulation.world import World

#: As it is before a mutant may change it.
_OBJECT_KEY = CandleStore.key
#: Kinds of trouble after which a summary may lack what an object holds: nobody came back to it.
_INTERRUPTS = (
    "crash_before_call",
    "crash_after_call",
    "lost_response",
    "call_applied_twice",
    "call_refused",
    "timeout",
)


def check_written(world: World, key: str, before: bytes | None, after: bytes) -> Seen:
    """What is written tells of itself, and takes nothing back. Raises Violation."""
    parts = dict(part.split("=") for part in key.split("/")[1:-1])
    symbol, timeframe = parts["symbol"], parts["timeframe"]
    new, metadata = candle_store.decode(after)
    coverage = Coverage.from_json(metadata["coverage"])
    if not coverage.covered:
        raise Violation("storage", f"{key} covers nothing")
    at_ms = coverage.covered[0].start_ms
    store = CandleStore(backend_of(world.aws, candles_bucket="candles"))
    expected_key = _OBJECT_KEY(store, symbol, timeframe, at_ms)
    if key != expected_key:
        raise Violation("storage", f"{key} should be {expected_key}")
    bounds = [Interval(*timeframes.object_bounds(timeframe, at_ms))]
    if any(outside(*one, bounds) for one in coverage.covered):
        raise Violation("coverage", f"{key} covers more than its stretch: {coverage.covered}")
    if int(metadata["trades"]) != sum(new.columns["trades"]):
        raise Violation("storage", f"{key} has {metadata['trades']} trades, it says")
    _check_covered(world, symbol, timeframe, new.open_times, coverage)
    if before is not None:
        old, was = candle_store.decode(before)
        _check_later(old, new)
        lost = [one for one in _covered(was) if outside(*one, coverage.covered)]
        if lost:
            raise Violation("coverage", f"{key} does not cover {lost} any more")
    return seen(timeframe, at_ms, new, coverage)


def _covered(metadata: dict[str, str]) -> tuple[Interval, ...]:
    return Coverage.from_json(metadata["coverage"]).covered


def _check_later(old: Candles, new: Candles) -> None:
    """Of a candle, an answer that the exchange gave earlier never replaces a later one."""
    answered = dict(zip(new.open_times, new.columns["answered_at"], strict=True))
    for at, ms in zip(old.open_times, old.columns["answered_at"], strict=True):
        if answered.get(at, -1) < ms:
            raise Violation("storage", f"the candle of {at} went back, or is lost")


def _check_covered(
    world: World, symbol: str, timeframe: str, opens: Iterable[int], known: Coverage
) -> None:
    """What is covered is held or a gap, never both; and each gap is one for its reason."""
    exchange, held = world.exchange, set(opens)
    for gap in known.gaps:
        if any(gap.start_ms <= at < gap.end_ms for at in held):
            raise Violation("coverage", f"{symbol} {timeframe} holds candles of {gap}")
        if outside(gap.start_ms, gap.end_ms, known.covered):
            raise Violation("coverage", f"{symbol} {timeframe} was not asked for {gap}")
    for gap in known.certain_gaps(timeframe):
        missed = exchange.closed_opens(timeframe, gap.start_ms, gap.end_ms)
        if not all(may_miss(world, symbol, timeframe, at) for at in missed):
            raise Violation("coverage", f"{symbol} {timeframe} has no gap {gap}")
        since = exchange.closed_opens(timeframe, gap.end_ms - times.DAY, gap.end_ms)
        if gap.reason == BEFORE_LISTING and not all(
            may_miss(world, symbol, timeframe, at) for at in since
        ):
            raise Violation("coverage", f"{symbol} {timeframe} was listed before {gap}")
    for at in held:
        if outside(at, at + 1, known.covered):
            raise Violation("coverage", f"{symbol} {timeframe} holds {at}, which is not covered")
    for low, high in known.covered:
        for at in exchange.closed_opens(timeframe, low, high):
            # Known gaps, and those of which one end is not collected yet.
            if at not in held and not any(gap[0] <= at < gap[1] for gap in known.gaps):
                raise Violation("coverage", f"{symbol} {timeframe} misses {at} silently")


def check_objects(world: World) -> None:
    """Objects and summaries, when everything is at rest. Raises Violation."""
    held: dict[tuple[str, str], list[tuple[Candles, Coverage]]] = {}
    for (symbol, timeframe, _), candles, coverage in stored_objects(world):
        held.setdefault((symbol, timeframe), []).append((candles, coverage))
    for (symbol, timeframe), known in stored_summaries(world).items():
        objects = held.get((symbol, timeframe), [])
        opens = [at for candles, _ in objects for at in candles.open_times]
        together = whole(timeframe, known, (coverage for _, coverage in objects))
        _check_covered(world, symbol, timeframe, opens, together)
        for name, at in (("first", known.first), ("last", known.last), ("listed", known.listed)):
            early = at is not None and name == "listed" and opens and at > min(opens)
            if early or (at is not None and name != "listed" and at not in opens):
                raise Violation("summary", f"{symbol} {timeframe}: {name} is {at}")
    _check_summaries(world)
    if not any(world.faults.seen[kind] for kind in _INTERRUPTS):
        _check_newest(world)


def _check_summaries(world: World) -> None:
    """A summary says of an object what the object has said, and never something older again."""
    reached: dict[tuple[str, str, int], int] = {}
    for record in world.aws.dynamodb.tables["market"].stream:
        image = record["dynamodb"].get("NewImage")
        if image is None or not image["pk"]["S"].startswith("COVER#"):
            continue
        symbol = image["sk"]["S"]
        for timeframe, known in coverages_in(item_from_wire(image)).items():
            for cell in known.cells:
                which = symbol, timeframe, cell.start_ms
                states = world.written.get(which, [])
                later = [
                    number
                    for number in range(reached.get(which, 0), len(states))
                    if _says(known, cell, states[number])
                ]
                if not later:
                    raise Violation("summary", f"{which} never was, or is older than before")
                reached[which] = later[0]
            _check_claims(world, symbol, timeframe, known)


def _says(known: Summary, cell: Cell, state: Seen) -> bool:
    """Whether the summary says what the object said then."""
    begin = max(state.bounds.start_ms, known.listed or 0)
    claimed = [
        Interval(max(low, begin), min(high, state.bounds.end_ms)) for low, high in known.covered
    ]
    more = [one for one in union(claimed) if outside(*one, state.covered)]
    return cell == state.cell and not more


def _check_claims(world: World, symbol: str, timeframe: str, known: Summary) -> None:
    """Where a summary has no object, nothing is covered but what lies before the listing."""
    objects = [
        Interval(*timeframes.object_bounds(timeframe, cell.start_ms)) for cell in known.cells
    ]
    for one in known.covered:
        for part in outside(*one, objects):
            if known.listed is None or part.end_ms > known.listed:
                raise Violation("summary", f"{symbol} {timeframe} has no object for {part}")


def _check_newest(world: World) -> None:
    """Where nobody was interrupted, each summary says what its objects say now."""
    cells = {
        (symbol, timeframe, cell.start_ms): (known, cell)
        for (symbol, timeframe), known in stored_summaries(world).items()
        for cell in known.cells
    }
    for which, states in world.written.items():
        if which not in cells or not _says(*cells[which], states[-1]):
            raise Violation("summary", f"{which} is not what its object says: {states[-1]}")
