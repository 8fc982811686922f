"""The summaries in the Market table: what is stored of each symbol, in counts per object.

pk                    sk          holds
COVER#<exchange>      <symbol>    rev, tf_<timeframe>: candles/summary.py's packed form
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import item_from_wire, item_to_wire, to_wire
from chalicelib.candles.summary import Summary
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed

if TYPE_CHECKING:
    from chalicelib.aws.stream import Change

_PK, _TIMEFRAME = "COVER#", "tf_"
_RACES = 20

#: timeframe -> what is known of it, for one symbol.
Coverages = dict[str, Summary]


class Known(NamedTuple):
    """What is known of a symbol, and in which revision."""

    summaries: Coverages
    rev: int


#: The summaries of a symbol after a change, given those before it.
Changed = Callable[[Coverages], Awaitable[Coverages]]


@dataclass(frozen=True)
class CoverageChange:
    """A change of one symbol's summaries, as the table's stream holds it."""

    exchange: str
    symbol: str
    _old: dict[str, Any]
    _new: dict[str, Any]

    # Read on demand: most changes are of symbols that nobody listens to.
    def before(self) -> Coverages:
        return coverages_in(self._old)

    def after(self) -> Coverages:
        return coverages_in(self._new)


def coverage_change(change: Change) -> CoverageChange | None:
    """None where the change is of another kind of item, or deleted the item."""
    if not change.new or not change.pk.startswith(_PK):
        return None
    return CoverageChange(change.pk.removeprefix(_PK), change.sk, change.old, change.new)


class CoverageTable(ItemTable):
    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.market_table)
        self._exchange = backend.settings.exchange

    async def coverage_of(self, symbols: list[str]) -> dict[str, Coverages]:
        """symbol -> timeframe -> summary, for the symbols of which something is stored."""
        keys = [self._key(symbol) for symbol in symbols]
        return {item["sk"]: coverages_in(item) for item in await self._get_all(keys)}

    async def sample(self, timeframe: str, most: int) -> dict[str, Summary]:
        """symbol -> summary, of the first `most` symbols at most, by name: in one request, which
        may be a moment behind."""
        name = _TIMEFRAME + timeframe
        answer = await self._call(
            "dynamodb",
            "Query",
            TableName=self._table,
            Limit=most,
            KeyConditionExpression="pk = :exchange",
            ExpressionAttributeValues={":exchange": {"S": _PK + self._exchange}},
        )
        items = map(item_from_wire, answer["Items"])
        return {
            item["sk"]: Summary.unpacked(timeframe, item[name]) for item in items if name in item
        }

    async def read(self, symbol: str) -> Known:
        item = await self._get(self._key(symbol)) or {"rev": 0}
        return Known(coverages_in(item), item["rev"])

    async def record(self, symbol: str, known: Known, changed: Changed) -> None:
        """Write what `changed` makes of the summaries, where they are still as `known`.

        Workers of one symbol may race: the loser reads again and calls `changed` again, which then
        looks at the objects anew. So what a summary says of an object was read after the summary's
        revision before, and an older state of an object never replaces a newer one.
        """
        for _ in range(_RACES):
            after = await changed(known.summaries)
            if after == known.summaries:
                return
            fresh = {_TIMEFRAME + name: each.packed(name) for name, each in after.items()}
            try:
                await self._call(
                    "dynamodb",
                    "PutItem",
                    TableName=self._table,
                    Item={**self._key(symbol), **item_to_wire({**fresh, "rev": known.rev + 1})},
                    ConditionExpression="attribute_not_exists(pk) OR rev = :rev",
                    ExpressionAttributeValues={":rev": to_wire(known.rev)},
                )
            except ConditionFailed:
                known = await self.read(symbol)
                continue
            return
        raise CallFailed("dynamodb", "PutItem", "Contention", f"coverage of {symbol}")

    def _key(self, symbol: str) -> dict[str, Any]:
        return {"pk": {"S": _PK + self._exchange}, "sk": {"S": symbol}}


def coverages_in(item: dict[str, Any]) -> Coverages:
    """What an item of the table says."""
    return {
        timeframe: Summary.unpacked(timeframe, packed)
        for name, packed in item.items()
        if (timeframe := name.removeprefix(_TIMEFRAME)) != name
    }
