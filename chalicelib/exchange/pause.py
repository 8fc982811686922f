"""Pauses that people order: all requests to the exchange stop until they are resumed.

    pk                    sk          holds
    PAUSE#<exchange>      PAUSE       what was ordered last: ordered_at, until (0: to resume), by,
                                      reason, request_id

A pause stands in the ledger's item (ledger.py), which every request to the exchange passes. The
stream does not bring that item's changes, because every worker writes it all the time. So each
order is written here, too, in the same transaction, for the audit trail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import item_to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.ledger_state import Hold, LedgerState

if TYPE_CHECKING:
    from chalicelib.aws.stream import Change

_RACES = 20
#: Pauses that are remembered one by one; of more, the two oldest count as one.
_MOST_HOLDS = 16


class Pauses(ItemTable):
    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.market_table)
        self._exchange = backend.settings.exchange
        self._ledger = Ledger(backend)

    async def begin(
        self, until_ms: int, by: str, reason: str, request_id: str, now_ms: int
    ) -> LedgerState:
        """Stop every worker by a person's order; one that stands already gets the new end and
        reason. Raises CallFailed."""
        for _ in range(_RACES):
            seen = await self._ledger.read()
            standing = seen.hold_at(now_ms)
            since_ms, first_by = (standing.since_ms, standing.by) if standing else (now_ms, by)
            ended = seen.holds[:-1] if standing else seen.holds
            holds = _shortened((*ended, (since_ms, until_ms)))
            after = seen._replace(holds=holds, held_by=first_by, hold_reason=reason)
            if await self._order(
                seen, after, _order_of(Hold(now_ms, until_ms, by, reason), request_id)
            ):
                return after
        raise CallFailed("dynamodb", "TransactWriteItems", "Contention", "the pause")

    async def end(self, by: str, request_id: str, now_ms: int) -> LedgerState | None:
        """End a person's pause; what stands then, None where there was none. Raises CallFailed."""
        for _ in range(_RACES):
            seen = await self._ledger.read()
            standing = seen.hold_at(now_ms)
            if standing is None:
                return None
            holds = (*seen.holds[:-1], (standing.since_ms, max(now_ms, standing.since_ms)))
            after = seen._replace(holds=holds)
            if await self._order(seen, after, _order_of(Hold(now_ms, 0, by), request_id)):
                return after
        raise CallFailed("dynamodb", "TransactWriteItems", "Contention", "the pause")

    async def _order(self, seen: LedgerState, after: LedgerState, order: dict[str, Any]) -> bool:
        """Write what a person ordered; False where somebody else was quicker."""
        values = {
            ":holds": [list(hold) for hold in after.holds],
            ":until": after.holds[-1][1],
            ":by": after.held_by,
            ":reason": after.hold_reason,
            ":next": seen.hold_rev + 1,
            ":seen": seen.hold_rev,
        }
        key = {"pk": {"S": f"PAUSE#{self._exchange}"}, "sk": {"S": "PAUSE"}}
        update = {
            "TableName": self._table,
            "Key": self._ledger.key,
            "UpdateExpression": "SET holds = :holds, held_until = :until, held_by = :by, "
            "hold_reason = :reason, hold_rev = :next",
            "ConditionExpression": "attribute_not_exists(hold_rev) OR hold_rev = :seen",
            "ExpressionAttributeValues": item_to_wire(values),
        }
        put = {"TableName": self._table, "Item": {**key, **item_to_wire(order)}}
        both = [{"Update": update}, {"Put": put}]
        try:
            await self._call("dynamodb", "TransactWriteItems", TransactItems=both)
        except CallFailed as failed:
            if failed.code != "TransactionCanceledException":
                raise
            return False
        return True


def _shortened(holds: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """The holds as they are remembered: what lies between the oldest two then counts as held."""
    if len(holds) <= _MOST_HOLDS:
        return holds
    (since, _), (_, until), *rest = holds
    return ((since, until), *rest)


def _order_of(hold: Hold, request_id: str) -> dict[str, Any]:
    """`since_ms`: when it was ordered; `until_ms` 0: to resume."""
    return {
        "ordered_at": hold.since_ms,
        "until": hold.until_ms,
        "by": hold.by,
        "reason": hold.reason,
        "request_id": request_id,
    }


def ordered_change(change: Change) -> tuple[str, dict[str, Any], dict[str, Any]] | None:
    """(exchange, what was ordered before, or {}, and what now); None where another kind of item
    changed."""
    if not change.new or not change.pk.startswith("PAUSE#"):
        return None
    return change.pk.removeprefix("PAUSE#"), change.old or {}, change.new
