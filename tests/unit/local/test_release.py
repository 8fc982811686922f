"""What `make deploy` does once the stack is there."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from local.release import check, said

STACK = "market-data-collector-prod"


class Runner:
    """A command that is run, and ends with `code`."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.ran: list[tuple[list[str], Mapping[str, str]]] = []

    def __call__(self, command: list[str], environ: Mapping[str, str]) -> int:
        self.ran.append((command[1:], environ))
        return self.code


@pytest.mark.parametrize("code", [0, 1])
def test_the_stack_is_checked_with_the_key_that_was_just_made(code: int) -> None:
    runner = Runner(code)
    assert check(STACK, "keys", "new", {"CHECK": "--without fires"}, runner) == code
    [(command, environ)] = runner.ran
    assert command == [
        *("-m", "market_data_collector.cli", "check", "--stack", STACK, "--without", "fires"),
    ]
    assert environ["DATA_COLLECTOR_KEY"] == "new"
    assert "new" not in command  # others see command lines


def test_a_key_of_the_environment_serves_too() -> None:
    runner = Runner()
    check(STACK, "keys", None, {"DATA_COLLECTOR_KEY": "mine"}, runner)
    [(_, environ)] = runner.ran
    assert environ["DATA_COLLECTOR_KEY"] == "mine"


def test_without_a_key_the_deploy_is_done_and_the_way_to_check_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runner = Runner()
    assert check(STACK, "keys", None, {}, runner) == 0
    assert runner.ran == []
    assert "DATA_COLLECTOR_KEY=<an admin's key> make check-stack STAGE=prod" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(("authentication", "signed"), [("iam", True), ("none", False)])
def test_requests_are_signed_where_they_must_be(authentication: str, signed: bool) -> None:
    runner = Runner()
    check(STACK, authentication, None, {}, runner)
    assert ("--sign" in runner.ran[0][0]) is signed


def test_every_address_is_said() -> None:
    names = (
        "ConsoleURL",
        "EndpointURL",
        "WebSocketURL",
        "CandlesBucket",
        "Dashboard",
        "AlarmTopic",
    )
    lines = said(STACK, "eu-west-1", {name: f"the {name}" for name in names})
    for name in names:
        assert any(f"the {name}" in line for line in lines)
