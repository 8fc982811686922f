"""Checking keys, with one cached read; making, rotating and revoking them.

A container reads a key once a minute at most. So a revoked key works nowhere a minute later, and
most requests read nothing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from chalicelib.access import key as items
from chalicelib.access.key import Key
from chalicelib.access.key_request import parse_new
from chalicelib.access.key_table import KeyTable
from chalicelib.core.backend import Backend
from chalicelib.core.errors import (
    CallFailed,
    ConditionFailed,
    Conflict,
    KeyNotFound,
    Unauthenticated,
)
from chalicelib.core.logs import log

#: For so long a container trusts what it has read of a key.
CACHED_MS = 60_000
#: A use is noted only where the last one was noted so long ago: not one write per request.
USE_NOTED_MS = 300_000
_MOST_CACHED = 1000
_SCHEME = "bearer "
#: RFC 6750, section 3.1.
_INVALID = 'Bearer realm="data-collector", error="invalid_token"'

View = dict[str, Any]
#: Key id -> the key, and when it was read, epoch ms.
_Cache = dict[str, tuple[Key, int]]


async def verify(backend: Backend, authorization: str) -> Key:
    """The key that an Authorization header holds.

    Raises Unauthenticated. A malformed, an unknown and a wrong key get the same answer.
    """
    if not authorization.strip():
        raise Unauthenticated("send a key: Authorization: Bearer <key>", reason="KEY_REQUIRED")
    parsed = None
    if authorization[: len(_SCHEME)].lower() == _SCHEME:
        parsed = items.parse(authorization[len(_SCHEME) :].strip())
    if parsed is None:
        raise _refused()
    key_id, secret = parsed
    key = _cached(backend, key_id)
    if not items.fits(key, secret):  # not as it was read last: it may have been rotated since
        key = await _read(backend, key_id)
        if not items.fits(key, secret):
            raise _refused()
    assert key is not None, "no secret fits a key that is not there"
    # Whoever has the right secret may know what became of it.
    if why := _why_not(key, backend.now_ms()):
        raise Unauthenticated(f"this key {why}", reason="KEY_ENDED", challenge=_INVALID)
    await _note_use(backend, key)
    return key


async def why_ended(backend: Backend, key_id: str) -> str | None:
    """Why a key works no more, to follow "the key"; None where it works."""
    key = _cached(backend, key_id) or await _read(backend, key_id)
    return _why_not(key, backend.now_ms()) if key else "is gone"


async def create_key(
    backend: Backend, body: object, by: str, request_id: str | None = None
) -> View:
    """Make a key for an owner. The view has its text, `key`, which is shown this once.

    Raises InvalidRequest, and Conflict where keys are not in use.
    """
    owner, scopes, expires_at = parse_new(body, backend.now_ms())
    _require_in_use(backend)
    key, text = items.made(owner, scopes, backend.now_ms(), by, expires_at, request_id)
    await KeyTable(backend).add(key)
    log("key_created", key_id=key.key_id, owner=owner, scopes=list(key.scopes), by=by)
    return {**items.view(key, backend.now_ms()), "key": text}


async def list_keys(
    backend: Backend, limit: int, after: str | None
) -> tuple[list[View], str | None]:
    """One page of keys, and where the next one starts. Raises Conflict as `create_key` does."""
    _require_in_use(backend)
    page, following = await KeyTable(backend).page(limit, after)
    return [items.view(key, backend.now_ms()) for key in page], following


async def rotate_key(backend: Backend, key_id: str, by: str, request_id: str | None = None) -> View:
    """Give a key another secret; its old text works no more. The view has the new text, `key`.

    Raises KeyNotFound; Conflict where the key has ended, is rotated by somebody else just now, or
    where keys are not in use.
    """
    seen = await _find(backend, key_id)
    if why := _why_not(seen, backend.now_ms()):
        raise Conflict(f"the key {key_id} {why}; make a new one", reason="KEY_ENDED")
    new, text = items.rotated(seen, backend.now_ms(), by, request_id)
    try:
        key = await KeyTable(backend).replace_secret(seen, new)
    except ConditionFailed:
        raise Conflict(
            f"the key {key_id} was rotated or revoked by somebody else just now",
            reason="KEY_CHANGED",
        ) from None
    _cache_of(backend).pop(key_id, None)
    log("key_rotated", key_id=key_id, by=by)
    return {**items.view(key, backend.now_ms()), "key": text}


async def revoke_key(backend: Backend, key_id: str, by: str, request_id: str | None = None) -> View:
    """Revoke a key for good; to repeat it changes nothing. Raises KeyNotFound, and Conflict where
    keys are not in use."""
    await _find(backend, key_id)
    key = await KeyTable(backend).revoke(key_id, backend.now_ms(), by, request_id)
    if key is None:
        raise _not_found(key_id)
    _cache_of(backend).pop(key_id, None)
    log("key_revoked", key_id=key_id, by=by)
    return items.view(key, backend.now_ms())


async def _find(backend: Backend, key_id: str) -> Key:
    if not items.is_id(key_id):
        raise _not_found(key_id)
    _require_in_use(backend)
    key = await KeyTable(backend).read(key_id)
    if key is None:
        raise _not_found(key_id)
    return key


def _require_in_use(backend: Backend) -> None:
    """Raises Conflict where nobody is asked for a key.

    Whoever calls there must not leave an admin's key behind for later.
    """
    if backend.settings.authentication != "keys":
        raise Conflict("keys are not in use here (AUTHENTICATION=keys)", reason="KEYS_NOT_IN_USE")


def _why_not(key: Key, now_ms: int) -> str | None:
    if key.revoked_at is not None:
        return "was revoked"
    return "has expired" if key.has_expired(now_ms) else None


async def _note_use(backend: Backend, key: Key) -> None:
    now_ms = backend.now_ms()
    before_ms = now_ms - USE_NOTED_MS
    if key.last_used_at is not None and key.last_used_at > before_ms:
        return
    # Cached before it is written: where that fails, not every request tries it again.
    cache = _cache_of(backend)
    if key.key_id in cache:
        read_at = cache[key.key_id][1]
        cache[key.key_id] = (replace(key, last_used_at=now_ms), read_at)
    try:
        await KeyTable(backend).note_use(key.key_id, now_ms, before_ms)
    except CallFailed as failed:  # a request is worth more than the note that it came
        log("key_use_not_noted", level="warning", key_id=key.key_id, error=failed.detail)


@lru_cache(maxsize=1)
def _cache_of(backend: Backend) -> _Cache:
    """The container's cache: it has one backend."""
    return {}


def _cached(backend: Backend, key_id: str) -> Key | None:
    key, read_at = _cache_of(backend).get(key_id, (None, 0))
    return key if 0 <= backend.now_ms() - read_at < CACHED_MS else None


async def _read(backend: Backend, key_id: str) -> Key | None:
    """The key as it is stored. One that is not there is not cached: it may be made at any time."""
    at_ms, key = backend.now_ms(), await KeyTable(backend).read(key_id)
    cache = _cache_of(backend)
    cache.pop(key_id, None)
    if key is not None:
        if len(cache) >= _MOST_CACHED:
            cache.clear()
        cache[key_id] = (key, at_ms)
    return key


def _refused() -> Unauthenticated:
    return Unauthenticated("this is no key of this API", reason="KEY_REFUSED", challenge=_INVALID)


def _not_found(key_id: str) -> KeyNotFound:
    return KeyNotFound(f"there is no key {key_id[:100]}")
