"""Values in the exchange's answers: one odd value costs that value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.symbols import NOT_SPOT
from chalicelib.exchange import rows
from chalicelib.exchange.rows import Unreadable, klines_in, listing_in, prices_in, volumes_in

MINUTE = 60_000
USED = 11


def kline(open_ms: int, **changed: Any) -> list[Any]:
    row: list[Any] = [open_ms, "1.5", "2.5", "1.0", "2.0", "10.5", open_ms + MINUTE - 1]
    row += ["21.25", 7, "4.5", "9.0", "0"]
    for at, value in changed.items():
        row[int(at.removeprefix("c"))] = value
    return row


PAGE = [kline(at * MINUTE) for at in range(5)]


def encoded(page: Any) -> bytes:
    return json.dumps(page).encode()


def used(found: rows.Klines) -> list[tuple[Any, ...]]:
    return [tuple(row)[:USED] for row in found.rows]


WHOLE = used(klines_in(encoded(PAGE)))


def test_a_page_is_typed() -> None:
    assert WHOLE[1] == (MINUTE, 1.5, 2.5, 1.0, 2.0, 10.5, 2 * MINUTE - 1, 21.25, 7, 4.5, 9.0)


@pytest.mark.parametrize("more", [["x"], ["x", None, {"a": [1]}]])
def test_new_columns_are_passed_over(more: list[Any]) -> None:
    found = klines_in(encoded([[*row, *more] for row in PAGE]))
    assert (used(found), found.unusable) == (WHOLE, [])


def test_the_unused_last_column_may_be_missing() -> None:
    found = klines_in(encoded([row[:USED] for row in PAGE]))
    assert (used(found), found.unusable) == (WHOLE, [])


@pytest.mark.parametrize("value", [None, "", "abc", True, [], {}])
@pytest.mark.parametrize("column", range(1, USED))
def test_one_odd_value_costs_its_row_alone(column: int, value: Any) -> None:
    page = [*PAGE[:2], kline(2 * MINUTE, **{f"c{column}": value}), *PAGE[3:]]
    found = klines_in(encoded(page))
    assert used(found) == [*WHOLE[:2], *WHOLE[3:]]
    assert found.unusable == [2 * MINUTE]


@pytest.mark.parametrize("row", [None, 7, "x", {}, [], [None] * 12, PAGE[2][:10]])
def test_a_row_of_another_shape_costs_itself_alone(row: Any) -> None:
    found = klines_in(encoded([*PAGE[:2], row, *PAGE[3:]]))
    assert used(found) == [*WHOLE[:2], *WHOLE[3:]]
    assert found.unusable == [2 * MINUTE if isinstance(row, list) and row == PAGE[2][:10] else -1]


@pytest.mark.parametrize("body", [b"", b"[", b"[[1,", b"{}", b"null", b'"x"', b"[1]]", b"\xff"])
def test_what_is_no_list_is_unreadable(body: bytes) -> None:
    for read in (klines_in, prices_in, volumes_in):
        with pytest.raises(Unreadable):
            read(body)


_text_number = st.floats(0, 1e12, allow_nan=False).map(str) | st.integers(0, 10**9).map(str)
_rows = st.tuples(
    st.integers(0, 10**13),
    *[_text_number] * 5,
    st.integers(0, 10**13) | st.integers(0, 10**13).map(str),
    _text_number,
    st.integers(0, 10**6),
    _text_number,
    _text_number,
    st.just("0"),
).map(list)


@given(st.lists(_rows, min_size=1, max_size=8))
def test_reading_row_by_row_gives_what_the_typed_step_gives(page: list[list[Any]]) -> None:
    quick = klines_in(encoded(page))
    careful = klines_in(encoded([*page, None]))
    assert used(careful) == used(quick)
    assert (quick.unusable, careful.unusable) == ([], [-1])


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=13) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=40,
)


@given(st.lists(anything | st.just(PAGE[0]), max_size=6))
def test_no_page_of_json_breaks_the_reading(page: list[Any]) -> None:
    body = json.dumps(page, allow_nan=False) if _is_strict(page) else json.dumps(PAGE)
    found = klines_in(body.encode())
    assert len(found.rows) + len(found.unusable) == len(json.loads(body))
    assert all(isinstance(row[0], int) and isinstance(row[1], float) for row in found.rows)
    listing_in(b'{"symbols": ' + body.encode() + b"}")
    prices_in(body.encode())


def _is_strict(page: Any) -> bool:
    try:
        json.dumps(page, allow_nan=False)
    except ValueError:
        return False
    return True


def test_symbols_that_name_no_status_are_left_out_and_set_apart() -> None:
    symbols = [
        {"symbol": "AUSDT", "status": "TRADING", "isSpotTradingAllowed": True},
        {"symbol": "BUSDT", "status": "HALT"},
        {"symbol": "CUSDT"},
        {"status": "TRADING"},
        {"symbol": "", "status": "TRADING"},
        None,
        {"symbol": "DUSDT", "status": "TRADING", "isSpotTradingAllowed": False},
        {"symbol": "EUSDT", "status": "A_NEW_ONE"},
        {"symbol": "FUSDT", "status": 7},
        {"symbol": "GUSDT", "status": "not a word"},
        {"symbol": "HUSDT", "status": "HALT", "isSpotTradingAllowed": False},
    ]
    limits = [
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000},
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 5, "limit": 10},
        {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 1, "limit": 5},
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1},
        None,
    ]
    found = listing_in(encoded({"symbols": symbols, "rateLimits": limits, "new": 1}))
    assert found.symbols == {
        "AUSDT": "TRADING",
        "BUSDT": "HALT",
        "DUSDT": NOT_SPOT,
        "EUSDT": "A_NEW_ONE",
        "HUSDT": "HALT",
    }
    unusable = ["CUSDT", "", "", "", "FUSDT", "GUSDT"]
    assert (found.weight_limit, found.unusable) == (6000, unusable)


def test_a_listing_without_limits_has_none() -> None:
    assert listing_in(b'{"symbols": [], "rateLimits": "?"}').weight_limit is None
    for body in (b"[]", b"{}", b'{"symbols": 1}', b"{"):
        with pytest.raises(Unreadable):
            listing_in(body)


def test_prices_that_are_none_are_set_apart() -> None:
    entries = [
        {"symbol": "AUSDT", "price": "1.50000000"},
        {"symbol": "BUSDT", "price": ""},
        {"symbol": "CUSDT", "price": None},
        {"symbol": "DUSDT"},
        {"symbol": "EUSDT", "price": "NaN"},
        {"symbol": "FUSDT", "price": "0.0"},
        {"symbol": "GUSDT", "price": "-1"},
        {"symbol": "HUSDT", "price": 2.5},
        {"price": "1"},
    ]
    found = prices_in(encoded(entries))
    assert found.prices == {"AUSDT": "1.50000000", "HUSDT": "2.5"}
    assert found.unusable == ["BUSDT", "CUSDT", "DUSDT", "EUSDT", "FUSDT", "GUSDT", ""]


ODD_PRICES = st.sampled_from(
    ["NaN", "-Infinity", "1e999", "-1", "0", "null", "true", "[]", "{}", "9" * 5000]
) | st.sampled_from(
    ['""', '"NaN"', '"inf"', '"1e999"', '"1_0"', '" 1"', '"-5"', '"abc"', '"\\ud800"', '"٣"']
)


@given(st.lists(ODD_PRICES, max_size=5), st.integers(0, 5))
def test_no_bad_price_costs_another_symbol_its_price(odd: list[str], at: int) -> None:
    entries = [f'{{"symbol": "ODD{n}", "price": {price}}}' for n, price in enumerate(odd)]
    entries.insert(at, '{"symbol": "BTCUSDT", "price": "62000.10"}')
    found = prices_in(f"[{', '.join(entries)}]".encode())
    assert found.prices == {"BTCUSDT": "62000.10"}
    assert len(found.unusable) == len(odd)


def test_a_symbol_whose_name_cannot_be_stored_costs_itself_alone() -> None:
    entries = '[{"symbol": "\\ud800", "price": "1"}, {"symbol": "BTCUSDT", "price": "2"}]'
    assert prices_in(entries.encode()) == ({"BTCUSDT": "2"}, [""])
    listed = '{"symbols": [{"symbol": "\\ud800A", "status": "TRADING", "x": NaN},'
    listed += '{"symbol": "BTCUSDT", "status": "TRADING", "x": 1e999}]}'
    assert listing_in(listed.encode()).symbols == {"BTCUSDT": "TRADING"}


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "9" * 5000])
def test_a_number_that_json_does_not_have_costs_its_row_alone(value: str) -> None:
    body = encoded(PAGE).replace(b'"2.0"', value.encode(), 1)
    found = klines_in(body)
    assert len(found.rows) + len(found.unusable) == len(PAGE)
    assert used(found)[-4:] == WHOLE[1:]


@pytest.mark.parametrize("body", [b"[" * 100_000, b"[1", b"\xff", b'["\xff"]', b"{}", b"1"])
def test_a_body_that_is_no_list_is_unreadable_for_prices(body: bytes) -> None:
    with pytest.raises(Unreadable):
        prices_in(body)


@pytest.mark.parametrize(
    ("value", "number"),
    [("12", 12), ("-12", -12), ("١٢", None), ("1_2", None), ("1.5", None), (True, None), (7, 7)],
)
def test_a_time_is_a_whole_number_in_ascii(value: Any, number: int | None) -> None:
    assert rows._integer(value) == number


def test_of_a_number_with_more_digits_than_any_time_the_size_is_kept() -> None:
    for digits, kind in (("9" * 20, int), ("9" * 21, float)):
        assert isinstance(rows._whole(digits), kind)


ODD_VOLUMES = ["-1", "null", '"x"', '"NaN"', '"1e999"', "true", "[]", "{}", '""', "NaN", "1e999"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(ODD_VOLUMES), max_size=5), st.data())
def test_no_bad_volume_costs_another_symbol_its_volume(odd: list[str], data: Any) -> None:
    entries = [f'{{"symbol": "S{n}", "quoteVolume": {value}}}' for n, value in enumerate(odd)]
    entries.insert(
        data.draw(st.integers(0, len(odd))), '{"symbol": "BTCUSDT", "quoteVolume": "8.5"}'
    )
    found = volumes_in(f"[{', '.join(entries)}, 7, {{}}]".encode())
    assert found == ({"BTCUSDT": 8.5}, [*(f"S{n}" for n in range(len(odd))), "", ""])


def test_nothing_traded_is_a_volume() -> None:
    assert volumes_in(b'[{"symbol": "AUSDT", "quoteVolume": "0.00"}]') == ({"AUSDT": 0.0}, [])


@settings(deadline=None)
@given(
    st.sampled_from(['"BTC"', '"1"', "7", "null", '""', '"B*"', "[]", '"A B"', "true"]),
    st.sampled_from(['"USDT"', "null", '""', '"="']),
)
def test_odd_assets_cost_themselves_alone(base: str, quote: str) -> None:
    entry = f'{{"symbol": "ABC", "status": "BREAK", "baseAsset": {base}, "quoteAsset": {quote}}}'
    other = '{"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT"}'
    nameless = '{"status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT"}'
    found = listing_in(f'{{"symbols": [{entry}, {nameless}, {other}]}}'.encode())
    assert (found.symbols, found.unusable) == ({"ABC": "BREAK", "BTCUSDT": "TRADING"}, [""])
    good = base in ('"BTC"', '"1"') and quote == '"USDT"'
    said = {"ABC": (base.strip('"'), "USDT")} if good else {}
    assert found.assets == {"BTCUSDT": ("BTC", "USDT"), **said}
