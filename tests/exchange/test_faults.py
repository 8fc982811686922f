"""Every fault that can be switched on."""

import http.client
import json

import pytest

from local.exchange.timeframes import HOUR, utc_ms

from .conftest import NOW, Server

T0 = utc_ms("2024-05-01")
KLINES = {"symbol": "BTCUSDT", "interval": "1h", "startTime": T0, "limit": 3}


def ask(server: Server, **changes):
    return server.get("/api/v3/klines", **(KLINES | changes))


@pytest.mark.parametrize(
    ("status", "code"), [(500, -1000), (503, -1008), (429, -1003), (418, -1003), (451, 0)]
)
def test_status_answers_an_error_with_its_code(server: Server, status, code):
    server.fault(kind="status", status=status, retry_after=7)
    reply = ask(server)
    assert (reply.status, reply.json["code"]) == (status, code)
    assert reply.headers["Retry-After"] == "7"
    assert "X-MBX-USED-WEIGHT-1M" in reply.headers


def test_status_418_says_until_when(server: Server):
    server.fault(kind="status", status=418, retry_after=60)
    assert f"banned until {NOW + 60_000}." in ask(server).json["msg"]


def test_code_and_message_can_be_chosen(server: Server):
    server.fault(kind="status", status=400, code=-1127, msg="Too long.")
    assert ask(server).json == {"code": -1127, "msg": "Too long."}


def test_a_rule_strikes_only_what_it_matches(server: Server):
    match = {"path": "/api/v3/kl*", "symbol": "BTCUSDT", "interval": "1h"}
    server.fault(kind="status", match=match)
    assert ask(server).status == 500
    assert ask(server, symbol="ETHUSDT").status == 200
    assert ask(server, interval="1m").status == 200
    assert server.get("/api/v3/ping").status == 200


def test_a_rule_with_a_count_ends(server: Server):
    server.fault(kind="status", remaining=2)
    assert [ask(server).status for _ in range(4)] == [500, 500, 200, 200]
    assert server.get("/_local/faults").json["faults"][0]["struck"] == 2


def test_a_rule_of_some_probability_strikes_some(server: Server):
    server.fault(kind="status", probability=0.5)
    statuses = {server.get("/api/v3/ping").status for _ in range(60)}
    assert statuses == {200, 500}


def test_latency_delays_and_other_rules_still_apply(server: Server):
    server.fault(kind="latency", delay_ms=1)
    server.fault(kind="status", status=503)
    assert ask(server).status == 503
    assert [rule["struck"] for rule in server.get("/_local/faults").json["faults"]] == [1, 1]


def test_an_outage_closes_the_connection_without_an_answer(server: Server):
    server.fault(kind="outage")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        ask(server)
    assert server.get("/_local/stats").json["by_path"]["/api/v3/klines"] == {"0": 1}


def test_an_outage_can_answer_503(server: Server):
    server.fault(kind="outage", mode="503")
    assert ask(server).status == 503


def test_html403_is_the_firewalls_page(server: Server):
    server.fault(kind="html403")
    reply = ask(server)
    assert reply.status == 403
    assert reply.headers["Content-Type"].startswith("text/html")
    assert b"<HTML>" in reply.body


def test_html200_is_a_page_that_says_nothing_is_wrong(server: Server):
    server.fault(kind="html200")
    reply = ask(server)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"<html>" in reply.body


def test_a_start_that_is_ignored_brings_the_newest_candles_up_to_the_end(server: Server):
    server.fault(kind="ignored_times")
    rows = ask(server, endTime=T0 + 9 * HOUR).json
    assert [row[0] for row in rows] == [T0 + 7 * HOUR, T0 + 8 * HOUR, T0 + 9 * HOUR]


def test_times_that_are_ignored_bring_the_same_page_to_every_question(server: Server):
    server.fault(kind="ignored_times", mode="both")
    newest = server.klines("BTCUSDT", "1h", limit=3)
    assert ask(server).json == ask(server, startTime=T0 + HOUR, endTime=T0).json == newest
    assert newest[0][0] > T0 + HOUR


@pytest.mark.parametrize("mode", ["newest_first", "shuffled"])
def test_reordered_rows_are_the_same_rows(server: Server, mode):
    before = ask(server, limit=50).json
    server.fault(kind="reordered_rows", mode=mode)
    after = ask(server, limit=50).json
    assert after != before
    assert sorted(after) == before
    assert (after == before[::-1]) == (mode == "newest_first")
    assert server.get("/api/v3/time").json == {"serverTime": NOW}


@pytest.mark.parametrize("open_time", [None, T0 + HOUR])
def test_a_null_takes_the_place_of_one_value(server: Server, open_time):
    before = ask(server).json
    server.fault(kind="null_value", **({} if open_time is None else {"open_time": open_time}))
    after = ask(server).json
    changed = [a for a, b in zip(after, before, strict=True) if a != b]
    assert [(row[0], row[2]) for row in changed] == [(open_time or T0, None)]
    assert server.get("/api/v3/ticker/price").json[0]["price"] is not None


def test_truncated_json_cannot_be_parsed(server: Server):
    server.fault(kind="truncated_json")
    reply = ask(server)
    assert reply.status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(reply.body)


def test_drifted_rows_are_objects(server: Server):
    server.fault(kind="drifted_rows")
    assert {tuple(row) for row in ask(server).json} == {("row",)}


def test_wrong_types_swaps_strings_and_numbers(server: Server):
    server.fault(kind="wrong_types")
    row = ask(server).json[0]
    assert row[0] == str(T0)
    assert isinstance(row[1], float)


def test_a_revised_candle_differs_from_now_on_and_is_valid(server: Server):
    before = ask(server).json
    match = {"symbol": "BTCUSDT", "interval": "1h"}
    rule = server.fault(kind="revised_candle", match=match, open_time=T0 + HOUR)
    after = ask(server).json
    assert [a == b for a, b in zip(after, before, strict=True)] == [True, False, True]
    assert ask(server).json == after
    row = [float(value) for value in after[1][1:5]]
    assert row[2] <= min(row[0], row[3]) <= max(row[0], row[3]) <= row[1]
    assert ask(server, startTime=T0 + HOUR, limit=1).json == [after[1]]
    server.send("DELETE", f"/_local/faults/{rule}")
    assert ask(server).json == before


def test_an_invalid_candle_has_its_high_below_its_low(server: Server):
    server.fault(kind="invalid_candle", match={"symbol": "BTCUSDT"})
    first, second, _ = ask(server).json
    assert float(first[2]) < float(first[3])
    assert float(second[2]) >= float(second[3])


def test_a_candle_is_left_out_while_the_rule_lasts(server: Server):
    before = ask(server).json
    rule = server.fault(kind="left_out", match={"symbol": "BTCUSDT"}, open_time=before[1][0])
    assert ask(server, limit=2).json == [before[0], before[2]]
    server.send("DELETE", f"/_local/faults/{rule}")
    assert ask(server).json == before


def test_a_stretch_is_left_out_as_if_nothing_had_traded_in_it(server: Server):
    before = ask(server, limit=9).json
    rule = {"open_time": before[1][0], "until": before[4][0]}
    server.fault(kind="left_out", match={"symbol": "BTCUSDT"}, **rule)
    kept = [before[0], *before[4:]]
    # A page is filled from behind it, and one that ends in it from before.
    assert ask(server, limit=6).json == kept
    assert ask(server, startTime=before[2][0], limit=2).json == before[4:6]
    newest = server.klines("BTCUSDT", "1h", endTime=before[5][0], limit=3)
    assert newest == [before[0], *before[4:6]]


def test_a_shifted_grid_opens_later_and_holds_the_same_candles(server: Server):
    before = ask(server).json
    server.fault(kind="shifted_grid", match={"interval": "1h"}, shift_ms=1_700_000)
    after = ask(server, startTime=before[0][0] + 1, endTime=before[-1][0] + 1_700_000).json
    assert [row[0] for row in after] == [row[0] + 1_700_000 for row in before]
    assert [row[1:6] for row in after] == [row[1:6] for row in before]
    assert [row[6] for row in after] == [row[6] + 1_700_000 for row in before]


def test_a_delisted_symbol_is_invalid_and_leaves_the_catalogue(server: Server):
    server.fault(kind="delisted", match={"symbol": "ETHUSDT"})
    assert ask(server, symbol="ETHUSDT").json["code"] == -1121
    listed = [row["symbol"] for row in server.get("/api/v3/exchangeInfo").json["symbols"]]
    assert "ETHUSDT" not in listed
    priced = [row["symbol"] for row in server.get("/api/v3/ticker/price").json]
    assert "ETHUSDT" in priced
    assert ask(server).status == 200


def test_a_symbol_can_be_broken_off_instead(server: Server):
    server.fault(kind="delisted", match={"symbol": "ETHUSDT"}, mode="break")
    row = server.get("/api/v3/exchangeInfo", symbol="ETHUSDT").json["symbols"][0]
    assert row["status"] == "BREAK"
    assert ask(server, symbol="ETHUSDT").status == 200


@pytest.mark.parametrize("percent", [0, 50, 100])
def test_a_short_listing_leaves_symbols_out_and_still_answers_for_them(
    server: Server, percent: int
):
    def listed() -> list[str]:
        return [row["symbol"] for row in server.get("/api/v3/exchangeInfo").json["symbols"]]

    everything = listed()
    server.fault(kind="short_listing", percent=percent)
    assert listed() == everything[: len(everything) * (100 - percent) // 100]
    assert ask(server, symbol=everything[-1]).status == 200


def test_deleting_the_rules_ends_every_fault(server: Server):
    server.fault(kind="status")
    server.fault(kind="html403")
    assert server.send("DELETE", "/_local/faults").json == {"removed": 2}
    assert ask(server).status == 200
    assert server.send("DELETE", "/_local/faults/99").status == 404


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"kind": "flood"},
        {"kind": "status", "color": "red"},
        {"kind": "status", "id": 7},
        {"kind": "status", "probability": "often"},
        {"kind": "status", "match": {"host": "x"}},
        {"kind": "delisted"},
        {"kind": "revised_candle", "match": {"symbol": "BTCUSDT"}},
        [{"kind": "status"}, {"kind": "flood"}],
    ],
)
def test_a_malformed_rule_is_refused_and_changes_nothing(server: Server, rule):
    reply = server.send("POST", "/_local/faults", rule)
    assert reply.status == 400
    assert reply.json["error"]
    assert server.get("/_local/faults").json == {"faults": []}
