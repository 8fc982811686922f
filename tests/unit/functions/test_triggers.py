"""The minute's look at the exchange: prices, and the symbols where their list is old."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib.core.errors import CallFailed
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.functions import triggers
from tests.doubles.faults import Refuse

HOUR_MS = 3_600_000


@pytest.fixture
def minute(run, worker, monkeypatch):
    """One invocation of refresh_prices; what it answers."""
    monkeypatch.setattr(triggers.wiring, "worker", lambda: worker)
    monkeypatch.setattr(triggers, "_worked", run)
    return lambda: triggers.refresh_prices({}, SimpleNamespace(aws_request_id="r"))


@pytest.fixture
def stored(run, backend):
    """(symbols with a price, symbols that are listed), None for what is not there."""

    def stored() -> tuple[Any, Any]:
        table = CatalogueTable(backend)
        prices, catalogue = run(table.read_prices()), run(table.read_catalogue())
        return prices and set(prices.prices), catalogue and set(catalogue.symbols)

    return stored


def test_a_new_stack_has_prices_and_symbols_after_its_first_minute(
    minute, stored, exchange
) -> None:
    assert minute() == {"prices": len(exchange.symbols)}
    assert stored() == (set(exchange.symbols), set(exchange.symbols))


def test_the_list_is_read_once_an_hour_and_costs_its_weight_then_only(
    minute, stored, exchange, clock
) -> None:
    for _ in range(60):
        minute()
        clock.advance(60_000)
    assert sum(exchange.weight_by_minute.values()) == 60 * 4 + 20
    exchange.symbols["NEWUSDT"] = "TRADING"
    minute()
    assert stored()[1] == set(exchange.symbols)


def test_a_refused_list_and_an_answer_without_prices_leave_what_is_stored(
    minute, stored, exchange, clock
) -> None:
    minute()
    before = stored()
    clock.advance(HOUR_MS)
    exchange.symbols = {}
    assert minute() == {"prices": 0}
    assert stored() == before


def test_where_the_catalogue_cannot_be_stored_prices_are(minute, stored, aws, exchange) -> None:
    aws.hooks.append(_RefuseCatalogue())
    with pytest.raises(CallFailed):
        minute()
    assert stored() == (set(exchange.symbols), None)


class _RefuseCatalogue(Refuse):
    def __init__(self) -> None:
        super().__init__("dynamodb.PutItem")

    async def before(self, called: Any) -> None:
        if "CATALOGUE#" in str(called.parameters):
            await super().before(called)
