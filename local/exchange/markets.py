"""Replies about markets: exchangeInfo and the tickers, as JSON-ready values."""

from typing import Any

from local.exchange.catalogue import Symbol
from local.exchange.klines import decimal
from local.exchange.market import Market
from local.exchange.timeframes import DAY, MINUTE, SECOND

STATUSES = ("TRADING", "HALT", "BREAK", "END_OF_DAY", "CANCEL_ONLY")


def status(symbol: Symbol, now: int) -> str:
    """The symbol's status at `now` (epoch ms): those that stopped were trading before."""
    if symbol.stopped is not None and now < symbol.stopped:
        return "TRADING"
    return symbol.status


def describe(symbol: Symbol, status: str) -> dict[str, Any]:
    """A symbol's entry in exchangeInfo; `permissions` is empty, as it has been since 2024."""
    tick = decimal(1, symbol.price_digits)
    step = decimal(1, symbol.volume_digits)
    return {
        "symbol": symbol.name,
        "status": status,
        "baseAsset": symbol.base,
        "baseAssetPrecision": 8,
        "quoteAsset": symbol.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "otoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": True,
        "cancelReplaceAllowed": True,
        "amendAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": tick,
                "maxPrice": "1000000.00000000",
                "tickSize": tick,
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": step,
                "maxQty": "9000000.00000000",
                "stepSize": step,
            },
            {
                "filterType": "MIN_NOTIONAL",
                "minNotional": "0.00010000",
                "applyToMarket": True,
                "avgPriceMins": 5,
            },
            {
                "filterType": "NOTIONAL",
                "minNotional": "0.00010000",
                "applyMinToMarket": True,
                "maxNotional": "9000000.00000000",
                "applyMaxToMarket": False,
                "avgPriceMins": 5,
            },
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
        ],
        "permissions": [],
        "permissionSets": [["SPOT", "TRD_GRP_004", "TRD_GRP_005"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }


def rate_limits(weight: int) -> list[dict[str, Any]]:
    """`rateLimits` of exchangeInfo; only the request weight is enforced here."""
    rows = (
        ("REQUEST_WEIGHT", "MINUTE", 1, weight),
        ("ORDERS", "SECOND", 10, 100),
        ("ORDERS", "DAY", 1, 200_000),
        ("RAW_REQUESTS", "MINUTE", 5, 61_000),
    )
    names = ("rateLimitType", "interval", "intervalNum", "limit")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _elapsed(now: int) -> int:
    return now - now % SECOND + SECOND


def price(market: Market, symbol: Symbol, now: int) -> dict[str, Any] | None:
    """The entry of ticker/price at `now` (epoch ms); None before the first trade."""
    ticks = market.last_price(symbol, _elapsed(now))
    if ticks is None:
        return None
    return {"symbol": symbol.name, "price": decimal(ticks, symbol.price_digits)}


def book(market: Market, symbol: Symbol, now: int) -> dict[str, Any] | None:
    """The entry of ticker/bookTicker: a spread of one tick around the last price."""
    ticks = market.last_price(symbol, _elapsed(now))
    if ticks is None:
        return None
    lot = decimal(10 + ticks % 90, symbol.volume_digits)
    return {
        "symbol": symbol.name,
        "bidPrice": decimal(max(1, ticks - 1), symbol.price_digits),
        "bidQty": lot,
        "askPrice": decimal(ticks + 1, symbol.price_digits),
        "askQty": lot,
    }


def average(market: Market, symbol: Symbol, now: int) -> dict[str, Any]:
    """The reply of avgPrice: the mean price of five minutes, the last price without trade."""
    end = _elapsed(now)
    traded = market.total(symbol, end - 5 * MINUTE, end)
    if traded is None:
        ticks = market.last_price(symbol, end) or 0
    else:
        ticks = traded.quote_volume // traded.volume
    text = decimal(ticks, symbol.price_digits)
    return {"mins": 5, "price": text, "closeTime": now}


def day_statistics(market: Market, symbol: Symbol, now: int, mini: bool) -> dict[str, Any] | None:
    """The entry of ticker/24hr for the 24 hours up to `now`; None before the first trade."""
    end = _elapsed(now)
    # On whole minutes, so that no seconds need to be drawn at the far end.
    start = end - end % MINUTE - DAY
    traded = market.total(symbol, start, end)
    last = market.last_price(symbol, end)
    if last is None:
        return None
    digits = symbol.price_digits
    opened = traded.open if traded else last
    high, low = (traded.high, traded.low) if traded else (last, last)
    volume, quote = (traded.volume, traded.quote_volume) if traded else (0, 0)
    trades = traded.trades if traded else 0
    change = last - opened
    sign = "-" if change < 0 else ""
    entry = {
        "symbol": symbol.name,
        "openPrice": decimal(opened, digits),
        "highPrice": decimal(high, digits),
        "lowPrice": decimal(low, digits),
        "lastPrice": decimal(last, digits),
        "volume": decimal(volume, symbol.volume_digits),
        "quoteVolume": decimal(quote, digits + symbol.volume_digits),
        "openTime": start,
        "closeTime": now,
        "firstId": 1,
        "lastId": trades,
        "count": trades,
    }
    if mini:
        return entry
    sides = book(market, symbol, now) or {}
    return entry | {
        "priceChange": sign + decimal(abs(change), digits),
        "priceChangePercent": f"{100 * change / opened:.3f}",
        "weightedAvgPrice": decimal(quote // volume if volume else last, digits),
        "prevClosePrice": decimal(opened, digits),
        "lastQty": decimal(10, symbol.volume_digits),
        **sides,
    }
