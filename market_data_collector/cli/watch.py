"""`data-collector watch`: tasks, prices and candles as they change."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import click
from rich.text import Text

from market_data_collector.cli.render import counted, follow, progress_line
from market_data_collector.cli.session import (
    ALL_DONE,
    ENDED_BADLY,
    INTERRUPTED,
    UNITS_FAILED,
    Session,
)
from market_data_collector.cli.tables import summary
from market_data_collector.cli.values import plain, price, record, records, when
from market_data_collector.client import Client
from market_data_collector.effects import Unheard
from market_data_collector.errors import ApiError, Expired, Unreachable
from market_data_collector.jobs import ENDED, PATIENCE, is_over
from market_data_collector.listening import Message, expired

# Seconds between polls where there is no WebSocket; prices are refreshed once a minute.
POLL = 1.0
#: An exit code: of a task that expired before its end was seen.
EXPIRED = 2
TASK, TASKS, PRICES, CANDLES = "task", "tasks", "prices", "candles"
# How far along a task is: what is behind what was shown repeats history.
ORDER = {"pending": 0, "running": 1, **dict.fromkeys(ENDED, 2)}


@dataclass
class Ends:
    """How the watched tasks ended, by topic."""

    seen: dict[str, dict[str, Any]] = field(default_factory=dict)
    # Of those that expired before their end was seen, nobody can say any more how they ended.
    missed: set[str] = field(default_factory=set)

    def known_of(self, topics: list[str]) -> bool:
        """Whether nothing more can come of `topics`."""
        return set(topics) <= self.seen.keys() | self.missed

    @property
    def exit_code(self) -> int:
        if self.missed:
            return EXPIRED
        if any(task["status"] != "completed" for task in self.seen.values()):
            return ENDED_BADLY
        return UNITS_FAILED if any(counted(task)[2] for task in self.seen.values()) else ALL_DONE


def watch(session: Session, names: list[str], url: str | None) -> int:
    """Shows what changes until every task has ended, or for ever; returns the exit code."""
    topics = list(dict.fromkeys(_whole(session, topic_of(name)) for name in names))
    ends = Ends()
    messages = _until_ended(session, _messages(session, topics, url, ends), topics, ends)
    try:
        if session.json:
            for message in messages:
                click.echo(json.dumps(message, allow_nan=False))
        elif len(topics) == 1 and topics[0].startswith(f"{TASK}:"):
            console = session.console(sys.stderr)
            follow((message["task"] for message in messages if "task" in message), console)
        else:
            console = session.console(sys.stdout)
            for line in map(Text, _lines(messages)):
                if console.is_terminal:
                    line.truncate(console.width, overflow="ellipsis")
                console.print(line, soft_wrap=True)
    except KeyboardInterrupt:
        if any(topic.startswith(TASK) for topic in topics) and not session.json:
            click.echo("\nTasks keep running: data-collector tasks --active", err=True)
        return INTERRUPTED
    if not session.json:
        for topic in topics:
            if seen := ends.seen.get(topic):
                session.show(_ended(session.client, topic, seen), summary)
    return ends.exit_code


def _ended(client: Client, topic: str, seen: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        # The last update does not list failures; the task itself does.
        return client.task(topic.partition(":")[2])
    except Expired:
        return seen  # it ended long before the last of the others


def topic_of(name: str) -> str:
    """A topic, or a task's id for short."""
    return name if name == TASKS or ":" in name else f"{TASK}:{name}"


def _whole(session: Session, topic: str) -> str:
    """The topic, with the whole id where it is a task's."""
    kind, _, subject = topic.partition(":")
    return f"{TASK}:{session.task_id(subject)}" if kind == TASK else topic


def _messages(
    session: Session, topics: list[str], url: str | None, ends: Ends
) -> Iterator[Message]:
    try:
        yield from session.client.watch(*topics, ended=ends.seen, ws_url=url)
    except Unheard as error:
        session.note(f"No WebSocket ({plain(error)}): polling instead.")
        yield from _polled(session, topics)


def _until_ended(
    session: Session, messages: Iterator[Message], topics: list[str], ends: Ends
) -> Iterator[Message]:
    """The messages that bring news, up to the last task's end; for ever where not all are tasks."""
    shown: dict[str, tuple[int, int, float]] = {}
    tasks = {topic for topic in topics if topic.startswith(f"{TASK}:")}
    with contextlib.closing(messages):  # type: ignore[type-var]
        for message in messages:
            topic, task = str(message.get("topic")), record(message.get("task"))
            if message.get("type") == "error":
                if ends.known_of([topic]):
                    continue
                ends.missed.add(topic)
                why = plain(message["detail"])
                session.note(f"{topic}: the task expired before its end was seen. {why}")
            elif topic in tasks:
                place = _place(task)
                if place < shown.get(topic, place):
                    continue
                shown[topic] = place
            yield message
            if is_over(task):
                ends.seen[topic] = task
            elif task:
                ends.seen.pop(topic, None)  # somebody has it run again
            if ends.known_of(topics):
                return


def _place(task: Mapping[str, Any]) -> tuple[int, int, float]:
    return (
        int(task.get("attempt") or 1),
        ORDER.get(str(task.get("status")), 0),
        float(task.get("progress") or 0),
    )


def _polled(session: Session, topics: list[str]) -> Iterator[Message]:
    """What the routes tell, as snapshots without numbers, whenever it is another than before."""
    silent = [topic for topic in topics if topic.startswith(f"{CANDLES}:")]
    if silent:
        detail = f"{', '.join(silent)} can be followed over the WebSocket only"
        raise Unreachable(f"{detail}.", {"title": "Unreachable", "detail": detail})
    kind, _, subject = topics[0].partition(":")
    if len(topics) == 1 and kind == TASK:
        try:
            for task in session.client.job(subject).progress():  # it has the patience for a restart
                yield {"type": "snapshot", "topic": topics[0], "task": task}
        except Expired as error:
            yield expired(topics[0], error)
        return
    topics = list(topics)
    printed: dict[str, Message] = {}
    missed = PATIENCE  # what was never answered may not exist: fail at once
    while True:
        try:
            contents = list(_contents(session.client, topics))
        except ApiError as error:
            if missed >= PATIENCE or not error.passing:
                raise
            missed += 1
            session.pause(max(error.retry_after or 0, min(0.2 * 2**missed, 5)))
            continue
        missed = 0
        for topic, content in contents:
            if content.get("type") == "error":
                topics.remove(topic)  # an expired task stays so
            if printed.get(topic) != content:
                printed[topic] = content
                yield {"type": "snapshot", "topic": topic, **content}
        session.pause(POLL)


def _contents(client: Client, topics: list[str]) -> Iterator[tuple[str, Message]]:
    for topic in topics:
        kind, _, subject = topic.partition(":")
        if kind == TASK:
            try:
                yield topic, {"task": client.task(subject)}
            except Expired as error:
                yield topic, expired(topic, error)
        elif kind == TASKS:
            found = [*client.active()]
            yield topic, {"tasks": found, "count": len(found)}
        else:
            prices = record(client.latest_prices([subject]).get("prices"))
            yield topic, dict(record(prices.get(subject)))


def _lines(messages: Iterator[Message]) -> Iterator[str]:
    shown: dict[Any, list[str]] = {}
    for message in messages:
        topic, lines = message.get("topic"), list(_lines_of(message))
        # The snapshot that breaks a silence mostly says what was said before it.
        if message.get("type") != "snapshot" or shown.get(topic) != lines:
            yield from lines
        shown[topic] = lines


def _lines_of(message: Message) -> Iterator[str]:
    topic = plain(message.get("topic"))
    if isinstance(message.get("task"), dict):
        yield f"{topic}  {progress_line(message['task'])}"
    elif "tasks" in message:
        for task in records(message["tasks"]):
            yield f"{plain(task.get('task_id'))}  {progress_line(task)}"
    elif "price" in message:
        old = "  stale" if message.get("stale") is True else ""
        yield f"{topic}  {price(message['price'])}  {when(message.get('time'))}{old}"
    elif "candle" in message:
        yield f"{topic}  {_candle(record(message['candle']))}"


def _candle(candle: Mapping[str, Any]) -> str:
    if not candle:
        return plain(None)
    figures = ("open", "high", "low", "close", "volume")
    shown = "  ".join(f"{name[0].upper()} {price(candle.get(name))}" for name in figures)
    return f"{when(candle.get('open_time'))}  {shown}"
