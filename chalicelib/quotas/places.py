"""Places: at most so many things of an owner at once, exactly, without a scan or a counter.

    pk              sk       holds
    OWNER#<owner>   PLACES   places (SS): `<holder>#<turn>#<taken at, epoch ms>`

A counter would have to be lowered by whoever ends a thing, in the same write: every end in the
engine would become a transaction, on one item per owner. An index of what is active lags behind, so
two requests at once would both find room. Here only taking a place writes: one conditional update,
before the thing is stored. Nobody gives a place back. Whoever finds all places taken looks what has
become of their holders, and drops the places of those that have ended.

A place is taken before its holder is stored, so a crash in between leaves a place without a holder.
It is dropped after LEASE_MS, when the function that took it is certainly gone. A turn (a task's
attempt) makes the place of a retry another one than that of the attempt that has ended, so dropping
an old place never takes away a new one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from chalicelib.aws.item_table import Item, ItemTable
from chalicelib.aws.wire import item_from_wire, item_to_wire, to_wire
from chalicelib.core.errors import CallFailed, ConditionFailed
from chalicelib.quotas.limits import owner_pk

#: No function that takes a place runs so long (tests/unit/quotas holds it against their timeouts),
#: by clocks that differ by some seconds.
LEASE_MS = 120_000
#: Others may take what was freed. After so many times the caller is to come again.
_RACES = 8


class Place(NamedTuple):
    """`holder`: an id; `turn`: which of its turns, from 1; `taken_at`: epoch ms."""

    holder: str
    turn: int
    taken_at: int

    @property
    def text(self) -> str:
        return f"{self.holder}#{self.turn}#{self.taken_at}"

    @classmethod
    def of(cls, text: str) -> Place:
        holder, turn, taken_at = text.rsplit("#", 2)
        return cls(holder, int(turn), int(taken_at))


#: Place -> whether its turn goes on, of those whose turn has begun; the others are left out.
Turns = Callable[[Iterable[Place]], Awaitable[dict[Place, bool]]]


class Places(ItemTable):
    """The places of one owner, in one table."""

    def __init__(self, call: Callable[..., Awaitable[Item]], table: str, owner: str) -> None:
        super().__init__(call, table)
        self._key = item_to_wire({"pk": owner_pk(owner), "sk": "PLACES"})

    async def take(self, mine: Place, most: int, turns: Turns) -> bool:
        """Take a place of `most`; False where others hold them all.

        True, too, where the turn has begun already: it is taken twice then, and nothing new is made
        of it. Raises CallFailed.
        """
        for _ in range(_RACES):
            taken = await self._add(mine, most)
            if taken is None:
                return True
            begun = await turns({*taken, mine})
            if mine in begun:
                return True
            fresh_ms = mine.taken_at - LEASE_MS
            rivals = {
                place.holder: place  # of several its newest: it took a place, died, and came again
                for place in sorted(taken)
                if place.holder != mine.holder and begun.get(place, place.taken_at > fresh_ms)
            }
            if len(rivals) >= most:
                return False
            await self.drop(taken - {*rivals.values()})
        raise CallFailed("dynamodb", "UpdateItem", "Contention", "the places of an owner")

    async def drop(self, places: Iterable[Place]) -> None:
        """Give places back, where they are held."""
        texts = {place.text for place in places}
        if not texts:
            return
        try:
            await self._update(
                self._key,
                UpdateExpression="DELETE places :gone",
                ConditionExpression="attribute_exists(places)",
                ExpressionAttributeValues={":gone": to_wire(texts)},
            )
        except ConditionFailed:
            return

    async def read(self) -> set[Place]:
        """Every place that is taken, by whomever has ended since, too."""
        item = await self._get(self._key) or {}
        return {Place.of(text) for text in item.get("places", ())}

    async def _add(self, mine: Place, most: int) -> set[Place] | None:
        """Take a place where one is free, then None; else the places that are taken."""
        try:
            await self._update(
                self._key,
                UpdateExpression="ADD places :mine",
                ConditionExpression="attribute_not_exists(places) OR size(places) < :most",
                ExpressionAttributeValues={":mine": to_wire({mine.text}), ":most": to_wire(most)},
            )
        except ConditionFailed as full:
            item = {} if full.item is None else item_from_wire(full.item)
            return {Place.of(text) for text in item.get("places", ())}
        return None
