"""The latest prices: one read, each with its time."""

from __future__ import annotations

import pytest

from chalicelib.core.errors import ExchangeThrottled, NotReady
from chalicelib.core.times import iso
from chalicelib.exchange.prices import latest_prices
from chalicelib.exchange.refresh import refresh_catalogue, refresh_prices


def test_before_the_first_refresh_there_are_no_prices_yet(run, desk) -> None:
    with pytest.raises(NotReady) as refused:
        run(latest_prices(desk, None))
    assert refused.value.reason == "NO_PRICES_YET"


def test_every_price_has_the_servers_time_and_unknown_symbols_are_named(
    run, bench, clock, exchange
) -> None:
    assert run(refresh_prices(bench)) == len(exchange.symbols)
    at = iso(clock() // 1000 * 1000)
    clock.advance(30_000)
    answer = run(latest_prices(bench, ["ETHUSDT", "NOPE", "ETHUSDT"]))
    assert list(answer["prices"]) == ["ETHUSDT"]
    assert answer["prices"]["ETHUSDT"]["time"] == answer["as_of"] == at
    assert answer["prices"]["ETHUSDT"]["price"] > 0
    assert answer["unreachable"] == ["NOPE"]


@pytest.mark.parametrize("wanted", [None, ["BTCUSDT"], [f"S{number}" for number in range(3000)]])
def test_prices_are_one_read_however_many_are_asked_for(run, bench, aws, wanted) -> None:
    run(refresh_prices(bench))
    aws.counts.clear()
    run(latest_prices(bench, wanted))
    assert aws.counts == {"dynamodb.GetItem": 1}


def test_a_symbol_that_is_no_longer_listed_has_no_price(run, bench, exchange) -> None:
    run(refresh_catalogue(bench))
    exchange.symbols["GONEUSDT"] = "TRADING"
    run(refresh_prices(bench))
    answer = run(latest_prices(bench, ["GONEUSDT", "BTCUSDT"]))
    assert answer["unreachable"] == ["GONEUSDT"]


def test_a_throttled_refresh_pauses_the_fleet_and_keeps_the_old_prices(
    run, bench, exchange, clock
) -> None:
    run(refresh_prices(bench))
    before = run(latest_prices(bench, None))
    exchange.throttled_until = clock() + 20_000
    with pytest.raises(ExchangeThrottled):
        run(refresh_prices(bench))
    assert run(bench.market.read_limit())["paused_until"] == clock() + 20_000
    assert run(latest_prices(bench, None)) == before
