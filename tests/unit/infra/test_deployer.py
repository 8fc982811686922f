"""docs/deployer-policy.json allows what CloudFormation does for the template, and what we call."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

from chalicelib.core.settings import Settings
from infra import deployer
from infra.package import ROOT, package
from infra.storage import bucket, tables
from local import destroy, preflight
from local.deploy import deploy
from local.first_key import first_admin_key
from tests.doubles.formation import Formation
from tests.unit.local.test_kept import QUEUE, STACK, packaged

#: With everything on that a setting adds to the template.
EVERYTHING = {
    "ALARM_EMAIL": "me@example.com",
    "MONTHLY_BUDGET_DOLLARS": "50",
    "ATHENA": "yes",
    "BUCKET_VERSIONING": "true",
    "DELETION_PROTECTION": "true",
    "AUTHENTICATION": "iam",
    "PATH": os.environ["PATH"],
}
#: What SAM makes of its own types and of a function's events (AWS SAM Developer Guide, "Generated
#: CloudFormation resources").
EXPANDED = {
    "AWS::Serverless::Function": ["AWS::Lambda::Function"],
    "AWS::Serverless::Api": [
        *("AWS::ApiGateway::RestApi", "AWS::ApiGateway::Deployment", "AWS::ApiGateway::Stage"),
    ],
    "SQS": ["AWS::Lambda::EventSourceMapping"],
    "DynamoDB": ["AWS::Lambda::EventSourceMapping"],
    "Schedule": ["AWS::Events::Rule", "AWS::Lambda::Permission"],
}
#: Permissions (type, pattern) that a handler names for properties which no resource of ours sets.
#: `-`: which are none of IAM's, or belong to calls that it makes for other types only.
UNUSED: list[tuple[str, str, str]] = [
    ("AWS::[!K]*", "kms:*", "KmsMasterKeyId KmsKeyId KmsKeyArn KmsKeyIdentifier SSESpecification"),
    ("AWS::ApiGateway::RestApi", "iam:PassRole", "-"),
    ("AWS::ApiGatewayV2::Integration", "iam:PassRole", "CredentialsArn"),
    ("AWS::Athena::WorkGroup", "iam:*", "-"),
    ("AWS::Athena::WorkGroup", "s3:*Multipart*", "-"),
    ("AWS::Glue::*", "lakeformation:*", "-"),
    ("AWS::Glue::*", "glue:*Connection", "-"),
    ("AWS::Glue::Table", "glue:GetSchemaVersion", "SchemaReference"),
    ("AWS::Glue::Table", "iam:PassRole", "-"),
    ("AWS::DynamoDB::Table", "kinesis:*", "KinesisStreamSpecification"),
    ("AWS::DynamoDB::Table", "dynamodb:*KinesisStreaming*", "KinesisStreamSpecification"),
    ("AWS::DynamoDB::Table", "dynamodb:*Replica", "GlobalTableSourceArn"),
    ("AWS::DynamoDB::Table", "iam:CreateServiceLinkedRole", "GlobalTableSourceArn"),
    ("AWS::DynamoDB::Table", "dynamodb:*Item", "GlobalTableSourceArn ImportSourceSpecification"),
    ("AWS::DynamoDB::Table", "dynamodb:Scan", "GlobalTableSourceArn ImportSourceSpecification"),
    ("AWS::DynamoDB::Table", "dynamodb:ImportTable", "ImportSourceSpecification"),
    ("AWS::DynamoDB::Table", "logs:*", "ImportSourceSpecification"),
    ("AWS::DynamoDB::Table", "s3:*", "ImportSourceSpecification"),
    ("AWS::DynamoDB::Table", "dynamodb:*ResourcePolicy", "ResourcePolicy"),
    ("AWS::Events::EventBus", "events:*Permission", "Policy"),
    ("AWS::Events::Rule", "iam:PassRole", "RoleArn"),
    ("AWS::IAM::Role", "iam:*RolePermissionsBoundary", "PermissionsBoundary"),
    ("AWS::IAM::Role", "iam:AttachRolePolicy", "ManagedPolicyArns"),
    ("AWS::IAM::Role", "iam:DetachRolePolicy", "ManagedPolicyArns"),
    ("AWS::Lambda::Function", "ec2:*", "VpcConfig"),
    ("AWS::Lambda::Function", "elasticfilesystem:*", "FileSystemConfigs"),
    ("AWS::Lambda::Function", "s3files:*", "FileSystemConfigs"),
    ("AWS::Lambda::Function", "s3:GetObjectVersion", "-"),
    ("AWS::Lambda::Function", "lambda:GetLayerVersion", "Layers"),
    ("AWS::Lambda::Function", "lambda:*CodeSigningConfig", "CodeSigningConfigArn"),
    ("AWS::Lambda::Function", "lambda:PutRuntimeManagementConfig", "RuntimeManagementConfig"),
    ("AWS::Lambda::Function", "lambda:PutFunctionScalingConfig", "FunctionScalingConfig"),
    ("AWS::Lambda::Function", "lambda:PassCapacityProvider", "CapacityProviderConfig"),
    ("AWS::Lambda::Function", "lambda:PublishVersion", "PublishToLatestPublished AutoPublishAlias"),
    ("AWS::Lambda::Function", "lambda:AssociateRuntimeAlias", "-"),
    ("AWS::Logs::LogGroup", "logs:*KmsKey", "KmsKeyId"),
    ("AWS::Logs::LogGroup", "logs:*DataProtectionPolicy", "DataProtectionPolicy"),
    ("AWS::Logs::LogGroup", "logs:CreateLogDelivery", "DataProtectionPolicy"),
    ("AWS::Logs::LogGroup", "s3:REST.PUT.OBJECT", "DataProtectionPolicy"),
    ("AWS::Logs::LogGroup", "firehose:*", "DataProtectionPolicy"),
    ("AWS::Logs::LogGroup", "logs:*ResourcePolicy", "ResourcePolicyDocument"),
    ("AWS::Logs::LogGroup", "logs:*IndexPolicy", "FieldIndexPolicies"),
    ("AWS::Logs::LogGroup", "logs:PutBearerTokenAuthentication", "BearerTokenAuthentication*"),
    ("AWS::Logs::LogGroup", "logs:PutLogGroupDeletionProtection", "DeletionProtectionEnabled"),
    ("AWS::S3::Bucket", "iam:PassRole", "ReplicationConfiguration"),
    ("AWS::S3::Bucket", "s3:PutBucketReplication", "ReplicationConfiguration"),
    ("AWS::S3::Bucket", "s3:DeleteBucketReplication", "ReplicationConfiguration"),
    ("AWS::S3::Bucket", "s3tables:*", "MetadataTableConfiguration MetadataConfiguration"),
    ("AWS::S3::Bucket", "s3:*Metadata*", "MetadataTableConfiguration MetadataConfiguration"),
    ("AWS::S3::Bucket", "s3:PutBucketAbac", "AbacStatus"),
    ("AWS::S3::Bucket", "s3:*BucketC?rs", "CorsConfiguration"),
    ("AWS::S3::Bucket", "s3:PutBucketCORS", "CorsConfiguration"),
    ("AWS::S3::Bucket", "s3:PutBucketNotification", "NotificationConfiguration"),
    ("AWS::S3::Bucket", "s3:*BucketWebsite", "WebsiteConfiguration"),
    ("AWS::S3::Bucket", "s3:PutObjectAcl", "AccessControl"),
    ("AWS::S3::Bucket", "s3:PutBucketAcl", "AccessControl"),
    ("AWS::S3::Bucket", "s3:PutBucketLogging", "LoggingConfiguration"),
    ("AWS::S3::Bucket", "s3:PutBucketOwnershipControls", "OwnershipControls"),
    ("AWS::S3::Bucket", "s3:DeleteBucketAnalyticsConfiguration", "AnalyticsConfigurations"),
    ("AWS::S3::Bucket", "s3:DeleteBucketMetricsConfiguration", "MetricsConfigurations"),
    # IAM's names for these are s3:PutEncryptionConfiguration and s3:PutLifecycleConfiguration.
    ("AWS::S3::Bucket", "s3:DeleteBucketEncryption", "-"),
    ("AWS::S3::Bucket", "s3:DeleteBucketLifecycle", "-"),
    ("AWS::SNS::*", "iam:PassRole", "DeliveryStatusLogging SubscriptionRoleArn"),
    ("AWS::SNS::Topic", "sns:PutDataProtectionPolicy", "DataProtectionPolicy"),
]


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Type of the template, as CloudFormation sees it -> the properties that are set of it."""
    out = tmp_path_factory.mktemp("everything") / "package"
    template = package("dev", out, EVERYTHING, for_this_machine=True).template
    found: dict[str, set[str]] = {}
    for resource in json.loads(template.read_text(encoding="utf-8"))["Resources"].values():
        properties = resource.get("Properties", {})
        kinds = {event["Type"]: event["Properties"] for event in _events(properties)}
        for kind, own in {resource["Type"]: properties, **kinds}.items():
            for made in EXPANDED.get(kind, [kind]):
                found.setdefault(made, set()).update(own)
    return found


def _events(properties: dict[str, Any]) -> list[dict[str, Any]]:
    events = properties.get("Events", {})
    return [*events.values()] if isinstance(events, dict) else []


def _needed(kind: str) -> Iterator[str]:
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
    for operation in ("create", "read", "update", "delete"):
        yield from schema["handlers"].get(operation, {}).get("permissions", ())
    yield from schema.get("tagging", {}).get("permissions", ())


def _spared(kind: str, action: str) -> Iterator[tuple[str, str, str]]:
    for entry in UNUSED:
        of_kind, pattern, _ = entry
        if fnmatchcase(kind, of_kind) and fnmatchcase(action, pattern):
            yield entry


def allows(action: str, resource: str | None = None, kind: str = "") -> bool:
    """Whether a statement allows the action (case does not count), on that resource or on some.

    What is allowed under a condition is allowed for Lambda's types alone.
    """
    return any(
        any(fnmatchcase(action.lower(), allowed.lower()) for allowed in statement["Action"])
        and (resource is None or any(fnmatchcase(resource, each) for each in statement["Resource"]))
        and ("Condition" not in statement or kind.startswith("AWS::Lambda::"))
        for statement in deployer.policy()["Statement"]
    )


def test_the_page_is_what_is_generated() -> None:
    page = (ROOT / "docs" / "deployer-policy.json").read_text(encoding="utf-8")
    assert page == deployer.document()


def test_it_fits_into_one_managed_policy() -> None:
    assert len(re.sub(r"\s", "", deployer.document())) <= deployer.LONGEST


def test_nothing_but_lists_and_what_has_no_name_of_ours_is_allowed_on_everything() -> None:
    on_all = {
        statement["Sid"]
        for statement in deployer.policy()["Statement"]
        if "*" in statement["Resource"] and "Condition" not in statement
    }
    assert on_all == {"Lists", "EventSourcesRead", "Budget", "AlarmKey"}


def test_it_allows_what_cloudformation_does_for_every_resource_and_property_of_the_template(
    used: dict[str, set[str]],
) -> None:
    missing = []
    for kind, properties in used.items():
        for action in _needed(kind):
            spared = [
                names.split()
                for _, _, names in _spared(kind, action)
                if not any(fnmatchcase(own, name) for own in properties for name in names.split())
            ]
            if not spared and not allows(action, kind=kind):
                missing.append((kind, action))
    assert not missing


def test_no_exception_is_stale(used: dict[str, set[str]]) -> None:
    taken = {
        entry
        for kind in used
        for action in _needed(kind)
        if not allows(action, kind=kind)
        for entry in _spared(kind, action)
    }
    assert set(UNUSED) - taken == set()


class Watched(Formation):
    """Notes each call: (service, operation, parameters)."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str, dict[str, Any]]] = []

    def client(self, service: str) -> Any:
        return Noted(self, service)

    def get_account_settings(self) -> dict[str, Any]:
        return {"AccountLimit": {"UnreservedConcurrentExecutions": 1000}}

    def describe_stack_resource(self, **asked: str) -> dict[str, Any]:
        return {"StackResourceDetail": {"PhysicalResourceId": f"{STACK}-Collect-1"}}

    def get_function_concurrency(self, FunctionName: str) -> dict[str, Any]:
        return {}

    def get_account(self) -> dict[str, Any]:
        return {"cloudwatchRoleArn": "arn:aws:iam::1:role/logs"}

    def put_item(self, **_: Any) -> dict[str, Any]:
        return {}

    def get_item(self, **_: Any) -> dict[str, Any]:
        return {}

    def describe_stacks(self, StackName: str | None = None) -> dict[str, Any]:
        found = super().describe_stacks(StackName)
        for stack in found["Stacks"]:
            there = self.stacks[stack["StackName"]]["resources"]
            names = [{"OutputKey": key, "OutputValue": name} for key, name in there.items()]
            stack["Outputs"] = names
        return found


class Noted:
    def __init__(self, account: Watched, service: str) -> None:
        self._account = account
        self._service = service

    def __getattr__(self, name: str) -> Any:
        service, account, real = self._service, self._account, getattr(self._account, name)
        described = boto3.client(service, region_name="eu-west-1").meta

        def call(*positional: str, **asked: Any) -> Any:
            if name == "generate_presigned_url":
                return real(*positional, **asked)
            if name == "get_paginator":
                asked_for, method = described.method_to_api_mapping[positional[0]], "paginate"
            elif name == "get_waiter":
                waiters = botocore.session.get_session().get_waiter_model(service)
                [camel] = [
                    each
                    for each in waiters.waiter_names
                    if each.lower() == positional[0].replace("_", "")
                ]
                asked_for, method = waiters.get_waiter(camel).operation, "wait"
            else:
                account.asked.append((service, described.method_to_api_mapping[name], asked))
                return real(**asked)
            inner = real(*positional)
            return Later(
                inner, method, lambda given: account.asked.append((service, asked_for, given))
            )

        return call


class Later:
    """A paginator or a waiter, which asks once it is used."""

    def __init__(self, inner: Any, method: str, note: Any) -> None:
        def use(**asked: Any) -> Any:
            note(asked)
            return getattr(inner, method)(**asked)

        setattr(self, method, use)


#: IAM's name of a call, where it is another (Service Authorization Reference, Amazon S3 and Amazon
#: API Gateway Management).
ACTIONS = {
    "s3:ListBuckets": "s3:ListAllMyBuckets",
    "apigateway:GetAccount": "apigateway:GET",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
}


def _resource(service: str, asked: dict[str, Any]) -> str:
    if service == "s3" and "Bucket" in asked:
        return f"arn:aws:s3:::{asked['Bucket']}" + (f"/{asked['Key']}" if "Key" in asked else "")
    if service == "dynamodb" and "TableName" in asked:
        return f"arn:aws:dynamodb:eu-west-1:1:table/{asked['TableName']}"
    if service == "cloudformation" and "StackName" in asked:
        return f"arn:aws:cloudformation:eu-west-1:1:stack/{asked['StackName']}/1"
    if service == "apigateway":
        return "arn:aws:apigateway:eu-west-1::/account"
    if "FunctionName" in asked:
        return f"arn:aws:lambda:eu-west-1:1:function:{asked['FunctionName']}"
    return "*"


def test_it_allows_every_call_that_deploying_and_destroying_make(tmp_path: Path) -> None:
    account: Any = Watched()
    made = packaged(tmp_path, {**bucket(), **tables(), "Work": QUEUE})
    preflight.preflight(account, STACK, Settings())
    logged = {"Resources": {"Stage": {"Properties": {"AccessLogSetting": {}}}}}
    preflight.require_log_role(account, logged)
    first_admin_key(account, "keys", {"KeysTable": f"{STACK}-KeysTable-1"})
    deploy(account, made, STACK)
    key = "candles/exchange=mine/timeframe=1m/symbol=BTCUSDT/all.parquet"
    [candles] = [name for name in account.buckets if "candlesbucket" in name]
    (made / "deployment.zip").write_bytes(b"another release")
    deploy(account, made, STACK)
    destroy.plan(account, STACK)
    account.stuck = {"Work"}
    with pytest.raises(destroy.DestroyFailed):
        destroy.destroy(account, STACK, str)
    account.stuck = set()
    destroy.destroy(account, STACK, str)
    account.buckets[candles][key] = b"a file"
    account.get_object = lambda **_: pytest.fail("asked")
    with pytest.raises(BaseException, match="asked"):
        deploy(account, made, STACK)
    del account.get_object, account.buckets[candles][key]
    deploy(account, made, STACK)
    asked = {
        (ACTIONS.get(f"{service}:{operation}", f"{service}:{operation}"), _resource(service, given))
        for service, operation, given in account.asked
    }
    refused = {each for each in asked if not allows(*each)}
    assert not refused
    assert {"cloudformation:ExecuteChangeSet", "s3:DeleteBucket", "s3:PutObjectTagging"} <= {
        action for action, _ in asked
    }
