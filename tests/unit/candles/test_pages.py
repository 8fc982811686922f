"""Pages of candles: joined they are the range, whichever way they are turned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.aws.calls import run
from chalicelib.candles import pages
from chalicelib.candles.candles import Candles
from chalicelib.candles.codec import encode
from chalicelib.candles.intervals import Interval
from chalicelib.candles.objects import HeldObject, HeldObjects
from chalicelib.candles.pages import CandlePage, CandleQuery, objects_for, read_page
from chalicelib.core import timeframes
from chalicelib.core.backend import Backend
from chalicelib.core.errors import ObjectDamaged
from chalicelib.core.times import HOUR, MINUTE
from tests.doubles.aws import Aws
from tests.doubles.candles import append
from tests.doubles.clock import NOW

#: Candles in one object of the shelf.
IN_OBJECT, OBJECTS = 3, 12


def opens_of(timeframe: str, first_ms: int = 1_600_000_000_000) -> list[int]:
    opens = [timeframes.ceil(timeframe, first_ms)]
    while len(opens) <= IN_OBJECT * OBJECTS:
        opens.append(timeframes.following(timeframe, opens[-1]))
    return opens


def candles_at(timeframe: str, opens: list[int]) -> Candles:
    """Each with a close of its own."""
    candles = Candles()
    for open_ms in sorted(opens):
        close = 1 + open_ms % 1_000_003
        end_ms = timeframes.following(timeframe, open_ms)
        append(candles, (open_ms, 1.0, close, 1.0, close, 9.0, end_ms - 1, 8.0, 7, 6.0, 5.0), 0)
    return candles


@dataclass
class Shelf:
    """Objects of three candles each; only those in `there` are."""

    timeframe: str
    held: list[int]
    there: set[int]
    reads: list[str] = field(default_factory=list)

    async def between(
        self, symbol: str, timeframe: str, start_ms: int, end_ms: int, most: int | None = None
    ) -> list[HeldObject]:
        opens = opens_of(self.timeframe)
        found = []
        for at in sorted(self.there):
            low, high = opens[at * IN_OBJECT], opens[(at + 1) * IN_OBJECT]
            if low < end_ms and high > start_ms:
                found.append(HeldObject(str(at), 1, "etag", low, high))
        return found[:most]

    async def candles_in(self, held: HeldObject) -> Candles:
        self.reads.append(held.key)
        low, high = held.start_ms, held.end_ms
        return candles_at(self.timeframe, [each for each in self.held if low <= each < high])


def every_page(shelf: Any, query: CandleQuery) -> list[CandlePage]:
    found = []
    for _ in range(400):
        objects = run(objects_for(shelf, query))
        found.append(run(read_page(shelf, query, objects, NOW)))
        if found[-1].following is None:
            return found
        query = query._replace(resume=found[-1].following)
    raise AssertionError("the pages never end")


def rows_of(page: CandlePage) -> list[tuple[int, float, int, int]]:
    columns = page.columns
    names = ("open_time", "close", "trades")
    return list(zip(*(columns[name] for name in names), page.filled, strict=True))


def expected_rows(query: CandleQuery, held: list[int]) -> list[tuple[int, float, int, int]]:
    low = 0 if query.start_ms is None else query.start_ms
    high = 10**15 if query.end_ms is None else query.end_ms
    inside = [each for each in sorted(held) if low <= each < high]
    rows = []
    for at, open_ms in enumerate(inside):
        close = 1.0 + open_ms % 1_000_003
        rows.append((open_ms, close, 7, 0))
        if query.fill and at + 1 < len(inside):
            next_ms = timeframes.following(query.timeframe, open_ms)
            while next_ms < inside[at + 1]:
                rows.append((next_ms, close, 0, 1))
                next_ms = timeframes.following(query.timeframe, next_ms)
    return rows[::-1] if query.newest_first else rows


def joined(gaps: list[Interval]) -> list[tuple[int, int]]:
    whole: list[tuple[int, int]] = []
    for gap in sorted(gaps):
        if whole and whole[-1][1] == gap.start_ms:
            whole[-1] = (whole[-1][0], gap.end_ms)
        else:
            whole.append((gap.start_ms, gap.end_ms))
    return whole


@st.composite
def shelves_and_queries(draw: Callable[..., Any]) -> tuple[Shelf, CandleQuery]:
    timeframe = draw(st.sampled_from(["1h", "1M", "1d"]))
    opens = opens_of(timeframe)[:-1]
    at = st.integers(0, len(opens) - 1)
    places = draw(st.sets(at, max_size=len(opens)))
    empty = draw(st.sets(st.integers(0, OBJECTS - 1)))
    bound = st.none() | st.builds(
        lambda n, shift: opens[n] + shift, at, st.sampled_from([0, 1, -1])
    )
    start_ms, end_ms = draw(bound), draw(bound)
    if start_ms is not None and end_ms is not None and start_ms >= end_ms:
        start_ms, end_ms = end_ms, start_ms + 1
    shelf = Shelf(timeframe, [opens[n] for n in places], {n // IN_OBJECT for n in places} | empty)
    query = CandleQuery(
        "BTCUSDT",
        timeframe,
        start_ms,
        end_ms,
        limit=draw(st.integers(1, 7)),
        newest_first=draw(st.booleans()),
        fill=draw(st.booleans()),
    )
    return shelf, query


@settings(deadline=None, max_examples=300)
@given(shelves_and_queries(), st.integers(1, 4))
def test_pages_joined_are_the_range_and_name_each_of_its_gaps_once(
    case: tuple[Shelf, CandleQuery], most_read: int
) -> None:
    shelf, query = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "MOST_READ", most_read)
        found = every_page(shelf, query)
    assert [row for page in found for row in rows_of(page)] == expected_rows(query, shelf.held)
    assert all(len(page) <= query.limit for page in found)
    plain = query._replace(fill=False, newest_first=False)
    inside = [row[0] for row in expected_rows(plain, shelf.held)]
    low, high = (
        None if at is None else timeframes.ceil(query.timeframe, at)
        for at in (query.start_ms, query.end_ms)
    )
    if inside:
        low = inside[0] if low is None else low
        high = timeframes.following(query.timeframe, inside[-1]) if high is None else high
    named = joined([gap for page in found for gap in page.gaps])
    if low is not None and high is not None:
        candles = candles_at(query.timeframe, inside)
        gaps = pages.gaps_in(query.timeframe, candles.open_times, low, high)
        assert named == [(gap.start_ms, gap.end_ms) for gap in gaps]
    elif not inside:
        assert named == []


@pytest.mark.parametrize("newest_first", [False, True])
def test_as_few_objects_are_read_as_the_limit_needs(newest_first: bool) -> None:
    shelf = Shelf("1h", opens_of("1h")[:-1], set(range(OBJECTS)))
    query = CandleQuery("BTCUSDT", "1h", None, None, 2 * IN_OBJECT, newest_first)
    objects = run(objects_for(shelf, query))
    page = run(read_page(shelf, query, objects, NOW))
    assert (len(page), page.used) == (2 * IN_OBJECT, 2)
    assert shelf.reads == (["11", "10"] if newest_first else ["0", "1"])


def test_a_gap_of_years_is_filled_from_where_the_page_begins() -> None:
    """Whatever lies before is not counted through, so this ends at once."""
    first, last = 0, 100 * 365 * 24 * HOUR
    shelf = Shelf("1s", [first, last], set())

    async def candles_in(held: HeldObject) -> Candles:
        return candles_at("1s", [at for at in (first, last) if held.start_ms <= at < held.end_ms])

    async def between(*asked: Any) -> list[HeldObject]:
        low, high = asked[2], asked[3]
        ends = [HeldObject(str(at), 1, "e", at, at + HOUR) for at in (first, last)]
        return [each for each in ends if each.start_ms < high and each.end_ms > low]

    shelf.candles_in, shelf.between = candles_in, between  # type: ignore[method-assign, assignment]
    middle = last // 2
    for newest_first in (False, True):
        query = CandleQuery(
            *("BTCUSDT", "1s", None, None, 2, newest_first, True),
            pages.Resume(middle, middle, last if newest_first else first),
        )
        page = run(read_page(shelf, query, run(objects_for(shelf, query)), NOW))
        expected = [middle - 1000, middle - 2000] if newest_first else [middle, middle + 1000]
        assert list(page.columns["open_time"]) == expected
        assert list(page.filled) == [1, 1]


def test_what_has_not_closed_yet_is_not_missing() -> None:
    query = CandleQuery("BTCUSDT", "1m", NOW - 3 * MINUTE, NOW + HOUR, 10)
    shelf = Shelf("1m", [], set())
    page = run(read_page(shelf, query, run(objects_for(shelf, query)), NOW))
    closed = timeframes.floor("1m", NOW)
    assert page.gaps == [(closed - 2 * MINUTE, closed)]


@pytest.fixture
def put(backend: Backend, aws: Aws) -> Callable[[str, bytes], None]:
    def put(key: str, body: bytes) -> None:
        run(aws("s3", "PutObject", Bucket=backend.settings.candles_bucket, Key=key, Body=body))

    return put


def test_the_buckets_list_names_the_objects_that_a_range_touches(
    backend: Backend, put: Callable[[str, bytes], None], aws: Aws
) -> None:
    opens = [timeframes.ceil("1h", NOW - year * 365 * 24 * HOUR) for year in (4, 3, 1, 0)]
    held = HeldObjects(backend)
    folder = "candles/exchange=binance/timeframe=1h/symbol=币%26USDT/"
    names = [timeframes.object_name("1h", open_ms) for open_ms in opens]
    for open_ms, name in zip(opens, names, strict=True):
        put(f"{folder}{name}.parquet", encode(candles_at("1h", [open_ms]), {}))
    for odd in ("notes.txt", "part-0.parquet", f"{names[0]}-05.parquet", f"{names[1]}.parquet.tmp"):
        put(folder + odd, b"odd")
    put(folder.replace("&", "%26").replace("USDT/", "USDTX/") + f"{names[0]}.parquet", b"other")

    def found(start_ms: int, end_ms: int, most: int | None = None) -> list[str]:
        listed = run(held.between("币&USDT", "1h", start_ms, end_ms, most))
        return [each.key.removeprefix(folder).removesuffix(".parquet") for each in listed]

    assert found(0, 10**14) == names
    assert found(opens[1], opens[2] + 1) == names[1:3]
    assert found(opens[1], opens[2] + 1, 1) == names[1:2]
    assert found(0, opens[0] - 365 * 24 * HOUR * 2) == []
    [last] = run(held.between("币&USDT", "1h", opens[3], opens[3] + 1))
    assert list(run(held.candles_in(last)).open_times) == [opens[3]]
    assert (last.start_ms, last.end_ms) == timeframes.object_bounds("1h", opens[3])
    assert run(held.candles_in(last._replace(key="gone"))) == Candles()
    assert aws.counts["s3.GetObject"] == 2


def test_a_list_of_thousands_is_followed_to_its_end(
    backend: Backend, put: Callable[[str, bytes], None]
) -> None:
    folder = "candles/exchange=binance/timeframe=1s/symbol=BTCUSDT/"
    bounds = [timeframes.object_bounds("1s", 0)]
    while len(bounds) < 2001:
        bounds.append(timeframes.object_bounds("1s", bounds[-1][1]))
    for low, _ in bounds:
        put(f"{folder}{timeframes.object_name('1s', low)}.parquet", b"")
    listed = run(HeldObjects(backend).between("BTCUSDT", "1s", 0, bounds[-1][1]))
    assert [(each.start_ms, each.end_ms) for each in listed] == bounds


def test_a_damaged_object_is_named(backend: Backend, put: Callable[[str, bytes], None]) -> None:
    key = "candles/exchange=binance/timeframe=1d/symbol=BTCUSDT/all.parquet"
    put(key, b"damaged")
    held = HeldObjects(backend)
    [listed] = run(held.between("BTCUSDT", "1d", 0, 1))
    with pytest.raises(ObjectDamaged, match=key):
        run(held.candles_in(listed))
