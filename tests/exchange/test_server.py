"""Catalogue and tickers, weights and bans, headers, the control API, and the command."""

import gzip
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from email.utils import parsedate_to_datetime

import pytest

from local.exchange.control import MOST_LOGGED, Stats
from local.exchange.timeframes import MINUTE

from .conftest import NOW, Server


def test_exchange_info_lists_every_symbol_in_the_modern_shape(server: Server):
    info = server.get("/api/v3/exchangeInfo").json
    assert len(info["symbols"]) == 500
    for row in info["symbols"]:
        assert row["permissions"] == []
        assert "SPOT" in row["permissionSets"][0]
        assert {f["filterType"] for f in row["filters"]} >= {"PRICE_FILTER", "LOT_SIZE"}
        assert row["symbol"] == row["baseAsset"] + row["quoteAsset"]
    assert info["rateLimits"][0]["limit"] == 10**9
    assert info["serverTime"] == NOW


def test_exchange_info_can_be_narrowed(server: Server):
    def names(**query):
        rows = server.get("/api/v3/exchangeInfo", **query).json["symbols"]
        return [row["symbol"] for row in rows]

    assert names(symbol="ADAUSDT") == ["ADAUSDT"]
    assert names(symbols='["ETHUSDT","BTCUSDT"]') == ["ETHUSDT", "BTCUSDT"]
    assert names(symbolStatus="HALT") == ["XMRUSDT"]
    assert len(names(permissions="SPOT")) == 500
    assert names(permissions="LEVERAGED") == []


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"symbol": "NOSUCH"}, -1121),
        ({"symbols": '["BTCUSDT","NOSUCH"]'}, -1121),
        ({"symbols": "BTCUSDT"}, -1100),
        ({"symbols": '["btcusdt"]'}, -1100),
        ({"symbol": "BTCUSDT", "symbols": '["BTCUSDT"]'}, -1128),
        ({"symbol": "BTCUSDT", "symbolStatus": "TRADING"}, -1128),
        ({"symbolStatus": "ASLEEP"}, -1122),
        ({"nonsense": "1"}, -1104),
    ],
)
def test_a_wrong_catalogue_query_is_refused_with_its_code(server: Server, query, code):
    reply = server.get("/api/v3/exchangeInfo", **query)
    assert (reply.status, reply.json["code"]) == (400, code)


def test_the_price_is_the_running_candles_close(server: Server):
    for name in ("BTCUSDT", "ETHBTC", "ADAUSDT"):
        price = server.get("/api/v3/ticker/price", symbol=name).json
        assert price == {"symbol": name, "price": server.klines(name, "1d", limit=1)[0][4]}


def test_prices_of_several_and_of_all_symbols_are_lists(server: Server):
    two = server.get("/api/v3/ticker/price", symbols='["ETHUSDT","BTCUSDT"]').json
    assert [row["symbol"] for row in two] == ["ETHUSDT", "BTCUSDT"]
    rows = server.get("/api/v3/ticker/price").json
    assert {row["symbol"] for row in rows} >= {"BTCUSDT", "BCCUSDT"}
    assert all(float(row["price"]) > 0 for row in rows)
    assert len(rows) == 500
    assert two[1] in rows


def test_the_other_tickers_agree_with_the_price(server: Server):
    last = float(server.get("/api/v3/ticker/price", symbol="BTCUSDT").json["price"])
    day = server.get("/api/v3/ticker/24hr", symbol="BTCUSDT").json
    assert float(day["lastPrice"]) == last
    assert float(day["lowPrice"]) <= last <= float(day["highPrice"])
    book = server.get("/api/v3/ticker/bookTicker", symbol="BTCUSDT").json
    assert float(book["bidPrice"]) < last < float(book["askPrice"])
    mean = server.get("/api/v3/avgPrice", symbol="BTCUSDT").json
    assert abs(float(mean["price"]) / last - 1) < 0.05
    assert len(server.get("/api/v3/ticker/24hr").json) == 500


def test_ping_and_time_answer(server: Server):
    assert server.get("/api/v3/ping").json == {}
    assert server.get("/api/v3/time").json == {"serverTime": NOW}


def test_the_date_header_is_the_exchanges_time(server: Server):
    date = parsedate_to_datetime(server.get("/api/v3/ping").headers["Date"])
    assert int(date.timestamp()) == NOW // 1000


def test_bodies_are_compressed_when_the_client_accepts_it(server: Server):
    query = {"symbol": "BTCUSDT", "interval": "1m", "startTime": NOW - 100 * MINUTE}
    plain = server.get("/api/v3/klines", **query)
    packed = server.get("/api/v3/klines", {"Accept-Encoding": "gzip"}, **query)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert gzip.decompress(packed.body) == plain.body


@pytest.mark.parametrize(
    ("path", "weight"),
    [
        ("ping", 1),
        ("time", 1),
        ("klines?symbol=BTCUSDT&interval=1m&limit=1", 2),
        ("exchangeInfo?symbol=BTCUSDT", 20),
        ("ticker/price?symbol=BTCUSDT", 2),
        ("ticker/price", 4),
        ("ticker/24hr?symbol=BTCUSDT", 2),
        ("ticker/24hr", 80),
    ],
)
def test_every_request_costs_its_weight(server: Server, path, weight):
    headers = server.get(f"/api/v3/{path}").headers
    assert headers["X-MBX-USED-WEIGHT-1M"] == headers["X-MBX-USED-WEIGHT"] == str(weight)


def test_over_the_limit_is_refused_until_the_next_minute(small_server: Server):
    for _ in range(10):
        assert small_server.get("/api/v3/ping").status == 200
    reply = small_server.get("/api/v3/ping")
    assert (reply.status, reply.json["code"]) == (429, -1003)
    assert int(reply.headers["Retry-After"]) == -(-(MINUTE - NOW % MINUTE) // 1000)
    small_server.send("PUT", "/_local/clock", {"now": NOW + MINUTE})
    reply = small_server.get("/api/v3/ping")
    assert (reply.status, reply.headers["X-MBX-USED-WEIGHT-1M"]) == (200, "1")


def test_who_goes_on_is_banned_and_for_longer_each_time(small_server: Server):
    def get_banned() -> int:
        replies = [small_server.get("/api/v3/ping") for _ in range(14)]
        assert [r.status for r in replies] == [200] * 10 + [429] * 3 + [418]
        assert replies[-1].json["code"] == -1003
        until = int(re.search(r"banned until (\d+)\.", replies[-1].json["msg"])[1])
        assert int(replies[-1].headers["Retry-After"]) == -(-(until - now) // 1000)
        return until

    now = NOW
    first = get_banned()
    assert first == NOW + 2 * MINUTE
    small_server.send("PUT", "/_local/clock", {"now": first - 1})
    assert small_server.get("/api/v3/time").status == 418
    now = first + MINUTE
    small_server.send("PUT", "/_local/clock", {"now": now})
    assert get_banned() == now + 4 * MINUTE
    small_server.send("POST", "/_local/reset")
    assert small_server.get("/api/v3/ping").status == 200


def test_statistics_count_paths_and_statuses(server: Server):
    server.get("/api/v3/ping")
    server.get("/api/v3/ping")
    server.get("/api/v3/klines", symbol="NOSUCH", interval="1m")
    stats = server.get("/_local/stats").json
    assert stats["by_path"] == {"/api/v3/klines": {"400": 1}, "/api/v3/ping": {"200": 2}}
    assert (stats["requests"], stats["weight_used"], stats["max_concurrent"]) == (3, 4, 1)
    assert stats["first_time"] == stats["last_time"] == NOW


def test_requests_are_logged_as_they_come_and_the_oldest_are_forgotten(server: Server):
    server.get("/api/v3/klines", symbol="BTCUSDT", interval="1h", limit=1)
    server.fault(kind="outage")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        server.get("/api/v3/ping")
    assert server.get("/_local/requests").json == {
        "requests": [[NOW, "/api/v3/klines", "BTCUSDT"], [NOW, "/api/v3/ping", ""]],
        "forgotten": 0,
    }
    stats = Stats()
    for at in range(MOST_LOGGED + 3):
        stats.begin("/", "", at)
    log = stats.log()
    assert (log["requests"][0][0], len(log["requests"]), log["forgotten"]) == (3, MOST_LOGGED, 3)


def test_the_clock_can_be_frozen_and_shifted(server: Server):
    server.send("PUT", "/_local/clock", {"now": "2020-01-01T00:00:00Z", "offset_ms": 5})
    assert server.get("/api/v3/time").json == {"serverTime": 1577836800005}
    shown = server.send("PUT", "/_local/clock", {"now": None, "offset_ms": 10**9}).json
    assert shown["offset_ms"] == 10**9
    assert not shown["frozen"]
    assert server.send("PUT", "/_local/clock", {"later": 1}).status == 400
    assert server.send("PUT", "/_local/clock", {"now": "tomorrow"}).status == 400


def test_the_control_api_explains_itself(server: Server):
    text = server.get("/_local/").body.decode()
    assert "POST   /_local/faults" in text
    assert "revised_candle" in text


def start(*args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "local.exchange", *args]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=env)


def test_the_command_prints_its_url_and_ends_cleanly_on_sigterm():
    with start("--port", "0", "--symbols", "20") as process:
        line = process.stdout.readline()
        assert re.search(r"http://127\.0\.0\.1:\d+ ", line)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_taken_port_is_one_sentence_and_exit_code_one():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with start("--port", port) as process:
            out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert port in err
