"""Candles made row by row."""

from __future__ import annotations

from chalicelib.candles.answers import ROW, Row
from chalicelib.candles.candles import Candles


def append(candles: Candles, row: Row, answered_ms: int) -> None:
    """Add the candle of one row of the exchange, which opens after all the others."""
    for name, value in zip(ROW, row, strict=False):
        candles.columns[name].append(value)
    candles.columns["answered_at"].append(answered_ms)
