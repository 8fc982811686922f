"""Which exchange `make run` collects from, and under which name: two sources never share one."""

from __future__ import annotations

import pytest

from infra.configuration import environment
from local.failures import StartFailed
from local.options import options

BINANCE = "https://data-api.binance.vision"


@pytest.mark.parametrize(
    ("environ", "url", "name"),
    [
        ({}, None, "local"),
        ({"EXCHANGE": "local"}, None, "local"),
        ({"EXCHANGE": "live"}, BINANCE, "binance"),
        ({"EXCHANGE": "live", "EXCHANGE_URL": f"{BINANCE}/"}, BINANCE, "binance"),
        ({"EXCHANGE_URL": BINANCE}, BINANCE, "binance"),
        ({"EXCHANGE_URL": "http://127.0.0.1:9000/"}, "http://127.0.0.1:9000", "127-0-0-1-9000"),
        ({"EXCHANGE_URL": "https://e.com", "EXCHANGE": "mine"}, "https://e.com", "mine"),
    ],
)
def test_each_exchange_has_a_name_of_its_own(
    environ: dict[str, str], url: str | None, name: str
) -> None:
    chosen = options(environ)
    assert chosen.exchange_url == url
    # As local/packaged.py packages it; the local exchange's port is chosen when it starts.
    given = {"EXCHANGE": chosen.exchange, "EXCHANGE_URL": url or "http://127.0.0.1:4711"}
    assert environment("local", given)["EXCHANGE"] == name


@pytest.mark.parametrize(
    "environ",
    [
        {"EXCHANGE": "local", "EXCHANGE_URL": "https://e.com"},
        {"EXCHANGE": "live", "EXCHANGE_URL": "https://e.com"},
        {"EXCHANGE": "binance"},
        {"EXCHANGE": "mine"},
        {"EXCHANGE_URL": "e.com", "EXCHANGE": "live"},
    ],
)
def test_a_name_for_another_exchange_is_refused_with_what_to_do(environ: dict[str, str]) -> None:
    with pytest.raises(StartFailed, match="EXCHANGE"):
        options(environ)
