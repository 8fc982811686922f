"""A task's webhook: where its events go, and which webhooks a request may ask for. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from chalicelib.core.problems import pointer_token
from chalicelib.webhooks import addresses
from chalicelib.webhooks.signature import IN_BASE64, key_of

#: The events that a webhook may ask for. webhook.* is not among them: every delivery would make
#: another one. task.expired is not among them either: nobody waits for a task any more by then.
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

#: (detail, JSON pointer) of each thing that is wrong with a webhook.
Problems = list[tuple[str, str]]


@dataclass(frozen=True)
class Webhook:
    """Where a task's events go: which of them, and the secret that signs them.

    The secret is left out of whatever prints the webhook.
    """

    url: str
    secret: str = field(repr=False)
    events: tuple[str, ...] = DEFAULT_ACTIONS

    @property
    def host(self) -> str:
        """Host and port, which is all that is shown: path and query may hold a token."""
        return urlsplit(self.url).netloc

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Webhook:
        """The webhook of an item's or a stored request's url, secret and events."""
        return cls(fields["url"], fields["secret"], tuple(fields["events"]))


def parse(value: object, allowed_hosts: Sequence[str]) -> tuple[Webhook | None, Problems]:
    """The webhook of a request's field, or None and what is wrong with it.

    `allowed_hosts`: "host:port" pairs to which the rules of https and public hosts do not apply.
    No detail repeats what was sent.
    """
    if not isinstance(value, dict):
        return None, [("must be an object with url and secret", "")]
    problems: Problems = [
        (f"unknown field; allowed are {', '.join(_FIELDS)}", f"/{pointer_token(str(name))}")
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
    """Where a URL that `url_problem` found nothing wrong with leads."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, parts.hostname or "", port, path, parts.netloc)
