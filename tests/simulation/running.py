"""Many schedules, on every processor, with what they found."""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.simulation.small import plain_objects, small_plans
from tests.simulation.world import World


@dataclass
class Found:
    """Of some schedules: how many, their faults by kind, calls, and seed -> what broke."""

    schedules: int = 0
    faulty: int = 0
    calls: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    broken: dict[int, str] = field(default_factory=dict)

    def add(self, other: Found) -> None:
        self.schedules += other.schedules
        self.faulty += other.faulty
        self.calls += other.calls
        self.faults += other.faults
        self.broken |= other.broken


def play(seeds: Iterable[int], prepare: Callable[[World], None] | None = None) -> Found:
    """Play schedules in this process. `prepare` may change a world before it starts."""
    found = Found()
    with small_plans(), plain_objects():
        for seed in seeds:
            world = World(seed)
            if prepare is not None:
                prepare(world)
            try:
                world.run()
            except Exception as error:  # noqa: BLE001 - whatever breaks a schedule is a finding
                found.broken[seed] = f"{type(error).__name__} {error}"
            found.schedules += 1
            found.faulty += bool(+world.faults.seen)
            found.calls += len(world.aws.calls)
            found.faults += world.faults.seen
    return found


@contextmanager
def playing(
    start: int, count: int, processes: int | None = None, chunk: int = 50
) -> Iterator[Iterator[Found]]:
    """`count` schedules from seed `start` on, played by other processes while the block lasts: by
    one per processor, where `processes` is None. They end however the block is left.

    Gives what each chunk found, as it comes.
    """
    chunks = [
        range(at, min(at + chunk, start + count)) for at in range(start, start + count, chunk)
    ]
    with multiprocessing.get_context("spawn").Pool(processes, _begin) as pool:
        try:
            yield pool.imap_unordered(play, chunks)
        finally:
            pool.terminate()
            pool.join()


def _begin() -> None:
    """Ignore Ctrl-C, which reaches the whole group of processes: the first ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
