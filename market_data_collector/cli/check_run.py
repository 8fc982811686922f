"""One run of `data-collector check`: what it has made so far, waiting, and cleaning up."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from market_data_collector.cli.session import Session
from market_data_collector.cli.stack import Stack
from market_data_collector.cli.values import count, plain, record
from market_data_collector.client import Client
from market_data_collector.errors import ApiError
from market_data_collector.jobs import ENDED, Job
from market_data_collector.locate import Unusable, endpoints, with_prefix

USUAL_SYMBOL, TIMEFRAME, HOURS = "BTCUSDT", "1h", 24
#: Of a task.
STATES = ("pending", "running", *sorted(ENDED))
#: A task that nothing else ends fails after so many seconds.
TASK_SECONDS = 600
#: Seconds between two looks, and between two lines that say what is waited for.
POLL, SAY_EVERY = 1.0, 5.0
Seen = TypeVar("Seen")


class Failed(Exception):
    """What a step expected, and what came instead."""

    def __init__(self, expected: str, came: str) -> None:
        super().__init__(expected)
        self.expected, self.came = expected, came


class Untried(Exception):
    """A step that cannot be tried; the message says why."""


def answered(error: ApiError) -> str:
    """What the API answered, without the remedies that are for a stack on this machine."""
    problem = error.problem
    if "status" not in problem:
        return plain(error)
    said = f"{problem['status']} {plain(problem.get('title'))}"
    return f"{said}: {plain(problem['detail'])}" if problem.get("detail") else said


def need(holds: object, expected: str, came: Any) -> None:
    if not holds:
        raise Failed(expected, plain(came)[:300])


@dataclass
class CheckRun:
    """`limit`: the most seconds that one wait may take. `tasks`: the id of each task by the step
    that made it. `symbol`: what is collected, where it is not the usual one."""

    session: Session
    limit: float
    read_only: bool
    stack: Stack | None = None
    symbol: str | None = None
    name: str = field(default_factory=lambda: f"check {uuid.uuid4()}")
    tasks: dict[str, str] = field(default_factory=dict)
    schedule_id: str | None = None
    key_id: str | None = None
    exchange: str | None = None
    #: The last day whose hours have surely closed: start and end, the same for every step.
    window: tuple[datetime, datetime] = field(default_factory=lambda: _last_day(datetime.now(UTC)))
    changed: bool = False
    _step: str = ""

    @property
    def client(self) -> Client:
        return self.session.client

    @property
    def chosen_symbol(self) -> str:
        return self.symbol or USUAL_SYMBOL

    def begin(self, step: str, reads_only: bool) -> None:
        self._step = step
        self.changed = self.changed or not reads_only

    def until(
        self,
        look: Callable[[], Seen],
        done: Callable[[Seen], object],
        expected: str,
        say: Callable[[Seen], Any] = plain,
    ) -> Seen:
        """The first of `look()` that is `done`. Raises Failed after `limit` seconds.

        Answers that may be better a little later are waited for, too.
        """
        began = said = self.session.now()
        while True:
            try:
                seen = look()
                if done(seen):
                    return seen
                came = plain(say(seen))
            except ApiError as error:
                if not error.passing:
                    raise
                came = answered(error)
            waited = self.session.now() - began
            if waited >= self.limit:
                raise Failed(f"{expected} within {self.limit:.0f} s", f"{came[:300]} to the end")
            if self.session.now() - said >= SAY_EVERY:
                said = self.session.now()
                limits = f"{waited:.0f} of at most {self.limit:.0f} s"
                self.session.note(f"...   {self._step}: {came[:100]} ({limits})")
            self.session.pause(POLL)

    def request(self) -> dict[str, Any]:
        """What every task and schedule of the check collects, without its times."""
        return {
            "symbols": [self.chosen_symbol],
            "timeframes": [TIMEFRAME],
            "timeout_seconds": TASK_SECONDS,
        }

    def collection(self) -> dict[str, Any]:
        """The body of a POST /start: of a task of its own, whatever runs already."""
        start, end = map(_iso, self.window)
        return {**self.request(), "start": start, "end": end, "force": True}

    @property
    def owner(self) -> str:
        """Of the keys of the check, by which they are found again."""
        return self.name.replace(" ", "-")

    def soon(self) -> str:
        """When what nobody ends has ended by itself."""
        return _iso(datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=TASK_SECONDS))

    def key(self, step: str) -> str:
        """An Idempotency-Key, so that a lost answer makes no second task or schedule."""
        return f"{self.name} {step}"

    def start(self, step: str) -> str:
        """Submit the small collection; its id."""
        return self.keep(step, self.started(step).answer)

    def started(self, step: str, **options: Any) -> Job:
        return self.client.start(**self.collection(), **options, idempotency_key=self.key(step))

    def keep(self, step: str, answer: Mapping[str, Any]) -> str:
        """Remember the task that an answer names; its id."""
        task_id = answer.get("task_id")
        if not isinstance(task_id, str) or not task_id:
            raise Failed("an answer with a task_id", plain(answer)[:300])
        self.tasks[step] = task_id
        return task_id

    def task_of(self, step: str) -> str:
        if step not in self.tasks:
            raise Untried(f"needs the task of the step {step}")
        return self.tasks[step]

    def made_schedule(self) -> str:
        if self.schedule_id is None:
            raise Untried("needs the schedule of the step schedule")
        return self.schedule_id

    def ended(self, task_id: str, may_be_empty: bool = False) -> Mapping[str, Any]:
        """The task once it is completed, and every unit of it succeeded.

        `may_be_empty`: it may have found nothing to do. Raises Failed, too, where its progress goes
        back.
        """
        highest = 0

        def look() -> Mapping[str, Any]:
            nonlocal highest
            task = self.client.task(task_id)
            progress = count(task, "progress")
            need(progress is not None, "a task with its progress", task)
            need(
                (progress or 0) >= highest,
                f"progress that never goes back, {highest} or more",
                f"{progress} %",
            )
            highest = progress or 0
            return task

        task = self.until(
            look,
            lambda task: task["status"] in ENDED,
            "a task that ends",
            lambda task: f"{task['status']}, {task['progress']} %: {task.get('message')}",
        )
        units = record(task.get("units"))
        total = count(units, "total")
        some = bool(total) or (may_be_empty and total == 0)
        whole = some and total == count(units, "succeeded") and task["progress"] == 100
        need(
            task["status"] == "completed" and whole,
            "a completed task, all of whose units succeeded",
            f"{task['status']}, {task['progress']} %, units {units}: {task.get('message')} "
            f"{task.get('error') or ''}",
        )
        return task

    def bucket(self) -> tuple[Stack, str]:
        """The stack and its bucket of candles. Raises Untried where nothing says which they are,
        and botocore's errors."""
        stack = self.stack
        if stack is None:
            try:
                local = endpoints(Path.cwd())
            except Unusable as error:
                raise Untried(str(error)) from error
            ours = local.get("api_url")
            if "stack_name" not in local or not ours or with_prefix(ours) != self.client.url:
                raise Untried("no --stack is named")
            stack = Stack(local["stack_name"], local)
        if "CandlesBucket" not in stack.outputs:
            raise Untried(f"the stack {stack.name} has no output CandlesBucket")
        return stack, stack.outputs["CandlesBucket"]

    def clean_up(self) -> list[str]:
        """Delete the schedules, cancel the tasks and revoke the key of this run; what could not be,
        and the way on.

        Schedules are found by name, too, because the answer that gave the id may have been lost; a
        key whose answer was lost expires.
        """
        left: list[str] = []
        if self.key_id is not None:
            self._undo(self.client.revoke_key, "keys revoke", self.key_id, left)
        schedules = {self.schedule_id} - {None}
        try:
            found = [*self.client.schedules()]
            schedules |= {
                each.get("schedule_id") for each in found if each.get("name") == self.name
            }
        except ApiError as error:
            left.append(f"{plain(error)} Look for the schedule {self.name}")
        for schedule_id in sorted(map(str, schedules)):
            self._undo(self.client.delete_schedule, "schedules delete", schedule_id, left)
        tasks = set(self.tasks.values())
        try:
            active = [*self.client.active()]
            tasks &= {str(task.get("task_id")) for task in active}
            tasks |= {str(t.get("task_id")) for t in active if t.get("schedule_id") in schedules}
        except ApiError as error:
            left.append(f"{plain(error)} Tasks end by themselves after {TASK_SECONDS} s")
        for task_id in sorted(tasks):
            self._undo(self.client.cancel, "cancel", task_id, left)
        return left

    def _undo(
        self, undo: Callable[[str], object], command: str, made: str, left: list[str]
    ) -> None:
        try:
            undo(made)
        except ApiError as error:
            # Otherwise it has ended, or is gone.
            if error.problem.get("status") not in (404, 409, 410):
                left.append(f"{plain(error)} Try data-collector {command} {made}")


def _last_day(now: datetime) -> tuple[datetime, datetime]:
    end = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    return end - timedelta(hours=HOURS), end


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
