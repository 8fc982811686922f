"""Coverage in the Market table: what is stored of each symbol, and what the exchange did not have.

pk                    sk          holds
COVER#<exchange>      <symbol>    rev, tf_<timeframe>: JSON of candles/coverage.py's Coverage
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import item_to_wire, to_wire
from chalicelib.candles.coverage import Coverage, CoveredPart
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed

if TYPE_CHECKING:
    from chalicelib.aws.stream import Change

_PK, _TIMEFRAME = "COVER#", "tf_"
_RACES = 20

#: timeframe -> what is known of it, for one symbol.
Coverages = dict[str, Coverage]
#: What was collected of a symbol, given what is known of it.
Collected = Callable[[Coverages], Awaitable[Iterable[CoveredPart]]]


@dataclass(frozen=True)
class CoverageChange:
    """A change of one symbol's coverage, as the table's stream holds it."""

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
        """symbol -> timeframe -> coverage, for the symbols of which something is stored."""
        keys = [self._key(symbol) for symbol in symbols]
        return {item["sk"]: coverages_in(item) for item in await self._get_all(keys)}

    async def extend_coverage(self, symbol: str, collected: Collected, now_ms: int) -> None:
        """Record what has been collected of a symbol, and when it was asked for.

        `collected` says what, given what is known. Workers of one symbol may race: the loser reads
        again and asks `collected` again. So what it finds absent was absent after the last change
        of the coverage, and a candle that another worker has stored meanwhile is no gap.
        """
        key = self._key(symbol)
        for _ in range(_RACES):
            item = await self._get(key) or {"rev": 0}
            before = coverages_in(item)
            after = _extended(before, await collected(before), now_ms)
            if after == before:
                return
            fresh = {_TIMEFRAME + timeframe: known.to_json() for timeframe, known in after.items()}
            try:
                await self._call(
                    "dynamodb",
                    "PutItem",
                    TableName=self._table,
                    Item={**key, **item_to_wire({**fresh, "rev": item["rev"] + 1})},
                    ConditionExpression="attribute_not_exists(pk) OR rev = :rev",
                    ExpressionAttributeValues={":rev": to_wire(item["rev"])},
                )
            except ConditionFailed:
                continue
            return
        raise CallFailed("dynamodb", "PutItem", "Contention", f"coverage of {symbol}")

    def _key(self, symbol: str) -> dict[str, Any]:
        return {"pk": {"S": _PK + self._exchange}, "sk": {"S": symbol}}


def coverages_in(item: dict[str, Any]) -> Coverages:
    """What a coverage item says."""
    return {
        name.removeprefix(_TIMEFRAME): Coverage.from_json(text)
        for name, text in item.items()
        if name.startswith(_TIMEFRAME)
    }


def _extended(before: Coverages, parts: Iterable[CoveredPart], now_ms: int) -> Coverages:
    after = dict(before)
    for part in parts:
        after[part.timeframe] = after.get(part.timeframe, Coverage()).extended(part, now_ms)
    return after
