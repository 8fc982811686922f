"""Ids may be shortened: the client looks for the one whose id begins so, in the API's own lists.

A task is looked for among the tasks and the history, in 25 pages of each at most; a schedule and a
key in all pages of theirs. Where several begin so, none is taken, and they are named.
"""

import re
from collections.abc import Iterable, Iterator

import click

from market_data_collector.calls import next_token
from market_data_collector.cli.values import plain, records, when
from market_data_collector.client import Client

#: What may begin an id and is none: a whole one has 36 characters, a key's 16.
_SHORT = re.compile(r"[0-9a-f][0-9a-f-]{0,34}", re.IGNORECASE)
_SHORT_KEY = re.compile(r"[0-9a-f]{1,15}", re.IGNORECASE)
#: So many pages of the tasks, and of the history, are looked at.
_MOST_PAGES = 25
_MOST_SHOWN = 10

#: Ids, each with what a person knows it by.
Known = Iterable[tuple[object, str]]


def task_id_of(client: Client, text: str) -> str:
    """The id of the one task that begins with `text`; `text` itself where it is a whole id, or none
    of the newest tasks begins so: the API then says that there is no such task.

    Raises click.UsageError, with the candidates, where several do.
    """
    return _whole(text, "tasks", _newest(client)) if _SHORT.fullmatch(text) else text


def schedule_id_of(client: Client, text: str) -> str:
    """The same of schedules."""
    if not _SHORT.fullmatch(text):
        return text
    found = client.schedules()
    return _whole(text, "schedules", ((e.get("schedule_id"), plain(e.get("name"))) for e in found))


def key_id_of(client: Client, text: str) -> str:
    """The same of API keys."""
    if not _SHORT_KEY.fullmatch(text):
        return text
    found = client.keys()
    return _whole(text, "keys", ((e.get("key_id"), plain(e.get("owner"))) for e in found))


def _whole(text: str, what: str, known: Known) -> str:
    found: dict[str, str] = {}
    for name, shown in known:
        if isinstance(name, str) and name.startswith(text.lower()):
            found.setdefault(name, shown)
    if len(found) > 1:
        lines = [f"  {name}  {shown}" for name, shown in [*found.items()][:_MOST_SHOWN]]
        more = [f"  and {len(found) - _MOST_SHOWN} more"] if len(found) > _MOST_SHOWN else []
        raise click.UsageError(
            "\n".join([f"{text!r} is the beginning of {len(found)} {what}:", *lines, *more])
        )
    return next(iter(found), text)


def _newest(client: Client) -> Iterator[tuple[object, str]]:
    """The tasks that can be read, and the newest that have expired."""
    for read in (client.tasks_page, client.history_page):
        token: str | None = None
        for _ in range(_MOST_PAGES):
            page = read(page_token=token)
            for task in records(page.get("tasks")):
                at = when(task.get("completed_at") or task.get("created_at"))
                yield task.get("task_id"), f"{plain(task.get('status'))} {at}"
            following = next_token(page)
            if following in ("", token):
                break
            token = following
