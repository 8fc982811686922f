"""POST /pause and POST /resume: stop and start all requests to the exchange."""

from __future__ import annotations

from chalice.app import Response

from chalicelib import wiring
from chalicelib.access.scopes import ADMIN
from chalicelib.api import web
from chalicelib.api.idempotency import Body
from chalicelib.tasks.pause import pause_requests, resume_requests


@web.route("POST", "/pause", scope=ADMIN)
def pause() -> Response:
    backend, body = wiring.backend(), web.json_body()
    owner, request_id = web.owner(), web.request_id()

    async def work(_: str, __: bool) -> tuple[int, Body]:
        return 200, await pause_requests(backend, body, owner, request_id)

    return web.once(backend, body, work)


@web.route("POST", "/resume", scope=ADMIN)
def resume() -> Response:
    backend, body = wiring.backend(), web.no_fields()
    owner, request_id = web.owner(), web.request_id()

    async def work(_: str, __: bool) -> tuple[int, Body]:
        return 200, await resume_requests(backend, owner, request_id)

    return web.once(backend, body, work)
