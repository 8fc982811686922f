"""Whose candles a stack holds under the exchange's name, and what comes of a deploy that failed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra import template as merge
from infra.configuration import environment
from local.deploy import DeployFailed, adapt_for_embedded, deploy

STACK = "market-data-collector-test"


class Cloud:
    """The clients of an account with one stack, whose ledgers are `roots`: name -> root."""

    endpoint_url = None
    embedded = False
    region_name = "us-east-1"

    def __init__(self, roots: dict[str, str], status: str = "UPDATE_COMPLETE") -> None:
        self._roots = roots
        self._status = status
        self.updated = False
        self.calls: list[str] = []
        #: With which API Gateway writes logs.
        self.log_role: str | None = None
        #: Waiters that end in failure, and the stack's events in pages, newest first.
        self.failing: set[str] = set()
        self.pages: list[list[dict[str, str]]] = [[]]
        #: Artifact -> whether it is tagged, and so expires.
        self.stored: dict[str, bool] = {}
        #: Whether what is deployed is what the stack was made of.
        self.unchanged = False
        #: What was found before anything was made, in any order.
        self.found: list[dict[str, Any]] = []

    def client(self, service: str) -> Any:
        return self

    def describe_stacks(self, StackName: str) -> dict[str, Any]:
        if not self._status:
            raise ClientError({"Error": {"Message": f"{StackName} does not exist"}}, "")
        outputs = [{"OutputKey": "MarketTable", "OutputValue": "market"}]
        return {"Stacks": [{"StackStatus": self._status, "Outputs": outputs}]}

    def get_item(self, TableName: str, Key: dict[str, Any], **_: Any) -> dict[str, Any]:
        assert TableName == "market"
        root = self._roots.get(Key["pk"]["S"].removeprefix("LIMIT#"))
        return {} if root is None else {"Item": {**Key, "root": {"S": root}}}

    def get_account(self) -> dict[str, str]:
        return {} if self.log_role is None else {"cloudwatchRoleArn": self.log_role}

    def get_caller_identity(self) -> dict[str, str]:
        return {"Account": "1"}

    def generate_presigned_url(self, *_: Any, **__: Any) -> str:
        return "https://bucket.test/template?signed"

    def create_bucket(self, **_: Any) -> None:
        return

    def put_bucket_lifecycle_configuration(self, **_: Any) -> None:
        return

    def put_object(self, Key: str, **_: Any) -> None:
        self.stored[Key] = False

    def put_object_tagging(self, Key: str, **_: Any) -> None:
        self.stored[Key] = True

    def get_paginator(self, operation: str) -> Pages:
        return Pages(self, operation)

    def update_stack(self, **request: Any) -> None:
        assert request["RetainExceptOnCreate"] is True
        self.calls.append("update")
        self.updated = True

        if self.unchanged:
            raise ClientError({"Error": {"Message": "No updates are to be performed."}}, "")

    def create_stack(self, **request: Any) -> None:
        self.update_stack(**request)
        self.calls[-1] = "create"

    def delete_stack(self, StackName: str) -> None:
        self.calls.append("delete")
        self._status = ""

    def get_waiter(self, name: str) -> Cloud:
        self._waiter = name
        return self

    def wait(self, **_: Any) -> None:
        self.calls.append(self._waiter)
        if self._waiter in self.failing:
            raise WaiterError(self._waiter, "terminal failure", {})

    def describe_events(self, NextToken: str = "0", **asked: Any) -> dict[str, Any]:
        assert asked == {"StackName": STACK, "Filters": {"FailedEvents": True}}
        page = int(NextToken)
        more = {"NextToken": str(page + 1)} if page + 1 < len(self.found) else {}
        return {"OperationEvents": self.found[page : page + 1], **more}

    def describe_stack_events(self, StackName: str, NextToken: str = "0") -> dict[str, Any]:
        page = int(NextToken)
        more = {"NextToken": str(page + 1)} if page + 1 < len(self.pages) else {}
        return {"StackEvents": self.pages[page], **more}


class Pages:
    """Of an account that keeps nothing but artifacts."""

    def __init__(self, cloud: Cloud, operation: str) -> None:
        self._cloud = cloud
        self._operation = operation

    def paginate(self, Prefix: str = "", **_: Any) -> list[dict[str, Any]]:
        assert self._operation == "list_objects_v2"
        found = [{"Key": key} for key in self._cloud.stored if key.startswith(Prefix)]
        return [{"Contents": found[:1]}, {"Contents": found[1:]}, {}]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package for https://here.test under the name `mine`."""
    outputs = {"Exchange": {"Value": "mine"}, "ExchangeRoot": {"Value": "https://here.test"}}
    template = {"Resources": {}, "Outputs": outputs}
    (tmp_path / "sam.json").write_text(json.dumps(template), encoding="utf-8")
    (tmp_path / "deployment.zip").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize("status", ["UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
def test_a_stack_whose_name_has_another_root_is_not_changed(package: Path, status: str) -> None:
    cloud = Cloud({"mine": "https://there.test"}, status)
    with pytest.raises(DeployFailed, match=r"mine belongs to https://there\.test.*EXCHANGE="):
        deploy(cloud, package, STACK)  # type: ignore[arg-type]
    assert not cloud.updated


@pytest.mark.parametrize("status", ["UPDATE_COMPLETE", "DELETE_COMPLETE", ""])
@pytest.mark.parametrize("roots", [{}, {"mine": "https://here.test"}, {"other": "https://b.test"}])
def test_any_other_stack_is_deployed(package: Path, roots: dict[str, str], status: str) -> None:
    cloud = Cloud(roots, status)
    deploy(cloud, package, STACK)  # type: ignore[arg-type]
    assert cloud.updated


# --- artifacts -----------------------------------------------------------------------------------


def test_what_a_deploy_has_replaced_expires_and_what_is_deployed_never_does(package: Path) -> None:
    cloud = Cloud({})
    other = "market-data-collector-prod/1.zip"
    cloud.stored = {other: False, "old.zip": False}
    for release in (b"1", b"2", b"1"):
        (package / "deployment.zip").write_bytes(release)
        deploy(cloud, package, STACK)  # type: ignore[arg-type]
        code = f"{STACK}/{hashlib.sha256(release).hexdigest()}.zip"
        expiring = {key for key, tagged in cloud.stored.items() if tagged}
        staying = set(cloud.stored) - expiring - {other, "old.zip"}
        assert code in staying
        assert {Path(key).suffix for key in staying} == {".zip", ".json"}
        assert len(staying) == 2
    assert expiring == {f"{STACK}/{hashlib.sha256(b'2').hexdigest()}.zip"}


def test_a_deploy_that_fails_lets_nothing_expire_that_the_stack_is_rolled_back_to(
    package: Path,
) -> None:
    cloud = Cloud({})
    deploy(cloud, package, STACK)  # type: ignore[arg-type]
    (package / "deployment.zip").write_bytes(b"2")
    cloud.failing = {"stack_update_complete"}
    with pytest.raises(DeployFailed):
        deploy(cloud, package, STACK)  # type: ignore[arg-type]
    assert not any(cloud.stored.values())


@pytest.mark.parametrize("setting", ["AccessLogSetting", "AccessLogSettings"])
def test_where_api_gateway_may_write_no_logs_nothing_is_changed_and_the_way_out_is_named(
    package: Path, setting: str
) -> None:
    file = package / "sam.json"
    template = json.loads(file.read_text(encoding="utf-8"))
    template["Resources"]["Stage"] = {"Type": "a stage", "Properties": {setting: {}}}
    file.write_text(json.dumps(template), encoding="utf-8")
    cloud = Cloud({})
    with pytest.raises(DeployFailed, match=r"docs/AWS\.md, 'Access logs'.*ACCESS_LOGS=false"):
        deploy(cloud, package, STACK)  # type: ignore[arg-type]
    assert not cloud.updated
    cloud.log_role = "arn:aws:iam::1:role/logs"
    deploy(cloud, package, STACK)  # type: ignore[arg-type]
    assert cloud.updated


# --- who may call ---------------------------------------------------------------------------------


def public(package: Path, **variables: str) -> Path:
    """The same package, whose functions ask nobody."""
    environment = {"Variables": {"AUTHENTICATION": "none", **variables}}
    template = json.loads((package / "sam.json").read_text(encoding="utf-8"))
    properties = {"Environment": environment}
    template["Resources"]["Api"] = {"Type": "AWS::Serverless::Function", "Properties": properties}
    (package / "sam.json").write_text(json.dumps(template), encoding="utf-8")
    return package


@pytest.mark.parametrize("variables", [{}, {"ALLOW_PUBLIC": "no"}])
def test_an_api_for_everybody_is_not_deployed_to_aws_by_chance(
    package: Path, variables: dict[str, str]
) -> None:
    cloud = Cloud({})
    with pytest.raises(DeployFailed, match="ALLOW_PUBLIC=yes"):
        deploy(cloud, public(package, **variables), STACK)  # type: ignore[arg-type]
    assert not cloud.updated


def test_an_api_for_everybody_is_deployed_where_that_is_meant(package: Path) -> None:
    cloud = Cloud({})
    deploy(cloud, public(package, ALLOW_PUBLIC="yes"), STACK)  # type: ignore[arg-type]
    assert cloud.updated


def test_the_embedded_cloud_gets_what_it_asks_for_and_aws_what_it_does() -> None:
    """Without TLS nobody could use the bucket; two policies are enforced otherwise there."""
    variables = environment("dev", {})
    template = merge.build(variables)
    api = template["Resources"]["RestAPI"]
    api["Type"] = "AWS::Serverless::Api"
    for name, resource in template["Resources"].items():
        resource.setdefault("Type", "AWS::IAM::Role" if name.endswith("Role") else "another")
    before = json.dumps(template)
    adapt_for_embedded(template, "http://here.test")
    after = json.dumps(template)
    for ours, theirs in (
        ('sqs:SendMessage"', "sqs:SendMessageBatch"),
        ("schedule/${ScheduleGroup}/*", "schedule/default/*"),
    ):
        assert (ours in before, theirs in before) == (True, False)
        assert (ours in after, theirs in after) == (True, True)
    assert "aws:SecureTransport" in before
    assert "aws:SecureTransport" not in after
    assert api["Properties"]["BinaryMediaTypes"] == ["*/*"]


# --- a deploy that fails --------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED"])
def test_a_stack_that_was_never_made_is_removed_before_the_next_try(
    package: Path, status: str
) -> None:
    """AWS refuses to update it: "is in ROLLBACK_COMPLETE state and can not be updated"."""
    cloud = Cloud({}, status)
    deploy(cloud, package, STACK)  # type: ignore[arg-type]
    assert cloud.calls == ["delete", "stack_delete_complete", "create", "stack_create_complete"]


@pytest.mark.parametrize(
    "status", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "DELETE_FAILED"]
)
def test_a_stack_that_holds_something_is_never_removed(package: Path, status: str) -> None:
    cloud = Cloud({}, status)
    deploy(cloud, package, STACK)  # type: ignore[arg-type]
    assert cloud.calls == ["update", "stack_update_complete"]


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
def test_a_deploy_that_changes_nothing_has_the_outputs_all_the_same(
    package: Path, status: str
) -> None:
    cloud = Cloud({}, status)
    cloud.unchanged = True
    assert deploy(cloud, package, STACK) == {"MarketTable": "market"}  # type: ignore[arg-type]
    assert cloud.calls == ["update"]


def test_a_stack_that_cannot_be_removed_ends_the_deploy(package: Path) -> None:
    cloud = Cloud({}, "ROLLBACK_FAILED")
    cloud.failing = {"stack_delete_complete"}
    cloud.pages = [[event("Bucket", "DELETE_FAILED", "it is not empty"), began("DELETE")]]
    with pytest.raises(DeployFailed, match="Bucket: it is not empty"):
        deploy(cloud, package, STACK)  # type: ignore[arg-type]
    assert cloud.calls == ["delete", "stack_delete_complete"]


def event(resource: str, status: str, reason: str = "") -> dict[str, str]:
    ids = {"StackId": "the stack", "PhysicalResourceId": resource, "LogicalResourceId": resource}
    return {**ids, "ResourceStatus": status, "ResourceStatusReason": reason}


def began(kind: str) -> dict[str, str]:
    return {**event(STACK, f"{kind}_IN_PROGRESS"), "PhysicalResourceId": "the stack"}


#: What an operation does to resources, and whether it was rolled back, oldest event first.
RESOURCES = st.lists(
    st.tuples(st.sampled_from("ABC"), st.sampled_from(("IN_PROGRESS", "COMPLETE", "FAILED"))),
    max_size=8,
)
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(("CREATE", "UPDATE")), RESOURCES, st.booleans()),
    min_size=1,
    max_size=4,
)


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(operations=OPERATIONS, size=st.integers(1, 5))
def test_the_first_failure_of_this_deploy_is_said_whatever_came_before_and_after(
    package: Path, operations: list[Any], size: int
) -> None:
    history: list[dict[str, str]] = []
    for number, (kind, resources, rolled_back) in enumerate(operations):
        operation = [began(kind)]
        operation += [
            event(name, f"{kind}_{status}", f"{number}.{at}")
            for at, (name, status) in enumerate(resources)
        ]
        if rolled_back:
            prefix = "" if kind == "CREATE" else "UPDATE_"
            rollback = event(STACK, f"{prefix}ROLLBACK_IN_PROGRESS", f"{number}.rolled back")
            operation.append({**rollback, "PhysicalResourceId": "the stack"})
            operation.append(event("A", "DELETE_FAILED", f"{number}.while rolling back"))
        history += operation
    failures = [
        found
        for found in operation
        if found["ResourceStatus"].endswith(("_FAILED", "ROLLBACK_IN_PROGRESS"))
    ]
    newest_first = history[::-1]
    cloud = Cloud({}, "UPDATE_COMPLETE")
    cloud.failing = {"stack_update_complete"}
    cloud.pages = [newest_first[at : at + size] for at in range(0, len(newest_first), size)]
    with pytest.raises(DeployFailed) as failed:
        deploy(cloud, package, STACK)  # type: ignore[arg-type]
    said = str(failed.value)
    if failures:
        why = failures[0]
        expected = f"{why['LogicalResourceId']}: {why['ResourceStatusReason']}"
        assert said == f"{STACK} was not deployed: {expected}"
    else:
        assert "Waiter stack_update_complete failed: terminal failure" in said


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(order=st.permutations(("old", "summary", "new")))
def test_what_was_found_before_anything_was_made_is_said_of_its_resource(
    package: Path, order: list[str]
) -> None:
    cloud = Cloud({}, "UPDATE_COMPLETE")
    cloud.failing = {"stack_update_complete"}
    summary = event(STACK, "UPDATE_FAILED", "Validation failed with 1 error(s).")
    cloud.pages = [[{**summary, "DetailedStatus": "VALIDATION_FAILED"}, began("UPDATE")]]
    invalid = {"EventType": "VALIDATION_ERROR", "LogicalResourceId": "Bus"}
    found = {
        "old": {**invalid, "Timestamp": 1, "OperationId": "1", "ValidationStatusReason": "old"},
        "new": {**invalid, "Timestamp": 2, "OperationId": "2", "ValidationStatusReason": "exists"},
        "summary": {"EventType": "PROVISIONING_ERROR", "Timestamp": 3, "OperationId": "2"},
    }
    cloud.found = [found[name] for name in order]
    with pytest.raises(DeployFailed, match="was not deployed: Bus: exists"):
        deploy(cloud, package, STACK)  # type: ignore[arg-type]
