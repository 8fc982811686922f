"""What outlives a removed stack belongs to the next one of its name."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.candles.codec import encode
from infra.storage import bucket, tables
from local import artifacts, destroy
from local.deploy import DeployFailed, deploy
from tests.doubles.formation import Formation
from tests.unit.candles.test_candles import candles_of

STACK = "market-data-collector-prod"
QUEUE = {"Type": "AWS::SQS::Queue", "Properties": {}}
ROOT = "https://here.test"


def packaged(folder: Path, resources: dict[str, Any], root: str = ROOT) -> Path:
    outputs = {"Exchange": {"Value": "mine"}, "ExchangeRoot": {"Value": root}}
    template = {"Resources": resources, "Outputs": outputs}
    (folder / "sam.json").write_text(json.dumps(template), encoding="utf-8")
    (folder / "deployment.zip").write_bytes(b"")
    return folder


@pytest.fixture
def account() -> Formation:
    return Formation()


def deployed(account: Formation, package: Path) -> tuple[dict[str, str], list[str]]:
    """Logical id -> name of what is there afterwards, and what was reported."""
    reported: list[str] = []
    deploy(account, package, STACK, reported.append)  # type: ignore[arg-type]
    return dict(account.stacks[STACK]["resources"]), reported


def removed(account: Formation) -> None:
    destroy.destroy(account, STACK, lambda line: None)  # type: ignore[arg-type]


def test_the_next_stack_of_the_name_takes_over_the_bucket_and_the_audit_trail(
    account: Formation, tmp_path: Path
) -> None:
    package = packaged(tmp_path, {**bucket(), **tables(), "Work": QUEUE})
    before, _ = deployed(account, package)
    account.buckets[before["CandlesBucket"]]["candles/x"] = b"kept"
    removed(account)
    after, reported = deployed(account, package)
    same = {name for name in after if after[name] == before[name]}
    assert same == {"CandlesBucket", "MarketTable", "AuditTable", "KeysTable"}
    assert account.calls == ["create", "delete", "import", "update"]
    assert account.buckets[after["CandlesBucket"]] == {"candles/x": b"kept"}
    assert f"taking over {before['AuditTable']}, which an earlier {STACK} left" in reported


@pytest.mark.parametrize("replaced", [False, True])
def test_coverage_is_not_taken_over_without_the_bucket_that_it_was_made_with(
    account: Formation, tmp_path: Path, replaced: bool
) -> None:
    package = packaged(tmp_path, {**bucket(), **tables(), "Work": QUEUE})
    before, _ = deployed(account, package)
    removed(account)
    if replaced:  # an older one is left
        account.made[before["CandlesBucket"]] -= timedelta(days=30)
    else:
        del account.buckets[before["CandlesBucket"]]
    after, reported = deployed(account, package)
    same = {name for name in after if after[name] == before[name]}
    assert same == {"AuditTable", "KeysTable"} | ({"CandlesBucket"} if replaced else set())
    left = f"leaving {before['MarketTable']} alone: the bucket that it was made with is gone"
    assert left in reported


def test_of_several_the_one_in_use_last_is_taken_and_the_others_are_named(
    account: Formation, tmp_path: Path
) -> None:
    package = packaged(tmp_path, {**bucket(), **tables()})
    old, _ = deployed(account, package)
    del account.stacks[STACK]  # removed and made again before any release took over
    account.create_stack(STACK, url_of(account, package))
    used_last = account.stacks[STACK]["resources"]["CandlesBucket"]
    removed(account)
    after, reported = deployed(account, package)
    assert after["CandlesBucket"] == used_last
    assert f"leaving {old['CandlesBucket']} alone, which is older" in reported


def url_of(account: Formation, package: Path) -> str:
    name = artifacts.make_bucket(account)  # type: ignore[arg-type]
    content = (package / "sam.json").read_bytes()
    key = artifacts.upload(account, name, STACK, content, "json")  # type: ignore[arg-type]
    return f"https://{name}/{key}"


def test_what_another_stage_keeps_is_left_to_it(account: Formation, tmp_path: Path) -> None:
    package = packaged(tmp_path, {**bucket(), **tables()})
    for other in (f"{STACK}2", "market-data-collector-pro", "another"):
        deploy(account, package, other)  # type: ignore[arg-type]
        account.delete_stack(StackName=other)
    _, reported = deployed(account, package)
    assert not [line for line in reported if "taking over" in line]
    assert account.calls[-1] == "create"


def test_a_stack_that_is_there_takes_over_nothing(account: Formation, tmp_path: Path) -> None:
    package = packaged(tmp_path, {**bucket(), **tables()})
    deployed(account, package)
    removed(account)
    deployed(account, package)
    before = dict(account.stacks[STACK]["resources"])
    after, reported = deployed(account, package)
    assert after == before
    assert not [line for line in reported if "taking over" in line]


#: Properties that name what is not imported, or do not.
REFERENCES = st.sampled_from(
    [
        {"Ref": "Work"},
        {"Ref": "AWS::StackName"},
        {"Fn::GetAtt": ["Work", "Arn"]},
        {"Fn::Sub": "${Work}-x"},
        {"Fn::Sub": "${AWS::Region}-${Work.Arn}"},
        {"Fn::Sub": "${AWS::Region}"},
        {"Ref": "AuditTable"},
        "plain",
    ]
)


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    kept=st.sets(st.sampled_from(["CandlesBucket", "AuditTable", "MarketTable", "TasksTable"])),
    added=st.dictionaries(
        st.sampled_from(["Tags", "Key", "Log"]), REFERENCES | st.lists(REFERENCES, max_size=2)
    ),
)
def test_whatever_a_release_keeps_and_refers_to_can_be_taken_over(
    tmp_path: Path, kept: set[str], added: dict[str, Any]
) -> None:
    account = Formation()
    resources = {**bucket(), **tables(), "Work": QUEUE}
    for name, resource in resources.items():
        resource.pop("DeletionPolicy", None)
        if name in kept:
            resource["DeletionPolicy"] = "Retain"
            resource["Properties"] = {**resource["Properties"], **added}
    package = packaged(tmp_path, resources)
    before, _ = deployed(account, package)
    removed(account)
    after, _ = deployed(account, package)
    usable = kept if "CandlesBucket" in kept else kept - {"MarketTable"}
    assert {name for name in after if after[name] == before[name]} == usable


def test_what_cannot_be_taken_over_ends_the_deploy_and_the_next_one_tries_again(
    account: Formation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = packaged(tmp_path, {**bucket(), **tables()})
    before, _ = deployed(account, package)
    removed(account)
    table = before["AuditTable"]
    with monkeypatch.context() as lost:
        lost.setattr(account, "tables", Listed([table]))
        with pytest.raises(DeployFailed, match=rf"{table}.* cannot be taken over: .*not found"):
            deployed(account, package)
    after, _ = deployed(account, package)
    assert after["AuditTable"] == table


class Listed(list[str]):
    """Tables that are listed and cannot be found."""

    def __contains__(self, name: object) -> bool:
        return False


@pytest.mark.parametrize(("root", "refused"), [(ROOT, False), ("https://there.test", True)])
def test_a_bucket_with_candles_of_another_root_is_not_taken_over(
    account: Formation, tmp_path: Path, root: str, refused: bool
) -> None:
    package = packaged(tmp_path, {**bucket(), **tables()})
    before, _ = deployed(account, package)
    file = encode(candles_of({0: 1}), {"source": "mine", "source_root": root})
    key = "candles/exchange=mine/timeframe=1m/symbol=BTCUSDT/2026-11-23.parquet"
    account.buckets[before["CandlesBucket"]][key] = file
    removed(account)
    if refused:
        with pytest.raises(DeployFailed, match=rf"mine belongs to {root}.*EXCHANGE="):
            deployed(account, package)
        assert account.calls[-1] == "delete"
        return
    after, _ = deployed(account, package)
    assert after["CandlesBucket"] == before["CandlesBucket"]
