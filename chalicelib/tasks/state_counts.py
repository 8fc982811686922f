"""How many tasks an owner has in each state, kept in the write that moves a task.

    pk              sk               holds
    OWNER#<owner>   COUNT#<second>   <state>_<ttl>: tasks that expire then, within ten seconds; ttl
    OWNER#<owner>   COUNT#LIVE#<n>   <state>: tasks that do not expire yet

A task's attribute `counted` names its place: the item, and the number in it. Every write that
changes its state or ttl is a transaction which takes it out of that place, puts it into the next
one, and holds only where `counted` is what was read. So a task is counted once, whatever is
delivered twice, dies or loses an answer.

Nothing is counted when a task expires: numbers whose ttl has passed are not read any more. So the
counts need no notice of what DynamoDB deletes, and when. There are some dozens of these items at a
time, however many tasks there are: `expires_at` sees to that.

The tasks of an owner that do not expire are spread over some items, by their ids: two transactions
must not write one item at the same moment.
"""

from __future__ import annotations

import zlib

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import Wire, to_wire
from chalicelib.core.backend import Backend
from chalicelib.quotas.limits import owner_pk
from chalicelib.tasks import states

_COUNT = "COUNT#"
_LIVE = f"{_COUNT}LIVE#"
#: Items over which the tasks of an owner that do not expire are spread.
_SPREAD = 8
#: Seconds whose ttls are counted in one item.
_TOGETHER = 10
#: A retention of more seconds is rounded, so that the ended tasks have no more than so many ttls.
_EXACT, _TTLS = 300, 60
#: An item of counts is not read after its ttl. It stays a day for people to look at.
_KEPT_SECONDS = 86_400


def expires_at(ended_ms: int, retention_seconds: int) -> int:
    """Epoch seconds until which a task that ended then can be read. Where the retention is more
    than five minutes, it is up to a sixtieth longer, so that many tasks have one ttl. Pure."""
    step = retention_seconds // _TTLS if retention_seconds > _EXACT else 1
    return -(-(ended_ms // 1000 + retention_seconds) // step) * step


def place_of(task_id: str, state: str, ttl: int | None) -> str:
    """Where a task is counted: "<sort key> <number's name>". Pure."""
    if ttl is None:
        return f"{_LIVE}{zlib.crc32(task_id.encode()) % _SPREAD} {state}"
    return f"{_COUNT}{ttl // _TOGETHER * _TOGETHER:010d} {state}_{ttl}"


def changes(owner: str, before: str | None, after: str) -> list[Wire]:
    """The updates that count a task of `owner` in place `after` and no more in `before` (None: it
    was not counted), as parts of a transaction; none where it stays. Pure."""
    if before == after:
        return []
    by: dict[str, dict[str, int]] = {}
    for place, one in ((before, -1), (after, 1)):
        if place is not None:
            sk, name = place.split(" ")
            by.setdefault(sk, {})[name] = one
    return [_adding(owner, sk, counts) for sk, counts in by.items()]


def _adding(owner: str, sk: str, counts: dict[str, int]) -> Wire:
    update: Wire = {
        "Key": {"pk": {"S": owner_pk(owner)}, "sk": {"S": sk}},
        "UpdateExpression": f"ADD {', '.join(f'{name} :{name}' for name in counts)}",
        "ExpressionAttributeValues": {f":{name}": to_wire(one) for name, one in counts.items()},
    }
    if not sk.startswith(_LIVE):
        update["UpdateExpression"] += " SET #ttl = :ttl"
        update["ExpressionAttributeNames"] = {"#ttl": "ttl"}
        kept_until = int(sk.removeprefix(_COUNT)) + _KEPT_SECONDS
        update["ExpressionAttributeValues"][":ttl"] = to_wire(kept_until)
    return update


class StateCounts(ItemTable):
    """The counts of each owner, in the Tasks table."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.tasks_table)

    async def read(self, owner: str, now_ms: int) -> dict[str, int]:
        """State -> the owner's tasks that are in it and have not expired; every state named. One
        query, of some small items."""
        now_s, counts = now_ms // 1000, dict.fromkeys(states.STATES, 0)
        items = await self._query(
            KeyConditionExpression="pk = :pk AND sk BETWEEN :now AND :end",
            ExpressionAttributeValues={
                ":pk": {"S": owner_pk(owner)},
                ":now": {"S": f"{_COUNT}{now_s // _TOGETHER * _TOGETHER:010d}"},
                ":end": {"S": f"{_LIVE}~"},
            },
            ConsistentRead=True,
        )
        for item in items:
            for name, count in item.items():
                state, _, ttl = name.partition("_")
                if state in counts and (not ttl or int(ttl) > now_s):
                    counts[state] += count
        return counts
