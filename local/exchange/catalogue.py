"""The symbols that the local exchange lists, and what each market is like.

Everything about a symbol follows from its name: a longer catalogue (`--symbols`) adds symbols
and changes none. Prices, volumes and most listing dates are invented.
"""

from dataclasses import dataclass
from hashlib import blake2b

from local.exchange.timeframes import DAY, MINUTE, utc_ms

_HISTORY_START = utc_ms("2017-08-17T04:00")

# No market traded in these hours: candles are missing on every symbol. The first swallows a
# whole day, so that even a daily candle is missing.
OUTAGES = (
    (utc_ms("2018-02-07T22:00"), utc_ms("2018-02-09T10:00")),
    (utc_ms("2021-04-25T04:02"), utc_ms("2021-04-25T08:45")),
)

# Base asset -> price in US dollars, dollars traded on a day.
_MAJORS = {
    "BTC": (48_000.0, 1.6e9),
    "ETH": (2_600.0, 9e8),
    "BNB": (420.0, 2e8),
    "SOL": (120.0, 4e8),
    "XRP": (0.9, 3e8),
    "ADA": (0.6, 1e8),
    "DOGE": (0.12, 2e8),
    "LTC": (95.0, 6e7),
    "TRX": (0.11, 5e7),
    "LINK": (15.0, 6e7),
    "DOT": (9.0, 4e7),
    "AVAX": (32.0, 6e7),
    "SHIB": (0.000015, 7e7),
    "PEPE": (0.0000085, 9e7),
}
_NAMES = (
    "AAVE ACH AGLD ALGO ALICE ANKR APE API3 APT AR ARB ARPA ASTR ATOM AUDIO AXS BAND BAT BCH BEL "
    "BLUR BONK C98 CAKE CELO CELR CFX CHR CHZ CKB COMP COTI CRV CTSI CVX DASH DCR DENT DYDX EGLD "
    "ENA ENJ ENS EOS ETC ETHFI FET FIL FLOKI FLOW FLUX FTM FXS GALA GAS GLMR GMT GMX GRT HBAR HIVE "
    "HOT ICP ICX ID IMX INJ IOST IOTA IOTX JASMY JOE JTO JUP KAVA KDA KNC KSM LDO LPT LRC LSK "
    "MAGIC MANA MASK MEME MINA MKR MTL NEAR NEO NMR NOT OCEAN OGN ONE ONT OP ORDI OXT PAXG "
    "PENDLE PEOPLE PERP PHA POL PYTH QNT QTUM RDNT REN REQ RLC RNDR ROSE RSR RUNE RVN SAND SC SEI "
    "SFP SKL SNX SPELL SSV STG STORJ STRK STX SUI SUPER SUSHI SXP TAO THETA TIA TON TRB TWT UMA "
    "UNI VET WIF WLD WOO XLM XNO XTZ XVG YFI YGG ZEC ZEN ZIL ZRO ZRX 1INCH 1000SATS"
)
_OTHERS = _NAMES.split()
_DOLLARS = {"USDT": 1.0, "FDUSD": 1.0, "USDC": 1.0, "BTC": 48_000.0, "ETH": 2_600.0, "BNB": 420.0}
# A quote asset existed from a day on, and draws a share of the base asset's trade.
_QUOTES = {
    "USDT": (_HISTORY_START, 1.0),
    "BTC": (_HISTORY_START, 0.12),
    "ETH": (_HISTORY_START, 0.05),
    "BNB": (utc_ms("2017-11-06"), 0.03),
    "USDC": (utc_ms("2018-12-15"), 0.15),
    "FDUSD": (utc_ms("2023-07-26"), 0.3),
}

_LISTED = {
    "BTCUSDT": _HISTORY_START,
    "ETHUSDT": _HISTORY_START,
    "ETHBTC": _HISTORY_START,
    "BNBBTC": _HISTORY_START,
    "LTCBTC": _HISTORY_START,
    "BNBUSDT": utc_ms("2017-11-06T03:54"),
    "ADAUSDT": utc_ms("2018-04-17T04:00"),
    "XRPUSDT": utc_ms("2018-05-04T08:11"),
    "SOLUSDT": utc_ms("2020-08-11T06:00"),
    "币安人生USDT": utc_ms("2025-10-08T09:30"),
}
# Symbols that no longer trade: base, quote, status, last minute of trade.
_STOPPED = (
    ("BCC", "USDT", "BREAK", "2018-11-16T02:00"),
    ("VEN", "BTC", "BREAK", "2018-07-25T04:00"),
    ("HSR", "BTC", "BREAK", "2019-02-22T10:00"),
    ("WAVES", "USDT", "BREAK", "2024-06-17T03:00"),
    ("XMR", "USDT", "HALT", "2024-02-20T03:00"),
)
_FIRST = ("BTC", "ETH", "BNB", "ADA", "SOL", "XRP", "DOGE", "LTC")


@dataclass(frozen=True)
class Symbol:
    """A market.

    Prices are counted in ticks of 10**-price_digits of the quote asset and volumes in steps of
    10**-volume_digits of the base asset; the digits add up to at most 8, so that a quote volume
    is exact in the 8 decimals that Binance prints. `listed` and `stopped` are epoch ms on whole
    minutes; `stopped` is None while the market trades.
    """

    name: str
    base: str
    quote: str
    status: str
    listed: int
    stopped: int | None
    price_digits: int
    volume_digits: int
    price: float
    daily_quote: float
    daily_trades: int

    def gaps(self, far: int = 2**62) -> list[tuple[int, int]]:
        """The stretches [from, to) in epoch ms in which the market did not trade."""
        ended = [(self.stopped, far)] if self.stopped is not None else []
        return [(-far, self.listed), *OUTAGES, *ended]


def list_symbols(count: int = 500) -> dict[str, Symbol]:
    """The first `count` symbols by name, in the order in which exchangeInfo lists them.

    Raises ValueError when `count` is below 20: the symbols every test relies on come first.
    """
    if count < 20:
        raise ValueError(f"an exchange needs at least 20 symbols, not {count}")
    symbols: dict[str, Symbol] = {}
    for base, quote, status, stopped in _pairs(count):
        if len(symbols) == count:
            break
        symbols[base + quote] = _symbol(base, quote, status, stopped)
    return symbols


def _pairs(count: int) -> list[tuple[str, str, str, str | None]]:
    trading = [(base, "USDT") for base in _FIRST] + [("ETH", "BTC"), ("BNB", "BTC")]
    trading += [("币安人生", "USDT")]
    pairs = [(base, quote, "TRADING", None) for base, quote in trading] + list(_STOPPED)
    bases = [*_MAJORS, *_OTHERS]
    invented = (_invent(i) for i in range(count))
    bases += [base for base in dict.fromkeys(invented) if base not in bases]
    later = [(base, "USDT") for base in bases]
    for quote in ("BTC", "FDUSD", "USDC", "ETH", "BNB"):
        later += [(base, quote) for base in (*_MAJORS, *_OTHERS) if base != quote]
    # Real and invented names mixed evenly, so that every size of catalogue has every quote.
    later.sort(key=lambda pair: (pair[0] not in _MAJORS, _chance(*pair)))
    known = {base + quote for base, quote, *_ in pairs}
    # A price of few ticks could hardly move.
    more = (
        (base, quote)
        for base, quote in later
        if base + quote not in known and _dollar_price(base) / _DOLLARS[quote] > 1e-6
    )
    return pairs + [(base, quote, "TRADING", None) for base, quote in more]


def _symbol(base: str, quote: str, status: str, stopped: str | None) -> Symbol:
    name = base + quote
    since, share = _QUOTES[quote]
    dollars = _dollar_price(base)
    if base in _MAJORS:
        traded = _MAJORS[base][1]
    else:
        traded = 2e4 * 10 ** (3.5 * _chance(base, "traded") ** 1.5)
    price = dollars / _DOLLARS[quote]
    # Four significant digits in a price, about a dollar's tenth in a step of volume.
    price_digits = next((d for d in range(2, 8) if price * 10**d >= 5_000), 8)
    volume_digits = next((d for d in range(6) if dollars <= 0.1 * 10**d), 5)
    daily = traded * share
    listed = _LISTED.get(name)
    if listed is None:
        latest = utc_ms(stopped) - 200 * DAY if stopped else utc_ms("2025-06-30")
        span = max(1, (latest - since) // DAY)
        listed = since + int(_chance(name, "listed") * span) * DAY
        listed += int(_chance(name, "hour") * 20) * 30 * MINUTE
    # Nothing is listed in the middle of an outage.
    listed = next((end for start, end in OUTAGES if start <= listed < end), listed)
    return Symbol(
        name=name,
        base=base,
        quote=quote,
        status=status,
        listed=listed,
        stopped=utc_ms(stopped) if stopped else None,
        price_digits=price_digits,
        volume_digits=min(volume_digits, 8 - price_digits),
        price=price,
        daily_quote=daily / _DOLLARS[quote],
        daily_trades=max(60, int(daily / (40 + 1_200 * min(1.0, daily / 1e9)))),
    )


def _dollar_price(base: str) -> float:
    if base in _MAJORS:
        return _MAJORS[base][0]
    return 10.0 ** int(_chance(base, "scale") * 5 - 3) * (1 + 8 * _chance(base, "price"))


def _invent(i: int) -> str:
    consonants, vowels = "BCDFGHKLMNPRSTVXZ", "AEIOU"
    bits = int.from_bytes(blake2b(b"name%d" % i, digest_size=8).digest(), "big")
    letters = []
    for position in range(3 + bits % 3):
        bits >>= 5
        source = vowels if position % 2 else consonants
        letters.append(source[bits % len(source)])
    return "".join(letters)


def _chance(*parts: str) -> float:
    """A number in [0, 1) that depends on the names only."""
    digest = blake2b("/".join(parts).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48
