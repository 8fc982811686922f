"""Parts that answer stay; others are started anew, at the ports that they had."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from infra.package import Package
from local import stack
from local.options import options
from local.processes import Process, parts
from local.stack import Stack
from tests.local.waiting import until
from tests.unit.local.test_first_key import OUTPUTS, Table


@pytest.fixture
def brought_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """A stack in a folder of its own, with its exchange."""
    monkeypatch.setattr(stack, "HOME", home)
    monkeypatch.setattr(stack, "ROOT", home.parent)
    monkeypatch.setattr(stack, "PORTS", home / "ports.json")
    # The parts are run from the real folder all the same.
    monkeypatch.setenv("PYTHONPATH", str(Path(stack.__file__).parents[1]))
    return Stack(options(os.environ))


def exchange(home: Path) -> Process:
    [part] = parts(home)
    assert part.name == "exchange"
    return part.process


def test_a_part_that_answers_stays(brought_up: Stack, home: Path) -> None:
    said: list[str] = []
    url = brought_up.bring_up_exchange(said.append)
    before = exchange(home)
    assert brought_up.silent() == []
    assert Stack(options(os.environ)).bring_up_exchange(said.append) == url
    assert exchange(home) == before
    assert said == []


def test_a_part_that_was_killed_is_named_and_started_again_at_its_port(
    brought_up: Stack, home: Path
) -> None:
    said: list[str] = []
    url = brought_up.bring_up_exchange(said.append)
    killed = exchange(home)
    os.kill(killed.pid, signal.SIGKILL)
    until(lambda: not killed.is_running())
    assert brought_up.silent() == [
        "the exchange has ended; its log is .local/exchange.log. "
        "If it stays so: Ctrl-C, `make down`, `make run`."
    ]
    assert brought_up.bring_up_exchange(said.append) == url
    assert exchange(home).pid != killed.pid


def test_a_part_that_does_not_answer_is_named_and_started_again(
    brought_up: Stack, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    url = brought_up.bring_up_exchange(said.append)
    halted = exchange(home)
    os.kill(halted.pid, signal.SIGSTOP)
    [silent] = brought_up.silent()
    assert f"the exchange (process {halted.pid}) does not answer at {url}" in silent
    monkeypatch.setattr(stack, "_ANSWERS_WITHIN_S", 0)
    assert brought_up.bring_up_exchange(said.append) == url
    assert exchange(home).pid != halted.pid
    assert not halted.is_running()
    assert said == ["the exchange does not answer; it is started again"]


def test_two_of_one_part_become_one(brought_up: Stack, home: Path, tmp_path: Path) -> None:
    brought_up.bring_up_exchange(print)
    first = exchange(home)
    # As after a run that was killed just before another one began.
    (home / "ports.json").unlink()
    brought_up._start("exchange", ["-m", "local.exchange", "--port", "0"])
    assert len(parts(home)) == 2
    brought_up.bring_up_exchange(print)
    assert exchange(home) != first


@pytest.mark.parametrize(
    "written",
    [None, "", "{", "[]", '{"api_key": 5}', '{"api_key": "mdc_wrong"}', '{"api_url": "x"}'],
)
def test_where_the_admins_key_is_lost_or_damaged_the_next_start_has_another_that_works(
    brought_up: Stack, home: Path, monkeypatch: pytest.MonkeyPatch, written: str | None
) -> None:
    monkeypatch.setattr(stack, "ENDPOINTS", home / "endpoints.json")
    variables = {"Variables": {"AUTHENTICATION": "keys"}}
    function = {"Type": "AWS::Serverless::Function", "Properties": {"Environment": variables}}
    built = Package(home)
    built.template.write_text(json.dumps({"Resources": {"APIHandler": function}}))
    account: Any = Table()
    key = brought_up.bring_up_key(account, built, OUTPUTS)
    assert key
    (home / "endpoints.json").write_text(json.dumps({"api_key": key}))
    assert brought_up.bring_up_key(account, built, OUTPUTS) == key
    if written is None:
        (home / "endpoints.json").unlink()
    else:
        (home / "endpoints.json").write_text(written)
    other = brought_up.bring_up_key(account, built, OUTPUTS)
    assert other not in (None, key)
    assert len(account.items) == 2
