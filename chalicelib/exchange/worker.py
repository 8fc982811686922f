"""What use cases that ask the exchange work with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chalicelib.core.backend import Backend

if TYPE_CHECKING:  # its HTTP client takes long to load, and only wiring.py makes one
    from chalicelib.exchange.binance import Binance


@dataclass(frozen=True, eq=False, repr=False)
class Worker(Backend):
    """A backend and the exchange."""

    exchange: Binance
