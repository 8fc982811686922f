"""A deploy that fails says why, and the next one starts from nothing. After a removal, it starts
from what was kept."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from infra import storage
from local import artifacts, destroy
from local.deploy import DeployFailed, deploy
from local.release import said
from tests.e2e.conftest import Cloud

STACK = "market-data-collector-broken"


def packaged(folder: Path, **resources: dict[str, Any]) -> Path:
    outputs = {"Exchange": {"Value": "none"}, "ExchangeRoot": {"Value": "https://none.test"}}
    template = {"Resources": resources, "Outputs": outputs}
    (folder / "sam.json").write_text(json.dumps(template), encoding="utf-8")
    (folder / "deployment.zip").write_bytes(b"")
    return folder


KEPT = {"Type": "AWS::S3::Bucket", "DeletionPolicy": "Retain", "Properties": {}}
#: IAM refuses a role that everybody but one may assume.
TRUST = {"Effect": "Allow", "NotPrincipal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
REFUSED = {
    "Type": "AWS::IAM::Role",
    "Properties": {"AssumeRolePolicyDocument": {"Statement": [TRUST]}},
    "DependsOn": "Kept",
}


@pytest.mark.parametrize("found", ["while it was made", "before anything was made"])
def test_a_first_deploy_that_fails_names_the_resource_and_does_not_stand_in_the_next_ones_way(
    cloud: Cloud, tmp_path: Path, found: str
) -> None:
    name_taken = {**KEPT, "Properties": {"BucketName": cloud.bucket}}
    wrong = REFUSED if found == "while it was made" else name_taken
    with pytest.raises(DeployFailed, match=r"was not deployed: Wrong: .*(NotPrincipal|exist)"):
        deploy(cloud.account, packaged(tmp_path, Kept=KEPT, Wrong=wrong), STACK)
    deploy(cloud.account, packaged(tmp_path, Kept=KEPT), STACK)
    formation = cloud.client("cloudformation")
    [stack] = formation.describe_stacks(StackName=STACK)["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    [bucket] = destroy.plan(cloud.account, STACK).stays
    destroy.destroy(cloud.account, STACK)
    cloud.client("s3").delete_bucket(Bucket=bucket)


def test_each_address_that_a_deploy_prints_answers_as_it_is(cloud: Cloud) -> None:
    printed = " ".join(said("stack", "us-east-1", cloud.outputs))
    # Host names of execute-api do not resolve on a laptop; the embedded cloud has them as paths.
    there = re.compile(r"(https|wss)://(\w+)\.execute-api\.[\w.-]+(/\S*)")
    addresses = there.findall(printed)
    assert [scheme for scheme, _, _ in addresses] == ["https", "https", "wss", "https"]
    for scheme, api, path in addresses:
        place = f"127.0.0.1:{cloud.endpoint_url.rpartition(':')[2]}/_aws/execute-api/{api}{path}"
        if scheme == "wss":
            with connect(f"ws://{place}", proxy=None) as socket:
                socket.send(json.dumps({"action": "ping"}))
                assert json.loads(socket.recv(timeout=30))
        else:
            with httpx.Client(trust_env=False) as browser:
                answer = browser.get(f"http://{place}", timeout=30)
            assert answer.status_code == 200
            is_page = answer.headers["content-type"].startswith("text/html")
            assert ("console" in answer.text) if is_page else ("task_counts" in answer.json())


def test_a_stack_that_comes_back_after_its_removal_has_its_bucket_and_its_table_again(
    cloud: Cloud,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    candles, tables = storage.bucket(), storage.tables()
    made = {**candles, **tables}
    package = packaged(tmp_path, **made)
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.endpoint_url)
    monkeypatch.setattr(sys, "argv", ["destroy", "--stage", "broken", "--yes"])
    storing, data = cloud.client("s3"), cloud.client("dynamodb")

    def names() -> dict[str, str]:
        found = cloud.client("cloudformation").describe_stack_resources(StackName=STACK)
        resources = found["StackResources"]
        return {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in resources}

    deploy(cloud.account, package, STACK)
    first = names()
    kept = {"CandlesBucket", "AuditTable", "KeysTable", "MarketTable"}
    bucket, table = first["CandlesBucket"], first["AuditTable"]
    storing.put_object(Bucket=bucket, Key="kept", Body=b"candles")
    key = {"pk": {"S": "TASK#1"}, "sk": {"S": "000000000001"}}
    data.put_item(TableName=table, Item=key)

    assert destroy.main() == 0
    said = capsys.readouterr().out
    assert "2 x AWS::DynamoDB::Table" in said
    stays = said.partition("This stays")[2]
    assert f"aws s3 rb s3://{bucket} --force" in stays
    assert f"aws dynamodb delete-table --table-name {table}" in stays
    assert artifacts.count(cloud.account, artifacts.bucket_name(cloud.account), f"{STACK}/") == 0

    reported: list[str] = []
    deploy(cloud.account, package, STACK, reported.append)
    assert f"taking over {bucket}, which an earlier {STACK} left" in reported
    again = names()
    assert kept <= {name for name in again if again[name] == first[name]}
    # The embedded cloud has no policies of buckets.
    assert set(again) == set(made) - {"CandlesBucketPolicy"}
    assert storing.get_object(Bucket=bucket, Key="kept")["Body"].read() == b"candles"
    assert data.get_item(TableName=table, Key=key)["Item"] == key
    assert storing.get_bucket_encryption(Bucket=bucket)

    assert destroy.main() == 0
    storing.delete_object(Bucket=bucket, Key="kept")
    storing.delete_bucket(Bucket=bucket)
    data.delete_table(TableName=table)
    capsys.readouterr()
    assert destroy.main() == 1
    assert f"There is no stack {STACK}" in capsys.readouterr().err
