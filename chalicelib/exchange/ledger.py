""""""

from __future__ import annotations

MINUTE_MS = 60_000


#: Binance's request weight per minute and IP, where the exchange has not told its own.
DEFAULT_WEIGHT_LIMIT = 6000
