"""Removing a stack: what is said, what is asked, what goes, what stays, and what failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.package import ROOT
from infra.storage import bucket, tables
from local import artifacts, destroy
from local.deploy import deploy
from tests.doubles.formation import Formation
from tests.unit.local.test_kept import QUEUE, STACK, packaged


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Formation:
    """An account in which the stage prod is deployed."""
    account = Formation()
    monkeypatch.setattr(destroy, "account", lambda environ: account)
    package = packaged(tmp_path, {**bucket(), **tables(), "Work": QUEUE, "Push": QUEUE})
    deploy(account, package, STACK)  # type: ignore[arg-type]
    return account


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the person at the keyboard types; nobody is there where it is empty."""
    typed: list[str] = []

    def asked(_: str) -> str:
        if not typed:
            raise EOFError
        return typed.pop(0)

    monkeypatch.setattr("builtins.input", asked)
    return typed


def ran(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["destroy", "--stage", "prod", *arguments])
    return destroy.main()


def test_it_says_what_goes_and_what_stays_and_how_to_remove_that_too(
    account: Formation,
    answers: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = dict(account.stacks[STACK]["resources"])
    answers.append("prod")
    assert ran(monkeypatch) == 0
    goes, _, rest = capsys.readouterr().out.partition("This stays")
    stays, _, by_hand = rest.partition("To remove what it kept")
    assert "2 x AWS::DynamoDB::Table" in goes
    assert "2 x AWS::SQS::Queue" in goes
    assert "2 x code or template" in goes
    tables = {names[name] for name in ("AuditTable", "KeysTable", "MarketTable")}
    kept = {names["CandlesBucket"], *tables}
    assert all(name in stays for name in kept)
    assert not any(name in stays + by_hand for name in set(names.values()) - kept)
    assert f"aws s3 rb s3://{names['CandlesBucket']} --force --region eu-west-1" in by_hand
    assert f"aws dynamodb delete-table --table-name {names['AuditTable']}" in by_hand
    assert STACK not in account.stacks
    assert set(account.tables) == tables
    assert set(account.buckets) == {names["CandlesBucket"]}, "no artifact is left"


def test_what_aws_would_refuse_to_delete_is_said_before_anything_is_removed(
    account: Formation,
    answers: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    package = packaged(tmp_path, {**bucket(), **tables(protected=True)})
    deploy(account, package, STACK)  # type: ignore[arg-type]
    answers.append("prod")
    assert ran(monkeypatch) == 1
    assert "DELETION_PROTECTION=false" in capsys.readouterr().err
    assert STACK in account.stacks
    assert answers == ["prod"], "nobody was asked"


@pytest.mark.parametrize("typed", [[], ["yes"], ["dev"], [""]])
def test_nothing_is_removed_unless_the_stage_is_typed(
    account: Formation,
    answers: list[str],
    typed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers += typed
    before = dict(account.buckets)
    assert ran(monkeypatch) == 1
    assert "Nothing was removed." in capsys.readouterr().out
    assert account.calls == ["create"]
    assert account.buckets == before


def test_a_script_is_not_asked(account: Formation, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ran(monkeypatch, "--yes") == 0
    assert account.calls == ["create", "delete"]


def test_what_cannot_be_removed_is_named_with_its_reason_and_the_next_try_goes_on(
    account: Formation,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    account.stuck = {"Work", "TasksTable"}
    assert ran(monkeypatch, "--yes") == 1
    said = capsys.readouterr().err
    assert "Work: still in use" in said
    assert "TasksTable: still in use" in said
    assert "Push" not in said
    account.stuck = set()
    assert ran(monkeypatch, "--yes") == 0
    assert STACK not in account.stacks
    assert "1 x AWS::DynamoDB::Table" in capsys.readouterr().out


def test_other_stages_keep_their_artifacts_and_the_last_one_takes_the_bucket(
    account: Formation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place: Any = artifacts.bucket_name(account)  # type: ignore[arg-type]
    other = "market-data-collector-dev"
    deploy(account, tmp_path, other)  # type: ignore[arg-type]
    account.buckets[place]["of-an-older-release.zip"] = b""
    assert ran(monkeypatch, "--yes") == 0
    left = set(account.buckets[place])
    assert {key.partition("/")[0] for key in left} == {other, "of-an-older-release.zip"}
    destroy.destroy(account, other, lambda line: None)  # type: ignore[arg-type]
    assert place not in account.buckets


def test_where_there_is_no_stack_it_says_so(
    account: Formation,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ran(monkeypatch, "--yes") == 0
    assert ran(monkeypatch, "--yes") == 1
    assert "There is no stack market-data-collector-prod in eu-west-1." in capsys.readouterr().err


def test_artifacts_that_an_interrupted_removal_left_are_removed_the_next_time(
    account: Formation, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.delete_stack(StackName=STACK)
    assert ran(monkeypatch, "--yes") == 0
    assert not [name for name in account.buckets if "artifacts" in name]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["STAGE=prod"], "-m local.destroy --stage prod"),
        (["STAGE=prod", "YES=1"], "-m local.destroy --stage prod --yes"),
        (["STAGE=prod", "YES=0"], "-m local.destroy --stage prod"),
        ([], "Name the stage"),
    ],
)
def test_make_destroy_wants_a_stage_by_name(arguments: list[str], command: str) -> None:
    done = subprocess.run(
        ["make", "-n", "destroy", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    last = done.stdout.splitlines()[-1].strip()
    assert command in last
    assert last.endswith("--yes") == command.endswith("--yes")
