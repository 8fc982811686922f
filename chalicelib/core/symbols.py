"""What a symbol's status says. The exchange has statuses of its own beside these."""

from __future__ import annotations

from collections.abc import Mapping

#: It can be traded, unless the exchange says otherwise beside it.
TRADING = "TRADING"
#: Stands for TRADING where spot trading is not allowed.
NOT_SPOT = "SPOT_TRADING_NOT_ALLOWED"
#: The exchange does not list it any more. Its candles may still be asked for.
DELISTED = "DELISTED"


def trading(statuses: Mapping[str, str]) -> tuple[str, ...]:
    """Of symbols and their statuses, those that can be traded, by name."""
    return tuple(sorted(name for name, status in statuses.items() if status == TRADING))
