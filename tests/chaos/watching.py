"""Watching the task as its owner does: over the API, again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from market_data_collector.client import Client
from market_data_collector.errors import ApiError
from market_data_collector.jobs import ENDED

POLL_S = 0.5
#: Between lines where the output is no terminal.
_LINE_S = 10.0


class Broken(AssertionError):
    """A promise was broken; the message says which."""


class Watcher:
    """Polls one task; refuses progress that goes back, within an attempt and after its end."""

    def __init__(self, api: Client, task_id: str) -> None:
        self.polls = self.unanswered = 0
        #: Distinct values of progress seen, over all attempts.
        self.steps = 0
        self._api, self._task_id = api, task_id
        self._last: dict[str, Any] | None = None

    def poll(self) -> dict[str, Any] | None:
        """The task; None where the API could not answer. Raises Broken."""
        time.sleep(POLL_S)
        self.polls += 1
        try:
            task = self._api.task(self._task_id)
        except ApiError as error:
            if not error.passing:
                raise
            self.unanswered += 1
            return None
        if self._last is not None:
            _compare(self._last, task)
        if self._last is None or task["progress"] != self._last["progress"]:
            self.steps += 1
        self._last = task
        return task

    def until_ended(self, seconds: float, attempt: int = 1) -> Iterator[dict[str, Any]]:
        """The task at every answered poll, until this attempt has ended. Raises Broken."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            task = self.poll()
            if task is None:
                continue
            yield task
            if task["attempt"] >= attempt and task["status"] in ENDED:
                return
        raise Broken(f"not ended within {seconds:.0f} s; last seen: {self._last}")


def _compare(before: dict[str, Any], task: dict[str, Any]) -> None:
    if task["attempt"] < before["attempt"]:
        raise Broken(f"the attempt went back from {before['attempt']} to {task['attempt']}")
    if task["attempt"] > before["attempt"]:
        return
    counted, counted_before = (
        one["units"]["succeeded"] + one["units"]["failed"] for one in (task, before)
    )
    if task["progress"] < before["progress"] or counted < counted_before:
        raise Broken(
            f"progress went back from {before['progress']} % ({counted_before} units) "
            f"to {task['progress']} % ({counted} units)"
        )
    if before["status"] in ENDED and task["status"] != before["status"]:
        raise Broken(f"{before['status']} became {task['status']} without a retry")
    if (task["progress"] == 100) != (task["status"] == "completed"):
        raise Broken(f"progress is {task['progress']} % and the task {task['status']}")


class Display:
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines = not sys.stdout.isatty()
        self._next_line = 0.0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=self._lines,
        )
        self._row = self._bar.add_task("", total=100)

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, task: dict[str, Any], counters: str) -> None:
        units = task["units"]
        text = (
            f"{task['status']} {units['succeeded']} + {units['failed']} failed "
            f"of {units['total']}; {counters}"
        )
        self._bar.update(self._row, completed=task["progress"], description=text)
        if self._lines and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_S
            self._console.print(f"{task['progress']:3d} %  {text}", highlight=False)
