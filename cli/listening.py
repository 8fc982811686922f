"""Listening over the WebSocket (docs/WEBSOCKET.md): messages in order, holes filled by snapshots.

A connection that ends is made again; where none can be made it raises Unheard, and whoever listens
goes on by polling.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from websockets.exceptions import ConnectionClosed, InvalidURI, WebSocketException
from websockets.sync.client import connect

from cli.api import Api, ApiError
from cli.locate import is_loopback
from cli.problems import Rejected

# Seconds. An update can be lost before it gets its number; a snapshot after a silence heals that.
SILENCE = 15.0
OPEN_WITHIN = 10.0
LONGEST_PAUSE = 10.0
# Tries in a row after a connection is lost: about 20 s, enough for a restart.
PATIENCE = 5
# Errors that are not about what was asked for: another try may cure them.
PASSING = frozenset({"BACKEND_UNAVAILABLE", "CONNECTION_EXPIRED", "RATE_LIMITED"})

Message = dict[str, Any]


class Socket(Protocol):
    def send(self, message: str) -> None: ...

    def recv(self, timeout: float) -> str | bytes: ...


Opener = Callable[[str], AbstractContextManager[Socket]]


class Unheard(Exception):
    """The WebSocket cannot be reached, or not any more; the message says why."""


@contextmanager
def open_socket(url: str) -> Iterator[Socket]:
    """Open for the block. Raises Unheard where it cannot be opened."""
    there = url.partition("?")[0]  # what is said never holds the ticket
    with ExitStack() as stack:
        try:
            through = None if is_loopback(urlsplit(url).hostname or "") else True
            opening = connect(url, proxy=through, open_timeout=OPEN_WITHIN, close_timeout=2)
            socket = stack.enter_context(opening)
        except InvalidURI as error:
            raise Unheard(f"{there}: {error.msg}") from error
        # ValueError: a port that is none. ImportError: a proxy whose kind needs another library.
        except (OSError, WebSocketException, ValueError, ImportError) as error:
            raise Unheard(f"{there}: {error}") from error
        yield socket


def listen(
    api: Api,
    topics: list[str],
    *,
    url: str | None = None,
    opener: Opener = open_socket,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Message]:
    """Snapshots and updates of `topics`, in each one's order, until the caller has enough.

    `url` is where to connect; without it the API says so. Raises Rejected for a topic that the
    server refuses, Unheard at once where no connection can be made at first.
    """
    failed = PATIENCE
    while True:
        try:
            with opener(_address(api, url)) as socket:
                for message in _messages(socket, topics):
                    failed = 0
                    yield message
        except Unheard:
            failed += 1
            if failed > PATIENCE:
                raise
            sleep(min(0.5 * 2**failed, LONGEST_PAUSE))


def _address(api: Api, url: str | None) -> str:
    try:
        issued = api.ws_ticket()
    except ApiError as error:
        raise Unheard(str(error)) from error
    ticket, there = issued.get("ticket"), url or issued.get("url")
    if not isinstance(ticket, str) or not isinstance(there, str) or not there:
        raise Unheard("the API does not say where its WebSocket is")
    return f"{there}?ticket={quote(ticket, safe='')}"


def _messages(socket: Socket, topics: list[str]) -> Iterator[Message]:
    """What one connection brings, each topic from its snapshot on. Raises Unheard, Rejected."""
    last: dict[str, int] = {}
    early: dict[str, list[Message]] = {}
    asked = False
    try:
        _say(socket, "subscribe", topics)
        while True:
            try:
                text = socket.recv(timeout=SILENCE)
            except TimeoutError:
                if asked:
                    raise Unheard("it has gone silent") from None
                asked = True
                _say(socket, "snapshot", topics)
                continue
            asked = False
            message = json.loads(text)
            topic, kind, number = (message.get(name) for name in ("topic", "type", "sequence"))
            if kind == "error":
                _raise(message)
            if kind == "snapshot":
                if number >= last.get(topic, 0):
                    last[topic] = number
                    yield message
                waiting = early.pop(topic, [])
            else:
                waiting = [message] if kind == "update" else []
            for update in waiting:
                if topic not in last:
                    early.setdefault(topic, []).append(update)
                elif update["sequence"] > last[topic]:
                    if update["sequence"] > last[topic] + 1:
                        _say(socket, "snapshot", [topic])
                    last[topic] = update["sequence"]
                    yield update
    except (ConnectionClosed, OSError) as error:
        raise Unheard(f"the connection has ended: {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Unheard(f"it says what this client does not understand: {error!r}") from error


def _say(socket: Socket, action: str, topics: list[str]) -> None:
    socket.send(json.dumps({"action": action, "topics": topics}))


def _raise(message: Message) -> None:
    reason, detail = str(message.get("reason")), str(message.get("detail"))
    if reason in PASSING:
        raise Unheard(detail)
    problem = {"type": "about:blank", "title": "Refused", "reason": reason, "detail": detail}
    raise Rejected(detail, problem)
