"""One thing that happened, before it is an event of the audit trail. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chalicelib.tasks import states

#: `by` of what nobody asked for.
SYSTEM = states.BY_SYSTEM
#: At most as many symbols, or failed units, are named in one event. Its counts are of all.
MOST_NAMES = 100
Item = dict[str, Any]


@dataclass(frozen=True)
class Happening:
    #: What it happened to: task:<id>, schedule:<id>, market:<exchange> or key:<id>. Each has a
    #: trail of its own.
    subject: str
    #: Reads like task.submitted.
    action: str
    #: Who did it: an owner, `schedule`, `freshness` or `system`.
    by: str
    #: The HTTP request by which they did it.
    request_id: str | None = None
    attempt: int | None = None
    #: What changed, as JSON values.
    before: Any = None
    after: Any = None
    #: For people.
    detail: str = ""
    #: What else is to be known, as JSON.
    data: Any = None
    #: Who may read it. None: the owner of the event before it in its trail, or everybody.
    owner: str | None = None
