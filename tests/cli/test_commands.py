import re

import httpx
import pytest

from tests.cli.fake_api import (
    ALL,
    AT,
    ENDED_TASK,
    PREFIX,
    PRICES,
    STATS,
    STATUS,
    SUBMITTED,
    TASK_ID,
    FakeApi,
    task,
)
from tests.cli.running import run

COMMANDS = [
    (["start", "BTCUSDT"], SUBMITTED, f"Task {TASK_ID} submitted"),
    (["refresh-symbols"], SUBMITTED, f"data-collector task {TASK_ID} --wait"),
    (["retry", TASK_ID], SUBMITTED, f"Task {TASK_ID} submitted"),
    (["cancel", TASK_ID], {"task_id": TASK_ID, "status": "cancelled"}, "cancelled"),
    (["task", TASK_ID], task(), "Progress   100%, 18/18 units\n"),
    (
        ["tasks"],
        {"tasks": [task(), task("running", 9)], "next_page_token": None},
        "running     50%",
    ),
    (["tasks", "--active"], {"tasks": [task("running", 9)], **ALL}, "data_collection"),
    (["history"], {"tasks": [ENDED_TASK], "next_page_token": None}, "1 units failed"),
    (["stats"], STATS, "Timeframes       1m, 5m, 15m"),
    (["status"], STATUS, "4,200 of 6,000 left"),
    (["prices"], PRICES, "91,234.5"),
    (["symbols"], {"symbols": ["BTCUSDT", "ETHUSDT", "ETHBTC", "SOLUSDT"], "count": 4}, "ETHBTC\n"),
    (["task", TASK_ID, "--wait"], task(), "Completed: 18 of 18 units, 18,000 candles, 1:12"),
    (["start", "-yw"], task(), "Completed"),
    (["retry", TASK_ID, "-w"], task(), "Completed"),
    (["refresh-symbols", "-w"], task(), "Completed"),
    (["refresh-symbols", "--accept-refused"], SUBMITTED, f"Task {TASK_ID} submitted"),
]
NAMES = [" ".join(args) for args, _, _ in COMMANDS]


@pytest.mark.parametrize(("args", "_", "shown"), COMMANDS, ids=NAMES)
def test_command_tells_a_person(args, _, shown):
    ran = run(*args)
    assert ran.code == 0
    assert shown in ran.out
    assert "\x1b" not in ran.out + ran.err


@pytest.mark.parametrize(("args", "document", "_"), COMMANDS, ids=NAMES)
@pytest.mark.parametrize("placed", ["before", "after"])
def test_command_prints_the_answer_as_json_wherever_the_option_stands(args, document, _, placed):
    ran = run("--json", *args) if placed == "before" else run(*args, "--json")
    assert ran.code == 0
    assert ran.json == document
    assert ran.err == ""


@pytest.mark.parametrize("args", [args for args, _, _ in COMMANDS], ids=NAMES)
def test_command_on_a_terminal_keeps_within_its_80_columns(args):
    ran = run(*args, out_tty=True)
    copied = ("data-collector", "Task 0197")
    lines = [line for line in ran.out.splitlines() if not any(text in line for text in copied)]
    assert max(map(len, map(visible, lines)), default=0) <= 80


@pytest.mark.parametrize("args", [args for args, _, _ in COMMANDS], ids=NAMES)
def test_command_survives_an_answer_of_which_almost_nothing_is_left(args):
    routes = FakeApi().usual
    bare = {route: [{"task_id": TASK_ID, "status": "completed"}] for route in routes}
    assert run(*args, api=FakeApi(bare)).code == 0


def test_start_sends_every_option_and_nothing_that_was_not_given():
    ran = run(
        *("start", "btcusdt", "-s", "ETHUSDT, solusdt", "--symbol=BTCUSDT", "-t", "1m,5m", "-t1M"),
        *("--start", "2024-01-31", "--end", "1706745600123", "--priority", "high"),
        *("--tolerated-failure-percentage", "5", "--idempotency-key", "mine-1"),
    )
    assert ran.api.sent() == [f"POST {PREFIX}/start"]
    assert ran.api.requests[0].headers["Idempotency-Key"] == "mine-1"
    assert ran.body() == {
        "symbols": ["BTCUSDT", "ETHUSDT", "SOLUSDT"],
        "timeframes": ["1m", "5m", "1M"],
        "start": "2024-01-31T00:00:00Z",
        "end": "2024-02-01T00:00:00.123Z",
        "priority": "high",
        "tolerated_failure_percentage": 5,
    }
    ran = run("start", "-y")
    assert ran.body() == {}
    assert ran.api.requests[0].headers["Idempotency-Key"] != "mine-1"


def test_selectors_are_sent_in_the_spelling_of_the_exchange():
    given = ("*usdt", "Quote=usdt", "!btc*", "!STATUS=break", "top=3", "*USDT")
    sent = ["*USDT", "quote=USDT", "!BTC*", "!status=BREAK", "top=3"]
    assert run("start", *given).body() == {"symbols": sent}
    made = run("schedules", "create", "rate(1 hour)", *given).body()
    assert made["request"] == {"symbols": sent}


MARKET = STATS["data_collector_status"] | {"trading_symbols_count": 495, "default_symbols": None}


@pytest.mark.parametrize(
    ("args", "market", "said"),
    [
        ([], MARKET, "all 495 symbols that trade in 1m 5m 15m 1h 4h 1d, from the newest stored"),
        ([], MARKET, "to now: about 2,970 units."),
        (["-t", "1h"], MARKET, "in 1h, from the newest stored candle of each to now: about 495 u"),
        (
            ["-t", "1m,1d", "--start", "2024-01-01", "--end", "2025-01-01"],
            MARKET,
            "from 2024-01-01T00:00:00Z to 2025-01-01T00:00:00Z: about 13,860 units.",
        ),
        (
            [],
            MARKET | {"default_symbols": ["AUSDT", "BUSDT"]},
            "collects 2 symbols (AUSDT BUSDT) in",
        ),
        (
            [],
            MARKET | {"default_symbols": ["*USDT", "top=9"]},
            "collects what *USDT top=9 selects in",
        ),
        ([], {}, "No symbols are named: this collects all symbols that trade in"),
    ],
)
def test_a_start_without_symbols_says_what_it_would_do_and_asks(args, market, said):
    answers = {"GET /tasks/stats": [STATS | {"data_collector_status": market}] * 3}
    no = run("start", *args, api=FakeApi(answers), typed="n\n")
    assert (no.code, no.out, no.api.sent()) == (2, "", [f"GET {PREFIX}/tasks/stats"])
    assert said in no.err
    assert "Start it? [y/N]" in no.err
    assert "Nothing was started." in no.err
    yes = run("start", *args, "--json", api=FakeApi(answers), typed="Y\n")
    assert (yes.code, yes.json) == (0, SUBMITTED)
    assert "symbols" not in yes.body(1)


@pytest.mark.parametrize("typed", ["", "\n", "maybe\n"])
def test_only_a_yes_starts_it(typed):
    assert run("start", typed=typed).code == 2


def test_a_start_without_symbols_is_refused_where_nobody_can_be_asked():
    ran = run("start", "-t", "1h")
    assert (ran.code, ran.api.sent()) == (2, [])
    assert "add --yes to collect all that trade" in ran.err
    assert run("start", "--yes").api.sent() == [f"POST {PREFIX}/start"]
    assert run("start", "quote=USDT").api.sent() == [f"POST {PREFIX}/start"]


def asked_for(*symbols, count=None, **more):
    fields = {"timeframes": ["1m", "1h"], "start": None, "end": None, **more}
    return task(request={"symbols": list(symbols) or None, **fields}, symbols_count=count)


NAMES = [f"S{number}USDT" for number in range(20)]


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (asked_for("BTCUSDT", "ETHUSDT", count=2), "BTCUSDT ETHUSDT in 1m 1h"),
        (asked_for(count=495), "all symbols (495 symbols) in 1m 1h"),
        (asked_for(), "all symbols in 1m 1h"),
        (asked_for("*USDT", "!BTC*", count=1), "*USDT !BTC* (1 symbol) in 1m 1h"),
        (asked_for("top=20"), "top=20 in 1m 1h"),
        (asked_for(*NAMES, count=3000), "S7USDT and 2,992 more in 1m 1h"),
        (asked_for(*(f"!{name}" for name in NAMES), count=9), "!S7USDT … (9 symbols) in 1m 1h"),
    ],
)
def test_a_task_and_a_list_say_what_is_collected(shown, said):
    one = run("task", TASK_ID, api=FakeApi({"GET /task": [shown]}))
    assert said in one.out
    assert "from the newest stored candle to the last closed candle" in one.out
    assert said in run("tasks", api=FakeApi({"GET /tasks": [{"tasks": [shown]}]})).out


def test_a_task_says_its_range():
    shown = asked_for("BTCUSDT", start=AT, end="2026-11-24T12:00:00Z")
    ran = run("task", TASK_ID, api=FakeApi({"GET /task": [shown]}))
    assert "from 2026-11-23 12:00:00 UTC to 2026-11-24 12:00:00 UTC" in ran.out


QUOTE = {
    "dry_run": True,
    "symbols": 2,
    "timeframes": ["1h"],
    "units": {"total": 4, "from_store": 1},
    "sources": {"rest": {"windows": 3, "requests": 27, "weight": 54, "candles": 17_520}},
    "candles": 17_520,
    "bytes_stored": 782_880,
    "seconds": 1.8,
    "dollars": 0.000195,
    "storage_dollars_per_month": 0.000018,
    "unknown_symbols": ["NEWUSDT"],
    "delisted_symbols": [],
    "assumptions": ["a request takes 150 ms"],
}


def test_start_with_dry_run_prints_the_quote():
    api = FakeApi({"POST /start": [QUOTE]})
    ran = run("start", "BTCUSDT", "newusdt", "-t", "1h", "--dry-run", api=api)
    assert (ran.code, ran.body()["dry_run"]) == (0, True)
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert lines == [
        "Symbols 2 in 1h",
        "Units 4, 1 stored already",
        "From rest 3 units, 27 requests, weight 54",
        "Candles 17,520, 782.9 KB new",
        "Time 0:02",
        "Cost $0.0002, and $0.0000 a month to keep it",
        "Unknown NEWUSDT",
        "Assumed: a request takes 150 ms",
        "Nothing was started.",
    ]
    api = FakeApi({"POST /start": [QUOTE]})
    assert run("start", "--dry-run", "--json", api=api).json == QUOTE


def test_start_takes_a_webhook_whose_secret_stands_in_the_environment(monkeypatch):
    monkeypatch.setenv("DATA_COLLECTOR_WEBHOOK_SECRET", "s" * 24)
    url = "https://hooks.acme.com/in"
    assert run("start", "-y", "--webhook", url).body()["webhook"] == {
        "url": url,
        "secret": "s" * 24,
    }
    events = ("--webhook-event", "task.started,task.failed", "--webhook-event", "task.stopped")
    assert run("start", "-y", "--webhook", url, *events).body()["webhook"]["events"] == [
        "task.started",
        "task.failed",
        "task.stopped",
    ]
    monkeypatch.setenv("DATA_COLLECTOR_WEBHOOK_SECRET", "")
    ran = run("start", "-y", "--webhook", url)
    assert (ran.code, ran.api.sent()) == (2, [])
    assert "DATA_COLLECTOR_WEBHOOK_SECRET" in ran.err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["start", "--webhook-event", "task.started"], "needs --webhook"),
        (["start", "--dry-run", "-w"], "starts nothing"),
        (["start", ""], "list of symbols is empty"),
        (["start", "-s", " , "], "list of symbols is empty"),
        (["start", "-t", ""], "list of timeframes is empty"),
        (["prices", ""], "list of symbols is empty"),
        (["start", "--start", "1706745600"], "in seconds; did you mean 2024-02-01T00:00:00Z?"),
        (["start", "--end", "1706745600.5"], "did you mean 2024-02-01T00:00:00.500Z?"),
        (["audit", "--from", "1706745600000000"], "in microseconds; did you mean 2024-02-01T"),
        (["audit", "--to", "1706745600000000000"], "in nanoseconds; did you mean 2024-02-01T"),
        (["start", "--start", "yesterday"], "neither a date"),
        (["start", "--end", "9" * 40], "neither a date"),
        (["start", "--idempotency-key", "two words"], "visible ASCII"),
        (["start", "--tolerated-failure-percentage", "101"], "0<=x<=100"),
        (["start", "--priority", "urgent"], "'high', 'normal', 'low'"),
        (["tasks", "--active", "--status", "running"], "--active takes no other filter"),
        (["task"], "Missing argument 'ID'"),
        (["nonsense"], "No such command"),
        (["--api-url", "ftp://x", "status"], "not an http(s) URL"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_sent(args, says):
    ran = run(*args)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert ran.api.requests == []
    refused = run(*args, "--json")
    assert refused.code == 2
    assert refused.json["reason"] == "USAGE"


def test_a_time_with_an_offset_is_sent_as_utc_and_a_compact_date_is_a_date():
    ran = run("start", "-y", "--start", "2024-01-31T02:00+02:00", "--end", "20240201")
    assert ran.body() == {"start": "2024-01-31T00:00:00Z", "end": "2024-02-01T00:00:00Z"}


def test_tasks_passes_its_filters_and_says_how_to_see_more():
    api = FakeApi({"GET /tasks": [{"tasks": [task()], "next_page_token": "abc"}]})
    args = ["tasks", "--type", "data_collection", "--status", "failed"]
    ran = run(*args, "--page-size", "5", "--page-token", "t&1", api=api)
    assert dict(api.requests[0].url.params) == {
        "task_type": "data_collection",
        "status": "failed",
        "page_size": "5",
        "page_token": "t&1",
    }
    assert "--page-token abc" in ran.err
    assert "abc" not in ran.out


def test_tasks_all_follows_every_page_and_ends_when_a_token_comes_back():
    pages = [
        {"tasks": [{"task_id": str(n)}], "next_page_token": token}
        for n, token in enumerate(["a", "b", "a"])
    ]
    api = FakeApi({"GET /tasks": pages})
    ran = run("tasks", "--all", "--status", "failed", "--json", api=api)
    assert ran.json == {"tasks": [{"task_id": n} for n in "012"], "next_page_token": None}
    assert [r.url.params.get("page_token") for r in api.requests] == [None, "a", "b"]
    assert all(r.url.params["status"] == "failed" for r in api.requests)


def test_every_page_of_active_tasks_is_one_list():
    pages = [
        {"tasks": [{"task_id": str(n)}], "count": 1, "next_page_token": token}
        for n, token in enumerate(["a", None])
    ]
    api = FakeApi({"GET /tasks/active": pages})
    listed = run("tasks", "--active", "--json", api=api).json
    both = [{"task_id": n} for n in "01"]
    assert listed == {"tasks": both, "count": 2, "next_page_token": None}
    assert [r.url.params.get("page_token") for r in api.requests] == [None, "a"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("eth", ["ETHUSDT", "ETHBTC"]),
        ("*btc", ["ETHBTC"]),
        ("[BS]*", ["BTCUSDT", "SOLUSDT"]),
        ("x", []),
    ],
)
def test_symbols_are_filtered_by_a_part_or_a_pattern(pattern, found):
    assert run("symbols", pattern).out.split() == found
    assert run("symbols", pattern, "--json").json == {"symbols": found, "count": len(found)}


def test_symbols_stand_side_by_side_on_a_terminal():
    out = run("symbols", out_tty=True).out
    assert "BTCUSDT  ETHUSDT" in out
    assert "4 symbols" in out


def test_prices_name_what_has_none_and_never_use_exponents():
    ran = run("prices", "btcusdt,shibusdt", "NOPEUSDT")
    assert ran.api.requests[0].url.params["symbols"] == "BTCUSDT,SHIBUSDT,NOPEUSDT"
    assert "0.00001234" in ran.out
    assert re.search(r"BTCUSDT +91,234\.5 +0:12  2026", ran.out)
    assert re.search(r"SHIBUSDT .* 5:00 \(stale\)", ran.out)
    assert "No price for NOPEUSDT" in ran.out


def test_an_open_breaker_is_told_with_its_reason_and_end():
    breaker = {"open": True, "until": "2026-11-23T12:05:00Z", "reason": "429 from the exchange"}
    ran = run("status", api=FakeApi({"GET /status": [{**STATUS, "breaker": breaker}]}))
    assert "open until 2026-11-23 12:05:00 UTC: 429 from the exchange" in ran.out


def test_limits_are_shown_where_there_are_some():
    limits = {
        "active_tasks": {"limit": 100, "used": 3},
        "requests_per_second": {"limit": 50, "used": None},
        "schedules": {"limit": None, "used": None},
    }
    out = run("status", api=FakeApi({"GET /status": [{**STATUS, "limits": limits}]})).out
    assert re.search(r"Limit: active tasks +3 of 100 used", out)
    assert re.search(r"Limit: requests per second +50\n", out)
    assert "Limit: schedules" not in out


def test_failures_are_listed_up_to_a_cap_and_all_of_them_in_json():
    api = FakeApi({"GET /task": [task(failed=25, total=30, done=30)]})
    out = run("task", TASK_ID, api=api).out
    assert out.count("UNKNOWN_SYMBOL") == 10
    assert "… and 15 more (--json shows all)" in out
    assert len(run("task", TASK_ID, "--json", api=api).json["failures"]) == 25


def test_revised_and_rejected_candles_are_counted_and_the_rejected_ones_named():
    open_time = "2026-11-20T04:00:00.000Z"
    rejection = {"symbol": "TRXUSDT", "timeframe": "4h", "open_time": open_time}
    many = task(revised_candles=1200, rejected_candles=130, rejections=[rejection] * 100)
    api = FakeApi({"GET /task": [many]})
    for args in (["task", TASK_ID], ["task", TASK_ID, "--wait"]):
        out = run(*args, api=api).out
        assert "1,200 revised, 130 rejected" in out
        assert out.count("TRXUSDT   4h         2026-11-20 04:00:00") == 10
        assert "… and 120 more (--json shows up to 100)" in out
    assert len(run("task", TASK_ID, "--json", api=api).json["rejections"]) == 100


def test_files_that_were_not_used_are_named():
    file = {"file": "TRXUSDT-1m-2025-01.zip", "reason": "ARCHIVE_FILE_STALE"}
    out = run("task", TASK_ID, api=FakeApi({"GET /task": [task(passed_over=[file])]})).out
    assert re.search(r"NOT USED +REASON +\nTRXUSDT-1m-2025-01.zip +ARCHIVE_FILE_STALE\n", out)
    assert "NOT USED" not in run("task", TASK_ID, api=FakeApi({"GET /task": [task()]})).out


def test_nothing_is_cut_in_a_pipe():
    api = FakeApi({"GET /task": [task(failed=1)]})
    assert "may have been delisted (code -1121)." in run("task", TASK_ID, api=api).out
    assert "(code -1121)" not in run("task", TASK_ID, api=api, out_tty=True).out


def test_an_answer_can_neither_steer_the_terminal_nor_be_read_as_markup():
    api = FakeApi({"GET /task": [task(message="[red]a\x1b[2J\r\nb[/red]")]})
    out = run("task", TASK_ID, api=api).out
    assert "[red]a\N{REPLACEMENT CHARACTER}[2J b[/red]" in out


def test_a_task_id_stays_one_part_of_the_path():
    ran = run("task", "a/../b?c", api=FakeApi({"GET /task": [httpx.Response(404)]}))
    assert ran.api.requests[0].url.raw_path.decode() == f"{PREFIX}/task/a%2F..%2Fb%3Fc"


def test_help_documents_every_exit_code():
    out = run("--help").out
    assert all(f"\n    {code} " in out for code in ("0", "1", "2", "3", "4", "130", "141"))


def visible(line):
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", line)
