"""The fleet's share: never above the operator's ceiling, falls beside strangers, and recovers."""

from __future__ import annotations

from itertools import islice

from hypothesis import assume, given
from hypothesis import strategies as st

from chalicelib.core.settings import Settings
from chalicelib.core.times import MINUTE
from chalicelib.exchange.catalogue_table import Catalogue
from chalicelib.exchange.share import Allowance, Spent, WeightLimits, next_minute, weight_limits

BINANCE = WeightLimits(6000, 5880)
LIMITS = st.builds(
    lambda exchange, percent: WeightLimits(exchange, max(1, exchange * percent // 100)),
    st.integers(1, 20_000),
    st.integers(1, 100),
)
WEIGHT = st.integers(0, 40_000)
INTO = st.integers(0, MINUTE - 1)
#: Whatever headers and clocks may say.
SPENT = st.builds(
    lambda share, expected, used, ahead, *rest: Spent(share, expected, used, used + ahead, *rest),
    WEIGHT,
    WEIGHT,
    WEIGHT,
    WEIGHT,
    INTO,
    st.booleans(),
    st.booleans(),
)


def share_after(spent: Spent, limits: WeightLimits) -> int:
    return next_minute(spent, limits).share


def agreeing(share: int, used: int = 100) -> Spent:
    return Spent(share, 0, used, used, seen=True)


@given(SPENT, LIMITS, st.booleans(), INTO)
def test_neither_the_share_nor_what_may_be_taken_is_ever_above_the_ceiling(
    spent: Spent, limits: WeightLimits, high: bool, into_ms: int
) -> None:
    assert 1 <= share_after(spent, limits) <= limits.ceiling
    for_us, for_all = spent.rooms(limits, high, into_ms)
    assert for_us <= limits.ceiling - limits.kept(high)
    assert for_all <= max(limits.ceiling, limits.exchange * 98 // 100)
    left = spent.left(limits, high, into_ms)
    assert spent.used + left <= min(spent.share, limits.ceiling)
    assert spent.counted + left <= limits.exchange


@given(LIMITS, st.lists(st.tuples(st.integers(1, 90), WEIGHT, st.booleans(), st.booleans(), INTO)))
def test_no_order_of_requests_and_counts_takes_more_than_the_ceiling(
    limits: WeightLimits, steps: list[tuple[int, int, bool, bool, int]]
) -> None:
    spent = next_minute(Spent(), limits)
    normal = 0
    for weight, stranger, high, is_over, into_ms in steps:
        if is_over:
            spent, normal = next_minute(spent._replace(seen=True, ahead_ms=into_ms), limits), 0
        if spent.left(limits, high, into_ms) >= weight:
            used, counted = spent.used + weight, spent.counted + weight
            spent = spent._replace(used=used, counted=counted)
            normal += 0 if high else weight
        counted = max(spent.counted, min(spent.used + stranger, limits.exchange * 2))
        spent = spent._replace(counted=counted)
        assert spent.used <= limits.ceiling
        assert normal <= max(0, limits.ceiling - limits.kept(False))


@given(LIMITS)
def test_the_first_share_is_cautious_and_within_the_ceiling(limits: WeightLimits) -> None:
    assert share_after(Spent(), limits) == max(1, min(limits.exchange * 80 // 100, limits.ceiling))


@given(SPENT, LIMITS)
def test_the_share_recovers_in_ten_minutes_where_the_exchange_agrees(
    spent: Spent, limits: WeightLimits
) -> None:
    share = share_after(spent, limits)
    for _ in range(10):
        after = share_after(agreeing(share), limits)
        assert after > share or after == limits.ceiling
        share = after
    assume(limits.exchange >= 100)  # below, a tenth is rounded down too much
    assert share == limits.ceiling


def test_the_share_rises_a_tenth_of_the_limit_a_minute() -> None:
    shares = [share_after(Spent(), BINANCE)]
    for _ in range(3):
        shares.append(share_after(agreeing(shares[-1]), BINANCE))
    assert shares == [4800, 5400, 5880, 5880]
    told = Allowance(Spent(4800), BINANCE)
    assert [told.limit, *islice(told.coming(), 3)] == shares
    normal = Allowance(Spent(4800), BINANCE, high=False)
    assert [normal.limit, *islice(normal.coming(), 2)] == [4680, 5280, 5760]


@given(st.integers(600, 5880), st.integers(0, 5880), LIMITS)
def test_without_the_exchanges_own_count_the_share_stays(
    share: int, used: int, limits: WeightLimits
) -> None:
    assert share_after(Spent(share, 0, used, used), limits) == limits.bounded(share)


@given(SPENT, LIMITS)
def test_what_strangers_use_is_left_to_them(spent: Spent, limits: WeightLimits) -> None:
    assume(spent.share and spent.has_strangers(limits))
    strangers = spent.counted - spent.used
    share = share_after(spent, limits)
    least = limits.bounded(0)
    assert share <= max(least, limits.together - strangers)
    more = spent._replace(counted=spent.counted + 1)
    assert share_after(more, limits) <= share


def test_strangers_are_taken_to_go_on_as_they_began() -> None:
    for into_ms, share in ((0, 3880), (15_000, 3880), (30_000, 4880), (59_999, 5380)):
        spent = Spent(5880, 0, 1000, 1500, into_ms, seen=True)
        assert share_after(spent, BINANCE) == share
    assert share_after(Spent(5880, 0, 1000, 6000, 30_000), BINANCE) == 600


def test_a_count_that_is_a_hundredth_ahead_is_our_own() -> None:
    assert next_minute(Spent(4800, 0, 1000, 1060, 30_000, seen=True), BINANCE) == Spent(5400)
    assert share_after(Spent(5880, 0, 1000, 1061, 30_000, seen=True), BINANCE) == 5758
    spent = Spent(5880, 0, 1000, 1061)
    assert spent.left(BINANCE, high=True) == 5880 - 180 - 1061  # what is under way is not in it yet


@given(SPENT, LIMITS)
def test_a_share_under_which_the_exchange_throttled_us_is_halved(
    spent: Spent, limits: WeightLimits
) -> None:
    assume(spent.share)
    share = share_after(spent._replace(throttled=True), limits)
    assert share <= max(limits.bounded(0), spent.share // 2)
    assert share <= share_after(spent._replace(throttled=False), limits)


def test_what_is_kept_is_kept_from_all_but_high() -> None:
    spent = Spent(4800)
    assert (spent.left(BINANCE, high=True), spent.left(BINANCE, high=False)) == (4800, 4680)
    assert Allowance(spent._replace(used=4700, counted=4700), BINANCE, high=False).left == 0
    assert Allowance(spent._replace(used=4700, counted=4700), BINANCE).left == 100


def test_a_low_ceiling_leaves_something_to_all_and_room_to_strangers() -> None:
    low = WeightLimits(6000, 60)
    assert Spent(60).left(low, high=False) == 54
    assert Spent(60, 0, 0, 3000).left(low, high=False) == 54
    assert next_minute(Spent(60, 0, 0, 3000, 59_999, seen=True), low).share == 60
    assert Spent(60, 0, 0, 5690).left(low, high=True) == 10


def test_limits_are_the_exchanges_and_the_operators_part_of_it() -> None:
    settings = Settings(budget_percent=50)
    assert weight_limits(None, settings) == WeightLimits(6000, 3000)
    assert weight_limits(Catalogue({}, 1200, 0), settings) == WeightLimits(1200, 600)
    assert weight_limits(Catalogue({}, 1, 0), settings) == WeightLimits(1, 1)


def test_beside_strangers_the_minute_is_spent_a_quarter_at_a_time() -> None:
    spent = next_minute(Spent(5880, 0, 1000, 1600, 45_000, seen=True), BINANCE)
    assert spent == Spent(5080, 800)
    for into_ms, room, more_ms in (
        (0, 1240, 15_000),
        (14_999, 1240, 15_000),
        (15_000, 2480, 30_000),
        (59_999, 4960, 60_000),
    ):
        assert spent.rooms(BINANCE, False, into_ms)[0] == room
        assert spent.more_after_ms(into_ms, high=False) == more_ms
        assert spent.rooms(BINANCE, True, into_ms)[0] == 5080
        assert spent.more_after_ms(into_ms, high=True) == MINUTE
        assert Spent(5080).rooms(BINANCE, False, into_ms)[0] == 4960
        assert Spent(5080).more_after_ms(into_ms, high=False) == MINUTE
    alone = next_minute(spent._replace(used=900, counted=930, seen=True), BINANCE)
    assert alone == Spent(5680)
