"""CloudFormation with the rules of an import, S3 buckets and DynamoDB tables, as far as deploying
and removing a stack use them.

Sources: CloudFormation User Guide, "Import AWS resources into a CloudFormation stack" and "Name
type"; the answers of `As part of the import operation` are AWS's own.
"""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError, WaiterError

_NAMED = {"AWS::S3::Bucket": "BucketName", "AWS::DynamoDB::Table": "TableName"}


def refused(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "")


class Formation:
    """An account of its own, and the one client of all its services."""

    endpoint_url = None
    embedded = False
    region_name = "eu-west-1"

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        #: Stack -> its status, template (processed), and logical id -> physical id.
        self.stacks: dict[str, dict[str, Any]] = {}
        #: Bucket -> key -> body; table -> nothing.
        self.buckets: dict[str, dict[str, bytes]] = {}
        self.tables: set[str] = set()
        self.made: dict[str, datetime] = {}
        #: Logical ids that CloudFormation cannot delete.
        self.stuck: set[str] = set()
        self.events: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self._change_sets: dict[str, dict[str, Any]] = {}
        self._number = 0

    def client(self, service: str) -> Formation:
        return self

    def get_caller_identity(self) -> dict[str, str]:
        return {"Account": "1", "Arn": "arn:aws:iam::1:user/me"}

    # --- stacks -----------------------------------------------------------------------------------

    def describe_stacks(self, StackName: str | None = None) -> dict[str, Any]:
        if StackName is not None and StackName not in self.stacks:
            raise refused("ValidationError", f"Stack with id {StackName} does not exist")
        return {
            "Stacks": [
                {"StackName": name, "StackStatus": stack["status"], "Outputs": []}
                for name, stack in self.stacks.items()
                if StackName in (None, name)
            ]
        }

    def create_stack(self, StackName: str, TemplateURL: str, **_: Any) -> None:
        assert StackName not in self.stacks
        self.calls.append("create")
        self.stacks[StackName] = {"status": "CREATE_COMPLETE", "resources": {}}
        self._make(StackName, self._template(TemplateURL))

    def update_stack(self, StackName: str, TemplateURL: str, **_: Any) -> None:
        self.calls.append("update")
        self._make(StackName, self._template(TemplateURL))
        self.stacks[StackName]["status"] = "UPDATE_COMPLETE"

    def _template(self, url: str) -> dict[str, Any]:
        bucket, _, key = url.removeprefix("https://").partition("/")
        found: dict[str, Any] = json.loads(self.buckets[bucket][key])
        return found

    def _make(self, stack: str, template: dict[str, Any]) -> None:
        there = self.stacks[stack]
        there["template"] = template
        for logical, resource in template["Resources"].items():
            if logical in there["resources"]:
                continue
            self._number += 1
            name = f"{stack}-{logical}-{self._number:012d}"
            if resource["Type"] == "AWS::S3::Bucket":
                name = name.lower()
                self.buckets[name] = {}
            if resource["Type"] == "AWS::DynamoDB::Table":
                self.tables.add(name)
            self.now += timedelta(minutes=1)
            self.made[name] = self.now
            there["resources"][logical] = name

    def delete_stack(self, StackName: str) -> None:
        self.calls.append("delete")
        there = self.stacks.get(StackName)
        if there is None:
            return
        ids = {"StackId": StackName, "PhysicalResourceId": StackName}
        began = {**ids, "LogicalResourceId": StackName, "ResourceStatus": "DELETE_IN_PROGRESS"}
        self.events.insert(0, began)
        for logical, name in [*there["resources"].items()]:
            resource = there["template"]["Resources"][logical]
            if logical in self.stuck:
                failed = {**ids, "LogicalResourceId": logical, "PhysicalResourceId": name}
                why = {"ResourceStatus": "DELETE_FAILED", "ResourceStatusReason": "still in use"}
                self.events.insert(0, {**failed, **why})
                there["status"] = "DELETE_FAILED"
                continue
            del there["resources"][logical]
            if resource.get("DeletionPolicy") != "Retain":
                self.buckets.pop(name, None)
                self.tables.discard(name)
        if not there["resources"]:
            del self.stacks[StackName]

    def get_template(self, StackName: str) -> dict[str, Any]:
        return {"TemplateBody": self.stacks[StackName]["template"]}

    def describe_stack_events(self, StackName: str) -> dict[str, Any]:
        return {"StackEvents": self.events}

    # --- imports ----------------------------------------------------------------------------------

    def create_change_set(
        self,
        StackName: str,
        ChangeSetName: str,
        ChangeSetType: str,
        TemplateBody: str,
        ResourcesToImport: list[dict[str, Any]],
    ) -> None:
        assert ChangeSetType == "IMPORT"
        assert StackName not in self.stacks
        template = json.loads(TemplateBody)
        given = {each["LogicalResourceId"]: each for each in ResourcesToImport}
        if "Outputs" in template:
            raise refused("ValidationError", "you cannot modify or add [Outputs]")
        if set(template["Resources"]) != set(given):
            raise refused("ValidationError", "you cannot modify or add resources")
        names, reason = {}, ""
        for logical, resource in template["Resources"].items():
            if "DeletionPolicy" not in resource:
                raise refused("ValidationError", f"{logical} must have a DeletionPolicy")
            assert given[logical]["ResourceType"] == resource["Type"]
            [(key, name)] = given[logical]["ResourceIdentifier"].items()
            assert key == _NAMED[resource["Type"]]
            names[logical] = name
            if name not in self.buckets and name not in self.tables:
                reason = f"{name} was not found"
            if any(name in stack["resources"].values() for stack in self.stacks.values()):
                reason = f"{name} already exists in stack"
        for outside in _referred(template["Resources"]) - set(given):
            raise refused("ValidationError", f"Unresolved resource dependencies [{outside}]")
        self.stacks[StackName] = {"status": "REVIEW_IN_PROGRESS", "resources": {}}
        self.stacks[StackName]["template"] = template
        self._change_sets[ChangeSetName] = {"names": names, "reason": reason}

    def execute_change_set(self, StackName: str, ChangeSetName: str) -> None:
        self.calls.append("import")
        self.stacks[StackName]["resources"] = self._change_sets[ChangeSetName]["names"]
        self.stacks[StackName]["status"] = "IMPORT_COMPLETE"

    # --- waiting and pages ------------------------------------------------------------------------

    def get_waiter(self, name: str) -> _Waiter:
        return _Waiter(self, name)

    def get_paginator(self, operation: str) -> _Pages:
        return _Pages(self, operation)

    # --- buckets and tables -----------------------------------------------------------------------

    def generate_presigned_url(self, _: str, Params: dict[str, str]) -> str:
        return f"https://{Params['Bucket']}/{Params['Key']}?signed"

    def create_bucket(self, Bucket: str, **_: Any) -> None:
        self.buckets.setdefault(Bucket, {})

    def put_bucket_lifecycle_configuration(self, **_: Any) -> None:
        return

    def put_object(self, Bucket: str, Key: str, Body: bytes) -> None:
        self.buckets[Bucket][Key] = Body

    def put_object_tagging(self, **_: Any) -> None:
        return

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        return {"Body": io.BytesIO(self.buckets[Bucket][Key])}

    def delete_object(self, Bucket: str, Key: str) -> None:
        del self.buckets[Bucket][Key]

    def delete_bucket(self, Bucket: str) -> None:
        if self.buckets[Bucket]:
            raise refused("BucketNotEmpty", "The bucket you tried to delete is not empty")
        del self.buckets[Bucket]

    def describe_table(self, TableName: str) -> dict[str, Any]:
        return {"Table": {"CreationDateTime": self.made[TableName]}}


class _Waiter:
    def __init__(self, account: Formation, name: str) -> None:
        self._account = account
        self._name = name

    def wait(self, StackName: str, ChangeSetName: str = "", **_: Any) -> None:
        account = self._account
        if self._name == "change_set_create_complete":
            reason = account._change_sets[ChangeSetName]["reason"]
            if reason:
                raise WaiterError(self._name, "terminal failure", {"StatusReason": reason})
        if self._name == "stack_delete_complete" and StackName in account.stacks:
            raise WaiterError(self._name, "terminal failure", {})


class _Pages:
    """Every answer comes in pages of one."""

    def __init__(self, account: Formation, operation: str) -> None:
        self._account = account
        self._operation = operation

    def paginate(self, **asked: Any) -> list[dict[str, Any]]:
        account = self._account
        if self._operation == "list_buckets":
            assert asked["BucketRegion"] == account.region_name
            # All of them, as an emulator answers that knows no prefix; AWS would leave some out.
            return [
                {"Buckets": [{"Name": name, "CreationDate": account.made.get(name, account.now)}]}
                for name in account.buckets
            ]
        if self._operation == "list_tables":
            return [{"TableNames": [name]} for name in sorted(account.tables)]
        if self._operation == "list_objects_v2":
            if asked["Bucket"] not in account.buckets:
                raise refused("NoSuchBucket", "The specified bucket does not exist")
            objects = sorted(account.buckets[asked["Bucket"]])
            return [{"Contents": [{"Key": k}]} for k in objects if k.startswith(asked["Prefix"])]
        if self._operation == "describe_stacks":
            return [account.describe_stacks()]
        if self._operation == "query":  # no item is in any table
            return [{"Items": []}]
        assert self._operation == "list_stack_resources"
        stack = account.stacks[asked["StackName"]]
        return [
            {
                "StackResourceSummaries": [
                    {
                        "LogicalResourceId": logical,
                        "PhysicalResourceId": name,
                        "ResourceType": stack["template"]["Resources"][logical]["Type"],
                        "ResourceStatus": "CREATE_COMPLETE",
                    }
                ]
            }
            for logical, name in stack["resources"].items()
        ]


def _referred(part: Any) -> set[str]:
    if isinstance(part, list):
        return set().union(*map(_referred, part)) if part else set()
    if not isinstance(part, dict):
        return set()
    found = _referred([*part.values()])
    if "Ref" in part and not part["Ref"].startswith("AWS::"):
        found.add(part["Ref"])
    if "Fn::GetAtt" in part:
        found.add(part["Fn::GetAtt"][0])
    if "Fn::Sub" in part:
        found |= {each.split("}")[0] for each in part["Fn::Sub"].split("${")[1:]}
    return {each for each in found if not each.startswith("AWS::")}
