"""Listening over the WebSocket (docs/WEBSOCKET.md): messages in order, holes filled by snapshots.

A connection that ends is made again; where none can be made it raises Unheard, and whoever listens
goes on by polling. A task that expires ends its own topic only.
"""

import json
from collections.abc import Callable, Container
from typing import Any
from urllib.parse import quote

from websockets.exceptions import ConnectionClosed

from market_data_collector.calls import Site, get, once, segment
from market_data_collector.effects import Flow, Hear, Item, Open, Pause, Plan, Say, Unheard
from market_data_collector.errors import ApiError, Expired, Rejected

# Seconds. An update can be lost before it gets its number; a snapshot after a silence heals that.
SILENCE = 15.0
# Topics that are due this soon after each other are asked for at once: messages to the server are
# limited to 20 in ten seconds.
TOGETHER = 5.0
LONGEST_PAUSE = 10.0
# Tries in a row after a connection is lost: about 20 s, enough for a restart.
PATIENCE = 5
# Errors that are not about what was asked for: another try may cure them.
PASSING = frozenset({"BACKEND_UNAVAILABLE", "CONNECTION_EXPIRED", "RATE_LIMITED"})
EXPIRED = "TASK_EXPIRED"

#: As the server sends it: `type`, `topic`, `sequence`, `at`, and what it is about.
Message = dict[str, Any]


class _Wanted:
    """The topics to listen to.

    The server refuses what is asked for together with an expired task, so tasks that have ended,
    which are the ones that expire, are asked for apart from the others.
    """

    def __init__(self, site: Site, topics: list[str], ended: Container[str]):
        self._site, self._topics, self._ended = site, list(topics), ended

    def live(self) -> list[str]:
        return [topic for topic in self._topics if topic not in self._ended]

    def apart(self) -> list[list[str]]:
        """What to subscribe to, in one message each. An ended task may still be run again."""
        ended = [topic for topic in self._topics if topic in self._ended]
        return [topics for topics in (self.live(), ended) if topics]

    def drop_expired(self) -> Plan[list[Message]]:
        """Lets go of the tasks that have expired, and returns a message about each.

        A refusal does not say which topic it is about, so the API is asked. Raises Unheard.
        """
        dropped = []
        for topic in self._topics:
            kind, _, task_id = topic.partition(":")
            try:
                if kind == "task":
                    yield from get(self._site, f"/task/{segment(task_id)}")
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
    site: Site,
    topics: list[str],
    *,
    ended: Container[str] = frozenset(),
    url: str | None = None,
    clock: Callable[[], float],
) -> Flow[Message]:
    """Snapshots and updates of `topics`, in each one's order, until the caller has enough.

    `ended` are the topics of tasks whose end the caller has seen, and changes as it sees them. Of a
    task that has expired the last that comes is an error with its topic; once no topic is left
    that may bring news, it ends. `url` is where to connect; without it the API says so. `clock`
    gives seconds. Raises Rejected for a topic that the server refuses, Unheard at once where no
    connection can be made at first.
    """
    wanted = _Wanted(site, topics, ended)
    failed = PATIENCE
    while wanted.live():
        last: dict[str, int] = {}
        try:
            socket = yield Open((yield from _address(site, url)))
            yield from _messages(socket, wanted, clock, last)
        except Unheard:
            failed = 1 if last else failed + 1
            if failed > PATIENCE:
                raise
            yield Pause(min(0.5 * 2**failed, LONGEST_PAUSE))


def expired(topic: str, error: Expired) -> Message:
    """What is told of a task that has expired; unlike the server's own errors it has a topic."""
    return {"type": "error", "topic": topic, "reason": EXPIRED, "detail": str(error)}


def _address(site: Site, url: str | None) -> Plan[str]:
    try:
        issued = yield from once(site, "POST", "/ws-ticket")
    except ApiError as error:
        raise Unheard(str(error)) from error
    ticket, there = issued.get("ticket"), url or issued.get("url")
    if not isinstance(ticket, str) or not isinstance(there, str) or not there:
        raise Unheard("the API does not say where its WebSocket is")
    return f"{there}?ticket={quote(ticket, safe='')}"


def _messages(
    socket: Any, wanted: _Wanted, clock: Callable[[], float], last: dict[str, int]
) -> Flow[Message]:
    """What one connection brings, each topic from its snapshot on. Raises Unheard, Rejected.

    `last` is filled with the number of the last message of each topic.
    """
    early: dict[str, list[Message]] = {}
    silence = _Silence(clock)
    try:
        yield from _subscribe(socket, wanted)
        while live := wanted.live():
            try:
                text = yield Hear(socket, silence.left(live))
            except TimeoutError:
                yield _said(socket, "snapshot", silence.ask(live))
                continue
            message = json.loads(text)
            topic, kind, number = (message.get(name) for name in ("topic", "type", "sequence"))
            silence.broken(topic)
            if kind == "error" and message.get("reason") == EXPIRED:
                # Where none is found, the silence of what was refused has it asked for again.
                if dropped := (yield from wanted.drop_expired()):
                    for each in dropped:
                        yield Item(each)
                    yield from _subscribe(socket, wanted)
            elif kind == "error":
                _raise(message)
            if kind == "snapshot":
                if number >= last.get(topic, 0):
                    last[topic] = number
                    yield Item(message)
                waiting = early.pop(topic, [])
            else:
                waiting = [message] if kind == "update" else []
            for update in waiting:
                if topic not in last:
                    early.setdefault(topic, []).append(update)
                elif update["sequence"] > last[topic]:
                    if update["sequence"] > last[topic] + 1:
                        yield _said(socket, "snapshot", [topic])
                    last[topic] = update["sequence"]
                    yield Item(update)
    except (ConnectionClosed, OSError) as error:
        raise Unheard(f"the connection has ended: {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Unheard(f"it says what this client does not understand: {error!r}") from error


def _subscribe(socket: Any, wanted: _Wanted) -> Plan[None]:
    for topics in wanted.apart():
        yield _said(socket, "subscribe", topics)


def _said(socket: Any, action: str, topics: list[str]) -> Say:
    return Say(socket, json.dumps({"action": action, "topics": topics}))


def _raise(message: Message) -> None:
    reason, detail = str(message.get("reason")), str(message.get("detail"))
    if reason in PASSING:
        raise Unheard(detail)
    problem = {"type": "about:blank", "title": "Refused", "reason": reason, "detail": detail}
    raise Rejected(detail, problem)
