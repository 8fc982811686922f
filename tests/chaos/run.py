"""One run: the stack, the storm, the calm after it, the checks, the figures."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from market_data_collector.client import Client
from market_data_collector.jobs import ENDED
from tests.chaos import checks
from tests.chaos.backstage import Backstage
from tests.chaos.endpoint import Endpoint
from tests.chaos.exchange import QUICK_MS, SLOW_MS, BadDays
from tests.chaos.job import Job, job_of, running_stack
from tests.chaos.storm import Storm, Toll
from tests.chaos.watching import Broken, Display, Watcher
from tests.e2e.stack import Cloud

STORM_WITHIN_S = 1200
CALM_WITHIN_S = 900
#: Reasons of failed units that a retry may well cure; any other one is a fault of the collector.
TRANSIENT = ("WORKER_GAVE_UP", "EXCHANGE_")

Figures = dict[str, str]


def run(home: Path, units: int, kills: int, seed: int, console: Console) -> None:
    """Raises Broken where a promise was not kept."""
    console.print(f"Starting a stack of its own (seed {seed})")
    with running_stack(home, units, seed) as (cloud, endpoint), Client(cloud.api_url) as api:
        job = job_of(api, units)
        days = BadDays(cloud.exchange_url)
        days.begin()
        began = time.monotonic()
        task_id = api.start(**job.body, idempotency_key=str(uuid.uuid4())).task_id
        watcher = Watcher(api, task_id)
        with Display(console) as display:
            toll = _storm(cloud, endpoint, days, watcher, task_id, kills, seed, display)
            struck = days.end()
            days.close()
            calm = time.monotonic()
            ends, failed = _calm(cloud, api, watcher, task_id, display)
        ended = time.monotonic()
        figures = {
            "kills": f"{_spelled(toll.kills)}; {toll.killed} in all, each at work",
            "duplicates sent": _spelled(toll.copies) + f"; {toll.copies.total()} in all",
            "exchange failures": _failures(struck),
            "endpoint refused": f"{len(endpoint.refusals)} times, {sum(endpoint.refusals):.1f} s "
            f"in all, {endpoint.cut} open connections cut of {endpoint.connections}",
            "API polls": f"{watcher.polls}, {watcher.unanswered} unanswered, progress rose in "
            f"{watcher.steps} steps and never went back",
            "failed on the way": _spelled(failed) or "none",
            "from the last fault to the end": f"{ended - calm:.0f} s",
            **_checked(cloud, job, task_id, ends, console),
            "seconds": f"{ended - began:.0f} for the task",
        }
    _print(figures, console)


def _storm(
    cloud: Cloud,
    endpoint: Endpoint,
    days: BadDays,
    watcher: Watcher,
    task_id: str,
    kills: int,
    seed: int,
    display: Display,
) -> Toll:
    deadline = time.monotonic() + STORM_WITHIN_S
    with Storm(cloud, endpoint, task_id, kills, seed) as storm:
        while (done := storm.done()) < 1:
            if time.monotonic() > deadline:
                raise Broken(f"the storm was not over within {STORM_WITHIN_S} s: {storm.toll}")
            task = watcher.poll()
            if task is None:
                continue
            if task["status"] in ENDED:
                raise Broken(
                    f"the task ended ({task['status']}) after {storm.toll.killed} of {kills} kills,"
                    f" before the storm was over: give it more --units; {task['error'] or ''}"
                )
            display.show(task, f"{_so_far(storm.toll)}, {len(endpoint.refusals)} refusals")
            storm.task_done = task["progress"] / 100
            days.answer_in(SLOW_MS if storm.task_done > done else QUICK_MS)
    return storm.toll


def _calm(
    cloud: Cloud, api: Client, watcher: Watcher, task_id: str, display: Display
) -> tuple[list[str], dict[str, int]]:
    """Waits for the end, retries once what failed for a passing reason.

    Returns the state in which each attempt ended, and the first one's failures by reason.
    """
    task = _ended(watcher, display, attempt=1)
    if task["status"] == "completed" and not task["units"]["failed"]:
        return [task["status"]], {}
    _, progs = Backstage(cloud).task(task_id)
    failed = checks.reasons(progs)
    unexplained = [reason for reason in failed if not reason.startswith(TRANSIENT)]
    if unexplained or not failed:
        raise Broken(f"the task ended {task['status']}: {failed}, {task['error']}")
    api.retry(task_id)
    return [task["status"], _ended(watcher, display, attempt=2)["status"]], failed


def _ended(watcher: Watcher, display: Display, attempt: int) -> dict[str, Any]:
    task: dict[str, Any] = {}
    for task in watcher.until_ended(CALM_WITHIN_S, attempt):
        display.show(task, f"calm, attempt {task['attempt']}")
    return task


def _checked(cloud: Cloud, job: Job, task_id: str, ends: list[str], console: Console) -> Figures:
    if ends[-1] != "completed":
        raise Broken(f"the task ended {ends[-1]}")
    console.print("Comparing what is stored with what the exchange serves")
    backstage = Backstage(cloud)
    task, _ = backstage.task(task_id)
    assert task.result is not None, "a completed task has a result"
    figures = {"units": checks.counted(job, backstage, task_id)}
    figures["queues"] = checks.queues(backstage)
    figures["audit trail"] = checks.audit(backstage, task_id, ends)
    figures["candles"], keys = checks.candles(cloud, job, task.result["candles"])
    figures["coverage"] = checks.coverage(cloud, backstage, job)
    figures["objects"] = checks.objects(cloud, backstage, keys)
    return figures


def _so_far(toll: Toll) -> str:
    return f"{toll.killed} kills, {toll.copies.total()} copies"


def _failures(struck: dict[str, int]) -> str:
    kinds = {name: count for name, count in struck.items() if name != "requests"}
    share = sum(kinds.values()) / max(1, struck["requests"])
    return f"{_spelled(kinds)}; {share:.1%} of {struck['requests']} requests"


def _spelled(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count)


def _print(figures: Figures, console: Console) -> None:
    table = Table(show_header=False, box=None)
    for name, figure in figures.items():
        table.add_row(name, figure)
    console.print(table)
    console.print("Every promise held.", style="green")
