"""The numbers of each stream's updates, in the Connections table.

    pk                 sk       holds
    TOPIC#<stream>     STATE    sequence (of the last update), pushed_at (epoch ms), ttl

live/connections.py says when the number is read and raised, so that no listener misses a change.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import to_wire
from chalicelib.core.backend import Backend
from chalicelib.live.connections import LIFE_SECONDS

#: Longer than any connection that knows the number can live.
_STATE_SECONDS = LIFE_SECONDS + 3_600


class _State(NamedTuple):
    """Both 0 before the first update."""

    sequence: int
    pushed_at: int


class SequenceTable(ItemTable):
    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.connections_table)

    async def last(self, stream: str, now_ms: int) -> int:
        """Number of a stream's last update, 0 before the first.

        This is a write: it extends the row's ttl, so that the number outlives the connection that
        asks for it.
        """
        return await self._number(stream, now_ms, "SET #ttl = :ttl ADD #sequence :more", more=0)

    async def next(self, stream: str, now_ms: int) -> int:
        """The number of the update that is pushed now."""
        change = "SET #ttl = :ttl, pushed_at = :now ADD #sequence :more"
        return await self._number(stream, now_ms, change, more=1, now=now_ms)

    async def pushed_at(self, stream: str) -> int:
        """When a stream's last update was pushed, in epoch ms; 0 before the first."""
        return _state_in(await self._get(_key(stream)) or {}).pushed_at

    async def _number(self, stream: str, now_ms: int, change: str, **values: int) -> int:
        values["ttl"] = now_ms // 1000 + _STATE_SECONDS
        row = await self._update(
            _key(stream),
            UpdateExpression=change,
            ExpressionAttributeNames={"#ttl": "ttl", "#sequence": "sequence"},
            ExpressionAttributeValues={f":{name}": to_wire(n) for name, n in values.items()},
        )
        return _state_in(row).sequence


def _state_in(row: dict[str, Any]) -> _State:
    return _State(row.get("sequence", 0), row.get("pushed_at", 0))


def _key(stream: str) -> dict[str, Any]:
    return {"pk": {"S": f"TOPIC#{stream}"}, "sk": {"S": "STATE"}}
