"""Requests with an Idempotency-Key: the same key and request give the first answer again.

The answer is kept for `idempotency_ttl_seconds`. Another request under a used key is refused (422).
So is a repetition that arrives while the first request is being worked on (409). A request that was
rejected frees its key.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, Conflict, InvalidRequest, KeyReused, RequestRejected
from chalicelib.core.logs import log
from chalicelib.tasks.idempotency_keys import IdempotencyKey, IdempotencyKeys

MOST_KEY_LENGTH = 255
Body = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the caller gets.

    `replayed`: whether it is an earlier answer. `expires_ms`: until when the key holds, epoch ms.
    """

    status: int
    body: Body
    replayed: bool = False
    expires_ms: int | None = None


#: Works on the request: (the task id to use, whether an earlier try broke off) -> status and body.
Work = Callable[[str, bool], Awaitable[tuple[int, Body]]]


def checked_key(key: str | None) -> str | None:
    """The key, as it came. Raises InvalidRequest for a malformed one."""
    if key is None or (0 < len(key) <= MOST_KEY_LENGTH and key.isascii() and key.isprintable()):
        return key
    raise InvalidRequest(
        f"Idempotency-Key must have 1 to {MOST_KEY_LENGTH} printable ASCII characters",
        reason="INVALID_IDEMPOTENCY_KEY",
    )


async def answer_once(
    backend: Backend, owner: str, key: str | None, request: tuple[str, object], work: Work
) -> Answer:
    """Do `work`, once per key. A repetition must have the same `request`: (path, parsed body).

    Raises KeyReused, Conflict, and what `work` raises.
    """
    if key is None:
        return Answer(*await work(str(uuid.uuid4()), False))
    now_ms = backend.now_ms()
    expires = now_ms // 1000 + backend.settings.idempotency_ttl_seconds
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    keys = IdempotencyKeys(backend)
    claim = await keys.claim(owner, key, digest, str(uuid.uuid4()), now_ms, expires)
    if not claim.granted:
        return _earlier(claim.key, digest)
    try:
        status, body = await work(claim.key.task_id, claim.taken_over)
        await keys.answer(owner, key, status, json.dumps(body))
    except RequestRejected:
        await keys.release(owner, key)
        raise
    except CallFailed:
        await _leave_open(backend, owner, key)
        raise
    return Answer(status, body, expires_ms=claim.key.ttl * 1000)


def _earlier(key: IdempotencyKey, digest: str) -> Answer:
    """The answer that is kept. Raises KeyReused, and Conflict where there is none yet."""
    if key.request_hash != digest:
        raise KeyReused("this Idempotency-Key was used for another request")
    if key.answer is None:
        raise Conflict(
            "the first request with this Idempotency-Key is still being worked on",
            reason="IDEMPOTENCY_KEY_IN_FLIGHT",
        )
    status, body = key.answer
    return Answer(status, json.loads(body), replayed=True, expires_ms=key.ttl * 1000)


async def _leave_open(backend: Backend, owner: str, key: str) -> None:
    try:
        await IdempotencyKeys(backend).leave_open(owner, key)
    except CallFailed as failed:  # the claim counts as abandoned half a minute later
        log("key_not_left_open", level="warning", error=failed.detail)
