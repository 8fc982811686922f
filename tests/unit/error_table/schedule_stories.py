"""Stories of schedules: made, changed, fired, missed and deleted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chalicelib.core.errors import CallFailed
from chalicelib.core.times import iso
from chalicelib.schedules import watch as schedule_watch
from tests.doubles.faults import Meanwhile
from tests.unit.error_table.life import BODY, MINUTE_MS, Life


def _scheduled(life: Life, **fields: Any) -> str:
    """A schedule made over HTTP; its path."""
    request = {name: BODY[name] for name in ("symbols", "timeframes")}
    body = {"expression": "cron(0 * * * ? *)", "request": request, **fields}
    answer = life.ask("POST", "/schedules", body, "schedule-key")
    assert answer.status_code == 201, answer.body
    return f"/schedules/{answer.json_body['schedule_id']}"


def fire(life: Life, path: str) -> None:
    """EventBridge fires the next run, twice, each up to three times; ours may have died with it."""
    schedule_id = path.rpartition("/")[2]
    item = next(
        item
        for item in life.aws.items("tasks")
        if "synced_rev" in item and item["schedule_id"] == {"S": schedule_id}
    )
    life.clock.advance_to(int(item["next_run_at"]["N"]))
    event = life.aws.scheduler.firing(schedule_id, str(iso(life.clock())))
    for _ in range(2):
        for _ in range(3):
            if life.run("schedule", lambda: schedule_watch.receive_firing(life.worker, event, "r"))[
                0
            ]:
                break


def a_schedule_and_its_life(life: Life) -> None:
    path = _scheduled(life, overlap="queue")
    life.watch()
    fire(life, path)
    fire(life, path)  # waits for the first
    for _ in range(3):
        life.settle()
        life.clock.advance(MINUTE_MS)
        life.watch()
    life.settle()
    for method, where, body in (
        ("GET", "/schedules", None),
        ("GET", path, None),
        ("PATCH", path, {"expression": "rate(1 day)", "name": "slower"}),
        ("POST", f"{path}/run", None),
        ("PATCH", path, {"enabled": False}),
    ):
        answer = life.ask(method, where, body, "run-key" if method == "POST" else None)
        assert answer.status_code < 400, answer.body
    life.settle()
    assert life.ask("DELETE", path).status_code in (200, 404)
    life.settle()


def a_schedule_whose_runs_never_came(life: Life) -> None:
    unlimited = replace(life.settings, owner_schedules=0)
    life.worker = replace(life.worker, settings=unlimited)
    _scheduled(life, catch_up=True)
    life.watch()
    life.clock.advance(2 * MINUTE_MS * 60)
    for _ in range(2):
        life.watch()
        life.clock.advance(MINUTE_MS)
    life.settle()


def a_schedule_half_made(life: Life) -> None:
    """EventBridge never heard of it, though it was made, changed and deleted."""
    for name in ("CreateSchedule", "UpdateSchedule", "DeleteSchedule"):

        async def fail(name: str = name) -> None:
            raise CallFailed("scheduler", name, "InternalServerException", "part of the story")

        hook = Meanwhile(lambda called, name=name: called.operation == name, fail)  # type: ignore[misc]
        life.aws.hooks.append(hook)
        if name == "CreateSchedule":
            path = _scheduled(life)
        elif name == "UpdateSchedule":
            life.ask("PATCH", path, {"enabled": False})
        else:
            life.ask("DELETE", path)
        life.aws.hooks.remove(hook)
        life.watch()
        life.watch()


def a_schedule_whose_webhook_comes_and_goes(life: Life) -> None:
    request = {name: BODY[name] for name in ("symbols", "timeframes")}
    hook = {"url": "https://hooks.acme.com/in", "secret": "x" * 24}
    path = _scheduled(life, request={**request, "webhook": hook})
    life.ask("PATCH", path, {"request": {**request, "webhook": {**hook, "secret": "y" * 24}}})
    life.watch()
    fire(life, path)
    life.settle()
    life.ask("PATCH", path, {"request": request})
    assert "yyy" not in str([item for item in life.aws.items("tasks") if _is_beside(item)])
    life.ask("DELETE", path)
    life.watch()
    life.settle()
    assert not [item for item in life.aws.items("tasks") if _is_beside(item)]


def _is_beside(item: dict[str, Any]) -> bool:
    return bool(item["sk"]["S"].startswith(("WEBHOOK#", "LAG#")))


def a_promise_that_is_broken(life: Life) -> None:
    path = _scheduled(life, freshness={"max_lag_seconds": 60})
    life.clock.advance(2 * MINUTE_MS * 60)
    for _ in range(3):
        life.watch()
        life.settle()
        life.clock.advance(MINUTE_MS)
    life.watch()
    assert life.ask("GET", path).json_body["freshness"]["promised_seconds"] == 60
    life.ask("PATCH", path, {"enabled": False})
    life.settle()
