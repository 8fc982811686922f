"""Webhooks: what may be asked for, what is sent, how it is signed, when it is tried again. Pure.

Sources: Standard Webhooks specification (headers, signature, payload); RFC 9110, Retry-After.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from chalicelib.core.errors import PoisonMessage
from chalicelib.webhooks import addresses
from chalicelib.webhooks.signature import IN_BASE64, key_of

#: What a task's webhook may be told; webhook.* is not among them, or every delivery made another,
#: nor task.expired, by which time nobody waits for it.
ACTIONS = (
    "task.submitted",
    "task.planned",
    "task.started",
    "task.unit_failed",
    "task.completed",
    "task.failed",
    "task.cancelled",
    "task.stopped",
    "task.retried",
)
DEFAULT_ACTIONS = ("task.completed", "task.failed", "task.cancelled")

LONGEST_URL = 2048
SHORTEST_SECRET, LONGEST_SECRET = 24, 256
_FIELDS = ("url", "secret", "events")
_PRINTABLE = re.compile(r"[\x20-\x7e]+")
_URL_CHARACTERS = re.compile(r"[\x21-\x7e]+")


Problems = list[tuple[str, str]]


@dataclass(frozen=True)
class Webhook:
    """Where a task's events go. The secret is left out of whatever prints it."""

    url: str
    secret: str = field(repr=False)
    events: tuple[str, ...] = DEFAULT_ACTIONS

    @property
    def host(self) -> str:
        """What is shown of it: a URL's path and query may hold somebody's token."""
        return urlsplit(self.url).netloc

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Webhook:
        return cls(fields["url"], fields["secret"], tuple(fields["events"]))


def parse(value: object, allowed_hosts: Sequence[str]) -> tuple[Webhook | None, Problems]:
    """The webhook of a request's field, and what is wrong with it as (detail, pointer).

    `allowed_hosts`: "host:port" pairs to which the rules of https and public hosts do not apply.
    No detail repeats what was sent.
    """
    if not isinstance(value, dict):
        return None, [("must be an object with url and secret", "")]
    problems: Problems = [
        (f"unknown field; allowed are {', '.join(_FIELDS)}", f"/{_escaped(str(name))}")
        for name in value
        if name not in _FIELDS
    ]
    problems += [("is required", f"/{name}") for name in ("url", "secret") if name not in value]
    if "url" in value:
        problem = url_problem(value["url"], allowed_hosts)
        problems += [(problem, "/url")] if problem else []
    secret = value.get("secret")
    if "secret" in value:
        problem = _secret_problem(secret)
        problems += [(problem, "/secret")] if problem else []
    events = value.get("events", list(DEFAULT_ACTIONS))
    if not isinstance(events, list) or not events:
        problems.append(("must be a list of event types; leave it out for the ends", "/events"))
    elif len(events) > 100:
        problems.append(("has too many entries", "/events"))
    else:
        problems += [
            (f"must be one of {', '.join(ACTIONS)}", f"/events/{at}")
            for at, action in enumerate(events)
            if action not in ACTIONS
        ]
    if problems:
        return None, problems
    return Webhook(value["url"], value["secret"], tuple(dict.fromkeys(events))), []


def url_problem(url: object, allowed_hosts: Sequence[str]) -> str:
    """What is wrong with a webhook's URL, "" where nothing is."""
    if not isinstance(url, str) or not url:
        return "must be a URL"
    if len(url) > LONGEST_URL:
        return f"must have at most {LONGEST_URL} characters"
    if not _URL_CHARACTERS.fullmatch(url) or "\\" in url:
        return "must be a URL of plain ASCII characters, others percent-encoded"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "must be a URL with a host and perhaps a port"
    if "@" in parts.netloc:
        return "must not hold a user or password"
    if "#" in url:
        return "must not hold a fragment"
    host = re.sub(":[0-9]*$", "", parts.netloc)
    if parts.scheme in ("http", "https") and is_allowed(parts.hostname, port, allowed_hosts):
        return ""
    if parts.scheme != "https":
        return "must begin with https://"
    if port is not None and port != 443 and port < 1024:
        return "must have port 443, or one from 1024 on"
    return addresses.host_problem(host)


def _secret_problem(secret: object) -> str:
    if not (
        isinstance(secret, str)
        and SHORTEST_SECRET <= len(secret) <= LONGEST_SECRET
        and _PRINTABLE.fullmatch(secret)
    ):
        return f"must be {SHORTEST_SECRET} to {LONGEST_SECRET} printable ASCII characters"
    try:
        key_of(secret)
    except ValueError:
        return f"begins with {IN_BASE64}, so the rest must be base64"
    return ""


def is_allowed(host: str | None, port: int | None, allowed_hosts: Sequence[str]) -> bool:
    """Whether a developer's setting lifts the rules for exactly this host and port."""
    return port is not None and f"{host}:{port}" in allowed_hosts


class Target(NamedTuple):
    """Where a checked URL leads: `path` with its query, `host` without brackets."""

    scheme: str
    host: str
    port: int
    path: str
    #: As it stands in the URL, for the Host header.
    authority: str


def target(url: str) -> Target:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, parts.hostname or "", port, path, parts.netloc)


# --- what is sent ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class HookMessage:
    """One event on its way to one task's webhook; `event` is an event's Detail (docs/EVENTS.md)."""

    task_id: str
    seq: int
    event: dict[str, Any]

    def encode(self) -> str:
        # In ASCII: SQS refuses a few characters that the exchange's words may hold, and one event
        # that cannot be queued would hold up the whole stream.
        return json.dumps(
            {"v": 1, "task_id": self.task_id, "seq": self.seq, "event": self.event},
            separators=(",", ":"),
        )


def decode(body: str) -> HookMessage:
    """The message of a queue body. Raises PoisonMessage for what we never wrote."""
    try:
        fields = json.loads(body)
        if fields["v"] != 1:
            raise ValueError("version")
        message = HookMessage(fields["task_id"], fields["seq"], fields["event"])
        if not isinstance(message.task_id, str) or not isinstance(message.seq, int):
            raise TypeError("fields")
        for name in ("id", "action", "at"):
            message.event[name]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PoisonMessage(f"no message of a webhook: {error!r}") from error
    return message


# --- what an answer means -------------------------------------------------------------------------


def _escaped(name: str) -> str:
    """A JSON pointer token (RFC 6901)."""
    return name[:100].replace("~", "~0").replace("/", "~1")
