"""What must hold at the end; each check returns its figure and raises Broken."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import duckdb

from chalicelib.audit.chain import verify
from chalicelib.core.timeframes import LENGTH_MS, object_bounds, object_cuts, object_name
from chalicelib.tasks.finish import is_full
from chalicelib.tasks.progress import Progress
from chalicelib.work.units import PlannedUnit
from tests.chaos.backstage import Backstage
from tests.chaos.job import TIMEFRAMES, Job
from tests.chaos.watching import Broken
from tests.e2e.exchange_control import ExchangeControl
from tests.e2e.stack import Cloud

#: Longer than any message can stay hidden.
_DRAINED_WITHIN_S = 180
_AUDITED_WITHIN_S = 60
_END = {"completed": "task.completed", "failed": "task.failed"}
_MOVES = ("task.submitted", "task.retried", "task.started", *_END.values())

Candle = tuple[Any, ...]


def counted(job: Job, backstage: Backstage, task_id: str) -> str:
    """Every unit of the job was planned once, counted once, and succeeded."""
    task, progs = backstage.task(task_id)
    planned = [unit for units in backstage.plan(task).values() for unit in units]
    if len(planned) != len(set(planned)) or set(planned) != job.units:
        raise Broken(f"{len(planned)} units were planned for {len(job.units)} asked for")
    sets = sum(len(prog.done) for prog in progs)
    result = task.result
    assert result is not None, "a completed task has a result"
    figures = (task.total_units, result["units"], result["succeeded"], sets)
    if set(figures) != {len(job.units)}:
        raise Broken(f"{len(job.units)} units expected, counted as {figures}")
    for prog in progs:
        if not is_full(prog) or prog.done != set(range(prog.unit_count)):
            raise Broken(f"PROG {prog.number} counted {sorted(prog.done)}")
        if prog.failed_units:
            raise Broken(f"PROG {prog.number} still names failed units")
    finished = backstage.finished(task)
    if finished != {prog.number for prog in progs}:
        raise Broken(f"the parts know of {sorted(finished)} PROG items")
    return f"{len(job.units)} expected = {task.total_units} in META = {sets} in the PROG sets"


def candles(cloud: Cloud, job: Job, claimed: int) -> tuple[str, set[str]]:
    """Every candle that the exchange serves is stored once and equal, and no other one.

    `claimed`: how many the task says it collected. Also returns the keys of the units' objects.
    """
    control = ExchangeControl(cloud.exchange_url)
    compared = 0
    keys: set[str] = set()
    for timeframe in TIMEFRAMES:
        stored = _stored(cloud, timeframe)
        for unit in sorted(unit for unit in job.units if unit.timeframe == timeframe):
            served = [_as_sent(row) for row in _served(control, unit)]
            if stored.pop(unit.symbol, []) != served:
                raise Broken(f"{unit.symbol} {timeframe} is not stored as the exchange serves it")
            compared += len(served)
            keys.update(_keys(unit))
        if stored:
            raise Broken(f"{timeframe} is stored for {sorted(stored)}, which nobody asked for")
    control.close()
    if compared != claimed:
        raise Broken(f"{compared} candles are stored, and the task counted {claimed}")
    return f"{compared} stored once, equal to the exchange's = {claimed} counted", keys


def coverage(cloud: Cloud, backstage: Backstage, job: Job) -> str:
    """Each object and each summary says of its stretch what the exchange serves, and no more."""
    control = ExchangeControl(cloud.exchange_url)
    summaries = backstage.summaries(sorted({unit.symbol for unit in job.units}))
    parts = absent = 0
    for unit in sorted(job.units):
        opens = {row[0] for row in _served(control, unit)}
        cells = {}
        for low, high in object_cuts(unit.timeframe, unit.start_ms, unit.end_ms):
            places = {*range(low, high, LENGTH_MS[unit.timeframe])}
            held, missing = places & opens, places - opens
            covered, gaps = _said(cloud, unit, low)
            if (covered, gaps) != ([[low, high]], missing):
                what = f"{unit.symbol} {unit.timeframe} from {low}"
                raise Broken(f"the object of {what} says {covered}, {len(gaps)} of {len(missing)}")
            cells[object_bounds(unit.timeframe, low)[0]] = len(held), len(missing), 0
            parts, absent = parts + 1, absent + len(missing)
        known = summaries[unit.symbol][unit.timeframe]
        said = {cell.start_ms: (cell.held, cell.absent, cell.invalid) for cell in known.cells}
        ends = known.first, known.last
        window = (unit.start_ms, unit.end_ms)
        if (said, known.covered, ends) != (
            cells,
            (window,),
            (min(opens, default=None), max(opens, default=None)),
        ):
            raise Broken(f"the summary of {unit.symbol} {unit.timeframe} is {known}, not {cells}")
    control.close()
    return f"{parts} objects and {len(job.units)} summaries, {absent} candles absent, all as served"


def objects(cloud: Cloud, backstage: Backstage, expected: set[str]) -> str:
    """The bucket holds the expected objects and nothing else, as S3 lists it and on disk."""
    on_disk = {
        # The embedded cloud keeps an object's headers in a second file.
        str(file.relative_to(cloud.candles_dir)).removesuffix(".meta.json")
        for file in cloud.candles_dir.rglob("*")
        if file.is_file()
    }
    for name, found in (("S3", backstage.objects()), ("the disk", on_disk)):
        if found != expected:
            lost, unexpected = sorted(expected - found)[:3], sorted(found - expected)[:3]
            raise Broken(f"{name}: lost {lost}, unexpected {unexpected}")
    return f"{len(expected)} expected = {len(on_disk)} on disk, none lost, none besides"


def queues(backstage: Backstage) -> str:
    """Every queue, that of dead letters and that of stream failures too, runs empty."""
    began = time.monotonic()
    while True:
        left = backstage.waiting()
        if not any(count for counts in left.values() for count in counts.values()):
            break
        if time.monotonic() - began > _DRAINED_WITHIN_S:
            raise Broken(f"the queues do not run empty: {left}")
        time.sleep(1)
    return f"{', '.join(left)}: empty ({time.monotonic() - began:.0f} s after the end)"


def audit(backstage: Backstage, task_id: str, ends: list[str]) -> str:
    """One event per change of state, in order, in a whole chain. `ends`: each attempt's end."""
    expected = []
    for attempt, end in enumerate(ends, 1):
        expected += [
            (attempt, "task.submitted" if attempt == 1 else "task.retried"),
            (attempt, "task.started"),
            (attempt, _END[end]),
        ]
    deadline = time.monotonic() + _AUDITED_WITHIN_S
    while True:
        trail = backstage.audit(task_id)
        events = [event for event in trail if event["action"] in _MOVES]
        found = [(event["attempt"], event["action"]) for event in events]
        if found == expected:
            break
        if time.monotonic() > deadline:
            raise Broken(f"the audit trail reads {found}, not {expected}")
        time.sleep(1)
    faults = verify(f"task:{task_id}", trail)
    if faults:
        raise Broken(f"the audit trail's chain is broken: {faults}")
    states = [None, *(event["after"] for event in events)]
    if [event["before"] for event in events] != states[:-1]:
        raise Broken(f"the audit trail's states do not follow each other: {states}")
    if sorted(event["at"] for event in events) != [event["at"] for event in events]:
        raise Broken("the audit trail is not in order of time")
    return f"{len(trail)} events: " + " -> ".join(str(state) for state in states[1:])


def reasons(progs: list[Progress]) -> dict[str, int]:
    """How many units failed, by reason."""
    found: dict[str, int] = defaultdict(int)
    for prog in progs:
        for reason, units in prog.failed.items():
            found[reason] += len(units)
    return dict(found)


def _stored(cloud: Cloud, timeframe: str) -> dict[str, list[Candle]]:
    """Every stored candle of a timeframe by symbol, in the row order of the exchange's klines."""
    files = f"{cloud.candles_dir}/candles/exchange=local/timeframe={timeframe}/*/*.parquet"
    rows = duckdb.execute(
        "SELECT symbol, epoch_ms(open_time), open, high, low, close, volume, epoch_ms(close_time), "
        "quote_volume, trades, taker_buy_volume, taker_buy_quote_volume "
        "FROM read_parquet(?, hive_partitioning = true) ORDER BY symbol, open_time",
        [files],
    )
    found: dict[str, list[Candle]] = defaultdict(list)
    while page := rows.fetchmany(50_000):
        for row in page:
            found[row[0]].append(row[1:])
    return found


def _served(control: ExchangeControl, unit: PlannedUnit) -> list[list[Any]]:
    return control.klines(unit.symbol, unit.timeframe, unit.start_ms, unit.end_ms)


def _said(cloud: Cloud, unit: PlannedUnit, at_ms: int) -> tuple[list[list[int]], set[int]]:
    """What an object says was asked for, and the places of candles in its gaps.

    Read as candles/coverage.py writes it down, without its code.
    """
    key = _key(unit, at_ms)
    [[text]] = duckdb.execute(
        "SELECT decode(value) FROM parquet_kv_metadata(?) WHERE decode(key) = 'coverage'",
        [f"{cloud.candles_dir}/{key}"],
    ).fetchall()
    fields = json.loads(text)
    found: set[int] = set()
    end = 0
    for skipped, length, code, *_ in fields["gaps"]:
        start = end + skipped
        end = start + length
        if code != "n":
            raise Broken(f"{key} says of {start} that it is {code!r}")
        found.update(range(start, end, LENGTH_MS[unit.timeframe]))
    return fields["covered"], found


def _as_sent(row: list[Any]) -> Candle:
    prices = (float(value) for value in row[1:6])
    return (row[0], *prices, row[6], float(row[7]), row[8], float(row[9]), float(row[10]))


def _keys(unit: PlannedUnit) -> Iterator[str]:
    """The objects of a unit: one that holds no candle says that it was asked for."""
    for low, _ in object_cuts(unit.timeframe, unit.start_ms, unit.end_ms):
        yield _key(unit, low)


def _key(unit: PlannedUnit, at_ms: int) -> str:
    """The object that holds a time; written out here, not taken from the code under test."""
    folder = f"candles/exchange=local/timeframe={unit.timeframe}/symbol={unit.symbol}"
    return f"{folder}/{object_name(unit.timeframe, at_ms)}.parquet"
