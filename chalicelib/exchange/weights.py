"""What requests to the exchange weigh, and how many a worker sends and pays for at a time.

Source: Binance spot API, general endpoints and market data endpoints.
"""

from __future__ import annotations

KLINES_WEIGHT = 2
EXCHANGE_INFO_WEIGHT = 20
ALL_PRICES_WEIGHT = 4
ALL_VOLUMES_WEIGHT = 80
PING_WEIGHT = 1

IN_FLIGHT = 8  # four or five saturate the weight limit at 80 ms latency
#: What a worker takes from the ledger at a time: a block saves a write per message. What is left of
#: it at the minute's end is lost.
BLOCK_WEIGHT = 60
