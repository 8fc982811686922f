"""The body of POST /keys, checked. Pure."""

from __future__ import annotations

import re

from chalicelib.access.scopes import SCOPES
from chalicelib.core.problems import invalid, problem, unknown_fields
from chalicelib.core.times import parse_time

_FIELDS = ("owner", "scopes", "expires_at")
#: Owners are part of keys of items, names of streams and log lines: nothing that separates those.
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


def parse_new(body: object, now_ms: int) -> tuple[str, tuple[str, ...], int | None]:
    """Owner, scopes and expiry (epoch ms; None: never) of a new key. Raises InvalidRequest."""
    if not isinstance(body, dict):
        raise invalid([problem("must be a JSON object", "")])
    errors = unknown_fields(body, _FIELDS)
    owner, scopes = body.get("owner"), body.get("scopes")
    if not isinstance(owner, str) or not _OWNER.fullmatch(owner):
        errors.append(
            problem("must be 1 to 64 letters, digits and . _ @ + -, a letter first", "/owner")
        )
    if not isinstance(scopes, list) or not scopes or any(each not in SCOPES for each in scopes):
        errors.append(problem(f"must be a list of at least one of {', '.join(SCOPES)}", "/scopes"))
    expires_at = None
    try:
        expires_at = _expiry(body.get("expires_at"), now_ms)
    except ValueError as error:
        errors.append(problem(str(error), "/expires_at"))
    if errors:
        raise invalid(errors)
    return str(owner), tuple(sorted(set(scopes or ()))), expires_at


def _expiry(value: object, now_ms: int) -> int | None:
    if value is None:
        return None
    expires_at = parse_time(value)
    if expires_at <= now_ms:
        raise ValueError("must be in the future")
    return expires_at
