"""Updates on their way to WebSocket clients: what the push queue's messages hold. Pure.

An update of a task's state carries the task as it was then, so that no state is missed however
fast states change. An update of a price carries the price. An update of progress carries no
numbers: they are read when it is pushed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from chalicelib.candles.summary import Summary
from chalicelib.core.errors import PoisonMessage

STATE, PROGRESS, PRICE, CANDLE = "state", "progress", "price", "candle"
KINDS = (STATE, PROGRESS, PRICE, CANDLE)


@dataclass(frozen=True)
class Update:
    """One change in a stream.

    `about`: a task's id, or a symbol (and timeframe); `changed_at`: epoch ms; `number`: the table
    stream's number of the change; `content`: by kind, {"task": its view}, {"attempt"},
    a price as exchange/prices.py shows it, or {"covered": [start, end] in epoch ms, or None}.
    """

    stream: str
    kind: str
    about: str
    changed_at: int
    number: str
    content: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> str:
        # In ASCII: SQS refuses a few characters that a task's error may hold.
        return json.dumps(asdict(self), separators=(",", ":"))


def decode(body: str) -> Update:
    """Raises PoisonMessage for what `encode` did not write."""
    try:
        update = Update(**json.loads(body))
    except (ValueError, TypeError, RecursionError) as error:
        raise PoisonMessage(f"no update: {error}") from None
    if update.kind not in KINDS or not isinstance(update.content, dict):
        raise PoisonMessage(f"an update of the kind {str(update.kind)[:40]!r}")
    return update


def coalesced(updates: list[Update]) -> list[Update]:
    """The updates that are still needed, in order: every state, and the newest of all others.

    Progress is dropped where a later state of the same task follows. Of several updates of
    candles, the one that is kept names the whole stretch that they cover.
    """
    kept: list[Update] = []
    later: dict[tuple[str, str], Update] = {}
    for update in reversed(updates):
        key = update.stream, update.about
        follower = later.get(key)
        if update.kind == STATE or follower is None:
            later[key] = update
            kept.append(update)
        elif update.kind == CANDLE and follower.kind == CANDLE:
            wider = _spanning(update.content["covered"], follower.content["covered"])
            later[key] = replace(follower, content={"covered": wider})
            kept[kept.index(follower)] = later[key]
    return kept[::-1]


def newly_covered(before: Summary | None, after: Summary) -> list[int] | None:
    """[start, end) in epoch ms around all that `after` covers and `before` did not.

    None where nothing was added.
    """
    added = after.added_since(before)
    return [added[0].start_ms, added[-1].end_ms] if added else None


def _spanning(one: list[int] | None, other: list[int] | None) -> list[int] | None:
    if one is None or other is None:
        return one or other
    return [min(one[0], other[0]), max(one[1], other[1])]
