"""The catalogue lives: what a list of the exchange changes, and what it must not."""

from __future__ import annotations

import asyncio
import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core import metrics
from chalicelib.core.errors import (
    CatalogueRefused,
    ExchangeDrifted,
    ExchangeRefused,
    ExchangeThrottled,
    ExchangeUnavailable,
    NotAsked,
)
from chalicelib.core.symbols import DELISTED, TRADING
from chalicelib.core.times import FOREVER_MS
from chalicelib.exchange.assets import grouped
from chalicelib.exchange.binance import Permit
from chalicelib.exchange.catalogue_table import Asked, Catalogue, CatalogueTable, packed
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.pause import Pauses
from chalicelib.exchange.refresh import (
    MOST_DELISTED,
    VOLUMES_AGE_MS,
    recent_volumes,
    refresh_catalogue,
    refresh_catalogue_if_due,
    refresh_prices,
    refusal,
    renewed,
)
from chalicelib.exchange.rows import Listing, Volumes
from chalicelib.exchange.volume_table import CLAIM_MS
from tests.doubles.faults import Meanwhile, named
from tests.doubles.ledger import take_weight

NAMES = [f"{letter}USDT" for letter in "ABCDEFGHIJ"]
HOUR_MS = 3_600_000
statuses = st.sampled_from([TRADING, "BREAK"])
listings = st.builds(
    Listing,
    st.dictionaries(st.sampled_from(NAMES), statuses, min_size=1),
    st.sampled_from([None, 1200, 6000]),
    st.lists(st.sampled_from(["", *NAMES]), max_size=3),
).map(lambda found: found._replace(unusable=[n for n in found.unusable if n not in found.symbols]))
each_time = settings(deadline=None)


@pytest.fixture
def catalogue(run, backend):
    return lambda: run(CatalogueTable(backend).read_catalogue())


@pytest.fixture
def listed(run, worker, exchange, clock):
    """The exchange lists ten symbols, and they are known."""
    exchange.symbols = dict.fromkeys(NAMES, TRADING)
    run(refresh_catalogue(worker))
    clock.advance(1000)


@pytest.fixture
def counted():
    metrics.flush()

    def counted(name: str) -> float:
        return sum(sum(found.get(name, ())) for found in metrics._values.values())

    yield counted
    metrics.flush()


# --- what a list changes ----------------------------------------------------------------------


def test_a_symbol_that_left_the_list_stays_known_and_one_that_comes_back_is_listed_again(
    run, worker, exchange, clock, catalogue, listed
) -> None:
    del exchange.symbols["AUSDT"]
    gone_ms = clock()
    run(refresh_catalogue(worker))
    clock.advance(HOUR_MS)
    run(refresh_catalogue(worker))
    assert catalogue().delisted == {"AUSDT": gone_ms}
    assert "AUSDT" not in catalogue().symbols
    assert (catalogue().known["AUSDT"], catalogue().known["BUSDT"]) == (DELISTED, TRADING)
    exchange.symbols["AUSDT"] = "BREAK"
    assert run(refresh_catalogue(worker)).added == 1
    assert catalogue().delisted == {}
    assert catalogue().known["AUSDT"] == "BREAK"


def test_a_delisted_symbol_has_no_price(run, worker, exchange, listed) -> None:
    del exchange.symbols["AUSDT"]
    run(refresh_catalogue(worker))
    exchange.symbols["AUSDT"] = TRADING  # the exchange still quotes it
    run(refresh_prices(worker))
    prices = run(CatalogueTable(worker).read_prices()).prices
    assert set(prices) == set(NAMES) - {"AUSDT"}


@each_time
@given(st.lists(listings, min_size=1, max_size=6))
def test_every_symbol_that_was_ever_listed_is_listed_or_delisted_and_never_both(
    found: list[Listing],
) -> None:
    catalogue, ever = None, set()
    for at, listing in enumerate(found):
        before, catalogue = catalogue, renewed(catalogue, listing, at, None)
        ever |= listing.symbols.keys()
        assert catalogue.symbols.items() >= listing.symbols.items()
        assert catalogue.symbols.keys() | catalogue.delisted.keys() == ever
        assert not catalogue.symbols.keys() & catalogue.delisted.keys()
        for name in catalogue.symbols.keys() - listing.symbols.keys():
            assert before is not None
            assert catalogue.symbols[name] == before.symbols[name]
        for name in catalogue.delisted:
            assert name not in listing.symbols
            if before is not None and name in before.symbols:
                assert (name in listing.unusable, catalogue.delisted[name]) == (False, at)


def test_an_entry_whose_status_cannot_be_read_keeps_the_last_known_one() -> None:
    before = Catalogue({"AUSDT": "BREAK", "BUSDT": TRADING}, 6000, 1)
    after = renewed(before, Listing({"BUSDT": TRADING}, None, ["AUSDT", "NEWUSDT"]), 2, None)
    assert after.symbols == before.symbols
    assert after.delisted == {}


def test_assets_are_remembered_as_long_as_their_symbol_is_known() -> None:
    said = {"AUSDT": ("A", "USDT"), "BUSDT": ("B", "USDT"), "CUSDT": ("C", "USDT")}
    listed = dict.fromkeys(said, TRADING)
    first = renewed(None, Listing(listed, None, (), said), 1, None)
    assert first.assets == said
    fewer = {name: TRADING for name in said if name != "BUSDT"}
    after = renewed(first, Listing(fewer, None, (), {"CUSDT": ("CU", "SDT")}), 2, None)
    assert after.assets == {**said, "CUSDT": ("CU", "SDT")}


@pytest.mark.parametrize("refreshes", [1, 2, 3])
def test_an_entry_without_a_name_delists_nothing_however_long_it_is_there(refreshes: int) -> None:
    catalogue = Catalogue({"AUSDT": TRADING, "BUSDT": TRADING}, 6000, 1)
    for at in range(refreshes):
        catalogue = renewed(catalogue, Listing({"BUSDT": TRADING}, None, [""]), 2 + at, None)
        assert set(catalogue.symbols) == {"AUSDT", "BUSDT"}
    assert renewed(catalogue, Listing({"BUSDT": TRADING}, None), 9, None).delisted == {"AUSDT": 9}


def test_an_entry_that_never_had_a_name_does_not_keep_others_from_being_delisted() -> None:
    catalogue = renewed(None, Listing(dict.fromkeys(NAMES, TRADING), None, [""]), 1, None)
    fewer = dict.fromkeys(NAMES[1:], TRADING)
    assert renewed(catalogue, Listing(fewer, None, [""]), 2, None).delisted == {NAMES[0]: 2}


def test_a_list_that_names_no_limit_keeps_the_one_that_is_known() -> None:
    first = renewed(None, Listing({"AUSDT": TRADING}, 1200), 1, None)
    assert renewed(first, Listing({"AUSDT": TRADING}, None), 2, None).weight_limit == 1200
    assert renewed(None, Listing({"AUSDT": TRADING}, None), 1, None).weight_limit == 6000


def test_only_the_latest_delisted_symbols_are_remembered_and_the_item_stays_small() -> None:
    chance = random.Random(1)
    names = ["".join(chance.choices(string.ascii_uppercase, k=9)) for _ in range(12_000)]
    listed = dict.fromkeys(names[:4000], TRADING)
    long_ago = {name: chance.randrange(2**40) for name in names[4000:]}
    before = Catalogue({**listed, "LASTUSDT": TRADING}, 6000, 1, delisted=long_ago)
    before = before._replace(assets={name: (name[:5], name[5:]) for name in names})
    after = renewed(before, Listing(listed, None), 2**41, None)
    assert len(after.delisted) == MOST_DELISTED
    assert after.delisted["LASTUSDT"] == 2**41
    assert min(after.delisted.values()) > min(long_ago.values())
    assert after.assets.keys() < after.known.keys()
    parts = [after.symbols, after.delisted, grouped(after.assets)]
    assert sum(len(packed(part)) for part in parts) < 250_000


# --- lists that are refused -------------------------------------------------------------------


@each_time
@given(st.sets(st.sampled_from(NAMES), min_size=1), listings)
def test_a_list_is_refused_exactly_where_half_of_the_known_symbols_or_more_are_missing(
    known: set[str], listing: Listing
) -> None:
    before = Catalogue(dict.fromkeys(known, TRADING), 6000, 1)
    missing = known - listing.symbols.keys() - set(listing.unusable)
    refused = refusal(before, None, listing)
    assert (refused is not None) == (2 * len(missing) >= len(known))
    assert refused is None or refused == sorted(missing)


@pytest.mark.parametrize("left", [0, 1, 5])
def test_an_empty_or_halved_list_is_kept_aside_and_counted_and_the_old_one_stays(
    run, worker, exchange, clock, catalogue, listed, counted, left
) -> None:
    before, at_ms = catalogue(), clock()
    exchange.symbols = dict.fromkeys(NAMES[:left], TRADING)
    asked = Asked("me", "r", "task")
    with pytest.raises(CatalogueRefused, match=f"lists {left} symbols"):
        run(refresh_catalogue(worker, asked))
    assert catalogue() == before
    aside = run(CatalogueTable(worker).read_refused())
    assert (aside.symbols, aside.known) == (exchange.symbols, 10)
    assert (aside.missing, aside.refused_at, aside.asked) == (NAMES[left:], at_ms, asked)
    assert counted("CatalogueRefused") == 1


def test_a_first_list_that_is_empty_is_refused_and_a_first_list_of_any_length_is_not(
    run, worker, exchange, catalogue
) -> None:
    exchange.symbols = {}
    for accept in (False, True):
        with pytest.raises(CatalogueRefused):
            run(refresh_catalogue(worker, accept_refused=accept))
        assert catalogue() is None
    exchange.symbols = {"AUSDT": TRADING}
    run(refresh_catalogue(worker))
    assert catalogue().symbols == exchange.symbols


@pytest.mark.parametrize("left", [1, 5])
def test_a_person_may_accept_what_was_refused(
    run, worker, exchange, catalogue, listed, left
) -> None:
    exchange.symbols = dict.fromkeys(NAMES[:left], TRADING)
    with pytest.raises(CatalogueRefused):
        run(refresh_catalogue(worker))
    exchange.symbols["NEWUSDT"] = TRADING
    run(refresh_catalogue(worker, Asked("me", "r", "task"), accept_refused=True))
    assert catalogue().symbols == exchange.symbols
    assert set(catalogue().delisted) == set(NAMES[left:])


def test_accepting_is_no_leave_to_miss_more_than_was_missing(
    run, worker, exchange, catalogue, listed
) -> None:
    exchange.symbols = dict.fromkeys(NAMES[:4], TRADING)
    with pytest.raises(CatalogueRefused):
        run(refresh_catalogue(worker))
    for left in (0, 2):
        exchange.symbols = dict.fromkeys(NAMES[:left], TRADING)
        before = run(CatalogueTable(worker).read_refused())
        with pytest.raises(CatalogueRefused):
            run(refresh_catalogue(worker, accept_refused=True))
        assert set(catalogue().symbols) == set(NAMES)
        run(CatalogueTable(worker).write_refused(before))


def test_accepting_an_empty_list_is_no_leave_for_a_short_one(
    run, worker, exchange, catalogue, listed
) -> None:
    for left, accept in ((0, False), (1, True)):
        exchange.symbols = dict.fromkeys(NAMES[:left], TRADING)
        with pytest.raises(CatalogueRefused):
            run(refresh_catalogue(worker, accept_refused=accept))
    assert set(catalogue().symbols) == set(NAMES)


def test_what_was_refused_before_the_last_good_list_cannot_be_accepted(
    run, worker, exchange, clock, catalogue, listed
) -> None:
    exchange.symbols = {"AUSDT": TRADING}
    with pytest.raises(CatalogueRefused):
        run(refresh_catalogue(worker))
    clock.advance(1000)
    exchange.symbols = dict.fromkeys(NAMES, TRADING)
    run(refresh_catalogue(worker))
    clock.advance(1000)
    exchange.symbols = {"AUSDT": TRADING}
    with pytest.raises(CatalogueRefused):
        run(refresh_catalogue(worker, accept_refused=True))
    assert set(catalogue().symbols) == set(NAMES)


def test_of_lists_refused_in_a_row_the_longest_that_came_first_is_kept(
    run, worker, exchange, clock, listed
) -> None:
    def kept(names: list[str]) -> list[str]:
        clock.advance(1000)
        exchange.symbols = dict.fromkeys(names, TRADING)
        with pytest.raises(CatalogueRefused):
            run(refresh_catalogue(worker))
        return sorted(run(CatalogueTable(worker).read_refused()).symbols)

    assert kept(NAMES[:2]) == NAMES[:2]
    assert kept(NAMES[:4]) == NAMES[:4]
    assert kept(NAMES[4:6]) == NAMES[:4]
    assert kept(NAMES[4:8]) == NAMES[:4]
    clock.advance(1000)
    exchange.symbols = dict.fromkeys(NAMES, TRADING)
    run(refresh_catalogue(worker))  # what was refused before says nothing any more
    assert kept(NAMES[4:6]) == NAMES[4:6]


# --- refreshes that race, and when one is due ---------------------------------------------------


@pytest.mark.parametrize(
    # The first read is of the permit, for the exchange's limit.
    ("call", "number"),
    [("dynamodb.GetItem", 2), ("dynamodb.PutItem", 1)],
)
def test_of_two_refreshes_the_list_of_the_one_that_asked_later_stays(
    run, worker, exchange, clock, aws, catalogue, listed, call, number
) -> None:
    """It is stored before the slow refresh reads the catalogue, or between its read and write."""

    async def another() -> None:
        clock.advance(1000)
        exchange.symbols = {**dict.fromkeys(NAMES[1:], TRADING), "NEWUSDT": TRADING}
        await refresh_catalogue(worker)

    aws.hooks.append(Meanwhile(named(call, "CATALOGUE#"), another, number))
    exchange.symbols["OLDUSDT"] = TRADING
    run(refresh_catalogue(worker))
    assert set(catalogue().symbols) == {*NAMES[1:], "NEWUSDT"}
    assert set(catalogue().delisted) == {"AUSDT"}


def test_of_two_first_refreshes_the_shorter_list_does_not_replace_the_longer_one(
    run, worker, exchange, clock, aws, catalogue
) -> None:
    async def another() -> None:
        exchange.symbols = dict.fromkeys(NAMES, TRADING)
        await refresh_catalogue(worker)

    aws.hooks.append(Meanwhile(named("dynamodb.PutItem", "CATALOGUE#"), another))
    exchange.symbols = dict.fromkeys(NAMES[:2], TRADING)
    with pytest.raises(CatalogueRefused):
        run(refresh_catalogue(worker))
    assert set(catalogue().symbols) == set(NAMES)


def test_the_catalogue_is_refreshed_when_it_is_as_old_as_the_setting_says(
    run, worker, exchange, clock, catalogue
) -> None:
    assert run(refresh_catalogue_if_due(worker)).added == len(exchange.symbols)
    clock.advance(HOUR_MS - 1)
    assert run(refresh_catalogue_if_due(worker)) is None
    clock.advance(1)
    exchange.symbols["NEWUSDT"] = TRADING
    assert run(refresh_catalogue_if_due(worker)).added == 1
    assert catalogue().asked is None


def test_a_refresh_that_failed_is_tried_again_once_a_minute(run, worker, exchange, clock) -> None:
    exchange.down = True
    with pytest.raises(ExchangeUnavailable):
        run(refresh_catalogue_if_due(worker))
    exchange.down = False
    clock.advance(59_999)
    assert run(refresh_catalogue_if_due(worker)) is None
    clock.advance(1)
    assert run(refresh_catalogue_if_due(worker)) is not None


# --- the breaker ------------------------------------------------------------------------------


@pytest.mark.parametrize("refresh", [refresh_catalogue, refresh_prices])
def test_while_the_fleet_is_paused_no_list_and_no_price_is_asked_for(
    run, worker, exchange, clock, refresh
) -> None:
    run(Ledger(worker).pause(clock() + 60_000, "banned"))
    with pytest.raises(NotAsked) as refused:
        run(refresh(worker))
    assert refused.value.until_ms == clock() + 60_000
    assert not exchange.weight_by_minute
    clock.advance(60_000)
    run(refresh(worker))
    assert exchange.weight_by_minute


@pytest.mark.parametrize("refresh", [refresh_catalogue, refresh_prices])
def test_a_refresh_that_a_persons_pause_holds_up_opens_no_breaker(
    run, worker, exchange, clock, refresh
) -> None:
    run(Pauses(worker).begin(FOREVER_MS, "anna", "", "r", clock()))
    with pytest.raises(NotAsked):
        run(refresh(worker))
    assert not exchange.weight_by_minute
    assert run(Ledger(worker).read()).paused_until == 0
    run(Pauses(worker).end("anna", "r", clock()))
    run(refresh(worker))


@pytest.mark.parametrize("refresh", [refresh_catalogue, refresh_prices])
def test_a_refresh_that_is_throttled_pauses_the_whole_fleet(
    run, worker, exchange, clock, refresh
) -> None:
    exchange.throttled_until = until_ms = clock() + 90_000
    with pytest.raises(ExchangeThrottled):
        run(refresh(worker))
    state = run(Ledger(worker).read())
    assert state.paused_until == until_ms
    assert state.pause_reason == "HTTP 429: Too many requests"


@pytest.mark.parametrize("refresh", [refresh_catalogue, refresh_prices])
def test_a_refresh_is_paid_for_and_waits_where_the_minutes_weight_is_used_up(
    run, worker, exchange, clock, refresh
) -> None:
    run(refresh(worker))
    used = run(Ledger(worker).read()).used_at(clock())
    assert used == sum(exchange.weight_by_minute.values()) > 0
    run(take_weight(Ledger(worker), 4800 - used, 4800, clock()))
    with pytest.raises(NotAsked):
        run(refresh(worker))
    assert sum(exchange.weight_by_minute.values()) == used


# --- volumes ----------------------------------------------------------------------------------


def test_volumes_are_asked_for_once_an_hour_and_paid_for(run, worker, exchange, clock) -> None:
    exchange.traded = {"BTCUSDT": 7.5}
    first = run(recent_volumes(worker))
    assert first["BTCUSDT"] == 7.5
    assert sum(exchange.weight_by_minute.values()) == 80
    assert run(Ledger(worker).read()).used == 80
    exchange.traded = {"BTCUSDT": 8.5}
    clock.advance(VOLUMES_AGE_MS - 1)
    assert run(recent_volumes(worker)) == first
    clock.advance(1)
    assert run(recent_volumes(worker))["BTCUSDT"] == 8.5
    assert sum(exchange.weight_by_minute.values()) == 160


def test_of_many_that_need_volumes_at_once_one_asks(
    run, worker, exchange, clock, monkeypatch
) -> None:
    at_once = exchange.volumes

    async def slowly(permit: Permit) -> Volumes:
        await asyncio.sleep(1)
        return await at_once(permit)

    monkeypatch.setattr(exchange, "volumes", slowly)

    async def together() -> list[object]:
        many = (recent_volumes(worker) for _ in range(5))
        return await asyncio.gather(*many, return_exceptions=True)

    found = run(together())
    assert sum(isinstance(each, NotAsked) for each in found) == 4
    assert sum(exchange.weight_by_minute.values()) == 80
    clock.advance(VOLUMES_AGE_MS + CLAIM_MS)
    assert not any(isinstance(each, NotAsked) for each in run(together()))
    assert sum(exchange.weight_by_minute.values()) == 160


def test_whoever_dies_while_asking_keeps_the_others_from_it_for_a_minute(
    run, worker, exchange, clock
) -> None:
    exchange.unavailable = {"volumes"}
    with pytest.raises(ExchangeUnavailable):
        run(recent_volumes(worker))
    exchange.unavailable = set()
    with pytest.raises(NotAsked) as waits:
        run(recent_volumes(worker))
    assert waits.value.until_ms == clock() + CLAIM_MS
    clock.advance(CLAIM_MS)
    assert run(recent_volumes(worker))


@pytest.mark.parametrize("trouble", ["unavailable", "refused", "nothing"])
def test_older_volumes_do_where_the_exchange_says_none(
    run, worker, exchange, clock, trouble: str, monkeypatch
) -> None:
    first = run(recent_volumes(worker))
    clock.advance(VOLUMES_AGE_MS)

    async def nothing(permit: object) -> Volumes:
        return Volumes({}, ["BTCUSDT"])

    if trouble == "unavailable":
        exchange.unavailable = {"volumes"}
    elif trouble == "refused":
        exchange.refused = {"volumes": "HTTP_404"}
    else:
        monkeypatch.setattr(exchange, "volumes", nothing)
    assert run(recent_volumes(worker)) == first


@pytest.mark.parametrize(("refused", "error"), [(True, ExchangeRefused), (False, ExchangeDrifted)])
def test_without_any_volumes_the_trouble_is_said(
    run, worker, exchange, refused: bool, error: type[Exception]
) -> None:
    exchange.refused = {"volumes": "HTTP_404"} if refused else {}
    exchange.untraded = set(exchange.symbols)
    with pytest.raises(error):
        run(recent_volumes(worker))


def test_a_volume_that_cannot_be_read_stays_what_it_was(run, worker, exchange, clock) -> None:
    exchange.traded = {"BTCUSDT": 7.5, "ETHUSDT": 1.0}
    run(recent_volumes(worker))
    clock.advance(VOLUMES_AGE_MS)
    exchange.traded, exchange.untraded = {"ETHUSDT": 2.0}, {"BTCUSDT", "NEVERUSDT"}
    volumes = run(recent_volumes(worker))
    assert (volumes["BTCUSDT"], volumes["ETHUSDT"]) == (7.5, 2.0)
    assert "NEVERUSDT" not in volumes


def test_throttled_volumes_pause_the_fleet(run, worker, exchange, clock) -> None:
    exchange.throttled_until = clock() + 90_000
    with pytest.raises(ExchangeThrottled):
        run(recent_volumes(worker))
    assert run(Ledger(worker).read()).paused_until == clock() + 90_000
