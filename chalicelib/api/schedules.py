"""The HTTP API of schedules: parse, one call, format.

Each route loads the schedules' modules itself: at the top they would add a tenth to every cold
start of the API, and few requests are for schedules.
"""

from __future__ import annotations

import json
import re

from chalice.app import Response

from chalicelib import wiring
from chalicelib.access.caller import owners_seen
from chalicelib.access.scopes import COLLECT, READ
from chalicelib.api import web
from chalicelib.api.idempotency import Body
from chalicelib.aws.calls import run
from chalicelib.core.problems import invalid

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@web.route("POST", "/schedules", scope=COLLECT)
def create_schedule() -> Response:
    from chalicelib.schedules import manage

    backend, body = wiring.backend(), web.json_body()
    caller, request_id = web.caller(), web.request_id()

    async def work(schedule_id: str, _: bool) -> tuple[int, Body]:
        made = manage.create_schedule(
            backend, body, caller.owner, request_id, schedule_id, caller.key_id
        )
        return 201, await made

    answer = web.once(backend, body, work)
    path = f"{web.PREFIX}/schedules/{json.loads(answer.body)['schedule_id']}"
    answer.headers["Location"] = path
    return answer


@web.route("GET", "/schedules", scope=READ)
def get_schedules() -> Response:
    from chalicelib.schedules import manage

    backend, query = wiring.backend(), web.query("page_size", "page_token")
    page_size, after = web.page_size(query, backend.settings), query.get("page_token")
    if errors := web.page_token_errors(query, _UUID):
        raise invalid(errors)
    found, following = run(manage.list_schedules(backend, _owners(), page_size, after))
    return web.answer(200, {"schedules": found, "next_page_token": following})


@web.route("GET", "/schedules/{schedule_id}", scope=READ)
def get_schedule(schedule_id: str) -> Response:
    from chalicelib.schedules import manage

    web.query()
    view = manage.view_schedule(wiring.backend(), _owners(), web.path_id("schedule", schedule_id))
    return web.answer(200, run(view))


@web.route("PATCH", "/schedules/{schedule_id}", scope=COLLECT)
def change_schedule(schedule_id: str) -> Response:
    from chalicelib.schedules import manage

    changed = manage.change_schedule(
        wiring.backend(),
        web.json_body(),
        web.owner(),
        web.request_id(),
        web.path_id("schedule", schedule_id),
        web.caller().key_id,
        _owners(),
    )
    return web.answer(200, run(changed))


@web.route("DELETE", "/schedules/{schedule_id}", scope=COLLECT)
def delete_schedule(schedule_id: str) -> Response:
    from chalicelib.schedules import manage

    web.no_fields()
    backend = wiring.backend()
    run(
        manage.delete_schedule(
            backend, web.owner(), web.request_id(), web.path_id("schedule", schedule_id), _owners()
        )
    )
    return web.answer(200, {"schedule_id": schedule_id, "status": "deleted"})


@web.route("POST", "/schedules/{schedule_id}/run", scope=COLLECT)
def run_schedule_now(schedule_id: str) -> Response:
    from chalicelib.schedules import manage

    backend, body = wiring.backend(), web.no_fields()
    owner, request_id, owners = web.owner(), web.request_id(), _owners()

    async def work(task_id: str, _: bool) -> tuple[int, Body]:
        await manage.run_now(
            backend, owner, request_id, web.path_id("schedule", schedule_id), task_id, owners
        )
        return web.submitted(task_id, "Collection submitted", schedule_id=schedule_id)

    return web.once(backend, body, work)


def _owners() -> tuple[str, ...]:
    """Whose schedules the caller sees and changes."""
    return run(owners_seen(wiring.backend(), web.caller()))
