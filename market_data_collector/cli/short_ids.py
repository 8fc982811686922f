"""Task ids may be shortened: the client looks for the one task whose id begins so."""

import re
from collections.abc import Iterator

import click

from market_data_collector.cli.api import Api
from market_data_collector.cli.values import plain, records, when

#: What may begin a task's id and is none: a whole id has 36 characters.
_SHORT = re.compile(r"[0-9a-f][0-9a-f-]{0,34}", re.IGNORECASE)
#: So many pages of the tasks, and of the history, are looked at.
_MOST_PAGES = 25
_MOST_SHOWN = 10


def whole_id(api: Api, text: str) -> str:
    """The id of the one task that begins with `text`; `text` itself where it is a whole id, or none
    of the newest tasks begins so: the API then says that there is no such task.

    Raises click.UsageError, with the candidates, where several do.
    """
    if not _SHORT.fullmatch(text):
        return text
    found: dict[str, str] = {}
    for task_id, shown in _newest(api):
        if task_id.startswith(text.lower()):
            found.setdefault(task_id, shown)
    if len(found) > 1:
        lines = [f"  {task_id}  {shown}" for task_id, shown in [*found.items()][:_MOST_SHOWN]]
        more = [f"  and {len(found) - _MOST_SHOWN} more"] if len(found) > _MOST_SHOWN else []
        raise click.UsageError(
            "\n".join([f"{text!r} is the beginning of {len(found)} tasks:", *lines, *more])
        )
    return next(iter(found), text)


def _newest(api: Api) -> Iterator[tuple[str, str]]:
    """The ids of the tasks that can be read, and of the newest that have expired; with each, what a
    person knows it by."""
    for read in (api.tasks, api.history):
        token: str | None = None
        for _ in range(_MOST_PAGES):
            page = read(page_token=token)
            for task in records(page.get("tasks")):
                if isinstance(task.get("task_id"), str):
                    at = when(task.get("completed_at") or task.get("created_at"))
                    yield task["task_id"], f"{plain(task.get('status'))} {at}"
            following = page.get("next_page_token")
            if not isinstance(following, str) or following in ("", token):
                break
            token = following
