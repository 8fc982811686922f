"""`data-collector watch`: tasks, prices and candles as they change."""

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from cli import listening
from cli.api import ENDED, PATIENCE, Api, ApiError
from cli.listening import Message, Unheard
from cli.problems import Unreachable
from cli.render import counted, follow, progress_line
from cli.session import ALL_DONE, ENDED_BADLY, INTERRUPTED, UNITS_FAILED, Session
from cli.tables import summary
from cli.values import plain, price, record, records, when

# Seconds between polls where there is no WebSocket; prices are refreshed once a minute.
POLL = 1.0
TASK, TASKS, PRICES, CANDLES = "task", "tasks", "prices", "candles"
# How far along a task is: what is behind what was shown repeats history.
ORDER = {"pending": 0, "running": 1, **dict.fromkeys(ENDED, 2)}


def watch(session: Session, names: list[str], url: str | None) -> int:
    """Shows what changes until every task has ended, or for ever; returns the exit code."""
    topics = list(dict.fromkeys(map(topic_of, names)))
    ended: dict[str, dict[str, Any]] = {}
    messages = _until_ended(_messages(session, topics, url), topics, ended)
    try:
        if session.json:
            for message in messages:
                click.echo(json.dumps(message, allow_nan=False))
        elif len(topics) == 1 and topics[0].startswith(f"{TASK}:"):
            console = Console(file=sys.stderr, highlight=False)
            follow((message["task"] for message in messages), console)
        else:
            console = Console(file=sys.stdout, highlight=False)
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
            # The last update does not list failures; the task itself does.
            session.show(session.api.task(topic.partition(":")[2]), summary)
    if any(task["status"] != "completed" for task in ended.values()):
        return ENDED_BADLY
    return UNITS_FAILED if any(counted(task)[2] for task in ended.values()) else ALL_DONE


def topic_of(name: str) -> str:
    """A topic, or a task's id for short."""
    return name if name == TASKS or ":" in name else f"{TASK}:{name}"


def _messages(session: Session, topics: list[str], url: str | None) -> Iterator[Message]:
    try:
        yield from listening.listen(
            session.api, topics, url=url, opener=session.opener, sleep=session.sleep
        )
    except Unheard as error:
        session.note(f"No WebSocket ({plain(error)}): polling instead.")
        yield from _polled(session, topics)


def _until_ended(
    messages: Iterator[Message], topics: list[str], ended: dict[str, dict[str, Any]]
) -> Iterator[Message]:
    """The messages that bring news, up to the last task's end; for ever where not all are tasks."""
    shown: dict[str, tuple[int, int, float]] = {}
    tasks = {topic for topic in topics if topic.startswith(f"{TASK}:")}
    with contextlib.closing(messages):  # type: ignore[type-var]
        for message in messages:
            topic, task = str(message.get("topic")), record(message.get("task"))
            if topic in tasks:
                place = _place(task)
                if place < shown.get(topic, place):
                    continue
                shown[topic] = place
            yield message
            if task.get("status") in ENDED:
                ended[topic] = task
                if set(topics) == set(ended):
                    return
            elif task:
                ended.pop(topic, None)  # somebody has it run again


def _place(task: dict[str, Any]) -> tuple[int, int, float]:
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
        for task in session.api.watch(subject):  # it has the patience for a restart
            yield {"type": "snapshot", "topic": topics[0], "task": task}
        return
    told: dict[str, Message] = {}
    missed = PATIENCE  # what was never answered may not exist: fail at once
    while True:
        try:
            contents = list(_contents(session.api, topics))
        except ApiError as error:
            if missed >= PATIENCE or not error.passing:
                raise
            missed += 1
            session.sleep(max(error.retry_after or 0, min(0.2 * 2**missed, 5)))
            continue
        missed = 0
        for topic, content in contents:
            if told.get(topic) != content:
                told[topic] = content
                yield {"type": "snapshot", "topic": topic, **content}
        session.sleep(POLL)


def _contents(api: Api, topics: list[str]) -> Iterator[tuple[str, Message]]:
    for topic in topics:
        kind, _, subject = topic.partition(":")
        if kind == TASK:
            yield topic, {"task": api.task(subject)}
        elif kind == TASKS:
            yield topic, api.active()
        else:
            prices = record(api.latest_prices([subject]).get("prices"))
            yield topic, dict(record(prices.get(subject)))


def _lines(messages: Iterator[Message]) -> Iterator[str]:
    for message in messages:
        topic = plain(message.get("topic"))
        if isinstance(message.get("task"), dict):
            yield f"{topic}  {progress_line(message['task'])}"
        elif "tasks" in message:
            for task in records(message["tasks"]):
                yield f"{plain(task.get('task_id'))}  {progress_line(task)}"
        elif "price" in message:
            yield f"{topic}  {price(message['price'])}  {when(message.get('time'))}"
        elif "candle" in message:
            yield f"{topic}  {_candle(record(message['candle']))}"


def _candle(candle: dict[str, Any]) -> str:
    if not candle:
        return plain(None)
    figures = ("open", "high", "low", "close", "volume")
    shown = "  ".join(f"{name[0].upper()} {price(candle.get(name))}" for name in figures)
    return f"{when(candle.get('open_time'))}  {shown}"
