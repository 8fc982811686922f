"""Steps of `data-collector check` that start tasks, watch them, stop them and read their trails."""

import contextlib
import json
from typing import Any

from market_data_collector.audit_chain import verify
from market_data_collector.cli.check_run import HOURS, STATES, TIMEFRAME, CheckRun, Failed, need
from market_data_collector.cli.check_step import step
from market_data_collector.cli.values import count, moment, plain, records
from market_data_collector.effects import Unheard
from market_data_collector.errors import Rejected
from market_data_collector.jobs import ENDED


@step("start", "POST /start", "GET /task/{task_id}", look_at="API errors")
def start(run: CheckRun) -> str:
    """A collection is accepted, and its task can be read."""
    task_id = run.start("start")
    shown = run.client.task(task_id)
    need(shown.get("task_id") == task_id and shown["status"] in STATES, f"task {task_id}", shown)
    return f"{run.chosen_symbol} {TIMEFRAME}, {HOURS} h: task {plain(task_id)}"


@step("idempotency", "POST /start", look_at="API errors")
def idempotency(run: CheckRun) -> str:
    """A repeated Idempotency-Key gives the first task, and refuses another request."""
    first = run.task_of("start")
    again = run.started("start").answer
    need(again.get("task_id") == first, f"task {first} again", again)
    try:
        other: Any = run.started("start", priority="high").answer
        run.keep("idempotency", other)
    except Rejected as error:
        other = error.problem
    need(other.get("status") == 422, "422 for another request under the same key", other)
    return "the same task; another request is refused"


@step("progress", "GET /task/{task_id}", look_at="Oldest message age")
def progress(run: CheckRun) -> str:
    """The task completes, and its progress never goes back."""
    task = run.ended(run.task_of("start"))
    candles = count(task, "candles")
    need(candles, "a task that has collected candles", task.get("message"))
    return plain(task.get("message"))


@step("active", "GET /tasks/active", look_at="API errors", reads_only=True)
def active(run: CheckRun) -> str:
    """The tasks that have not ended."""
    found = [*run.client.active()]
    states = [each.get("status") for each in found]
    need(set(states) <= {"pending", "running"}, "only tasks that are pending or running", states)
    return f"{len(found)} tasks"


@step("list", "GET /tasks", look_at="API errors", reads_only=True)
def listed(run: CheckRun) -> str:
    """The list of tasks, newest first."""
    wanted = run.tasks.get("start")

    def look() -> list[Any]:
        found = records(run.client.tasks_page(page_size=100).get("tasks"))
        times = [moment(each.get("created_at")) for each in found]
        need(None not in times, "tasks with the time of their making", found)
        need(times == sorted(times, reverse=True), "the newest first", times)  # type: ignore[type-var]
        return [each.get("task_id") for each in found]

    ids = run.until(
        look,
        lambda ids: wanted is None or wanted in ids,
        f"task {wanted} in the list",
        lambda ids: f"{len(ids)} others",
    )
    return f"{len(ids)} on the first page"


@step("update", "POST /ws-ticket", "POST /start", look_at="Iterator age")
def update(run: CheckRun) -> str:
    """A change of a task is pushed over the WebSocket."""
    began = run.session.now()
    messages = run.client.watch("tasks", clock=run.session.now)
    expected = f"an update of the new task within {run.limit:.0f} s"
    task_id = None
    try:
        with contextlib.closing(messages):
            for message in messages:
                task_id = task_id or run.start("update")
                changed = [each.get("task_id") for each in records(message.get("tasks"))]
                if message.get("type") == "update" and task_id in changed:
                    return f"sequence {plain(message.get('sequence'))}"
                if run.session.now() - began > run.limit:
                    raise Failed(expected, f"the last message was: {json.dumps(message)[:200]}")
    except Unheard as error:
        raise Failed(expected, plain(error)) from error
    raise Failed(expected, "the connection has ended")


@step(
    "cancel",
    "POST /task/{task_id}/cancel",
    "POST /start",
    "GET /task/{task_id}",
    look_at="Oldest message age",
)
def cancel(run: CheckRun) -> str:
    """A new task is cancelled, and cancelling it again gives the same receipt."""
    for attempt in range(3):  # a quick stack may be done before it is told to stop
        task_id = run.start(f"cancel{attempt or ''}")
        try:
            receipt = run.client.cancel(task_id)
            break
        except Rejected as error:
            if error.problem["status"] != 409:
                raise
            came = plain(error)
    else:
        raise Failed("one of three new tasks to be cancelled before it is done", came)
    run.tasks["cancelled"] = task_id
    again, task = run.client.cancel(task_id), run.client.task(task_id)
    need(task["status"] == "cancelled", "a cancelled task", task)
    need(
        moment(receipt.get("stopped_at")) and receipt["stopped_at"] == again.get("stopped_at"),
        "the same stopped_at twice",
        (receipt, again),
    )
    return f"stopped at {plain(receipt['stopped_at'])}"


@step("retry", "POST /task/{task_id}/retry", "GET /task/{task_id}", look_at="Dead letters")
def retry(run: CheckRun) -> str:
    """The cancelled task runs again, and completes."""
    task_id = run.task_of("cancelled")
    run.until(
        lambda: run.client.task(task_id),
        lambda task: task.get("result") is not None,
        "a cancelled task whose counts are closed",
        lambda task: "its counts are still open",
    )
    answer = run.client.retry(task_id).answer
    need(answer.get("attempt") == 2, "attempt 2", answer)
    task = run.ended(task_id)
    need(task.get("attempt") == 2, "a task of attempt 2", task)
    return plain(task.get("message"))


@step("audit", "GET /audit", look_at="Stream records failed", reads_only=True)
def audit(run: CheckRun) -> str:
    """The audit trail; of the first task it is complete, and its chain verified."""
    task_id = run.tasks.get("start")
    if task_id is None:
        events = [*run.client.audit()]
        need(all("hash" in event for event in events), "sealed events", events)
        return f"{len(events)} events of the last day"
    wanted = {"task.submitted", "task.completed"}
    events = run.until(
        lambda: [*run.client.audit(task_id=task_id)],
        lambda events: wanted <= {event.get("action") for event in events},
        f"{' and '.join(sorted(wanted))} in the trail",
        lambda events: ", ".join(plain(event.get("action")) for event in events) or "no event",
    )
    faults = verify(f"task:{task_id}", events)  # type: ignore[arg-type]
    need(not faults, "a chain without a fault", [fault.detail for fault in faults])
    return f"{len(events)} events, chain verified"


@step("history", "GET /history", look_at="Stream records failed", reads_only=True)
def history(run: CheckRun) -> str:
    """How tasks ended; the first task among them."""
    task_id = run.tasks.get("start")
    if task_id is None:
        ended = records(run.client.history_page().get("tasks"))
        need(all(task.get("status") in ENDED for task in ended), "ended tasks", ended)
        return f"{len(ended)} ended"
    ended = run.until(
        lambda: records(run.client.history_page(page_size=100).get("tasks")),
        lambda tasks: task_id in {task.get("task_id") for task in tasks},
        "the first task in the history",
        lambda tasks: f"{len(tasks)} others",
    )
    return next(plain(task.get("status")) for task in ended if task.get("task_id") == task_id)
