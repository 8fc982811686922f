"""Accepting a request: the same few AWS calls, however much it asks for."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace

from chalicelib.core import timeframes
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, InvalidRequest
from chalicelib.core.logs import log
from chalicelib.core.problems import invalid, problem
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.tasks import states
from chalicelib.tasks.deadline import deadline
from chalicelib.tasks.deduplicate import running_or_new
from chalicelib.tasks.quotas import take_place
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.task import Task
from chalicelib.webhooks.items import WebhookItems
from chalicelib.work.messages import GAPS, REPAIR, VERIFY, PlanMessage
from chalicelib.work.queue import WorkQueue
from chalicelib.work.request import (
    CollectionRequest,
    parse_refresh,
    parse_start,
    unknown_in,
)


async def submit_collection(
    backend: Backend, body: object, owner: str, request_id: str, task_id: str | None = None
) -> str:
    """Check a POST /start body against the catalogue, store the task, queue its planning.

    Returns the task id: another one than `task_id` where a task of the same owner and request runs
    already, unless the body forces a new one. Raises InvalidRequest, PlanTooLarge, QuotaExceeded or
    ExchangeRootChanged with the task not stored. Four AWS calls, for one symbol and for thousands;
    two more where the request was started before, one more with a webhook, and one where active
    tasks are limited. A symbol that is not known may be new: the list is then read again.
    """
    catalogue = await CatalogueTable(backend).read_own_catalogue()
    known = catalogue.known if catalogue else None
    try:
        request = parse_start(body, known, backend.settings, backend.now_ms())
    except InvalidRequest:
        await refresh_for_unknown(backend, body, known, owner, request_id)
        raise
    task_id = task_id or str(uuid.uuid4())
    if not request.force:
        task_id, runs = await running_or_new(backend, owner, request, task_id)
        if runs:
            return task_id
    return await submit(
        backend,
        states.DATA_COLLECTION,
        request,
        owner=owner,
        request_id=request_id,
        task_id=task_id,
    )


async def submit_filling(
    backend: Backend, body: object, owner: str, request_id: str, task_id: str | None = None
) -> str:
    """A collection of what is missing and nothing explains: POST /start with "fill": "gaps".

    Returns and raises as `submit_collection`.
    """
    if isinstance(body, dict):
        if "fill" in body:
            raise invalid([problem('is always "gaps" here: leave it out', "/fill")])
        body = {**body, "fill": GAPS}
    return await submit_collection(backend, body, owner, request_id, task_id)


async def submit_verification(
    backend: Backend, body: object, owner: str, request_id: str, task_id: str | None = None
) -> str:
    """A task that reads stored objects again, given a POST /coverage/verify body.

    Returns and raises as `submit_collection`; without `timeframes` it is about all of them.
    """
    repair: object = False
    if isinstance(body, dict):
        repair = body.get("repair", False)
        errors = [problem("must be true or false", "/repair")] * (not isinstance(repair, bool))
        if "fill" in body:
            errors.append(problem("is no field of this request: leave it out", "/fill"))
        if errors:
            raise invalid(errors)
        asked = {name: value for name, value in body.items() if name != "repair"}
        body = {"timeframes": [*timeframes.LENGTH_MS], **asked}
    catalogue = await CatalogueTable(backend).read_own_catalogue()
    known = catalogue.known if catalogue else None
    request = parse_start(body, known, backend.settings, backend.now_ms(), is_sized=False)
    return await submit(
        backend,
        states.DATA_COLLECTION,
        replace(request, fill=REPAIR if repair else VERIFY),
        owner=owner,
        request_id=request_id,
        task_id=task_id,
    )


async def refresh_for_unknown(
    backend: Backend, body: object, known: Mapping[str, str] | None, owner: str, request_id: str
) -> None:
    """Submit a symbol refresh where a refused POST /start body names a symbol that may be new.

    One such refresh a minute is submitted, however many callers ask for one.
    """
    if unknown_in(body, known) and await CatalogueTable(backend).claim_refresh(backend.now_ms()):
        # The collector's own work: the owner asked for something else.
        await submit_symbol_refresh(backend, owner, request_id, counts=False)


async def submit_symbol_refresh(
    backend: Backend,
    owner: str,
    request_id: str,
    task_id: str | None = None,
    body: object = None,
    counts: bool = True,
) -> str:
    """Store a task that refreshes the symbols, and queue it. Returns its id.

    `body`: of POST /refresh-symbols; `counts`: as `submit` has it. Raises InvalidRequest,
    QuotaExceeded.
    """
    request = parse_refresh({} if body is None else body)
    return await submit(
        backend,
        states.SYMBOL_REFRESH,
        request,
        owner=owner,
        request_id=request_id,
        task_id=task_id,
        counts=counts,
    )


async def submit(
    backend: Backend,
    task_type: str,
    request: CollectionRequest,
    *,
    owner: str,
    request_id: str,
    task_id: str | None = None,
    source: str = states.BY_REQUEST,
    schedule_id: str | None = None,
    counts: bool = True,
    by: str | None = None,
) -> str:
    """Store a pending task and queue its planning. Returns its id.

    `request_id`: the HTTP request, or invocation, that asks for it. `task_id`: given twice it makes
    one task; without it a new one. `source`: states.BY_REQUEST, BY_SCHEDULE, BY_FRESHNESS or
    BY_DELISTING. `counts`: whether it is one of the active tasks that its owner may have. `by`: who
    asks, where that is not its owner. Raises QuotaExceeded with nothing stored.
    """
    task_id = task_id or str(uuid.uuid4())
    if counts:
        await take_place(backend, owner, task_id, 1)
    now_ms = backend.now_ms()
    task = Task(
        task_id=task_id,
        task_type=task_type,
        state=states.PENDING,
        attempt=1,
        # Without the webhook: its secret is kept in an item of its own.
        request=replace(request, webhook=None).pack(),
        priority=request.priority,
        owner=owner,
        source=source,
        request_id=request_id,
        created_at=now_ms,
        plan_sent_at=now_ms,
        deadline_at=deadline(backend, request),
        message="Waiting to be planned",
        webhook_host=request.webhook.host if request.webhook else None,
        schedule_id=schedule_id,
        retries_left=request.retries,
        moved_by=by,
    )
    if request.webhook is not None:
        await WebhookItems(backend).write(task_id, owner, request.webhook, now_ms)
    await TaskTable(backend).create(task)
    log(
        "task_submitted",
        task_id=task_id,
        attempt=1,
        task_type=task_type,
        priority=request.priority,
        source=source,
    )
    # Sent even where the task was there already: this very call may have stored it, and lost the
    # answer. A plan message too many changes nothing.
    await queue_planning(backend, task_id, 1)
    return task_id


async def queue_planning(backend: Backend, task_id: str, attempt: int) -> None:
    """Send the plan message; where that fails, sweep sends it within 90 seconds."""
    try:
        await WorkQueue(backend).send_plan(PlanMessage(task_id, attempt))
    except CallFailed as failed:
        log("plan_not_queued", level="warning", task_id=task_id, error=failed.detail)
