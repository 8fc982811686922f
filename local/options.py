"""What `make run` can be told, from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chalicelib.core.settings import Settings
from local.failures import StartFailed

DEFAULT_PORT = 8000
DEFAULT_SYMBOLS = "BTCUSDT,ETHUSDT,ADAUSDT,BNBUSDT,SOLUSDT"


@dataclass(frozen=True)
class Options:
    #: The stable port of the API.
    port: int
    symbols: list[str]
    #: A Binance-compatible server; None: the local exchange, which is started.
    exchange_url: str | None
    #: Endpoint of a LocalStack that runs already; None: the embedded cloud, which is started.
    localstack_url: str | None
    #: The environment for packaging, without the words that only `make run` understands.
    environ: dict[str, str]


def options(environ: Mapping[str, str]) -> Options:
    """Raises StartFailed with one sentence that names the variable."""
    rest = {name: value for name, value in environ.items() if not name.startswith("AWS_")}
    exchange_url = rest.pop("EXCHANGE_URL", "").rstrip("/") or None
    # EXCHANGE is also a setting, the exchange's name in object keys; "live" and "local" are ours.
    word = rest.get("EXCHANGE", "")
    if word in ("live", "local", ""):
        rest.pop("EXCHANGE", None)
    if word == "live":
        exchange_url = exchange_url or str(Settings.__dataclass_fields__["exchange_url"].default)
    cloud = rest.pop("CLOUD", "") or "embedded"
    if cloud not in ("embedded", "localstack"):
        raise StartFailed(f"CLOUD is {cloud!r}; it must be embedded or localstack.")
    endpoint = environ.get("AWS_ENDPOINT_URL") or "http://127.0.0.1:4566"
    symbols = rest.pop("RUN_SYMBOLS", "") or DEFAULT_SYMBOLS
    return Options(
        port=_port(rest.pop("PORT", "") or str(DEFAULT_PORT)),
        symbols=[symbol.strip() for symbol in symbols.split(",") if symbol.strip()],
        exchange_url=exchange_url,
        localstack_url=endpoint.rstrip("/") if cloud == "localstack" else None,
        environ=rest,
    )


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise StartFailed(f"PORT is {text!r}; it must be a port number, such as {DEFAULT_PORT}.")
    return int(text)
