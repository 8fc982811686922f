"""How many messages are worked on before a task of 3 symbols is done, by the size of another task.

Counted on the AWS in memory, whose queues hand out the oldest message first, as a queue without
fair groups does at worst. The large task has begun when the small one comes.
"""

from __future__ import annotations

from benchmarks.report import Report
from benchmarks.simulated import new_aws, settings
from chalicelib.core import times
from chalicelib.core.times import HOUR
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.worker import Worker
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.table import TaskTable
from tests.doubles.clock import Clock, SimulatedLoop
from tests.doubles.fleet import Fleet
from tests.doubles.spending import TIMEFRAMES, SameForAll

SMALL = 3
SIZES = (0, 30, 300, 3000)
#: Messages in flight: three workers of normal priority with full batches.
AT_ONCE = 15


def measure() -> Report:
    report = Report(
        f"waiting_behind: messages until a task of {SMALL} symbols is done",
        ("symbols of the other task", "1 timeframe each", f"{len(TIMEFRAMES)} timeframes each"),
    )
    for size in SIZES:
        counts = (_count(size, frames) for frames in (TIMEFRAMES[3:4], TIMEFRAMES))
        report.add(f"{size:,}", *(f"{count:,}" for count in counts))
    report.remarks.append(
        f"{SMALL} of each are its own; counted in batches of {AT_ONCE} from when it was submitted, "
        "when the other task had two batches done"
    )
    return report


def _count(size: int, frames: tuple[str, ...]) -> int:
    clock = Clock()
    aws = new_aws(clock)
    symbols = [f"S{at:04d}USDT" for at in range(size + SMALL)]
    exchange = SameForAll(clock, dict.fromkeys(symbols, "TRADING"))
    worker = Worker(aws, settings(), clock, exchange)  # type: ignore[arg-type]
    loop = SimulatedLoop(clock)
    try:
        known = CatalogueTable(worker).write_catalogue(exchange.symbols, 600_000, clock())
        loop.run_until_complete(known)
        return loop.run_until_complete(_play(worker, Fleet(aws, worker), symbols, frames, clock))
    finally:
        loop.close()


async def _play(
    worker: Worker, fleet: Fleet, symbols: list[str], frames: tuple[str, ...], clock: Clock
) -> int:
    start_ms = clock() - 12 * HOUR
    body = {
        "timeframes": list(frames),
        "start": times.iso(start_ms),
        "end": times.iso(clock()),
    }
    if len(symbols) > SMALL:
        await submit_collection(worker, {**body, "symbols": symbols[SMALL:]}, "large", "r")
        for _ in range(2):
            await fleet.plan()
            await fleet.collect(AT_ONCE)
    body = {**body, "timeframes": list(TIMEFRAMES)}
    task_id = await submit_collection(worker, {**body, "symbols": symbols[:SMALL]}, "small", "r")
    count = 0
    while True:
        await fleet.plan()
        count += await fleet.collect(AT_ONCE)
        task = await TaskTable(worker).read(task_id)
        if task and task.state == "completed":
            return count
