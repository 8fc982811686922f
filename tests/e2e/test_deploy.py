"""A deploy that fails says why, and the next one starts from nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from local.deploy import DeployFailed, deploy
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
    formation.delete_stack(StackName=STACK)
    formation.get_waiter("stack_delete_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1})
