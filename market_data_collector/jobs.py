"""A task that was submitted, and what can be done with it."""

import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar, cast

from market_data_collector import errors
from market_data_collector.answers import Cancelled, Task
from market_data_collector.calls import Answer, Site, answer, post, segment
from market_data_collector.effects import Effect, Flow, Item, Pause, Plan, Tell
from market_data_collector.operation import Awaiting, Blocking, operation, stream
from market_data_collector.senders import AwaitingSender, Sender

Shown = TypeVar("Shown")
ENDED = frozenset({"completed", "failed", "cancelled"})
# Seconds.
LEAST_POLL, USUAL_POLL, LONGEST_POLL = 0.3, 1.0, 3600.0
#: While the task's own next attempt is awaited.
BETWEEN_ATTEMPTS = 5.0
# Polls that may fail in a row before waiting is given up: about 25 s, enough for a restart.
PATIENCE = 8


def is_over(task: Mapping[str, Any]) -> bool:
    """Whether a task has ended and no attempt of its own retries is to come."""
    return task.get("status") in ENDED and not task.get("next_attempt_at")


def watched(
    site: Site,
    task_id: str,
    show: Callable[[Task], Shown],
    pause: Callable[[float], Pause] = Pause,
) -> Generator[Effect | Shown, Any, Task]:
    """Shows the task now and after every poll, until it is over, and returns it.

    Waits as long as Retry-After asks, at least 0.3 s. Once the task has been seen, up to `PATIENCE`
    polls in a row may go unanswered or meet a 5xx or 429.
    """
    missed = PATIENCE  # a task that was never seen may not exist: fail at once
    while True:
        try:
            seen = yield from task_answer(site, task_id)
        except errors.ApiError as error:
            if missed >= PATIENCE or not error.passing:
                raise
            missed += 1
            asked = max(error.retry_after or 0, min(0.2 * 2**missed, 5))
            yield pause(min(asked, LONGEST_POLL))
            continue
        missed = 0
        task = cast(Task, seen.body)
        yield show(task)
        if is_over(task):
            return task
        usual = BETWEEN_ATTEMPTS if task["status"] in ENDED else USUAL_POLL
        asked = usual if seen.retry_after is None else seen.retry_after
        yield pause(min(max(asked, LEAST_POLL), LONGEST_POLL))


def task_answer(site: Site, task_id: str) -> Plan[Answer]:
    seen = yield from answer(site, "GET", f"/task/{segment(task_id)}")
    if not isinstance(seen.body.get("status"), str):
        raise errors.not_this_api(site.url, "a task without a status")
    return seen


class JobOperations:
    """What Job and AsyncJob share. `answer`: what the API said when the task was submitted."""

    def __init__(self, task_id: str, answer: dict[str, Any], site: Site) -> None:
        self.task_id = task_id
        self.answer = answer
        self._site = site

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.task_id}>"

    @operation
    def task(self) -> Plan[Task]:
        """The task as it is now."""
        return cast(Task, (yield from task_answer(self._site, self.task_id)).body)

    @stream
    def progress(self) -> Flow[Task]:
        """The task now and after every poll, up to its end."""
        yield from watched(self._site, self.task_id, Item)

    @operation
    def wait(
        self,
        on_progress: Callable[[Task], Any] | None = None,
        timeout: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> Plan[Task]:
        """The task once it has ended; where its own retries follow, after the last of them.

        `on_progress` is called with the task as often as it is looked at; an AsyncJob awaits what
        it returns, if that can be awaited. After `timeout` seconds TimeoutError is raised, and the
        task keeps running. A task that failed is an answer, no error.

        >>> def show(task):
        ...     print(task["progress"], task["message"])
        >>> job = Client().start(["BTCUSDT"], ["1h"])
        >>> task = job.wait(on_progress=show)
        0 Waiting to be planned
        100 Collected 1 of 1 units, 24 candles
        >>> task["status"], task["candles"]
        ('completed', 24)
        """
        ends = None if timeout is None else clock() + timeout

        def pause(seconds: float) -> Pause:
            if ends is not None and clock() >= ends:
                raise TimeoutError(f"task {self.task_id} has not ended within {timeout:g} s")
            return Pause(seconds if ends is None else min(seconds, ends - clock()))

        def tell(task: Task) -> Tell:
            return Tell(on_progress or (lambda _: None), task)

        return watched(self._site, self.task_id, tell, pause)

    @operation
    def cancel(self) -> Plan[Cancelled]:
        """Ends the task; what it has collected stays. Raises Rejected (409) where it has ended."""
        return cast(Cancelled, (yield from post(self._site, path(self.task_id, "cancel"), {})))


def path(task_id: str, verb: str) -> str:
    return f"/task/{segment(task_id)}/{verb}"


class Job(JobOperations, Blocking):
    """A task of a Client."""

    def __init__(self, task_id: str, answer: dict[str, Any], site: Site, sender: Sender) -> None:
        super().__init__(task_id, answer, site)
        self._sender = sender


class AsyncJob(JobOperations, Awaiting):
    """A task of an AsyncClient: its methods are awaited."""

    def __init__(
        self, task_id: str, answer: dict[str, Any], site: Site, sender: AwaitingSender
    ) -> None:
        super().__init__(task_id, answer, site)
        self._sender = sender
