"""What use cases that ask the exchange work with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chalicelib.core.backend import Backend

if TYPE_CHECKING:  # their HTTP clients take long to load, and only wiring.py makes them
    from chalicelib.exchange.archive import Archive
    from chalicelib.exchange.binance import Binance


@dataclass(frozen=True, eq=False, repr=False)
class Worker(Backend):
    """A backend, the exchange, and the exchange's bulk archive where it has one."""

    exchange: Binance
    archive: Archive | None = None
