"""The request weight that the whole fleet has used, and what stops it: one item.

    pk                    sk          holds
    LIMIT#<exchange>      LIMIT       window_minute, used (request weight in it), root; of the
                                      breaker: paused_until, pause_reason; of people's pauses:
                                      holds (since and until of each), held_until, held_by,
                                      hold_reason, hold_rev

Ledger, breaker and pause share an item of the Market table, so that one conditional update checks
all of them. Breaker and pause have attributes of their own there: neither ends the other. The
update also checks that the exchange's name belongs to the root that is asked (`root`, the first
that was): before every request, so that candles of two sources never come under one name.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import item_from_wire, to_wire
from chalicelib.core import metrics
from chalicelib.core.backend import Backend
from chalicelib.core.errors import ConditionFailed, ExchangeRootChanged
from chalicelib.core.settings import Settings
from chalicelib.exchange.catalogue_table import Catalogue

MINUTE_MS = 60_000
_RACES = 20
_NOT_PAUSED = (
    "(attribute_not_exists(paused_until) OR paused_until <= :now) AND "
    "(attribute_not_exists(held_until) OR held_until <= :now)"
)
#: While a person's pause lasts, whoever waits looks again so often: it may be ended at any time.
LOOK_AGAIN_MS = 60_000

#: Binance's request weight per minute and IP, where the exchange does not name its limit.
DEFAULT_WEIGHT_LIMIT = 6000


class Hold(NamedTuple):
    """A pause that a person ordered, in epoch ms; `until_ms` times.FOREVER_MS: until resumed."""

    since_ms: int
    until_ms: int
    by: str
    reason: str = ""


class LedgerState(NamedTuple):
    """`window_minute`: in epoch minutes; `paused_until`: of the breaker, epoch ms, 0 where nothing
    opened it; `root`: whose name the exchange's is, "" where it was never asked; `holds`: (since,
    until) of people's pauses, epoch ms, oldest first; `held_by`, `hold_reason`: of the newest;
    `hold_rev`: how often they changed."""

    window_minute: int = 0
    used: int = 0
    paused_until: int = 0
    pause_reason: str = ""
    root: str = ""
    holds: tuple[tuple[int, int], ...] = ()
    held_by: str = ""
    hold_reason: str = ""
    hold_rev: int = 0

    def used_at(self, now_ms: int) -> int:
        """Request weight used in the running minute."""
        return self.used if self.window_minute == now_ms // MINUTE_MS else 0

    def is_paused(self, now_ms: int) -> bool:
        return self.waits_until(now_ms) > now_ms

    def waits_until(self, now_ms: int) -> int:
        """Epoch ms at which asking again makes sense; 0 or past: now."""
        hold = self.hold_at(now_ms)
        return max(self.paused_until, min(hold.until_ms, now_ms + LOOK_AGAIN_MS) if hold else 0)

    def hold_at(self, now_ms: int) -> Hold | None:
        """The pause of a person that lasts now."""
        if not self.holds or self.holds[-1][1] <= now_ms:
            return None
        return Hold(*self.holds[-1], self.held_by, self.hold_reason)

    def held_ms(self, since_ms: int, now_ms: int) -> int:
        """For how long people have paused it in this stretch of time."""
        parts = (min(until, now_ms) - max(since, since_ms) for since, until in self.holds)
        return sum(max(0, part) for part in parts)

    def resumed_at(self, now_ms: int) -> int:
        """Epoch ms at which the last pause that is over ended; 0 where there was none."""
        return max((until for _, until in self.holds if until <= now_ms), default=0)


class Allowance(NamedTuple):
    """Request weight that the whole fleet may use in the running minute, and has used."""

    limit: int
    used: int

    @property
    def left(self) -> int:
        return max(0, self.limit - self.used)


def fleet_limit(catalogue: Catalogue | None, settings: Settings) -> int:
    """Request weight that the whole fleet may use in a minute: its share of the exchange's limit.

    `catalogue` None: the limit is not known yet, and Binance's is taken.
    """
    weight_limit = (catalogue.weight_limit if catalogue else 0) or DEFAULT_WEIGHT_LIMIT
    return weight_limit * settings.budget_percent // 100


def allowance(
    state: LedgerState, catalogue: Catalogue | None, settings: Settings, now_ms: int
) -> Allowance:
    return Allowance(fleet_limit(catalogue, settings), state.used_at(now_ms))


def next_minute_ms(now_ms: int) -> int:
    """When the running minute ends, in epoch ms: the weight used is then counted from 0 again."""
    return (now_ms // MINUTE_MS + 1) * MINUTE_MS


class Ledger(ItemTable):
    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.market_table)
        self._exchange = backend.settings.exchange
        self._root = backend.settings.exchange_root

    async def read(self) -> LedgerState:
        return _state_in(await self._get(self.key) or {})

    async def waits_until(self, now_ms: int) -> int:
        """Epoch ms at which asking again makes sense; 0 or past: now.

        Raises ExchangeRootChanged.
        """
        state = await self.read()
        self._check_root(state)
        return state.waits_until(now_ms)

    async def take_weight(self, weight: int, budget: int, now_ms: int) -> int:
        """Take request weight from this minute's budget for the whole fleet.

        Returns 0 where it was granted, else the epoch ms at which asking again makes sense. Raises
        ExchangeRootChanged where the exchange's name belongs to another root than ours.
        """
        minute = now_ms // MINUTE_MS
        for _ in range(_RACES):
            refused = await self._add(weight, budget, minute, now_ms)
            if refused is None:
                return 0
            self._check_root(refused)
            if refused.is_paused(now_ms):
                return refused.waits_until(now_ms)
            if refused.window_minute == minute:
                return (minute + 1) * MINUTE_MS
            if refused.window_minute > minute:  # our clock is behind another worker's
                minute = refused.window_minute
            elif await self._start_minute(weight, minute, now_ms):
                return 0
        return now_ms + 1000

    async def _add(self, weight: int, budget: int, minute: int, now_ms: int) -> LedgerState | None:
        """Add to the weight of `minute`; None where that was done, else what stands against it."""
        try:
            await self._update(
                self.key,
                UpdateExpression="ADD used :weight",
                ConditionExpression="root = :root AND window_minute = :minute AND "
                f"used <= :room AND {_NOT_PAUSED}",
                ExpressionAttributeValues={
                    ":root": to_wire(self._root),
                    ":weight": to_wire(weight),
                    ":minute": to_wire(minute),
                    ":now": to_wire(now_ms),
                    ":room": to_wire(budget - weight),
                },
            )
        except ConditionFailed as failed:
            return _state_in({} if failed.item is None else item_from_wire(failed.item))
        return None

    async def _start_minute(self, weight: int, minute: int, now_ms: int) -> bool:
        """Begin `minute` with this weight; False where another worker was quicker, or paused.

        The first to do so gives the name to its root.
        """
        try:
            await self._update(
                self.key,
                UpdateExpression="SET window_minute = :minute, used = :weight, root = :root",
                ConditionExpression="(attribute_not_exists(root) OR root = :root) AND "
                "(attribute_not_exists(window_minute) OR window_minute < :minute) AND "
                f"{_NOT_PAUSED}",
                ExpressionAttributeValues={
                    ":root": to_wire(self._root),
                    ":weight": to_wire(weight),
                    ":minute": to_wire(minute),
                    ":now": to_wire(now_ms),
                },
            )
        except ConditionFailed:
            return False
        return True

    async def observe_weight(self, used: int, now_ms: int) -> None:
        """The exchange itself counted `used` in this minute; the higher count is kept."""
        try:
            await self._update(
                self.key,
                UpdateExpression="SET used = :used",
                ConditionExpression="window_minute = :minute AND used < :used",
                ExpressionAttributeValues={
                    ":used": to_wire(used),
                    ":minute": to_wire(now_ms // MINUTE_MS),
                },
            )
        except ConditionFailed:
            return  # the ledger knows as much already

    async def pause(self, until_ms: int, reason: str) -> None:
        """Open the breaker, which stops every worker until `until_ms`; one that is open for longer
        stays."""
        try:
            await self._update(
                self.key,
                UpdateExpression="SET paused_until = :until, pause_reason = :reason",
                ConditionExpression="attribute_not_exists(paused_until) OR paused_until < :until",
                ExpressionAttributeValues={":until": to_wire(until_ms), ":reason": to_wire(reason)},
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


def _state_in(item: dict[str, Any]) -> LedgerState:
    return LedgerState(
        window_minute=item.get("window_minute", 0),
        used=item.get("used", 0),
        paused_until=item.get("paused_until", 0),
        pause_reason=item.get("pause_reason", ""),
        root=item.get("root", ""),
        holds=tuple((since, until) for since, until in item.get("holds", ())),
        held_by=item.get("held_by", ""),
        hold_reason=item.get("hold_reason", ""),
        hold_rev=item.get("hold_rev", 0),
    )
