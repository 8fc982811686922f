"""Listening over the WebSocket (docs/WEBSOCKET.md): messages in order, holes filled by snapshots.

A connection that ends is made again; where none can be made it raises Unheard, and whoever listens
goes on by polling. A task that expires ends its own topic only.
"""

import json
import time
from collections.abc import Callable, Container, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Literal, Protocol
from urllib.parse import quote, urlsplit

from websockets.exceptions import ConnectionClosed, InvalidURI, WebSocketException
from websockets.sync.client import connect

from market_data_collector.cli.api import Api, ApiError, Expired
from market_data_collector.cli.locate import is_loopback
from market_data_collector.cli.problems import Rejected

# Seconds. An update can be lost before it gets its number; a snapshot after a silence heals that.
SILENCE = 15.0
# Topics that are due this soon after each other are asked for at once: messages to the server are
# limited to 20 in ten seconds.
TOGETHER = 5.0
OPEN_WITHIN = 10.0
LONGEST_PAUSE = 10.0
# Tries in a row after a connection is lost: about 20 s, enough for a restart.
PATIENCE = 5
# Errors that are not about what was asked for: another try may cure them.
PASSING = frozenset({"BACKEND_UNAVAILABLE", "CONNECTION_EXPIRED", "RATE_LIMITED"})
EXPIRED = "TASK_EXPIRED"

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
            through: Literal[True] | None = None
            if not is_loopback(urlsplit(url).hostname or ""):
                through = True
            opening = connect(url, proxy=through, open_timeout=OPEN_WITHIN, close_timeout=2)
            socket = stack.enter_context(opening)
        except InvalidURI as error:
            raise Unheard(f"{there}: {error.msg}") from error
        # ValueError: a port that is none. ImportError: a proxy whose kind needs another library.
        except (OSError, WebSocketException, ValueError, ImportError) as error:
            raise Unheard(f"{there}: {error}") from error
        yield socket


class _Wanted:
    """The topics to listen to.

    The server refuses what is asked for together with an expired task, so tasks that have ended,
    which are the ones that expire, are asked for apart from the others.
    """

    def __init__(self, api: Api, topics: list[str], ended: Container[str]):
        self._api, self._topics, self._ended = api, list(topics), ended

    def live(self) -> list[str]:
        return [topic for topic in self._topics if topic not in self._ended]

    def apart(self) -> list[list[str]]:
        """What to subscribe to, in one message each. An ended task may still be run again."""
        ended = [topic for topic in self._topics if topic in self._ended]
        return [topics for topics in (self.live(), ended) if topics]

    def drop_expired(self) -> list[Message]:
        """Lets go of the tasks that have expired, and returns a message about each.

        A refusal does not say which topic it is about, so the API is asked. Raises Unheard.
        """
        dropped = []
        for topic in self._topics:
            kind, _, task_id = topic.partition(":")
            try:
                if kind == "task":
                    self._api.task(task_id)
            except Expired as error:
                dropped.append(expired(topic, error))
            except ApiError as error:
                raise Unheard(str(error)) from error
        for message in dropped:
            self._topics.remove(message["topic"])
        return dropped


class _Silence:
    """How long each topic has said nothing: one that talks must not hide another's silence."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._began = clock()
        self._since: dict[str, float] = {}
        self._asked: set[str] = set()

    def broken(self, topic: str) -> None:
        self._since[topic] = self._clock()
        self._asked.discard(topic)

    def left(self, topics: list[str]) -> float:
        """Seconds until the first of `topics` has been silent for too long."""
        return max(0.0, min(map(self._start, topics)) + SILENCE - self._clock())

    def ask(self, topics: list[str]) -> list[str]:
        """Those of `topics` to ask for now that the time left is over.

        Raises Unheard where that of a topic is over that has been asked for already.
        """
        first = min(topics, key=self._start)
        if first in self._asked:
            raise Unheard("it has gone silent")
        due = self._start(first) + TOGETHER
        asked = [topic for topic in topics if self._start(topic) <= due]
        asked = [topic for topic in asked if topic not in self._asked]
        self._since.update(dict.fromkeys(asked, self._clock()))
        self._asked.update(asked)
        return asked

    def _start(self, topic: str) -> float:
        return self._since.get(topic, self._began)


def listen(
    api: Api,
    topics: list[str],
    *,
    ended: Container[str] = frozenset(),
    url: str | None = None,
    opener: Opener = open_socket,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Message]:
    """Snapshots and updates of `topics`, in each one's order, until the caller has enough.

    `ended` are the topics of tasks whose end the caller has seen, and changes as it sees them. Of a
    task that has expired the last that comes is an error with its topic; once no topic is left
    that may bring news, it ends. `url` is where to connect; without it the API says so. `clock`
    gives seconds. Raises Rejected for a topic that the server refuses, Unheard at once where no
    connection can be made at first.
    """
    wanted = _Wanted(api, topics, ended)
    failed = PATIENCE
    while wanted.live():
        try:
            with opener(_address(api, url)) as socket:
                for message in _messages(socket, wanted, clock):
                    failed = 0
                    yield message
        except Unheard:
            failed += 1
            if failed > PATIENCE:
                raise
            sleep(min(0.5 * 2**failed, LONGEST_PAUSE))


def expired(topic: str, error: Expired) -> Message:
    """What is told of a task that has expired; unlike the server's own errors it has a topic."""
    return {"type": "error", "topic": topic, "reason": EXPIRED, "detail": str(error)}


def _address(api: Api, url: str | None) -> str:
    try:
        issued = api.ws_ticket()
    except ApiError as error:
        raise Unheard(str(error)) from error
    ticket, there = issued.get("ticket"), url or issued.get("url")
    if not isinstance(ticket, str) or not isinstance(there, str) or not there:
        raise Unheard("the API does not say where its WebSocket is")
    return f"{there}?ticket={quote(ticket, safe='')}"


def _messages(socket: Socket, wanted: _Wanted, clock: Callable[[], float]) -> Iterator[Message]:
    """What one connection brings, each topic from its snapshot on. Raises Unheard, Rejected."""
    last: dict[str, int] = {}
    early: dict[str, list[Message]] = {}
    silence = _Silence(clock)
    try:
        _subscribe(socket, wanted)
        while live := wanted.live():
            try:
                text = socket.recv(timeout=silence.left(live))
            except TimeoutError:
                _say(socket, "snapshot", silence.ask(live))
                continue
            message = json.loads(text)
            topic, kind, number = (message.get(name) for name in ("topic", "type", "sequence"))
            silence.broken(topic)
            if kind == "error" and message.get("reason") == EXPIRED:
                # Where none is found, the silence of what was refused has it asked for again.
                if dropped := wanted.drop_expired():
                    yield from dropped
                    _subscribe(socket, wanted)
            elif kind == "error":
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


def _subscribe(socket: Socket, wanted: _Wanted) -> None:
    for topics in wanted.apart():
        _say(socket, "subscribe", topics)


def _say(socket: Socket, action: str, topics: list[str]) -> None:
    socket.send(json.dumps({"action": action, "topics": topics}))


def _raise(message: Message) -> None:
    reason, detail = str(message.get("reason")), str(message.get("detail"))
    if reason in PASSING:
        raise Unheard(detail)
    problem = {"type": "about:blank", "title": "Refused", "reason": reason, "detail": detail}
    raise Rejected(detail, problem)
