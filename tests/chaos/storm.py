"""What happens to the task: kills, duplicates and refusals, each at random moments."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType

from chalicelib.work.messages import CollectMessage, PlanMessage
from chalicelib.work.priorities import HIGH
from chalicelib.work.units import messages_for
from tests.chaos import workers
from tests.chaos.backstage import Backstage
from tests.chaos.endpoint import Endpoint
from tests.chaos.workers import FUNCTIONS
from tests.e2e.stack import Cloud

#: At least; both go on until the last kill.
COPIES = 60
REFUSALS = 6
#: A worker is at work when it has used the processor within this time.
_LOOK_S = 0.2
#: How far, as shares of the whole, the kills may run ahead of the task: they shall strike all of
#: it, not leave it to the calm afterwards.
_AHEAD = 0.2


@dataclass
class Toll:
    """What has been done so far."""

    # Every key from the start: other threads read while this one counts.
    kills: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(FUNCTIONS, 0)))
    copies: Counter[str] = field(
        default_factory=lambda: Counter({"work queue": 0, "urgent queue": 0, "plan queue": 0})
    )

    @property
    def killed(self) -> int:
        return sum(self.kills.values())


class Storm:
    """Blows in threads of its own until it is left."""

    def __init__(self, cloud: Cloud, endpoint: Endpoint, task_id: str, kills: int, seed: int):
        self.toll = Toll()
        #: Share of the task's units that are counted; kept up to date by whoever watches it.
        self.task_done = 0.0
        self._cloud, self._endpoint, self._task_id, self._kills = cloud, endpoint, task_id, kills
        self._seed = seed
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(3, thread_name_prefix="storm")
        self._parts: list[Future[None]] = []

    def __enter__(self) -> Storm:
        parts = (self._kill_workers, self._send_copies, self._refuse)
        # A generator each: what one thread draws must not hang on how the others are scheduled.
        self._parts = [
            self._pool.submit(part, random.Random(f"{self._seed}/{part.__name__}"))
            for part in parts
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True)

    def done(self) -> float:
        """How much of it has been done, 1 for enough of everything; it goes on until it is left.

        Raises what broke in one of its threads.
        """
        for part in self._parts:
            if part.done():
                part.result()
        return min(
            self.toll.killed / self._kills,
            self.toll.copies.total() / COPIES,
            len(self._endpoint.refusals) / REFUSALS,
        )

    def _kill_workers(self, chance: random.Random) -> None:
        pid = self._cloud.cloud_process.pid
        while self.toll.killed < self._kills and not self._wait(chance.uniform(0.3, 1.5) - _LOOK_S):
            if self.toll.killed / self._kills > self.task_done + _AHEAD:
                continue
            victim = None
            while victim is None and not self._stop.is_set():
                victim = _choose(chance, pid)
            if victim is not None and workers.kill(victim, pid):
                self.toll.kills[victim.function] += 1

    def _send_copies(self, chance: random.Random) -> None:
        backstage = Backstage(self._cloud)
        copies = self.toll.copies
        while not self._wait(chance.uniform(1, 5)):
            messages = _planned(backstage, self._task_id)
            if not messages:
                continue
            chosen = chance.sample(messages, min(3, len(messages)))
            # Both work queues lead to one worker; a copy may come by the other one.
            urgent = [copy._replace(priority=HIGH) for copy in chosen if chance.random() < 0.5]
            backstage.send([*chosen, *urgent])
            copies["work queue"] += len(chosen)
            copies["urgent queue"] += len(urgent)
            if chance.random() < 0.3:
                backstage.send_plan(PlanMessage(self._task_id, chosen[0].attempt))
                copies["plan queue"] += 1

    def _refuse(self, chance: random.Random) -> None:
        while not self._wait(chance.uniform(4, 12)):
            self._endpoint.refuse(chance.uniform(1, 4))

    def _wait(self, seconds: float) -> bool:
        """Whether it was stopped meanwhile."""
        return self._stop.wait(max(0.0, seconds))


def _choose(chance: random.Random, cloud_pid: int) -> workers.Worker | None:
    """One of the workers that are busy now, by their functions' weights."""
    before = {worker.pid: worker.ticks for worker in workers.running(cloud_pid)}
    time.sleep(_LOOK_S)
    # One that was not there before is starting, which is work, too.
    busy = [one for one in workers.running(cloud_pid) if one.ticks != before.get(one.pid)]
    if not busy:
        return None
    return chance.choices(busy, [FUNCTIONS[worker.function] for worker in busy])[0]


def _planned(backstage: Backstage, task_id: str) -> list[CollectMessage]:
    """Every message of the task's plan, done or not."""
    task, _ = backstage.task(task_id)
    return [
        message
        for number, units in backstage.plan(task).items()
        for message in messages_for(
            task_id, task.attempt, number, task.priority, units, set(range(len(units)))
        )
    ]
