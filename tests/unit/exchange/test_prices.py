"""The latest prices: one read, each with its time."""

from __future__ import annotations

import pytest

from chalicelib.core.errors import ExchangeThrottled, NotReady
from chalicelib.core.times import iso
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.prices import latest_prices
from chalicelib.exchange.refresh import refresh_catalogue, refresh_prices


def test_before_the_first_refresh_there_are_no_prices_yet(run, backend) -> None:
    with pytest.raises(NotReady) as refused:
        run(latest_prices(backend, None))
    assert refused.value.reason == "NO_PRICES_YET"


def test_every_price_has_the_servers_time_and_unknown_symbols_are_named(
    run, worker, clock, exchange
) -> None:
    assert run(refresh_prices(worker)) == len(exchange.symbols)
    at = iso(clock() // 1000 * 1000)
    clock.advance(30_000)
    answer = run(latest_prices(worker, ["ETHUSDT", "NOPE", "ETHUSDT"]))
    assert list(answer["prices"]) == ["ETHUSDT"]
    assert answer["prices"]["ETHUSDT"]["time"] == answer["as_of"] == at
    assert answer["prices"]["ETHUSDT"]["price"] > 0
    assert answer["unreachable"] == ["NOPE"]


@pytest.mark.parametrize("wanted", [None, ["BTCUSDT"], [f"S{number}" for number in range(3000)]])
def test_prices_are_one_read_however_many_are_asked_for(run, worker, aws, wanted) -> None:
    run(refresh_prices(worker))
    aws.counts.clear()
    run(latest_prices(worker, wanted))
    assert aws.counts == {"dynamodb.GetItem": 1}


def test_a_symbol_that_is_no_longer_listed_has_no_price(run, worker, exchange) -> None:
    run(refresh_catalogue(worker))
    exchange.symbols["GONEUSDT"] = "TRADING"
    run(refresh_prices(worker))
    answer = run(latest_prices(worker, ["GONEUSDT", "BTCUSDT"]))
    assert answer["unreachable"] == ["GONEUSDT"]


def test_a_throttled_refresh_pauses_the_fleet_and_keeps_the_old_prices(
    run, worker, exchange, clock
) -> None:
    run(refresh_prices(worker))
    before = run(latest_prices(worker, None))
    exchange.throttled_until = clock() + 20_000
    with pytest.raises(ExchangeThrottled):
        run(refresh_prices(worker))
    assert run(Ledger(worker).read()).paused_until == clock() + 20_000
    assert run(latest_prices(worker, None)) == before
