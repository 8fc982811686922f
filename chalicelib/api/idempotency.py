"""Requests with an Idempotency-Key: the same key and request give the first answer again.

Kept for `idempotency_ttl_seconds`. Another request under a used key is refused (422), one that
arrives while the first is being worked on too (409). A request that was rejected frees its key.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from chalicelib.api.idempotency_keys import ANSWERED, IdempotencyKeys
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, Conflict, InvalidRequest, KeyReused, RequestRejected
from chalicelib.core.logs import log

MOST_KEY_LENGTH = 255
Body = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the caller gets; `replayed` where it is an earlier answer, `expires_ms` of the key."""

    status: int
    body: Body
    replayed: bool = False
    expires_ms: int | None = None


#: Works on the request. Gets the task id to use, and whether an earlier try broke off.
Work = Callable[[str, bool], Awaitable[tuple[int, Body]]]


async def answer_once(
    backend: Backend, owner: str, key: str | None, request: tuple[str, object], work: Work
) -> Answer:
    """Do `work`, once per key. `request` is (method and path, parsed body): what must be the same.

    Raises InvalidRequest for a malformed key, KeyReused, Conflict, and what `work` raises.
    """
    if key is None:
        return Answer(*await work(str(uuid.uuid4()), False))
    if not (0 < len(key) <= MOST_KEY_LENGTH and key.isascii() and key.isprintable()):
        raise InvalidRequest(
            f"Idempotency-Key must have 1 to {MOST_KEY_LENGTH} printable ASCII characters",
            reason="INVALID_IDEMPOTENCY_KEY",
        )
    now_ms = backend.now_ms()
    expires = now_ms // 1000 + backend.settings.idempotency_ttl_seconds
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    claimed, item = await IdempotencyKeys(backend).claim(
        owner, key, digest, str(uuid.uuid4()), now_ms, expires
    )
    if not claimed:
        return _earlier(item, digest)
    try:
        status, body = await work(item["task_id"], "taken_over" in item)
        await IdempotencyKeys(backend).answer(owner, key, status, json.dumps(body))
    except RequestRejected:
        await IdempotencyKeys(backend).release(owner, key)
        raise
    except CallFailed:
        await _leave_open(backend, owner, key)
        raise
    return Answer(status, body, expires_ms=item["ttl"] * 1000)


def _earlier(item: dict[str, Any], digest: str) -> Answer:
    if item["request_hash"] != digest:
        raise KeyReused("this Idempotency-Key was used for another request")
    if item["state"] != ANSWERED:
        raise Conflict(
            "the first request with this Idempotency-Key is still being worked on",
            reason="IDEMPOTENCY_KEY_IN_FLIGHT",
        )
    return Answer(
        item["answer_status"],
        json.loads(item["answer_body"]),
        replayed=True,
        expires_ms=item["ttl"] * 1000,
    )


async def _leave_open(backend: Backend, owner: str, key: str) -> None:
    try:
        await IdempotencyKeys(backend).leave_open(owner, key)
    except CallFailed as failed:  # then the claim counts as abandoned in half a minute
        log("key_not_left_open", level="warning", error=failed.detail)
