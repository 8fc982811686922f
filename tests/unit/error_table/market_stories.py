"""Stories of the exchange: it throttles, falls silent, or nothing of it is known yet."""

from __future__ import annotations

from chalicelib.core.times import parse_time
from chalicelib.schedules import watch as schedule_watch
from chalicelib.schedules.definition import Definition, Fields
from chalicelib.schedules.edits import made
from chalicelib.schedules.table import ScheduleTable
from chalicelib.work.request import CollectionRequest
from tests.unit.error_table.life import BODY, MINUTE_MS, PATIENCE_MS, Life


def the_exchange_throttles_and_falls_silent(life: Life) -> None:
    life.exchange.throttled_until = life.clock() + 30_000
    task_id = life.start()
    life.deliver("plan")
    life.deliver("work")
    life.ask("GET", f"/task/{task_id}")
    life.ask("GET", "/status")
    life.settle()
    life.exchange.down = True
    life.start()
    life.deliver("plan")
    life.deliver("work")
    life.exchange.down = False
    life.settle()


def a_person_pauses_and_resumes(life: Life) -> None:
    task_id = life.start()
    life.ask("POST", "/pause", {"reason": "maintenance"}, key="pause-key")
    life.deliver("plan")
    life.deliver("work")
    life.prices()
    life.ask("GET", f"/task/{task_id}")
    life.ask("GET", "/status")
    life.ask("POST", "/resume", key="resume-key")
    life.market_stream()
    life.settle()


def one_symbol_gets_no_answer_at_first(life: Life) -> None:
    life.exchange.unavailable.add("ETHUSDT")
    life.start()
    for _ in range(4):
        life.deliver("plan")  # again whenever the window has room
        life.deliver("work")
    life.exchange.unavailable.clear()
    life.settle()


def what_was_collected_is_read(life: Life) -> None:
    life.start()
    life.settle()
    asked = "symbol=BTCUSDT&timeframe=1h"
    for path in ("/candles", "/candles/files"):
        assert life.ask("GET", f"{path}?{asked}").status_code == 200
        life.ask("GET", f"{path}?symbol=BTCUSDT&timeframe=1m")  # nothing: is it known at all?
    page = life.ask("GET", f"/candles?{asked}&limit=1&fill=previous").json_body
    token = page["next_page_token"]
    life.ask("GET", f"/candles?{asked}&limit=1&fill=previous&page_token={token}")


def gaps_are_explained_and_filled(life: Life) -> None:
    life.exchange.outage = {parse_time("2026-01-01T01:00")}
    life.start()
    life.settle()
    asked = "timeframe=1h&symbol=BTCUSDT"
    assert life.ask("GET", "/coverage?symbols=BTCUSDT,ETHUSDT").status_code == 200
    assert life.ask("GET", f"/coverage/gaps?{asked}").json_body["gaps"]
    life.ask("POST", "/coverage/fill", BODY, key="fill-key")
    life.settle()


def stored_objects_are_verified_and_mended(life: Life) -> None:
    life.start()
    life.settle()
    life.ask("POST", "/coverage/verify", {"symbols": ["BTCUSDT"]}, key="verify-key")
    life.settle()
    objects = life.aws.s3.buckets[life.settings.candles_bucket].objects
    for key in [key for key in objects if "symbol=ETHUSDT/2026" in key]:
        del objects[key]
    cover = life.aws.dynamodb.tables["market"].items
    for which in [which for which in cover if which[1] == "BTCUSDT"]:
        del cover[which]
    life.ask("POST", "/coverage/verify", {"repair": True}, key="repair-key")
    life.settle()


def the_first_day(life: Life) -> None:
    """Nothing is known yet: a schedule loads the catalogue, then a refresh does, then prices."""
    life.aws.dynamodb.tables["market"].items.clear()
    _fire_on_the_first_day(life)
    life.settle()
    life.ask("POST", "/refresh-symbols", key="refresh-key")
    life.settle()
    life.ask("GET", "/latest-prices?symbols=BTCUSDT")


def nothing_trades(life: Life) -> None:
    life.aws.dynamodb.tables["market"].items.clear()
    life.exchange.symbols = {"OLDUSDT": "BREAK"}
    _fire_on_the_first_day(life)
    life.settle()


def the_largest_symbols_are_collected(life: Life) -> None:
    life.exchange.traded = {"ETHUSDT": 1e9}
    body = {"symbols": ["*USDT", "top=1"]}
    life.start(**body)
    life.settle()
    life.start(**body)
    life.settle()


def _fire_on_the_first_day(life: Life) -> None:
    """EventBridge fires, twice, and tries a failed invocation again."""
    request = CollectionRequest(None, ("1h", "1d"))
    fields: Fields = {
        "name": "",
        "expression": "cron(0 6 * * ? *)",
        "timezone": "UTC",
        "enabled": True,
        "overlap": "skip",
        "catch_up": False,
        "max_lag_seconds": None,
        "request": request.pack(),
    }
    daily = made("schedule", Definition(fields), life.clock(), "anonymous", "r")
    life.loop.run_until_complete(ScheduleTable(life.worker).create(daily))
    at_ms = (life.clock() // MINUTE_MS + 1) * MINUTE_MS
    for _ in range(2):
        for _ in range(3):
            fine, _ = life.run(
                "schedule",
                lambda: schedule_watch.run_schedule(
                    life.worker, "anonymous", "schedule", at_ms, 1, "r"
                ),
            )
            if fine:
                break


def the_list_of_symbols_changes(life: Life) -> None:
    """A symbol is new, asked for and found; the list is halved, refused and accepted; it ages."""
    life.exchange.symbols["NEWUSDT"] = "TRADING"
    for path, body in (
        ("/start", {"symbols": ["NEWUSDT"]}),
        ("/schedules", {"expression": "rate(1 hour)", "request": {"symbols": ["NEWUSDT"]}}),
    ):
        life.ask("POST", path, body)
    life.settle()
    life.exchange.symbols = {"BTCUSDT": "TRADING"}
    for body in ({}, {"accept_refused": True}):
        life.clock.advance(MINUTE_MS)
        life.ask("POST", "/refresh-symbols", body)
        life.settle()
    life.clock.advance(life.worker.settings.catalogue_refresh_seconds * 1000)
    life.prices()
    life.market_stream()


def a_refresh_while_the_exchange_is_down(life: Life) -> None:
    life.exchange.throttled_until = life.clock() + PATIENCE_MS
    life.prices()
    life.ask("POST", "/refresh-symbols")
    life.settle()
