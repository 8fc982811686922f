"""One thing that happened, as the audit trail tells it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SYSTEM = "system"
#: Names that one event holds of symbols, and of failed units; the counts are of all.
MOST_NAMES = 100
Item = dict[str, Any]


@dataclass(frozen=True)
class Happening:
    """`subject`: whose trail it belongs to: task:<id>, schedule:<id> or market:<exchange>.

    `action` reads like task.submitted; `by` is an owner, `schedule` or `system`, and `request_id`
    the HTTP request by which they did it; `before` and `after` are what changed and `data` what
    else is to be known, as JSON values. `owner`: who may read it; None: as the event before it in
    its trail, or everybody.
    """

    subject: str
    action: str
    by: str
    request_id: str | None = None
    attempt: int | None = None
    before: Any = None
    after: Any = None
    detail: str = ""
    data: Any = None
    owner: str | None = None
