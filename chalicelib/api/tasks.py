"""The HTTP API of tasks, the collector's state and prices: parse, one call, format."""

from __future__ import annotations

import re

from chalice.app import Response

from chalicelib import wiring
from chalicelib.access.caller import owners_seen
from chalicelib.access.scopes import COLLECT, READ
from chalicelib.api import web
from chalicelib.api.idempotency import Body
from chalicelib.aws.calls import run
from chalicelib.core.problems import invalid, problem
from chalicelib.core.times import iso
from chalicelib.exchange.prices import latest_prices
from chalicelib.monitoring.status import collector_status, task_stats
from chalicelib.tasks import states
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.retry import retry_task
from chalicelib.tasks.submit import submit_collection, submit_symbol_refresh
from chalicelib.tasks.view import list_active, list_tasks, view_task

_DRY_RUN = "dry_run"
_PAGE_TOKEN = re.compile(r"\d{13}#[0-9a-f-]{36}")


@web.route("POST", "/start", scope=COLLECT)
def start() -> Response:
    backend = wiring.backend()
    is_dry, body = _without_dry_run(web.json_body())
    if is_dry:
        # Here, not above: the API's cold start would pay for it.
        from chalicelib.collecting.quote import quote

        web.idempotency_key()  # not claimed, but refused where the request itself would be
        return web.answer(200, run(quote(backend, body, web.caller().is_admin)))

    async def work(task_id: str, _: bool) -> tuple[int, Body]:
        made = await submit_collection(backend, body, web.owner(), web.request_id(), task_id)
        repeats = made != task_id
        message = "The same collection runs already" if repeats else "Collection submitted"
        return web.submitted(made, message, deduplicated=repeats)

    return web.once(backend, body, work)


@web.route("POST", "/refresh-symbols", scope=COLLECT)
def refresh_symbols() -> Response:
    backend, body = wiring.backend(), web.json_body()

    async def work(task_id: str, _: bool) -> tuple[int, Body]:
        await submit_symbol_refresh(backend, web.owner(), web.request_id(), task_id, body)
        return web.submitted(task_id, "Symbol refresh submitted")

    return web.once(backend, body, work)


@web.route("GET", "/task/{task_id}", scope=READ)
def get_task(task_id: str) -> Response:
    web.query()
    view = run(view_task(wiring.backend(), web.path_id("task", task_id), web.caller().sees))
    headers = {} if view["status"] in states.TERMINAL else {"Retry-After": web.POLL_SECONDS}
    return web.answer(200, view, headers)


@web.route("GET", "/tasks", scope=READ)
def get_tasks() -> Response:
    backend = wiring.backend()
    query = web.query("task_type", "status", "page_size", "page_token")
    page_size = web.page_size(query, backend.settings)
    allowed = {"task_type": states.TASK_TYPES, "status": states.STATES}
    errors = web.choice_errors(query, allowed)
    errors += web.page_token_errors(query, _PAGE_TOKEN)
    if errors:
        raise invalid(errors)
    found, following = run(
        list_tasks(
            backend,
            run(owners_seen(backend, web.caller())),
            page_size,
            before=query.get("page_token"),
            task_type=query.get("task_type"),
            state=query.get("status"),
        )
    )
    return web.answer(200, {"tasks": found, "next_page_token": following})


@web.route("GET", "/tasks/active", scope=READ)
def get_active_tasks() -> Response:
    backend = wiring.backend()
    query = web.query("page_size", "page_token")
    page_size = web.page_size(query, backend.settings)
    if errors := web.page_token_errors(query, _PAGE_TOKEN):
        raise invalid(errors)
    after = query.get("page_token")
    found, following = run(list_active(backend, web.caller().sees, page_size, after))
    page = {"tasks": found, "count": len(found), "next_page_token": following}
    return web.answer(200, page)


@web.route("GET", "/tasks/stats", scope=READ)
def get_task_stats() -> Response:
    web.query()
    return web.answer(200, run(task_stats(wiring.backend(), web.owner())))


@web.route("POST", "/task/{task_id}/cancel", scope=COLLECT)
def cancel(task_id: str) -> Response:
    backend, body = wiring.backend(), web.no_fields()

    async def work(_: str, taken_over: bool) -> tuple[int, Body]:
        did, receipt = await cancel_task(
            backend, web.path_id("task", task_id), sees=web.caller().sees, **_sender()
        )
        did = did or taken_over
        return (202 if did else 200), {
            "task_id": task_id,
            "status": receipt.state,
            "message": _cancelled(did, receipt.state),
            "stopped_at": iso(receipt.stopped_at),
            "units": {
                "total": receipt.counts["units"],
                "succeeded": receipt.counts["succeeded"],
                "failed": receipt.counts["failed"],
            },
            "candles": receipt.counts["candles"],
        }

    return web.once(backend, body, work)


@web.route("POST", "/task/{task_id}/retry", scope=COLLECT)
def retry(task_id: str) -> Response:
    backend, body = wiring.backend(), web.no_fields()

    async def work(_: str, taken_over: bool) -> tuple[int, Body]:
        attempt = await retry_task(
            backend,
            web.path_id("task", task_id),
            taken_over,
            sees=web.caller().sees,
            **_sender(),
        )
        return web.submitted(task_id, f"Attempt {attempt} submitted", attempt=attempt)

    return web.once(backend, body, work)


@web.route("GET", "/status", scope=READ)
def get_status() -> Response:
    web.query()
    return web.answer(200, run(_status()))


@web.route("GET", "/latest-prices", scope=READ)
def get_latest_prices() -> Response:
    symbols = web.query("symbols").get("symbols")
    wanted = None if symbols is None else [part for part in symbols.split(",") if part]
    return web.answer(200, run(latest_prices(wiring.backend(), wanted)))


async def _status() -> Body:
    backend, caller = wiring.backend(), web.caller()
    owners = await owners_seen(backend, caller)
    status = await collector_status(backend, caller.owner, owners, caller.is_admin)
    return {**status, "caller": {"key_id": None, **caller.row}}


def _cancelled(did: bool, state: str) -> str:
    if state != states.CANCELLED:
        return "No further attempt"
    return "Cancelled" if did else "Already cancelled"


def _sender() -> dict[str, str]:
    """Who did it, and with which request, for the audit trail."""
    return {"by": web.owner(), "request_id": web.request_id()}


def _without_dry_run(body: object) -> tuple[bool, object]:
    """Whether a POST /start body asks for a quote alone, and the body without that field.

    Raises InvalidRequest.
    """
    if not isinstance(body, dict) or _DRY_RUN not in body:
        return False, body
    is_dry = body[_DRY_RUN]
    if not isinstance(is_dry, bool):
        raise invalid([problem("must be true or false", f"/{_DRY_RUN}")])
    return is_dry, {name: value for name, value in body.items() if name != _DRY_RUN}
