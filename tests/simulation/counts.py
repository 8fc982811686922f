"""The counts of tasks, held after every write against a recount of the tasks themselves."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from chalicelib.aws.calls import run
from chalicelib.tasks import states
from chalicelib.tasks.view import count_tasks
from tests.doubles.aws import Called, Hook
from tests.simulation.checks import Violation

if TYPE_CHECKING:
    from tests.simulation.world import World

Image = dict[str, Any]
_META = "META"
_COUNT = "COUNT#"


class Recount(Hook):
    """After each call that changed a task or a count: every task is counted once, in the state that
    it is in and under its ttl, and what is read is what a look at all tasks would give."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen = 0
        #: (owner, state, ttl, "" where there is none) -> tasks that are stored, or have expired
        #: and were deleted; and what is kept of them.
        self._tasks: Counter[tuple[str, str, str]] = Counter()
        self._kept: Counter[tuple[str, str, str]] = Counter()

    async def after(self, called: Called) -> None:
        records = self._world.records()[self._seen :]
        self._seen += len(records)
        changed = [self._note(record) for record in records]
        if not any(changed):
            return
        if +self._tasks != +self._kept:
            more, less = self._kept - self._tasks, self._tasks - self._kept
            self._violate(f"{dict(more)} too many, {dict(less)} too few")
        self._read()

    def _note(self, record: Image) -> bool:
        """Whether a change is of a task, or of a count."""
        change = record["dynamodb"]
        old, new = change.get("OldImage", {}), change.get("NewImage", {})
        sk = change["Keys"]["sk"]["S"]
        if sk == _META:
            if new:  # a task that has expired is not taken out of any count
                self._tasks[_kind(new)] += 1
                self._tasks[_kind(old)] -= bool(old)
            return True
        if not sk.startswith(_COUNT):
            return False
        owner = change["Keys"]["pk"]["S"].removeprefix("OWNER#")
        for image, sign in ((old, -1), (new, 1)):
            for name, value in image.items():
                state, _, ttl = name.partition("_")
                if state in states.STATES:
                    self._kept[owner, state, ttl] += sign * int(value["N"])
        return True

    def _read(self) -> None:
        """Hold what is answered against what is stored and has not expired."""
        now_s = self._world.clock() // 1000
        live: dict[str, Counter[str]] = {}
        for item in self._world.aws.items("tasks"):
            if item["sk"]["S"] == _META:
                owner, state, ttl = _kind(item)
                live.setdefault(owner, Counter())[state] += not ttl or int(ttl) > now_s
        hooks, self._world.aws.hooks = self._world.aws.hooks, []
        try:
            for owner, counts in live.items():
                told = run(count_tasks(self._world.honest, [owner]))
                if +Counter(told) != +counts:
                    self._violate(f"{told} of {owner} were told, and there are {dict(counts)}")
        finally:
            self._world.aws.hooks = hooks

    def _violate(self, detail: str) -> None:
        self._world.violation = self._world.violation or Violation("counts", detail)


def _kind(image: Image) -> tuple[str, str, str]:
    if not image:
        return "", "", ""
    return image["owner"]["S"], image["state"]["S"], image.get("ttl", {"N": ""})["N"]
