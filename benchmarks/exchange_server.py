"""The local exchange over TLS, in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from benchmarks import certificate
from benchmarks.tls_server import served
from local.exchange.clock import Clock
from local.exchange.exchange import Exchange
from local.exchange.server import make_app
from local.exchange.timeframes import utc_ms

#: Frozen, so that every run and both sides get the same pages.
NOW = utc_ms("2026-03-04T05:06:07Z")
SYMBOLS = 60
#: Request weight per minute: nothing is throttled here.
ENDLESS = 10**9


@contextmanager
def exchange_over_tls() -> Iterator[tuple[str, Path]]:
    """The root URL and the bundle of certificates a client needs, while the server runs."""
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-") as folder,
        served(Path(folder), exchange_app) as url,
    ):
        yield url, certificate.bundle(Path(folder))


def exchange_app() -> web.Application:
    return make_app(Exchange(SYMBOLS, ENDLESS, 1, Clock(frozen_at=NOW), 10))
