"""Steps of `data-collector check` that make a schedule, run it, change it and delete it."""

from typing import Any

from market_data_collector.cli.check_run import CheckRun, need
from market_data_collector.cli.check_step import step
from market_data_collector.cli.values import plain, record
from market_data_collector.errors import Rejected


@step(
    "schedule",
    "POST /schedules",
    "GET /schedules/{schedule_id}",
    look_at="Schedule failures",
)
def schedule(run: CheckRun) -> str:
    """A schedule of one minute is made, and read back."""
    body: Any = {"name": run.name, "expression": "rate(1 minute)", "request": run.request()}
    made = run.client.create_schedule(**body, idempotency_key=run.key("schedule"))
    schedule_id = made.get("schedule_id")
    need(isinstance(schedule_id, str) and schedule_id, "an answer with a schedule_id", made)
    run.schedule_id = str(schedule_id)
    shown = run.until(
        lambda: run.client.schedule(run.made_schedule()),
        lambda shown: shown.get("in_sync") is True,
        "a schedule that EventBridge Scheduler has taken over",
        lambda shown: shown.get("sync_error") or "not in_sync",
    )
    need(shown.get("name") == run.name, f"the schedule named {run.name}", shown)
    return f"next run {plain(shown.get('next_run_at'))}"


@step("schedules", "GET /schedules", look_at="API errors", reads_only=True)
def schedules(run: CheckRun) -> str:
    """The list of schedules."""
    found = [*run.client.schedules()]
    need(all(isinstance(each.get("schedule_id"), str) for each in found), "ids", found)
    if run.schedule_id is not None:
        ids = [each["schedule_id"] for each in found]
        need(run.schedule_id in ids, "the new schedule in the list", ids)
    return f"{len(found)} listed"


@step(
    "run-schedule",
    "POST /schedules/{schedule_id}/run",
    "GET /task/{task_id}",
    look_at="Schedule failures",
)
def run_schedule(run: CheckRun) -> str:
    """The schedule is run by hand, and its task completes."""
    answer = run.client.run_schedule(run.made_schedule()).answer
    return plain(run.ended(run.keep("run-schedule", answer)).get("message"))


@step(
    "fires",
    "GET /schedules/{schedule_id}",
    "GET /task/{task_id}",
    look_at="Schedule failures",
)
def fires(run: CheckRun) -> str:
    """The schedule fires by itself within a minute or two, and its task completes."""
    schedule_id = run.made_schedule()
    shown = run.until(
        lambda: record(run.client.schedule(schedule_id).get("last_run")),
        lambda last: last.get("by") == "schedule",
        "a run by the schedule itself",
        lambda last: f"the last run was by {plain(last.get('by'))}",
    )
    run.ended(run.keep("fires", shown))
    return f"at {plain(shown.get('at'))}"


@step("change-schedule", "PATCH /schedules/{schedule_id}", look_at="Schedule failures")
def change_schedule(run: CheckRun) -> str:
    """The schedule is disabled."""
    changed = run.client.change_schedule(run.made_schedule(), enabled=False)
    off = changed.get("enabled") is False and changed.get("next_run_at", "") is None
    need(off, "a schedule that is disabled and has no next run", changed)
    return "disabled"


@step(
    "delete-schedule",
    "DELETE /schedules/{schedule_id}",
    "GET /schedules/{schedule_id}",
    look_at="Schedule failures",
)
def delete_schedule(run: CheckRun) -> str:
    """The schedule is deleted, and then unknown."""
    schedule_id = run.made_schedule()
    run.client.delete_schedule(schedule_id)
    try:
        answer: Any = run.client.schedule(schedule_id)
    except Rejected as error:
        answer = error.problem
    need(answer.get("status") == 404, "404 for a schedule that was deleted", answer)
    run.schedule_id = None
    return "gone"
