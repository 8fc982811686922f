"""Verifying stored objects: damage of every kind is found, and mended where that is asked for."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.candles.candles import Candles
from chalicelib.candles.codec import decode, encode
from chalicelib.candles.coverage import Coverage, CoveredPart
from chalicelib.candles.coverage_table import CoverageTable
from chalicelib.candles.gaps import NO_CANDLE, Gap
from chalicelib.candles.intervals import Interval
from chalicelib.candles.store import CandleStore
from chalicelib.candles.summary import Summary
from chalicelib.collecting.verify import damage_in
from chalicelib.core.errors import InvalidRequest
from chalicelib.core.times import DAY, HOUR, iso
from chalicelib.tasks.submit import submit_collection, submit_verification
from chalicelib.tasks.view import view_task
from tests.doubles.candles import append
from tests.doubles.coverage import coverage_of, summary_of
from tests.doubles.fleet import Fleet

SYMBOL = "BTCUSDT"
HOURS = 30
Spoil = Callable[[Candles, Coverage, dict[str, str]], tuple[Candles, Coverage, dict[str, str]]]


@pytest.fixture
def start(clock: Any) -> int:
    """Inside one object: no year begins in it."""
    return int(clock() // DAY * DAY - 4 * DAY)


@pytest.fixture
def key(run: Any, worker: Any, fleet: Fleet, exchange: Any, start: int) -> str:
    """The one object that was collected, with a gap in it."""
    exchange.outage = {start + 7 * HOUR}
    body = {"symbols": [SYMBOL], "timeframes": ["1h"], "start": iso(start)}
    run(submit_collection(worker, {**body, "end": iso(start + HOURS * HOUR)}, "me", "r"))
    run(fleet.settle())
    return CandleStore(worker).key(SYMBOL, "1h", start)


def verified(run: Any, worker: Any, fleet: Fleet, **more: Any) -> dict[str, Any]:
    task_id = run(submit_verification(worker, {"symbols": [SYMBOL], **more}, "me", "r"))
    run(fleet.settle())
    return dict(run(view_task(worker, task_id)))


def reasons(task: dict[str, Any]) -> list[str]:
    return [failure["reason"] for failure in task["failures"]]


def stored(worker: Any) -> dict[str, bytes]:
    objects: dict[str, bytes] = worker.call.s3.buckets[worker.settings.candles_bucket].objects
    return objects


def spoiled(worker: Any, key: str, spoil: Spoil) -> None:
    """Write the object again, whole by its checksum, with something wrong in it."""
    candles, metadata = decode(stored(worker)[key])
    coverage = Coverage.from_json(metadata["coverage"])
    candles, coverage, metadata = spoil(candles, coverage, dict(metadata))
    if "coverage" in metadata:
        metadata["coverage"] = coverage.to_json()
    stored(worker)[key] = encode(candles, metadata)


def test_what_is_whole_is_found_whole_and_nothing_is_asked_or_written(
    run, worker, fleet, exchange, key
) -> None:
    exchange.asked.clear()
    before = dict(stored(worker))
    for repair in (False, True):
        task = verified(run, worker, fleet, repair=repair)
        assert (task["status"], task["result"]["from_store"]) == ("completed", 1)
        assert task["result"]["failed"] == 0
    assert (stored(worker), exchange.asked) == (before, [])


def _at(candles: Candles, index: int, name: str, value: Any) -> Candles:
    columns = {each: array(column.typecode, column) for each, column in candles.columns.items()}
    columns[name][index] = value
    return Candles(columns)


def _doubled(candles: Candles) -> Candles:
    twice = candles.cut(0, 1)
    twice.extend(candles)
    return twice


def _outside(coverage: Coverage) -> Coverage:
    [one] = coverage.covered
    return replace(coverage, covered=(Interval(one.start_ms + HOUR, one.end_ms),))


def _gap(coverage: Coverage, hour: int) -> Coverage:
    at = coverage.covered[0].start_ms + hour * HOUR
    gap = Gap(at, at + HOUR, NO_CANDLE, 1, 1, 1)
    return replace(coverage, gaps=tuple(sorted([*coverage.gaps, gap])))


DAMAGED: dict[str, Spoil] = {
    "a candle twice": lambda c, v, m: (_doubled(c), v, m),
    "out of order": lambda c, v, m: (_at(c, 1, "open_time", c.open_times[0] - 1), v, m),
    "a low above its high": lambda c, v, m: (_at(c, 3, "low", 1e9), v, m),
    "a negative volume": lambda c, v, m: (_at(c, 3, "volume", -1.0), v, m),
    "a price that is no number": lambda c, v, m: (_at(c, 3, "high", float("nan")), v, m),
    "a candle that is not covered": lambda c, v, m: (c, _outside(v), m),
    "a gap over a candle": lambda c, v, m: (c, _gap(v, 5), m),
    "a gap outside": lambda c, v, m: (c, _gap(v, HOURS + 5), m),
    "a gap twice": lambda c, v, m: (c, replace(v, gaps=(*v.gaps, *v.gaps)), m),
    "more than its stretch": lambda c, v, m: (
        c,
        replace(v, covered=(*v.covered, Interval(v.covered[0].end_ms + 800 * DAY, 10**14))),
        m,
    ),
    "other trades": lambda c, v, m: (c, v, {**m, "trades": "7"}),
    "no trades": lambda c, v, m: (c, v, {k: x for k, x in m.items() if k != "trades"}),
    "no coverage": lambda c, v, m: (c, v, {k: x for k, x in m.items() if k != "coverage"}),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_of_every_kind_is_found_and_collected_again(
    run, worker, fleet, exchange, start, key, kind
) -> None:
    sound, _ = decode(stored(worker)[key])
    spoiled(worker, key, DAMAGED[kind])
    exchange.asked.clear()
    task = verified(run, worker, fleet)
    assert reasons(task) == ["OBJECT_DAMAGED"]
    assert (task["status"], exchange.asked) == ("failed", [])
    assert verified(run, worker, fleet, repair=True)["result"]["failed"] == 0
    assert decode(stored(worker)[key])[0].open_times == sound.open_times
    assert run(coverage_of(worker, SYMBOL, "1h")).covered == (
        Interval(start, start + HOURS * HOUR),
    )
    assert reasons(verified(run, worker, fleet)) == []


@given(st.data())
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_bytes_that_are_not_those_written_are_found(run, worker, fleet, key, data) -> None:
    sound = stored(worker)[key]
    at = data.draw(st.integers(0, len(sound) - 1))
    kind = data.draw(st.sampled_from(["flipped", "cut", "empty"]))
    if kind == "flipped":
        other = sound[:at] + bytes([sound[at] ^ data.draw(st.integers(1, 255))]) + sound[at + 1 :]
    else:
        other = sound[:at] if kind == "cut" else b""
    stored(worker)[key] = other
    assert reasons(verified(run, worker, fleet)) == ["OBJECT_DAMAGED"]
    assert verified(run, worker, fleet, repair=True)["result"]["failed"] == 0
    assert reasons(verified(run, worker, fleet)) == []
    stored(worker)[key] = sound


def test_an_object_that_is_gone_is_missed_and_collected_again(
    run, worker, fleet, exchange, start, key
) -> None:
    before = decode(stored(worker).pop(key))[0]
    assert reasons(verified(run, worker, fleet)) == ["OBJECT_MISSING"]
    assert key not in stored(worker)
    exchange.asked.clear()
    assert verified(run, worker, fleet, repair=True)["result"]["candles"] == HOURS - 1
    assert exchange.asked[0] == (SYMBOL, "1h", start, start + HOURS * HOUR)
    assert decode(stored(worker)[key])[0].open_times == before.open_times
    assert reasons(verified(run, worker, fleet)) == []


def test_what_is_said_to_be_covered_where_no_object_is_is_collected(
    run, worker, fleet, exchange, start, key
) -> None:
    table = CoverageTable(worker)
    early = Interval(start - 800 * DAY, start - 800 * DAY + 4 * HOUR)

    async def changed(known: Any) -> Any:
        return {"1h": replace(known["1h"], covered=(early, *known["1h"].covered))}

    run(table.record(SYMBOL, run(table.read(SYMBOL)), changed))
    assert reasons(verified(run, worker, fleet)) == ["OBJECT_MISSING"]
    assert verified(run, worker, fleet, repair=True)["result"]["candles"] == 4
    assert reasons(verified(run, worker, fleet)) == []


OTHERWISE: dict[str, Callable[[Summary], Summary]] = {
    "another count": lambda s: replace(s, cells=(s.cells[0]._replace(held=1),)),
    "another gap": lambda s: replace(s, cells=(s.cells[0]._replace(absent=9),)),
    "no gap that is due": lambda s: replace(s, cells=(s.cells[0]._replace(due_ms=None),)),
    "no cell": lambda s: replace(s, cells=()),
    "more covered": lambda s: replace(
        s, covered=(Interval(s.covered[0].start_ms - HOUR, s.covered[0].end_ms),)
    ),
    "less covered": lambda s: replace(s, covered=()),
    "nothing": lambda s: Summary(),
}


@pytest.mark.parametrize("kind", OTHERWISE)
def test_a_summary_that_says_otherwise_is_made_anew_from_its_object(
    run, worker, fleet, exchange, key, kind
) -> None:
    sound = run(summary_of(worker, SYMBOL, "1h"))
    before = dict(stored(worker))
    table = CoverageTable(worker)

    async def changed(known: Any) -> Any:
        return {"1h": OTHERWISE[kind](known["1h"])}

    run(table.record(SYMBOL, run(table.read(SYMBOL)), changed))
    exchange.asked.clear()
    assert reasons(verified(run, worker, fleet)) == ["COVERAGE_DIFFERS"]
    assert verified(run, worker, fleet, repair=True)["result"]["failed"] == 0
    now = run(summary_of(worker, SYMBOL, "1h"))
    assert (now.covered, now.cells) == (sound.covered, sound.cells)
    assert (stored(worker), exchange.asked) == (before, [])


def test_a_whole_table_that_was_lost_is_made_anew_from_the_objects(
    run, worker, fleet, aws, key
) -> None:
    sound = run(summary_of(worker, SYMBOL, "1h"))
    items = aws.dynamodb.tables["market"].items
    for which in [which for which in items if which[0].startswith("COVER#")]:
        del items[which]
    assert reasons(verified(run, worker, fleet)) == ["COVERAGE_DIFFERS"]
    verified(run, worker, fleet, repair=True)
    now = run(summary_of(worker, SYMBOL, "1h"))
    assert (now.covered, now.cells, now.first, now.last) == sound_of(sound)


DAYS = ["1d", "1h", "1m", "15m", "5m", "4h"]


def test_objects_that_differ_are_waited_for_together(run, worker, fleet, aws, clock, start) -> None:
    """A message that waited for each of them would outlast its invocation."""
    body = {"symbols": [SYMBOL], "start": iso(start), "end": iso(start + DAY)}
    run(submit_collection(worker, {**body, "timeframes": DAYS}, "me", "r"))
    run(fleet.settle())
    aws.dynamodb.tables["market"].items.pop(("COVER#binance", SYMBOL))
    run(submit_verification(worker, {"symbols": [SYMBOL], "timeframes": DAYS}, "me", "r"))
    run(fleet.plan())
    began = clock()
    assert run(fleet.collect()) == 1
    assert clock() - began < 5_000


@pytest.mark.parametrize("repair", [False, True])
def test_what_no_time_is_left_for_is_verified_by_another_delivery(
    run, worker, fleet, aws, clock, start, repair
) -> None:
    body = {"symbols": [SYMBOL], "start": iso(start), "end": iso(start + DAY)}
    run(submit_collection(worker, {**body, "timeframes": DAYS}, "me", "r"))
    run(fleet.settle())
    aws.dynamodb.tables["market"].items.pop(("COVER#binance", SYMBOL))
    left = [50_000]

    def remaining_ms() -> int:
        """Of invocations in which so much time passes between one look at the clock and the next
        that three looks at each object are too many."""
        left.append(50_000 if left[-1] < 12_500 else left[-1] - 2_500)
        return left[-1]

    fleet.remaining_ms = remaining_ms
    body = {"symbols": [SYMBOL], "timeframes": DAYS, "repair": repair}
    task_id = run(submit_verification(worker, body, "me", "r"))
    run(fleet.settle())
    task = run(view_task(worker, task_id))
    assert task["units"]["total"] == task["units"]["succeeded"] + task["units"]["failed"]
    assert set(reasons(task)) == (set() if repair else {"COVERAGE_DIFFERS"})
    assert left.count(50_000) > 1


def sound_of(known: Summary) -> tuple[Any, ...]:
    return known.covered, known.cells, known.first, known.last


def test_a_damaged_object_that_somebody_mends_meanwhile_is_not_overwritten(
    run, worker, start, key
) -> None:
    sound = stored(worker)[key]
    stored(worker)[key] = b"damaged"
    found = run(CandleStore(worker).inspect(SYMBOL, "1h", start))
    stored(worker)[key] = sound

    def covering(_: Candles, known: Coverage) -> Coverage:
        return known.extended(CoveredPart("1h", start, start + HOUR), 0)

    where = (SYMBOL, "1h", start, Candles(), covering, "task", 0)
    run(CandleStore(worker).write(*where, over=found.held.etag))
    assert found.damage
    assert decode(stored(worker)[key])[0] == decode(sound)[0]


def test_an_empty_object_is_damaged_and_mended(run, worker, fleet, key) -> None:
    """AWS refuses to give the last bytes of nothing."""
    sound = decode(stored(worker)[key])[0]
    stored(worker)[key] = b""
    assert reasons(verified(run, worker, fleet)) == ["OBJECT_DAMAGED"]
    assert verified(run, worker, fleet, repair=True)["result"]["failed"] == 0
    assert decode(stored(worker)[key])[0].open_times == sound.open_times


def test_somebody_elses_files_are_left_alone(run, worker, fleet, key) -> None:
    folder = key.rpartition("/")[0]
    others = {f"{folder}/{name}": b"x" for name in ("notes.txt", "2026-13.parquet", "all.parquet")}
    stored(worker).update(others)
    assert reasons(verified(run, worker, fleet, repair=True)) == []
    assert others.items() <= stored(worker).items()


def test_only_objects_of_the_range_are_looked_at(run, worker, fleet, start, key) -> None:
    stored(worker)[key] = b"damaged"
    year = {"start": iso(start - 800 * DAY), "end": iso(start - 400 * DAY)}
    assert verified(run, worker, fleet, **year)["result"]["units"] == 0
    assert reasons(verified(run, worker, fleet, start=iso(start + HOUR))) == ["OBJECT_DAMAGED"]
    assert reasons(verified(run, worker, fleet, timeframes=["1m"])) == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"repair": 1}, "/repair"),
        ({"repair": "yes"}, "/repair"),
        ({"fill": "verify"}, "/fill"),
        ({"symbols": "BTCUSDT"}, "/symbols"),
        ({"speed": 1}, "/speed"),
        ([], ""),
    ],
)
def test_a_wrong_request_is_refused(run, worker, body, pointer) -> None:
    with pytest.raises(InvalidRequest) as refused:
        run(submit_verification(worker, body, "me", "r"))
    assert [error["pointer"] for error in refused.value.errors] == [pointer]


@pytest.mark.parametrize("fill", ["verify", "repair"])
def test_no_other_request_verifies(run, worker, fill) -> None:
    with pytest.raises(InvalidRequest):
        run(submit_collection(worker, {"fill": fill}, "me", "r"))


# --- what of an object cannot be ------------------------------------------------------------------

AT = 19_723 * DAY  # 2024-01-01: an object of 1h is a year
WHOLE = (Interval(AT, AT + 6 * HOUR),)
GAP = Gap(AT + 3 * HOUR, AT + 4 * HOUR, NO_CANDLE, 1, 1, 1)
NEXT = Gap(AT + 4 * HOUR, AT + 6 * HOUR, NO_CANDLE, 2, 2, 1)


def hours_at(*hours: int, high: float = 2.0) -> Candles:
    made = Candles()
    for hour in hours:
        open_ms = AT + hour * HOUR
        append(made, (open_ms, 1.0, high, 1.0, 2.0, 5.0, open_ms + HOUR - 1, 9.0, 3, 1.0, 1.0), 1)
    return made


@pytest.mark.parametrize(
    ("candles", "coverage", "trades", "said"),
    [
        (hours_at(0, 1, 2), Coverage(WHOLE, None, (GAP, NEXT)), 9, ""),
        (hours_at(0, 2, 1), Coverage(WHOLE), 9, "its candles are not in order"),
        (hours_at(0, 1, 1), Coverage(WHOLE), 9, "its candles are not in order"),
        (hours_at(0, 1, high=0.5), Coverage(WHOLE), 6, "cannot be one"),
        (hours_at(0), Coverage((Interval(AT - 1, AT + HOUR),)), 3, "more than its stretch"),
        (hours_at(0), Coverage((Interval(AT, AT + 366 * DAY + 1),)), 3, "more than its stretch"),
        (hours_at(0), Coverage(WHOLE * 2), 3, "what it covers is not in order"),
        (hours_at(0, 6), Coverage(WHOLE), 6, "in what it does not cover"),
        (hours_at(0), Coverage(WHOLE, None, (NEXT, GAP)), 3, "its gaps are not in order"),
        (
            hours_at(0),
            Coverage(WHOLE, None, (GAP._replace(end_ms=NEXT.start_ms + 1), NEXT)),
            3,
            "its gaps are not in order",
        ),
        (hours_at(0, 3), Coverage(WHOLE, None, (GAP,)), 6, "a candle in its gap"),
        (
            hours_at(0),
            Coverage(WHOLE, None, (GAP._replace(end_ms=GAP.start_ms),)),
            3,
            "outside of what it covers",
        ),
        (
            hours_at(0),
            Coverage(WHOLE, None, (NEXT._replace(end_ms=AT + 7 * HOUR),)),
            3,
            "outside of what it covers",
        ),
        (hours_at(0, 1), Coverage(WHOLE), 7, "more or fewer trades"),
    ],
)
def test_what_of_an_object_cannot_be_is_named(
    candles: Candles, coverage: Coverage, trades: int, said: str
) -> None:
    found = damage_in("1h", AT, candles, coverage, trades)
    assert said in found
    assert bool(found) == bool(said)
