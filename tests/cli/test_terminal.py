"""What a person at a terminal sees: colours, errors once, whole help, the console."""

import re
import webbrowser

import click
import pytest

from market_data_collector.cli.commands import cli
from tests.cli.fake_api import AT, TASK_ID, FakeApi, problem, task
from tests.cli.running import run

COLOUR = re.compile(r"\x1b\[[\d;]*3[0-7]m")


def commands(group=cli, path=()):
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", [*commands()], ids=" ".join)
def test_no_line_of_any_help_is_cut_off_at_80_columns(path):
    out = run(*path, "--help").out
    assert max(map(len, out.splitlines())) <= 80
    _, *rest = out.splitlines()
    assert "..." not in "\n".join(rest).replace("ID...", "")


def test_every_command_is_in_the_help_with_all_that_it_says():
    out = " ".join(run("--help").out.split())
    for name, command in cli.commands.items():
        assert f"{name} {command.get_short_help_str(1000)}" in out


def test_colours_are_for_terminals_whose_owner_does_not_mind(monkeypatch):
    assert COLOUR.search(run("tasks", out_tty=True).out)
    assert not COLOUR.search(run("tasks", "--no-color", out_tty=True).out)
    assert not COLOUR.search(run("--no-color", "tasks", out_tty=True).out)
    assert not COLOUR.search(run("tasks").out)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not COLOUR.search(run("tasks", out_tty=True).out)


def refused():
    wrong = [{"detail": "unknown symbol NOPE", "pointer": "/symbols/0"}]
    detail = "/symbols/0: unknown symbol NOPE (and 0 more)"
    return FakeApi({"POST /start": [problem(400, "Invalid request", detail, "X", errors=wrong)]})


def test_an_error_is_said_once():
    ran = run("start", "NOPE", api=refused())
    assert ran.err.splitlines() == [
        "Invalid request (400):",
        "  /symbols/0: unknown symbol NOPE",
    ]
    for args in (("start", "NOPE"), ("start", "--retries", "9")):
        shown = run(*args, "--json", api=refused(), out_tty=True)
        assert shown.json
        assert shown.err == ""


def test_what_takes_a_moment_says_so_at_once_on_a_terminal():
    assert "Reading tasks" in run("tasks", err_tty=True).err
    assert "Reading tasks" not in run("tasks").err
    ran = run("start", "BTCUSDT", "-w", err_tty=True, api=FakeApi({"GET /task": [task()]}))
    assert "Submitting" in ran.err


def test_waiting_goes_on_where_the_tasks_own_retry_follows():
    between = task("failed", 18, 18, next_attempt_at=AT, message="Failed; next attempt at noon")
    api = FakeApi({"GET /task": [task("running", 3), between, task(attempt=2)]})
    ran = run("start", "BTCUSDT", "--retries", "1", "-w", api=api)
    assert ran.code == 0
    assert "next attempt at noon" in ran.err
    last = FakeApi({"GET /task": [between, task("failed", 18, 18)]})
    assert run("task", TASK_ID, "-w", api=last).code == 1


@pytest.mark.parametrize(("there", "args"), [(True, ()), (False, ()), (True, ("--json",))])
def test_the_console_is_opened_where_there_is_a_browser(monkeypatch, there, args):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or there)
    ran = run("open", *args, "--api-url", "https://x.test/api/v1/data-collector")
    assert ran.code == 0
    assert "https://x.test/api/" in ran.out
    assert opened == ([] if args else ["https://x.test/api/"])
    assert ran.api.requests == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_commands(shell):
    from click.shell_completion import get_completion_class

    completion = get_completion_class(shell)(cli, {}, "data-collector", "_DATA_COLLECTOR_COMPLETE")
    assert "_DATA_COLLECTOR_COMPLETE" in completion.source()
    found = {item.value for item in completion.get_completions([], "cand")}
    assert found == {"candles", "candle-files"}
    assert isinstance(cli, click.Group)
