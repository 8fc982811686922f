"""Roots of exchanges, and the names under which what they answer is stored. Pure."""

from __future__ import annotations

import re
import zlib

from chalicelib.core.errors import SettingsInvalid

#: The exchange that is asked where no other is named.
BINANCE, BINANCE_URL = "binance", "https://data-api.binance.vision"
#: Where its bulk archive is.
BINANCE_ARCHIVE_URL = "https://data.binance.vision"
#: Name of the exchange that `make run` starts: its candles are the same on any port.
LOCAL = "local"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
LONGEST_NAME = 31
_URL = re.compile(r"(https?)://(?:[^\s/?#@]*@)?([^\s/?#@]+)(/[^\s?#]*)?", re.IGNORECASE)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")


def root_of(url: str, setting: str = "EXCHANGE_URL") -> str:
    """The root that a setting names: two spellings of one root are equal.

    Scheme and host in lower case; without credentials, a default port and a slash at the end.
    Raises SettingsInvalid.
    """
    parts = _URL.fullmatch(url)
    if parts is None:
        raise SettingsInvalid(f"{setting} is {url!r}; it must be an http URL without a query")
    scheme, host = parts[1].lower(), parts[2].lower()
    return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS[scheme])}{parts[3] or ''}".rstrip("/")


def name_of(root: str) -> str:
    """The name of an exchange that nobody has named. Different roots may get the same name: whoever
    comes second is refused (exchange/ledger.py)."""
    if root == BINANCE_URL:
        return BINANCE
    name = re.sub(r"[^a-z0-9]+", "-", root.partition("://")[2].lower()).strip("-")
    if name and name not in (BINANCE, LOCAL) and len(name) <= LONGEST_NAME:
        return name
    return f"{name[:20] or 'exchange'}-{zlib.crc32(root.encode()):08x}".replace("--", "-")


def owning_root(exchange: str, url: str) -> str:
    """The root to which an exchange's name belongs. The local exchange's is without its port,
    because that may change from one start to the next. Raises SettingsInvalid."""
    root = root_of(url)
    return "http://127.0.0.1" if exchange == LOCAL and _LOOPBACK.fullmatch(root) else root


def archive_of(exchange: str, url: str) -> str:
    """Root of the bulk archive of the exchange at `url`; empty where none is known."""
    root = root_of(url)
    if root == BINANCE_URL:
        return BINANCE_ARCHIVE_URL
    return root if exchange == LOCAL and _LOOPBACK.fullmatch(root) else ""
