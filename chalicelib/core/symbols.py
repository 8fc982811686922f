"""What a symbol's status says. The exchange has statuses of its own beside these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: It can be traded, unless the exchange says otherwise beside it.
TRADING = "TRADING"
#: Stands for TRADING where spot trading is not allowed.
NOT_SPOT = "SPOT_TRADING_NOT_ALLOWED"
#: The exchange does not list it any more. Its candles may still be asked for.
DELISTED = "DELISTED"
#: Quote assets that a name may end with, where the exchange has not said what its assets are.
QUOTES = (
    *("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USDP", "PAX", "DAI", "USD", "USD1", "XUSD"),
    *("BTC", "ETH", "BNB", "XRP", "TRX", "DOGE", "SOL"),
    *("EUR", "EURI", "GBP", "AUD", "TRY", "BRL", "RUB", "UAH", "PLN", "RON", "ZAR", "NGN"),
    *("ARS", "MXN", "COP", "CZK", "JPY", "IDR", "IDRT", "BIDR", "BKRW", "BVND", "VAI", "UST"),
)


def trading(statuses: Mapping[str, str]) -> tuple[str, ...]:
    """Of symbols and their statuses, those that can be traded, by name."""
    return tuple(sorted(name for name, status in statuses.items() if status == TRADING))


def assets_of(name: str, assets: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """Base and quote asset of a symbol: as the exchange says, else as its name ends.

    `assets`: symbol -> base and quote asset. Of several known quote assets that the name ends with
    it is the longest; ("", "") where it ends with none.
    """
    if name in assets:
        return assets[name]
    ends = [quote for quote in QUOTES if name.endswith(quote) and len(quote) < len(name)]
    quote = max(ends, key=len, default="")
    return (name.removesuffix(quote), quote) if quote else ("", "")
