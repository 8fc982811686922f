"""The values in an exchange's answers. One odd value costs that value, and never its page.

The usual answer is decoded in one typed step, candles into columns. Where that step refuses, each
row is read by itself: new columns are passed over, and a row, symbol or price that cannot be used
is set apart by name.

Source: Binance Spot API documentation, "Kline/Candlestick data", "Exchange information", "Symbol
price ticker", "24hr ticker price change statistics".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple, TypeGuard

import msgspec

from chalicelib.candles.answers import Row, sound_rows
from chalicelib.core.settings import SYMBOL_PATTERN
from chalicelib.core.symbols import NOT_SPOT, TRADING

#: A kline's columns that are used; the twelfth says nothing, and more may come.
_WIDTH = 11
_INTEGERS = (0, 6, 8)
_KlineRow = tuple[
    int, float, float, float, float, float, int, float, int, float, float, msgspec.Raw
]
_KLINES = msgspec.json.Decoder(list[_KlineRow], strict=False)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


class _Info(msgspec.Struct):
    """Of an exchangeInfo answer, which is many megabytes, what is used of it."""

    symbols: list[msgspec.Raw]
    rateLimits: Any = None


class _Entry(msgspec.Struct):
    symbol: Any = None
    status: Any = None
    isSpotTradingAllowed: Any = None
    baseAsset: Any = None
    quoteAsset: Any = None


_INFO = msgspec.json.Decoder(_Info)
_ENTRY = msgspec.json.Decoder(_Entry)


class Unreadable(ValueError):
    """The body is not what the endpoint answers: cut off, or of another shape."""


class Klines(NamedTuple):
    """`rows`: usable ones, in the order they came; `unusable`: the open times of the others, -1
    where not even that can be read."""

    rows: Sequence[Row]
    unusable: list[int]


class Listing(NamedTuple):
    """`symbols`: name -> status; `weight_limit`: request weight a minute, None where it is not
    named; `unusable`: symbols whose status is none, "" for each entry that names no symbol;
    `assets`: name -> base and quote asset, of the symbols whose entries say them."""

    symbols: dict[str, str]
    weight_limit: int | None
    unusable: Sequence[str] = ()
    assets: Mapping[str, Sequence[str]] = {}


class Prices(NamedTuple):
    """`prices`: symbol -> price as sent; `unusable`: symbols whose price is none."""

    prices: dict[str, str]
    unusable: list[str]


class Volumes(NamedTuple):
    """`volumes`: symbol -> what was traded of it in 24 hours, in its quote asset; `unusable`:
    symbols whose volume is none, "" for each entry that names no symbol."""

    volumes: dict[str, float]
    unusable: list[str]


def klines_in(body: bytes) -> Klines:
    """The rows of a klines answer. Raises Unreadable."""
    try:
        rows = _KLINES.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return _each_kline(_list(body))
    return Klines(sound_rows(rows) or rows, [])


def listing_in(body: bytes) -> Listing:
    """The symbols and the weight limit of an exchangeInfo answer. Raises Unreadable."""
    try:
        info = _INFO.decode(body)
        limits, entries = info.rateLimits, [_entry(raw) for raw in info.symbols]
    except (msgspec.DecodeError, ValueError, RecursionError):
        found = _decoded(body)
        if not isinstance(found, dict) or not isinstance(found.get("symbols"), list):
            raise Unreadable("there is no list of symbols") from None
        limits, entries = found.get("rateLimits"), [_converted(each) for each in found["symbols"]]
    symbols: dict[str, str] = {}
    assets: dict[str, Sequence[str]] = {}
    unusable: list[str] = []
    for entry in entries:
        name, status = _symbol(entry)
        if status:
            symbols[name] = status
        else:
            unusable.append(name)
        if name and _is_asset(entry.baseAsset) and _is_asset(entry.quoteAsset):
            assets[name] = (entry.baseAsset, entry.quoteAsset)
    # A symbol may have several entries, one of them usable.
    unusable = [name for name in unusable if name not in symbols]
    return Listing(symbols, _weight_limit(limits), unusable, assets)


def prices_in(body: bytes) -> Prices:
    """The prices of a ticker/price answer. Raises Unreadable."""
    prices: dict[str, str] = {}
    unusable: list[str] = []
    for entry in _list(body):
        name = entry.get("symbol") if isinstance(entry, dict) else None
        if not _is_word(name):
            unusable.append("")
        elif _is_price(entry.get("price")):
            prices[name] = str(entry["price"])
        else:
            unusable.append(name)
    return Prices(prices, unusable)


def volumes_in(body: bytes) -> Volumes:
    """The quote volumes of a ticker/24hr answer. Raises Unreadable."""
    volumes: dict[str, float] = {}
    unusable: list[str] = []
    for entry in _list(body):
        name = entry.get("symbol") if isinstance(entry, dict) else None
        volume = _number(entry.get("quoteVolume")) if isinstance(entry, dict) else None
        if not _is_word(name):
            unusable.append("")
        elif volume is not None and isfinite(volume) and volume >= 0:
            volumes[name] = volume
        else:
            unusable.append(name)
    return Volumes(volumes, unusable)


def _list(body: bytes) -> list[Any]:
    found = _decoded(body)
    if not isinstance(found, list):
        raise Unreadable("there is no list")
    return found


def _decoded(body: bytes) -> Any:
    """Any JSON. Numbers that JSON or a double cannot hold (NaN, 1e999) are read, too: they cost
    their own value, and not the page."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        try:
            return json.loads(body, parse_int=_whole)
        except (ValueError, RecursionError) as error:
            raise Unreadable(str(error)) from None


def _whole(digits: str) -> int | float:
    # Python refuses to make an integer of more than 4,300 digits.
    return int(digits) if len(digits) <= 20 else float(digits)


def _each_kline(found: list[Any]) -> Klines:
    rows: list[Row] = []
    unusable: list[int] = []
    for each in found:
        row = kline_row(each)
        if row is not None:
            rows.append(row)
        else:
            first = _integer(each[0]) if isinstance(each, list) and each else None
            unusable.append(-1 if first is None else first)
    return Klines(rows, unusable)


def kline_row(found: Any) -> Row | None:
    """One row's used columns, typed; None where one of them is missing or is no number."""
    if not isinstance(found, list) or len(found) < _WIDTH:
        return None
    row: list[Any] = []
    for at in range(_WIDTH):
        value = found[at]
        number = _integer(value) if at in _INTEGERS else _number(value)
        if number is None:
            return None
        row.append(number)
    return tuple(row)


def _integer(value: Any) -> int | None:
    """A time in epoch ms, or a count; None where it is none."""
    if isinstance(value, str) and value.removeprefix("-").isdecimal() and value.isascii():
        return int(value[:20])
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    """A price or volume, which is sent as text; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None  # float() also takes 1_0, spaces and the digits of other scripts
    try:
        return float(value)
    except OverflowError:
        return None


def _entry(raw: msgspec.Raw) -> _Entry:
    try:
        return _ENTRY.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return _Entry()


def _converted(found: Any) -> _Entry:
    fields = found if isinstance(found, dict) else {}
    return _Entry(*(fields.get(name) for name in _Entry.__struct_fields__))


def _symbol(entry: _Entry) -> tuple[str, str]:
    """(name, status) of one entry, "" for what is missing; without a name there is no status."""
    name, status = entry.symbol, entry.status
    if not _is_word(name):
        return "", ""
    if not _is_word(status):
        return name, ""
    if status == TRADING and entry.isSpotTradingAllowed is False:
        return name, NOT_SPOT
    return name, status


def _is_word(value: Any) -> TypeGuard[str]:
    """Whether it can be the name of a symbol, or a status."""
    return isinstance(value, str) and SYMBOL_PATTERN.fullmatch(value) is not None


def _is_asset(value: Any) -> bool:
    """Whether it can be the name of an asset; some have one character."""
    return isinstance(value, str) and _is_word(f"{value}x")


def _weight_limit(rules: Any) -> int | None:
    """The request weight of one minute: the strictest rule that names one."""
    limits = [
        int(rule["limit"])
        for rule in (rules if isinstance(rules, list) else ())
        if isinstance(rule, dict)
        and (rule.get("rateLimitType"), rule.get("interval")) == ("REQUEST_WEIGHT", "MINUTE")
        and rule.get("intervalNum", 1) == 1
        and (_integer(rule.get("limit")) or 0) > 0
    ]
    return min(limits, default=None)


def _is_price(value: Any) -> bool:
    number = _number(value)
    return number is not None and isfinite(number) and number > 0
