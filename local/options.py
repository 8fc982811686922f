"""What `make run` can be told, from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chalicelib.core.errors import SettingsInvalid
from chalicelib.core.roots import BINANCE_URL, LOCAL, root_of
from local.failures import StartFailed

LIVE = "live"
DEFAULT_PORT = 8000
DEFAULT_SYMBOLS = "BTCUSDT,ETHUSDT,ADAUSDT,BNBUSDT,SOLUSDT"


@dataclass(frozen=True)
class Options:
    #: The stable port of the API.
    port: int
    symbols: list[str]
    #: A Binance-compatible server; None: the local exchange, which is started.
    exchange_url: str | None
    #: The exchange's name, the setting EXCHANGE; "": the one that its URL gives it.
    exchange: str
    #: Endpoint of a LocalStack that runs already; None: the embedded cloud, which is started.
    localstack_url: str | None
    #: The environment for packaging, without the words that only `make run` understands.
    environ: dict[str, str]


def options(environ: Mapping[str, str]) -> Options:
    """Raises StartFailed with one sentence that names the variable."""
    rest = {name: value for name, value in environ.items() if not name.startswith("AWS_")}
    try:
        exchange_url, exchange = _exchange(rest.pop("EXCHANGE_URL", ""), rest.pop("EXCHANGE", ""))
    except SettingsInvalid as error:
        raise StartFailed(f"{error}.") from None
    cloud = rest.pop("CLOUD", "") or "embedded"
    if cloud not in ("embedded", "localstack"):
        raise StartFailed(f"CLOUD is {cloud!r}; it must be embedded or localstack.")
    endpoint = environ.get("AWS_ENDPOINT_URL") or "http://127.0.0.1:4566"
    symbols = rest.pop("RUN_SYMBOLS", "") or DEFAULT_SYMBOLS
    return Options(
        port=_port(rest.pop("PORT", "") or str(DEFAULT_PORT)),
        symbols=[symbol.strip() for symbol in symbols.split(",") if symbol.strip()],
        exchange_url=exchange_url,
        exchange=exchange,
        localstack_url=endpoint.rstrip("/") if cloud == "localstack" else None,
        environ=rest,
    )


def _exchange(url: str, name: str) -> tuple[str | None, str]:
    """The exchange's URL, None for the local one, and its name.

    EXCHANGE is `live` or `local`, or names the exchange at an EXCHANGE_URL of one's own.
    """
    if name in ("", LOCAL) and not url:
        return None, LOCAL
    if name == LIVE and (not url or root_of(url) == root_of(BINANCE_URL)):
        return BINANCE_URL, ""
    if name in (LIVE, LOCAL):
        raise StartFailed(
            f"EXCHANGE is {name}, and EXCHANGE_URL is {url}, which is another exchange: "
            "leave one of them out, or give that exchange a name of its own."
        )
    if not url:
        raise StartFailed(
            f"EXCHANGE is {name!r}, and nothing says where that exchange is: set EXCHANGE_URL, "
            f"too, or choose {LIVE} (Binance) or {LOCAL} (the local exchange)."
        )
    return url.rstrip("/"), name


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise StartFailed(f"PORT is {text!r}; it must be a port number, such as {DEFAULT_PORT}.")
    return int(text)
