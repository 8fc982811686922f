import re

import pytest
from rich.console import Console

from market_data_collector.cli.render import TaskProgress, follow
from market_data_collector.client import Client
from tests.cli.fake_api import TASK_ID, FakeApi, task
from tests.cli.running import Stream, run


class Clock:
    """Seconds; moves only when told, or when something sleeps."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def frame(view, width=80):
    console = Console(file=Stream(), width=width, highlight=False)
    with console.capture() as shown:
        console.print(view)
    return shown.get().splitlines()


def progress(*tasks, seconds=2.0):
    clock = Clock()
    view = TaskProgress(clock)
    for n, body in enumerate(tasks):
        clock.sleep(seconds if n else 0)
        view.update(body)
    return view, clock


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_bar_figures_and_message_stand_on_one_line_each(width):
    long = "Collected data for " + "X" * 300
    view, _ = progress(task("running", 2), task("running", 9_000, 7, total=18_000, message=long))
    lines = frame(view, width)
    assert len(lines) == 3
    assert max(map(len, lines)) <= min(width, 100)
    assert "9,000/18,000 units" in lines[0]


def test_bar_shows_units_percent_candles_rate_time_left_and_message():
    view, _ = progress(task("running", 3), task("running", 9, 1))
    bar, figures, message = frame(view)
    assert bar.startswith("Collecting  ━━━")
    assert "50%  9/18 units" in bar
    assert figures == "8,000 candles · 3.0 units/s · ETA 0:04 · 1 failed"
    assert message == "Collected data for ETHUSDT 5m (9/18)"


def test_time_left_counts_down_between_polls_and_stops_at_zero():
    view, clock = progress(task("running", 9, eta_seconds=90))
    assert "ETA 1:30" in frame(view)[1]
    clock.sleep(20)
    assert "ETA 1:10" in frame(view)[1]
    clock.sleep(200)
    assert "ETA 0:00" in frame(view)[1]


def test_time_left_comes_from_the_rate_when_the_api_has_none():
    first, second = (task("running", n, eta_seconds=None) for n in (4, 8))
    assert "ETA -:--" in frame(progress(first)[0])[1]
    assert "ETA 0:05" in frame(progress(first, second)[0])[1]
    assert "ETA -:--" in frame(progress(first, first)[0])[1]


def test_rate_follows_the_last_half_minute_and_starts_anew_with_an_attempt():
    polls = [task("running", done, total=1000) for done in (0, 500, *([500] * 20))]
    assert progress(*polls)[0].rate() == 0
    again = task("running", 1, attempt=2)
    assert progress(task("running", 17), again)[0].rate() is None


def test_a_task_without_units_shows_its_percentage():
    refresh = {"task_type": "symbol_refresh", "status": "running", "progress": 40}
    bar, figures = frame(progress(refresh)[0])
    assert bar.startswith("Refreshing symbols")
    assert "40%" in bar
    assert "units" not in bar + figures


def test_the_bar_that_stays_behind_says_how_it_ended():
    for status, failed in (("completed", 0), ("failed", 3), ("cancelled", 0)):
        lines = frame(progress(task(status, 18, failed))[0])
        assert lines[0].startswith(status.capitalize())
        assert len(lines) == 2
        assert "ETA" not in lines[1]


@pytest.mark.parametrize("odd", [{}, {"units": None}, {"units": {"total": "x"}, "candles": True}])
def test_a_task_of_which_little_is_told_can_still_be_shown(odd):
    view, _ = progress({"status": "running", "progress": None, **odd})
    assert "0%" in frame(view)[0]


def test_on_a_terminal_the_bar_goes_to_stderr_and_the_summary_to_stdout():
    api = FakeApi({"GET /task": [task("running", 3), task("running", 9), task()]})
    ran = run("task", TASK_ID, "--wait", api=api, out_tty=True, err_tty=True)
    assert "━" in ran.err
    assert "━" not in ran.out
    assert "Completed: 18 of 18 units" in ran.out


def test_elsewhere_one_plain_line_is_printed_when_progress_changes():
    polls = [task("pending", 0), task("running", 0), *[task("running", 9, 1)] * 3, task(failed=1)]
    ran = run("task", TASK_ID, "--wait", api=FakeApi({"GET /task": polls}))
    assert ran.err.splitlines() == [
        "  0%  pending  0/18 units  Collected data for ETHUSDT 5m (0/18)",
        "  0%  running  0/18 units  Collected data for ETHUSDT 5m (0/18)",
        " 50%  running  9/18 units  1 failed  8,000 candles  Collected data for ETHUSDT 5m (9/18)",
        "100%  completed  18/18 units  1 failed  17,000 candles  "
        "Collected data for ETHUSDT 5m (18/18)",
    ]


def test_a_log_file_gets_no_control_codes_even_if_colours_are_forced(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    api = FakeApi({"GET /task": [task("running", 9, message="[bold]x\x1b[1m"), task()]})
    assert "\x1b" not in run("task", TASK_ID, "--wait", api=api).err


def test_json_shows_progress_only_to_a_terminal():
    script = {"GET /task": [task("running", 9), task()]}
    assert run("task", TASK_ID, "-w", "--json", api=FakeApi(script)).err == ""
    ran = run("task", TASK_ID, "-w", "--json", api=FakeApi(script), err_tty=True)
    assert "━" in ran.err
    assert ran.json == task()


def test_another_script_can_wait_with_the_same_bar():
    clock, stream = Clock(), Stream(tty=True)
    fake = FakeApi({"GET /task": [task("running", 3), task("running", 9), task(failed=2)]})
    api = Client("http://api.test", transport=fake, sleep=clock.sleep)
    console = Console(file=stream, width=80)
    assert follow(api.job(TASK_ID).progress(), console, clock=clock) == task(failed=2)
    assert "6.0 units/s" in re.sub(r"\x1b\[[\d;?]*\w", "", stream.text())


def test_lines_show_what_a_task_waits_for_though_its_progress_stands():
    def running(message):
        return task("running", 9, message=message, revised_candles=2)

    api = FakeApi(
        {
            "GET /task": [
                running("Collected data for ETHUSDT 5m (9/18)"),
                running("Retrying LTCUSDT 1h: HTTP 502 (9/18)"),
                running("Retrying LTCUSDT 1h: HTTP 502 (9/18)"),
                task(),
            ]
        }
    )
    ran = run("task", TASK_ID, "--wait", api=api)
    assert ran.code == 0
    assert ran.err.count("Retrying LTCUSDT 1h: HTTP 502 (9/18)") == 1
    assert "2 revised" in ran.err
