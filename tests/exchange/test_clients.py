"""Third-party clients accept the local exchange as it is."""

import asyncio

import pytest

from local.exchange.timeframes import HOUR, MINUTE, utc_ms

from .conftest import Server

T0 = utc_ms("2024-05-01")


@pytest.fixture
def ccxt_client(server: Server):
    import ccxt

    client = ccxt.binance(
        {"enableRateLimit": False, "options": {"fetchMarkets": {"types": ["spot"]}}}
    )
    client.urls["api"]["public"] = f"{server.url}/api/v3"
    yield client
    client.session.close()


# python-binance imports names that websockets and its date parser will drop.
pytestmark = [
    pytest.mark.filterwarnings("ignore:websockets.* deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:dateparser.*"),
]


@pytest.fixture
def binance_client(server: Server):
    from binance.client import Client

    class LocalClient(Client):
        API_URL = f"{server.url}/api"

    # Without a current loop the client makes one, which nobody ever closes.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    client = LocalClient(ping=False)
    yield client
    client.close_connection()
    asyncio.set_event_loop(None)
    loop.close()


def test_ccxt_lists_the_markets(ccxt_client):
    markets = ccxt_client.load_markets()
    assert len(markets) == 500
    precision = markets["BTC/USDT"]["precision"]
    assert (precision["price"], precision["amount"]) == (0.01, 1e-5)
    assert markets["BTC/USDT"]["active"]
    assert not markets["BCC/USDT"]["active"]


def test_ccxt_pages_candles(ccxt_client, server: Server):
    rows, since = [], T0
    while since < T0 + 50 * HOUR:
        page = ccxt_client.fetch_ohlcv("ETH/BTC", "1h", since=since, limit=20)
        rows += page
        since = page[-1][0] + HOUR
    expected = server.klines("ETHBTC", "1h", startTime=T0, limit=60)
    assert rows == [[row[0], *(float(value) for value in row[1:6])] for row in expected]


def test_ccxt_reads_prices_and_times(ccxt_client, server: Server):
    price = server.get("/api/v3/ticker/price", symbol="BTCUSDT").json["price"]
    assert ccxt_client.fetch_ticker("BTC/USDT")["last"] == float(price)
    assert ccxt_client.fetch_last_prices(["BTC/USDT"])["BTC/USDT"]["price"] == float(price)
    assert ccxt_client.fetch_tickers(["BTC/USDT", "ETH/USDT"])["ETH/USDT"]["last"] > 0
    assert ccxt_client.fetch_time() == server.get("/api/v3/time").json["serverTime"]


def test_ccxt_recognises_errors(ccxt_client, server: Server):
    import ccxt

    ccxt_client.load_markets()
    server.fault(kind="status", status=429)
    with pytest.raises(ccxt.DDoSProtection):
        ccxt_client.fetch_ohlcv("BTC/USDT", "1h")
    server.send("DELETE", "/_local/faults")
    server.fault(kind="delisted", match={"symbol": "BTCUSDT"})
    with pytest.raises(ccxt.BadSymbol):
        ccxt_client.fetch_ohlcv("BTC/USDT", "1h")


def test_python_binance_lists_the_markets(binance_client):
    assert len(binance_client.get_exchange_info()["symbols"]) == 500
    assert binance_client.get_symbol_info("ADAUSDT")["baseAsset"] == "ADA"


def test_python_binance_pages_candles(binance_client, server: Server):
    end = T0 + 2499 * MINUTE
    rows = binance_client.get_historical_klines("BTCUSDT", "1m", T0, end)
    expected = []
    for start in (T0, T0 + 1000 * MINUTE, T0 + 2000 * MINUTE):
        expected += server.klines("BTCUSDT", "1m", startTime=start, endTime=end, limit=1000)
    assert rows == expected
    assert len(rows) == 2500


def test_python_binance_reads_prices(binance_client, server: Server):
    price = server.get("/api/v3/ticker/price", symbol="BTCUSDT").json
    assert binance_client.get_symbol_ticker(symbol="BTCUSDT") == price
    assert price in binance_client.get_all_tickers()
    assert binance_client.get_avg_price(symbol="BTCUSDT")["mins"] == 5


def test_python_binance_recognises_errors(binance_client):
    from binance.exceptions import BinanceAPIException

    with pytest.raises(BinanceAPIException) as caught:
        binance_client.get_klines(symbol="NOSUCH", interval="1m")
    assert caught.value.code == -1121
