"""An API key: its text, and the item that is stored of it. Pure.

    mdc_0123456789abcdef_vJqpt...      prefix, key id (16 hex digits), secret (43 characters)

The secret is 256 random bits, and only its SHA-256 is stored. A slow hash (bcrypt, scrypt) protects
secrets that people choose, because those can be guessed one by one. Nobody guesses 256 random bits,
however fast the hash is, and a slow one would cost each request its time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from chalicelib.core.times import iso

if TYPE_CHECKING:
    from chalicelib.aws.stream import Change

LIVE, EXPIRED, REVOKED = "live", "expired", "revoked"
_TEXT = re.compile(r"mdc_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Key:
    """Times are epoch milliseconds; None: never, or not yet.

    `scopes`: as they were given, sorted; `secret_hash`: hex; `created_by`, `rotated_by`,
    `revoked_by`: owners; `last_used_at`: some minutes behind (keys.USE_NOTED_MS); `request_id`: the
    HTTP request that made, rotated or revoked it last, None: whoever deployed.
    """

    key_id: str
    owner: str
    scopes: tuple[str, ...]
    secret_hash: str
    created_at: int
    created_by: str
    expires_at: int | None = None
    rotated_at: int | None = None
    rotated_by: str | None = None
    last_used_at: int | None = None
    revoked_at: int | None = None
    revoked_by: str | None = None
    request_id: str | None = None

    def is_alive(self, now_ms: int) -> bool:
        return self.revoked_at is None and not self.has_expired(now_ms)

    def has_expired(self, now_ms: int) -> bool:
        return self.expires_at is not None and self.expires_at <= now_ms

    def status(self, now_ms: int) -> str:
        if self.revoked_at is not None:
            return REVOKED
        return EXPIRED if self.has_expired(now_ms) else LIVE


def made(
    owner: str,
    scopes: tuple[str, ...],
    now_ms: int,
    by: str,
    expires_at: int | None = None,
    request_id: str | None = None,
) -> tuple[Key, str]:
    """A new key, and its text, which is not stored anywhere."""
    key_id, secret = os.urandom(8).hex(), _secret()
    held, stored = tuple(sorted(set(scopes))), _hash(secret)
    key = Key(key_id, owner, held, stored, now_ms, by, expires_at, request_id=request_id)
    return key, _text(key_id, secret)


def rotated(key: Key, now_ms: int, by: str, request_id: str | None = None) -> tuple[Key, str]:
    """The key with a new secret, and its new text."""
    secret = _secret()
    new = replace(
        key, secret_hash=_hash(secret), rotated_at=now_ms, rotated_by=by, request_id=request_id
    )
    return new, _text(key.key_id, secret)


def parse(text: str) -> tuple[str, str] | None:
    """Key id and secret of a key's text; None where it cannot be one."""
    found = _TEXT.fullmatch(text)
    return (found[1], found[2]) if found else None


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def fits(key: Key | None, secret: str) -> bool:
    """Whether it is the key's secret, in the same time whatever differs; None: an unknown key."""
    stored = key.secret_hash if key else hashlib.sha256(b"").hexdigest()
    return hmac.compare_digest(stored, _hash(secret)) and key is not None


def view(key: Key, now_ms: int) -> dict[str, Any]:
    """What GET /keys shows of a key: nothing of its secret."""
    return {
        "key_id": key.key_id,
        "owner": key.owner,
        "scopes": list(key.scopes),
        "status": key.status(now_ms),
        "created_at": iso(key.created_at),
        "created_by": key.created_by,
        "expires_at": iso(key.expires_at),
        "rotated_at": iso(key.rotated_at),
        "rotated_by": key.rotated_by,
        "last_used_at": iso(key.last_used_at),
        "revoked_at": iso(key.revoked_at),
        "revoked_by": key.revoked_by,
    }


# --- items ----------------------------------------------------------------------------------------


def item_of(key: Key) -> dict[str, Any]:
    """The item to store; what has no value is left out."""
    stored = {name: value for name, value in vars(key).items() if value is not None}
    return {**item_key(key.key_id), **stored, "scopes": list(key.scopes)}


def key_of(item: dict[str, Any]) -> Key:
    """The key that an item holds."""
    stored = {field.name: item[field.name] for field in fields(Key) if field.name in item}
    return Key(**{**stored, "scopes": tuple(stored["scopes"])})


def key_change(change: Change) -> tuple[Key | None, Key] | None:
    """A key before (None: it is new) and after its change; None where something else changed."""
    if not change.new or change.pk != PARTITION:
        return None
    return key_of(change.old) if change.old else None, key_of(change.new)


def item_key(key_id: str) -> dict[str, Any]:
    return {"pk": PARTITION, "sk": SORT_PREFIX + key_id}


PARTITION, SORT_PREFIX = "KEYS", "KEY#"


def _secret() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")


def _text(key_id: str, secret: str) -> str:
    return f"mdc_{key_id}_{secret}"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
