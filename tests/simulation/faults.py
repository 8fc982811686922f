"""What can go wrong in a simulated schedule, how often, and how often it did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

#: Kinds that a schedule draws a probability for, per chance of its happening.
KINDS = (
    "crash_before_call",
    "crash_after_call",
    "lost_response",
    "call_applied_twice",
    "call_refused",
    "index_lags",
    "duplicate_delivery",
    "early_redelivery",
    "partial_send",
    "crash_between_sends",
    "refill_lost",
    "refill_twice",
    "throttled_receive",
    "exchange_throttles",
    "exchange_fails",
    "exchange_slow",
    "exchange_caps_pages",
    "exchange_caps_from_the_end",
    "exchange_shuffles_rows",
    "exchange_adds_a_row",
    "exchange_ignores_start",
    "stream_redelivery",
    "double_sweep",
    "skipped_sweep",
    "message_lost",
)
#: Kinds for which the world draws it: it is high in a few worlds (tests/simulation/world.py).
_OF_THE_WORLD = ("message_lost",)
#: Most of a schedule's kinds are off, so that each is also seen without the noise of the others.
_LEVELS = (0.0, 0.0, 0.0, 0.005, 0.02, 0.06)
#: Kinds whose every hit costs a whole invocation or minutes of a task's time.
_RARER = {"crash_before_call": 0.5, "crash_after_call": 0.5, "exchange_throttles": 0.5}
#: Kinds with few chances per schedule.
_OFTENER = {
    "duplicate_delivery": 8,
    "early_redelivery": 8,
    "partial_send": 6,
    "crash_between_sends": 3,
    "refill_lost": 8,
    "refill_twice": 8,
    "throttled_receive": 8,
    "stream_redelivery": 5,
    "double_sweep": 8,
    "skipped_sweep": 8,
    "index_lags": 6,
    "exchange_slow": 2,
}


@dataclass
class Faults:
    """Draws faults while `on`; `seen` counts those that happened, by kind."""

    random: Random
    on: bool = True
    seen: Counter[str] = field(default_factory=Counter)
    rates: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind in KINDS:
            if kind in _OF_THE_WORLD:
                continue
            level = self.random.choice(_LEVELS)
            self.rates[kind] = level * _RARER.get(kind, 1) * _OFTENER.get(kind, 1)

    def hit(self, kind: str) -> bool:
        """Whether a fault of this kind happens here."""
        if not self.on or self.random.random() >= self.rates[kind]:
            return False
        self.seen[kind] += 1
        return True
