"""`data-collector schedules`: what is sent, what a person and a program get."""

import json
import re

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli.fake_api import PREFIX, SCHEDULE_ID, SUBMITTED, TASK_ID, FakeApi, problem, schedule
from tests.cli.running import run
from tests.cli.test_json_always import anything, natural, shaped, text

ROOT = f"{PREFIX}/schedules"


def test_the_table_names_each_schedule_and_says_when_it_runs_next():
    other = schedule(enabled=False, next_run_at=None, timezone="UTC", expression="rate(1 hour)")
    page = {"schedules": [schedule(), other], "next_page_token": None}
    ran = run("schedules", api=FakeApi({"GET /schedules": [page]}))
    lines = [line.rstrip() for line in ran.out.splitlines()]
    assert (ran.code, len(lines)) == (0, 3)
    assert lines[0].split() == ["ID", "NEXT", "(UTC)", "RUNS", "SCHEDULE"]
    cron = "cron(0 6 ? * MON-FRI *) Europe/Berlin"
    assert lines[1] == f"{SCHEDULE_ID}  11-24 05:00:00  1,412 (-4)  {cron}  mornings"
    assert lines[2] == f"{SCHEDULE_ID}  disabled        1,412 (-4)  rate(1 hour)  mornings"


def test_on_a_narrow_terminal_ids_are_short_and_times_whole():
    page = {"schedules": [schedule()], "next_page_token": None}
    ran = run("schedules", api=FakeApi({"GET /schedules": [page]}), out_tty=True)
    assert f"{SCHEDULE_ID[:8]}  11-24 05:00:00  1,412 (-4)" in ran.out
    plain = re.sub(r"\x1b\[[0-9;]*m", "", ran.out)
    assert max(map(len, plain.splitlines())) <= 80


def test_an_empty_list_says_how_to_make_one():
    ran = run("schedules", api=FakeApi({"GET /schedules": [{"schedules": []}]}))
    assert "data-collector schedules create --help" in ran.out


def test_every_page_is_followed():
    pages = [
        {"schedules": [schedule()], "next_page_token": SCHEDULE_ID},
        {"schedules": [schedule(name="second")], "next_page_token": None},
    ]
    ran = run("schedules", "--json", api=FakeApi({"GET /schedules": pages}))
    assert [entry["name"] for entry in ran.json["schedules"]] == ["mornings", "second"]
    assert ran.api.requests[1].url.params["page_token"] == SCHEDULE_ID


def test_a_schedule_is_shown_with_its_runs_and_its_freshness():
    ran = run("schedules", "show", SCHEDULE_ID)
    for shown in (
        "Expression  cron(0 6 ? * MON-FRI *) Europe/Berlin\n",
        "Collects    BTCUSDT ETHUSDT in 1h 1d\n",
        "Overlap     queue, catches up\n",
        "Next run    2026-11-24 05:00:00 UTC\n",
        "Last run    2026-11-23 12:00:00 UTC, completed\n",
        f"Last task   {TASK_ID}\n",
        "Runs        1,412 started, 3 skipped, 1 missed\n",
        "Freshness   1:07 behind (promised: at most 2:00), broken 2 times\n",
    ):
        assert shown in ran.out
    assert ran.api.sent() == [f"GET {ROOT}/{SCHEDULE_ID}"]


def test_a_schedule_that_was_refused_says_why():
    refused = schedule(sync_error="Invalid Schedule Expression", in_sync=False)
    ran = run("schedules", "show", SCHEDULE_ID, api=FakeApi({"GET /schedules/{id}": [refused]}))
    assert "State       refused\n" in ran.out
    assert "Refused     Invalid Schedule Expression\n" in ran.out


def test_creating_sends_what_was_given_and_nothing_else():
    ran = run("schedules", "create", "rate(1 hour)")
    assert ran.body() == {"expression": "rate(1 hour)", "request": {}}
    ran = run(
        *("schedules", "create", "cron(0 6 ? * MON-FRI *)", "btcusdt", "ETHUSDT", "-t", "1h,1d"),
        *("--name", "mornings", "--timezone", "Europe/Berlin", "--overlap", "queue"),
        *("--catch-up", "--max-lag", "120", "--priority", "low", "--disabled"),
        *("--idempotency-key", "one"),
    )
    assert ran.body() == {
        "expression": "cron(0 6 ? * MON-FRI *)",
        "name": "mornings",
        "timezone": "Europe/Berlin",
        "overlap": "queue",
        "catch_up": True,
        "enabled": False,
        "freshness": {"max_lag_seconds": 120},
        "request": {
            "symbols": ["BTCUSDT", "ETHUSDT"],
            "timeframes": ["1h", "1d"],
            "priority": "low",
        },
    }
    assert ran.api.requests[0].headers["Idempotency-Key"] == "one"
    assert f"Schedule    {SCHEDULE_ID}\n" in ran.out


@pytest.mark.parametrize(("command", "enabled"), [("enable", True), ("disable", False)])
def test_pausing_and_going_on_change_that_alone(command, enabled):
    ran = run("schedules", command, SCHEDULE_ID)
    assert ran.api.sent() == [f"PATCH {ROOT}/{SCHEDULE_ID}"]
    assert ran.body() == {"enabled": enabled}


def test_running_shows_the_task_or_waits_for_it():
    ran = run("schedules", "run", SCHEDULE_ID)
    assert ran.api.sent() == [f"POST {ROOT}/{SCHEDULE_ID}/run"]
    assert f"Task {TASK_ID} submitted" in ran.out
    assert run("schedules", "run", SCHEDULE_ID, "--json").json == SUBMITTED
    assert "Completed: 18 of 18 units" in run("schedules", "run", SCHEDULE_ID, "--wait").out


def test_deleting_says_so():
    ran = run("schedules", "delete", SCHEDULE_ID)
    assert ran.api.sent() == [f"DELETE {ROOT}/{SCHEDULE_ID}"]
    assert ran.out == f"Schedule {SCHEDULE_ID} deleted\n"


def test_what_the_api_refuses_is_told_field_by_field():
    errors = [{"detail": "minutes: 60 is not from 0 to 59", "pointer": "/expression"}]
    refused = problem(400, "Invalid request", "/expression", "INVALID_REQUEST", errors=errors)
    api = FakeApi({"POST /schedules": [refused]})
    ran = run("schedules", "create", "cron(60 * * * ? *)", api=api)
    assert ran.code == 2
    assert "  /expression: minutes: 60 is not from 0 to 59\n" in ran.err


def test_an_id_with_a_slash_stays_one_path_segment():
    ran = run("schedules", "show", "a/b")
    assert str(ran.api.requests[0].url).endswith("/schedules/a%2Fb")


odd = shaped(
    schedule_id=text,
    name=text,
    expression=text,
    timezone=text,
    enabled=st.booleans(),
    next_run_at=text,
    runs=shaped(started=natural, skipped=natural, missed=natural),
    request=shaped(symbols=st.lists(text), timeframes=st.lists(text)),
    last_run=shaped(at=text, task_id=text, status=text),
    freshness=shaped(lag_seconds=natural, promised_seconds=natural, breaches=natural),
    sync_error=text,
)


@given(answer=odd | st.dictionaries(text, anything, max_size=3))
@settings(max_examples=60, deadline=None)
def test_an_odd_answer_of_another_version_is_shown_not_crashed_on(answer):
    one, page = (
        httpx.Response(200, content=json.dumps(body).encode())
        for body in (answer, {"schedules": [answer]})
    )
    api = FakeApi({"GET /schedules/{id}": [one], "GET /schedules": [page]})
    for args in (("schedules", "show", "x"), ("schedules",)):
        assert run(*args, api=api).code == 0
        assert isinstance(json.loads(run(*args, "--json", api=api).out), dict)


def test_a_schedule_may_be_named_by_the_beginning_of_its_id():
    ran = run("schedules", "disable", SCHEDULE_ID[:5].upper())
    assert ran.code == 0
    assert ran.api.sent()[-1].endswith(f"/schedules/{SCHEDULE_ID}")
    two = [schedule(), schedule(schedule_id=SCHEDULE_ID[:5] + "000", name="evenings")]
    page = {"schedules": two, "next_page_token": None}
    ran = run("schedules", "delete", SCHEDULE_ID[:5], api=FakeApi({"GET /schedules": [page]}))
    assert ran.code == 2
    assert "is the beginning of 2 schedules" in ran.err
    assert "mornings" in ran.err
    assert "evenings" in ran.err
    assert not [sent for sent in ran.api.sent() if sent.startswith("DELETE")]


def test_the_retries_of_a_run_are_sent_with_its_request():
    args = ("rate(1 day)", "BTCUSDT", "--retries", "3", "--retry-backoff", "2m")
    ran = run("schedules", "create", *args)
    assert ran.body()["request"] == {
        "symbols": ["BTCUSDT"],
        "retries": 3,
        "retry_backoff_seconds": 120,
    }
