"""The latest prices: one read, each with its time."""

from __future__ import annotations

import pytest

from chalicelib.core.errors import ExchangeThrottled, NotReady
from chalicelib.core.times import DAY, MINUTE, iso
from chalicelib.exchange.catalogue_table import CatalogueTable, Price
from chalicelib.exchange.catalogue_table import Prices as Stored
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.prices import STALE_AFTER_MS, kept, latest_prices
from chalicelib.exchange.refresh import refresh_catalogue, refresh_prices
from chalicelib.exchange.rows import Prices


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


def test_a_price_older_than_three_minutes_is_stale_with_its_age(run, worker, clock) -> None:
    run(CatalogueTable(worker).write_prices({"BTCUSDT": "5"}, clock()))
    clock.advance(STALE_AFTER_MS)
    price = run(latest_prices(worker, None))["prices"]["BTCUSDT"]
    assert (price["stale"], price["age_seconds"]) == (False, STALE_AFTER_MS // 1000)
    clock.advance(1)
    assert run(latest_prices(worker, None))["prices"]["BTCUSDT"]["stale"] is True


def test_a_symbol_that_the_newest_answer_lacks_keeps_its_price_for_a_day(
    run, worker, exchange, clock
) -> None:
    run(refresh_catalogue(worker))
    run(refresh_prices(worker))
    before = run(latest_prices(worker, None))
    exchange.unpriced.add("BTCUSDT")
    for _ in range(4):
        clock.advance(MINUTE)
        run(refresh_prices(worker))
    answer = run(latest_prices(worker, None))
    kept, fresh = answer["prices"]["BTCUSDT"], answer["prices"]["ETHUSDT"]
    was = before["prices"]["BTCUSDT"]
    assert (kept["price"], kept["time"], kept["stale"]) == (was["price"], was["time"], True)
    assert kept["age_seconds"] >= 240
    assert (fresh["stale"], fresh["time"]) == (False, answer["as_of"])
    clock.advance(DAY)
    assert run(latest_prices(worker, None))["unreachable"] == []
    assert run(latest_prices(worker, ["BTCUSDT"]))["unreachable"] == ["BTCUSDT"]
    run(refresh_prices(worker))
    assert "BTCUSDT" not in run(CatalogueTable(worker).read_prices()).prices


def test_a_kept_price_goes_with_its_symbols_delisting(run, worker, exchange, clock) -> None:
    run(refresh_catalogue(worker))
    run(refresh_prices(worker))
    exchange.unpriced.add("BTCUSDT")
    del exchange.symbols["BTCUSDT"]
    run(refresh_catalogue(worker))
    run(refresh_prices(worker))
    assert run(latest_prices(worker, ["BTCUSDT"]))["unreachable"] == ["BTCUSDT"]


@pytest.mark.parametrize("first", [False, True])
def test_an_answer_without_a_usable_price_makes_nothing_fresh(
    run, worker, exchange, clock, first
) -> None:
    if first:
        run(refresh_prices(worker))
        before = run(CatalogueTable(worker).read_prices())
    exchange.unpriced.update(exchange.symbols)
    clock.advance(MINUTE)
    assert run(refresh_prices(worker)) == 0
    assert run(CatalogueTable(worker).read_prices()) == (before if first else None)


def test_a_server_whose_clock_is_ahead_does_not_keep_prices_fresh(
    run, worker, exchange, clock, monkeypatch
) -> None:
    async def prices(permit) -> tuple[Prices, int]:
        return Prices({"BTCUSDT": "5"}, []), clock() + 10 * DAY

    monkeypatch.setattr(exchange, "prices", prices)
    run(refresh_prices(worker))
    clock.advance(STALE_AFTER_MS + 1)
    assert run(latest_prices(worker, None))["prices"]["BTCUSDT"]["stale"] is True


def test_three_thousand_prices_of_as_many_times_fit_into_the_item(run, worker, aws, clock) -> None:
    older = {f"S{at}USDT": Price(f"{at * 7919}.12345678", clock() - at * 997) for at in range(1500)}
    newer = {f"T{at}USDT": f"{at * 7919}.87654321" for at in range(1500)}
    run(CatalogueTable(worker).write_prices(newer, clock(), older))
    [item] = [item for item in aws.items("market") if item["sk"]["S"] == "PRICES"]
    assert len(item["prices"]["B"]) < 100_000
    stored = run(CatalogueTable(worker).read_prices())
    assert stored.prices["S7USDT"] == older["S7USDT"]
    assert stored.prices["T7USDT"] == (newer["T7USDT"], clock())


def test_a_price_is_shown_until_it_is_a_day_old() -> None:
    stored = Stored({"AUSDT": Price("1", 0), "BUSDT": Price("2", 1)}, 1)
    assert kept(stored, DAY) == {"BUSDT": Price("2", 1)}
    assert kept(None, DAY) == {}
