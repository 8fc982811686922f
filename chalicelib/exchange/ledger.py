"""The request weight that the whole fleet has used, and what stops it: one item.

    pk                    sk          holds
    LIMIT#<exchange>      LIMIT       window_minute, root; of that minute: fleet_share, expected,
                                      used, counted, ahead_ms (share.py); seen_minute (the last one
                                      in which the exchange's own count was seen); of the breaker:
                                      paused_until, pause_reason, throttled_minute,
                                      throttled_until, strikes; of people's pauses: holds
                                      (since and until of each), held_until, held_by,
                                      hold_reason, hold_rev

Ledger, breaker and pause share an item of the Market table, so that one conditional update checks
all of them. Breaker and pause have attributes of their own there: neither ends the other. The
update also checks that the exchange's name belongs to the root that is asked (`root`, the first
that was): before every request, so that candles of two sources never come under one name.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import item_from_wire, item_to_wire, to_wire
from chalicelib.core import metrics
from chalicelib.core.backend import Backend
from chalicelib.core.errors import ConditionFailed, ExchangeRootChanged, ExchangeThrottled
from chalicelib.exchange.ledger_state import LOOK_AGAIN_MS, MINUTE_MS, LedgerState, state_in
from chalicelib.exchange.server_clock import OUR_CLOCK, ServerClock
from chalicelib.exchange.share import Spent, WeightLimits, next_minute

_RACES = 20
#: How long everybody waits at least where the exchange throttles, and has not before.
_FIRST_PAUSE_MS = 1_000
_NOT_PAUSED = (
    "(attribute_not_exists(paused_until) OR paused_until <= :now) AND "
    "(attribute_not_exists(held_until) OR held_until <= :now)"
)


class Wanted(NamedTuple):
    """What a worker asks for. `weight`: so much at least; `most`: up to so much, where there is
    room; `high`: also of what is kept for such requests; `clock`: the exchange's, in whose minute
    it is; `has_seen`: whether the exchange has shown the worker its own count in this minute."""

    weight: int
    most: int = 0
    high: bool = False
    clock: ServerClock = OUR_CLOCK
    has_seen: bool = False


class Taken(NamedTuple):
    """`weight`: what was granted. Where that is 0, asking again makes sense at `until_ms`, in epoch
    ms. `state`: the ledger's, then."""

    weight: int
    until_ms: int
    state: LedgerState


class Ledger(ItemTable):
    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.market_table)
        self._exchange = backend.settings.exchange
        self._root = backend.settings.exchange_root

    async def read(self) -> LedgerState:
        return state_in(await self._get(self.key) or {})

    async def waits_until(self, now_ms: int) -> int:
        """Epoch ms at which asking again makes sense; 0 or past: now.

        Raises ExchangeRootChanged.
        """
        state = await self.read()
        self._check_root(state)
        return state.waits_until(now_ms)

    async def take_weight(
        self, wanted: Wanted, limits: WeightLimits, now_ms: int, seen: LedgerState | None = None
    ) -> Taken:
        """Take request weight from the minute's budget for the whole fleet.

        `seen`: the ledger as it was last seen. Raises ExchangeRootChanged where the exchange's name
        belongs to another root than ours.
        """
        minute, into_ms = divmod(now_ms + wanted.clock.ahead_ms, MINUTE_MS)
        state = seen or LedgerState(fleet_share=limits.ceiling)
        least, most = wanted.weight, max(wanted.weight, wanted.most)
        for _ in range(_RACES):
            granted, state = await self._add(most, wanted, limits, state.spent, now_ms)
            if granted:
                return Taken(most, 0, state)
            self._check_root(state)
            if state.is_paused(now_ms):
                return Taken(0, state.waits_until(now_ms), state)
            if state.window_minute > minute:  # another worker's clock is ahead of ours
                begins_ms = state.window_minute * MINUTE_MS - wanted.clock.ahead_ms
                return Taken(0, min(begins_ms, now_ms + LOOK_AGAIN_MS), state)
            if state.window_minute < minute:
                new = next_minute(state.spent, limits)
                most = max(1, min(most, new.left(limits, wanted.high, into_ms)))
                begun = await self._start_minute(new, most, minute, state.window_minute, now_ms)
                if begun is not None:
                    return Taken(most, 0, begun)
                continue
            spent = state.spent
            for_us, _ = spent.rooms(limits, wanted.high, into_ms)
            least = max(1, min(least, for_us))  # a tiny limit lets every group pass, slowly
            most = min(most, spent.left(limits, wanted.high, into_ms))
            if most < least:
                more_ms = minute * MINUTE_MS + spent.more_after_ms(into_ms, wanted.high)
                return Taken(0, more_ms - wanted.clock.ahead_ms, state)
        return Taken(0, now_ms + 1000, state)

    async def _add(
        self, weight: int, wanted: Wanted, limits: WeightLimits, spent: Spent, now_ms: int
    ) -> tuple[bool, LedgerState]:
        """Add to the minute's weight, if its share is that of `spent`: (whether that was done, the
        state then, or what stands against it)."""
        minute, into_ms = divmod(now_ms + wanted.clock.ahead_ms, MINUTE_MS)
        for_us, for_all = spent.rooms(limits, wanted.high, into_ms)
        noting = " SET seen_minute = :minute" if wanted.has_seen else ""
        try:
            item = await self._update(
                self.key,
                UpdateExpression=f"ADD used :weight, counted :weight{noting}",
                ConditionExpression="root = :root AND window_minute = :minute AND "
                "fleet_share = :share AND used <= :for_us AND counted <= :for_all AND "
                f"{_NOT_PAUSED}",
                ExpressionAttributeValues={
                    ":root": to_wire(self._root),
                    ":weight": to_wire(weight),
                    ":minute": to_wire(minute),
                    ":share": to_wire(spent.share),
                    ":now": to_wire(now_ms),
                    ":for_us": to_wire(for_us - weight),
                    ":for_all": to_wire(for_all - weight),
                },
            )
        except ConditionFailed as failed:
            return False, _standing(failed)
        return True, state_in(item)

    async def _start_minute(
        self, new: Spent, weight: int, minute: int, before: int, now_ms: int
    ) -> LedgerState | None:
        """Begin `minute` as `new` after the minute `before`, with this weight; None where another
        worker was quicker, or paused.

        The first to do so gives the name to its root.
        """
        try:
            item = await self._update(
                self.key,
                UpdateExpression="SET window_minute = :minute, fleet_share = :share, "
                "expected = :expected, used = :weight, counted = :weight, root = :root",
                # The root is the one that was checked: nobody sets it without a minute.
                ConditionExpression="(attribute_not_exists(window_minute) OR "
                f"window_minute = :before) AND {_NOT_PAUSED}",
                ExpressionAttributeValues={
                    ":root": to_wire(self._root),
                    ":weight": to_wire(weight),
                    ":share": to_wire(new.share),
                    ":expected": to_wire(new.expected),
                    ":minute": to_wire(minute),
                    ":before": to_wire(before),
                    ":now": to_wire(now_ms),
                },
            )
        except ConditionFailed:
            return None
        return state_in(item)

    async def observe_weight(self, counted: int, at_ms: int) -> LedgerState:
        """The exchange itself had counted so much in its minute at `at_ms`, by its own clock. The
        higher count is kept; returns the state then."""
        minute, into_ms = divmod(at_ms, MINUTE_MS)
        try:
            item = await self._update(
                self.key,
                UpdateExpression="SET counted = :counted, ahead_ms = :into, seen_minute = :minute",
                ConditionExpression="window_minute = :minute AND counted < :counted",
                ExpressionAttributeValues={
                    ":counted": to_wire(counted),
                    ":into": to_wire(into_ms),
                    ":minute": to_wire(minute),
                },
            )
        except ConditionFailed as failed:  # the ledger knows as much already
            return _standing(failed)
        return state_in(item)

    async def throttle(self, error: ExchangeThrottled, now_ms: int) -> int:
        """Open the breaker: the exchange has throttled us. Until when, in epoch ms.

        The time that it names may be over, or too short. Where it throttles soon after a pause, the
        next one lasts twice as long at least, up to a minute.
        """
        if not error.by_us:
            await self.pause(max(error.until_ms, now_ms + _FIRST_PAUSE_MS), error.detail[:200])
            return error.until_ms
        state = await self.read()
        strikes = 0 if now_ms >= state.throttled_until + MINUTE_MS else state.strikes + 1
        least_ms = min(_FIRST_PAUSE_MS << min(strikes, 10), MINUTE_MS)
        if now_ms < state.throttled_until:  # one answer of several that were under way
            strikes, least_ms = state.strikes, 0
        until_ms = max(error.until_ms, now_ms + least_ms)
        noted = {"throttled_minute": now_ms // MINUTE_MS, "throttled_until": until_ms}
        await self.pause(until_ms, error.detail[:200], {**noted, "strikes": strikes})
        return until_ms

    async def pause(
        self, until_ms: int, reason: str, noted: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        """Open the breaker, which stops every worker until `until_ms`; one that is open for longer
        stays. `noted`: attributes that say why."""
        noting = "".join(f", {name} = :{name}" for name in noted)
        values: dict[str, Any] = {":until": until_ms, ":reason": reason}
        values |= {f":{name}": value for name, value in noted.items()}
        try:
            await self._update(
                self.key,
                UpdateExpression=f"SET paused_until = :until, pause_reason = :reason{noting}",
                ConditionExpression="attribute_not_exists(paused_until) OR paused_until < :until",
                ExpressionAttributeValues=item_to_wire(values),
            )
            metrics.count("BreakerOpened")
        except ConditionFailed:
            return

    def _check_root(self, state: LedgerState) -> None:
        if state.root not in ("", self._root):
            raise ExchangeRootChanged(self._exchange, state.root, self._root)

    @property
    def key(self) -> dict[str, Any]:
        return {"pk": {"S": f"LIMIT#{self._exchange}"}, "sk": {"S": "LIMIT"}}


def _standing(failed: ConditionFailed) -> LedgerState:
    return state_in({} if failed.item is None else item_from_wire(failed.item))
