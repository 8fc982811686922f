"""Read the audit trail: the events of one subject by number, or all events by time."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass

from chalicelib.audit.chain import AuditEvent
from chalicelib.audit.table import AuditTable
from chalicelib.core.backend import Backend
from chalicelib.core.errors import InvalidRequest
from chalicelib.core.problems import invalid
from chalicelib.core.times import DAY, iso, parse_time

#: One request makes at most so many queries, of so many events each. So a page may hold fewer
#: events than were asked for, and still have a next page.
_MOST_QUERIES = 31
_PAGE = 200
_LONGEST_TOKEN = 600
_TIME_KEY = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z(#[ -~]{1,300})?", re.ASCII)


@dataclass(frozen=True)
class AuditQuery:
    """Which events to read.

    `subject`: as in audit/chain.py; None: all subjects, oldest event first. `from_ms` and `to_ms`
    bound the time of recording, [from, to). Only the events of `owner` (None: everybody's), and
    those without an owner, are read. `token`: as page_of_audit returned it.
    """

    owner: str | None
    page_size: int
    subject: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    action: str | None = None
    token: str | None = None


async def page_of_audit(backend: Backend, query: AuditQuery) -> tuple[list[AuditEvent], str | None]:
    """One page of events, and the token of the next page; None at the end.

    An unknown subject has no events. Raises InvalidRequest for a token that was not made here.
    """
    if query.subject is not None:
        return await _of_subject(backend, query, query.subject)
    return await _of_time(backend, query)


async def _of_subject(
    backend: Backend, query: AuditQuery, subject: str
) -> tuple[list[AuditEvent], str | None]:
    seq = 0 if query.token is None else _seq_of(query.token)
    found: list[AuditEvent] = []
    for _ in range(_MOST_QUERIES):
        events, following = await AuditTable(backend).after(subject, seq, _PAGE, backend.now_ms())
        for number, event in events:
            if _matches(query, event):
                if len(found) == query.page_size:
                    return found, token_of(seq)
                found.append(event)
            seq = number
        if following is None:
            return found, None
        seq = following
    return found, token_of(seq)


async def _of_time(backend: Backend, query: AuditQuery) -> tuple[list[AuditEvent], str | None]:
    """Day by day, by the index of days, which may be some moments behind."""
    now_ms = backend.now_ms()
    # Nothing is recorded on days to come, so they need no queries.
    to_ms = now_ms + 1 if query.to_ms is None else min(query.to_ms, now_ms + DAY)
    oldest = now_ms - backend.settings.audit_retention_days * DAY
    start = max(0, oldest, to_ms - DAY if query.from_ms is None else query.from_ms)
    after = str(iso(start)) if query.token is None else key_of(query.token)
    until = str(iso(to_ms))
    found: list[AuditEvent] = []
    for _ in range(_MOST_QUERIES):
        if after >= until:
            return found, None
        events, following = await AuditTable(backend).of_day(after[:10], after, until, _PAGE)
        for key, event in events:
            if _matches(query, event):
                if len(found) == query.page_size:
                    return found, token_of(after)
                found.append(event)
            after = key
        after = following or _day_after(after)
    return found, token_of(after)


def _matches(query: AuditQuery, event: AuditEvent) -> bool:
    recorded = str(event["recorded_at"])
    return (
        (query.owner is None or event["owner"] in (None, query.owner))
        and (query.action is None or event["action"] == query.action)
        and (query.from_ms is None or recorded >= str(iso(query.from_ms)))
        and (query.to_ms is None or recorded < str(iso(query.to_ms)))
    )


def _day_after(key: str) -> str:
    return str(iso(parse_time(key[:10]) + DAY))


def token_of(position: int | str) -> str:
    """The page token of a position: an event's number, an sk_time, or a time."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def _seq_of(token: str) -> int:
    """The number of the event after which a page starts. Raises InvalidRequest."""
    seq = _position(token)
    if type(seq) is not int or not 0 < seq < 10**12:
        raise _no_token()
    return seq


def key_of(token: str) -> str:
    """The sk_time, or the time, at which a page starts. Raises InvalidRequest."""
    key = _position(token)
    if not isinstance(key, str) or not _TIME_KEY.fullmatch(key):
        raise _no_token()
    try:
        parse_time(key.partition("#")[0])
    except ValueError:
        raise _no_token() from None
    return key


def _position(token: str) -> object:
    if len(token) > _LONGEST_TOKEN:
        raise _no_token()
    padded = token + "=" * (-len(token) % 4)
    try:
        position: object = json.loads(base64.b64decode(padded, b"-_", validate=True))
    except ValueError:
        raise _no_token() from None
    # Each position has one token. Another text that decodes to the same was not made here.
    if not isinstance(position, int | str) or token_of(position) != token:
        raise _no_token()
    return position


def _no_token() -> InvalidRequest:
    detail = "must be a next_page_token of the same question"
    return invalid([{"detail": detail, "pointer": "/page_token"}])
