"""Deploying a package with CloudFormation: to the embedded cloud, LocalStack or AWS.

What an embedded cloud cannot take is changed in one place, `adapt_for_embedded`; what it forgets is
repaired in one place, `finish_embedded`. release.py is the command.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from chalicelib.core.errors import ExchangeRootChanged, SettingsInvalid
from infra.configuration import require_private
from infra.functions import BINARY_TYPES
from local import artifacts, kept
from local.aws import Account
from local.failures import StartFailed
from local.preflight import require_log_role
from local.stack_events import first_failure

ROOT = Path(__file__).resolve().parent.parent
Template = dict[str, Any]
Report = Callable[[str], None]
#: States of a stack that was never whole. It can only be deleted (CloudFormation User Guide, "Stack
#: status codes"), and it holds nothing.
_NEVER_MADE = ("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "REVIEW_IN_PROGRESS")


class DeployFailed(Exception):
    """The message says why in one sentence."""


def deploy(
    to: Account,
    package: Path,
    stack: str,
    report: Report = lambda line: None,
    made_from: str | None = None,
) -> dict[str, str]:
    """Deploy the package folder as `stack` and return the stack's outputs.

    `made_from` becomes the output MadeFrom, by which a later run recognises a stack that is
    current. Raises DeployFailed.
    """
    try:
        bucket = artifacts.make_bucket(to)
        zipped = (package / "deployment.zip").read_bytes()
        code = artifacts.upload(to, bucket, stack, zipped, "zip")
        report(f"code: s3://{bucket}/{code}")
        template = json.loads((package / "sam.json").read_text(encoding="utf-8"))
        for resource in template["Resources"].values():
            if resource["Type"] == "AWS::Serverless::Function":
                resource["Properties"]["CodeUri"] = f"s3://{bucket}/{code}"
        if made_from is not None:
            template["Outputs"]["MadeFrom"] = {"Value": made_from}
        if to.embedded:
            adapt_for_embedded(template, str(to.endpoint_url))
        else:
            require_log_role(to, template)
        variables = variables_of(template)
        require_private(
            variables.get("AUTHENTICATION", "keys"),
            variables.get("ALLOW_PUBLIC", "no"),
            reachable=not to.embedded,
        )
        key = artifacts.upload(to, bucket, stack, json.dumps(template).encode(), "json")
        outputs = _create_or_update(to, bucket, key, stack, template, report)
        if to.embedded:
            finish_embedded(to, stack, template)
        artifacts.replace(to, bucket, stack, (code, key))
    except (StartFailed, ClientError) as error:
        raise DeployFailed(f"{stack} was not deployed: {error}") from error
    except (BotoCoreError, SettingsInvalid) as error:
        raise DeployFailed(f"{stack} was not deployed: {error}") from error
    return outputs


def variables_of(template: Template) -> dict[str, Any]:
    """The environment of the template's functions, as far as all have the same: the settings."""
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            found: dict[str, Any] = resource["Properties"]["Environment"]["Variables"]
            return found
    return {}


def adapt_for_embedded(template: Template, endpoint_url: str) -> None:
    """Change, in place, what an embedded cloud cannot take. The one place for it."""
    resources = template["Resources"]
    # MiniStack has none of them. The WebSocket stage deploys itself, there is nothing to pay, and
    # without TLS the bucket's policy would refuse everybody.
    missing = (
        "AWS::ApiGatewayV2::Deployment",
        "AWS::Budgets::Budget",
        "AWS::S3::BucketPolicy",
    )
    for name in [name for name, resource in resources.items() if resource["Type"] in missing]:
        del resources[name]
    for resource in resources.values():
        if resource["Type"] == "AWS::ApiGatewayV2::Stage":
            resource["Properties"].pop("DeploymentId", None)
            resource["Properties"]["AutoDeploy"] = True
        if resource["Type"] == "AWS::Serverless::Api":
            # MiniStack does not read them where the description of the API has them.
            properties = resource["Properties"]
            properties["BinaryMediaTypes"] = properties["DefinitionBody"][BINARY_TYPES]
        if resource["Type"] == "AWS::IAM::Role":
            _allow_as_embedded_asks(resource["Properties"].get("Policies", []))
        if resource["Type"] == "AWS::Serverless::Function":
            # execute-api host names do not resolve on a laptop; the path form does.
            variables = resource["Properties"]["Environment"]["Variables"]
            variables["WS_ENDPOINT"] = {
                "Fn::Sub": f"{endpoint_url}/_aws/execute-api/${{WebsocketAPI}}/api"
            }


def _allow_as_embedded_asks(policies: list[dict[str, Any]]) -> None:
    """Where MiniStack enforces policies otherwise than AWS does.

    Sources: Service Authorization Reference, "Actions, resources, and condition keys for" Amazon
    SQS (a batch needs SendMessage) and Amazon EventBridge Scheduler (schedule/GroupName/Name).
    """
    for policy in policies:
        for statement in policy["PolicyDocument"]["Statement"]:
            if "sqs:SendMessage" in statement["Action"]:
                # It wants an action of that name.
                statement["Action"].append("sqs:SendMessageBatch")
            if "scheduler:CreateSchedule" in statement["Action"]:
                # It looks for a schedule of any group in the group `default`.
                [own] = statement["Resource"]
                everywhere = own["Fn::Sub"].replace("${ScheduleGroup}", "default")
                statement["Resource"].append({"Fn::Sub": everywhere})


def finish_embedded(to: Account, stack: str, template: Template) -> None:
    """Set what MiniStack's CloudFormation leaves out: reserved concurrency and TTL."""
    resources = to.client("cloudformation").describe_stack_resources(StackName=stack)
    names = {
        found["LogicalResourceId"]: found["PhysicalResourceId"]
        for found in resources["StackResources"]
    }
    functions, tables = to.client("lambda"), to.client("dynamodb")
    for logical, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        if "ReservedConcurrentExecutions" in properties:
            functions.put_function_concurrency(
                FunctionName=names[logical],
                ReservedConcurrentExecutions=properties["ReservedConcurrentExecutions"],
            )
        elif resource["Type"] == "AWS::Serverless::Function":
            functions.delete_function_concurrency(FunctionName=names[logical])
        wanted = properties.get("TimeToLiveSpecification")
        if wanted is not None:
            table = names[logical]
            shown = tables.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
            if shown.get("TimeToLiveStatus") not in ("ENABLED", "ENABLING"):
                tables.update_time_to_live(TableName=table, TimeToLiveSpecification=wanted)


def embedded_urls(endpoint_url: str, to: Account, stack: str) -> tuple[str, str]:
    """(HTTP, WebSocket) addresses of the stack's APIs on an embedded cloud.

    The HTTP one is without its stage, which is called api: /api/v1/... follows.
    """
    resources = to.client("cloudformation").describe_stack_resources(StackName=stack)
    ids = {
        found["ResourceType"]: found["PhysicalResourceId"] for found in resources["StackResources"]
    }
    base = f"{endpoint_url}/_aws/execute-api"
    sockets = f"{base}/{ids['AWS::ApiGatewayV2::Api']}/api"
    return f"{base}/{ids['AWS::ApiGateway::RestApi']}", re.sub("^http", "ws", sockets)


def outputs_of(to: Account, stack: str) -> dict[str, str] | None:
    """Outputs of a stack whose last change succeeded; None of any other."""
    there = described(to.client("cloudformation"), stack)
    if there is None or there["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        return None
    return _outputs(there)


def _outputs(there: dict[str, Any] | None) -> dict[str, str]:
    outputs = there.get("Outputs", []) if there else []
    return {output["OutputKey"]: output["OutputValue"] for output in outputs}


def _create_or_update(
    to: Account, bucket: str, key: str, stack: str, template: Template, report: Report
) -> dict[str, str]:
    formation = to.client("cloudformation")
    # By URL: the template is larger than what fits into the request.
    url = (
        to.client("s3")
        .generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})
        .split("?")[0]
    )
    request = {
        "StackName": stack,
        "TemplateURL": url,
        "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        # What is kept for good is kept once it has been made, not where making it failed.
        "RetainExceptOnCreate": True,
    }
    there = described(formation, stack)
    if there is not None and there["StackStatus"] in _NEVER_MADE:
        report(f"removing {stack}, whose creation failed")
        formation.delete_stack(StackName=stack)
        _wait(to, "stack_delete_complete", stack)
        there = None
    found, unusable = kept.find(to, stack, template) if there is None else ({}, [])
    _check_root(to, stack, template, _outputs(there), found)
    for name in unusable:
        report(f"leaving {name} alone: the bucket that it was made with is gone")
    if found:
        _adopt(to, stack, template, found, report)
    if there is not None or found:
        report(f"updating {stack}")
        try:
            formation.update_stack(**request)
        except ClientError as error:
            if "No updates are to be performed" not in str(error):
                raise
        else:
            _wait(to, "stack_update_complete", stack)
    else:
        report(f"creating {stack}")
        formation.create_stack(**request)
        _wait(to, "stack_create_complete", stack)
    # Whatever its state is called: where nothing was to change, it is still that of a rollback.
    return _outputs(described(formation, stack))


def _adopt(
    to: Account, stack: str, template: Template, found: dict[str, kept.Kept], report: Report
) -> None:
    for each in found.values():
        report(f"taking over {each.name}, which an earlier {stack} left")
        for name in each.older:
            report(f"leaving {name} alone, which is older")
    try:
        kept.adopt(to, stack, template, found)
    except kept.ImportFailed as error:
        raise DeployFailed(f"{stack} was not deployed: {error}") from error


def _check_root(
    to: Account,
    stack: str,
    template: Template,
    outputs: dict[str, str],
    found: dict[str, kept.Kept],
) -> None:
    """Raises DeployFailed where candles of another root are stored under the exchange's name.

    The functions refuse that, too (exchange/ledger.py); here nothing has been changed yet. The
    ledger of a stack that was removed is gone, but each file of its bucket names its root.
    """
    name, root = (template["Outputs"][key]["Value"] for key in ("Exchange", "ExchangeRoot"))
    stored = None
    if "MarketTable" in outputs:
        ledger = to.client("dynamodb").get_item(
            TableName=outputs["MarketTable"],
            Key={"pk": {"S": f"LIMIT#{name}"}, "sk": {"S": "LIMIT"}},
            ConsistentRead=True,
        )
        stored = ledger.get("Item", {}).get("root", {}).get("S")
    elif "CandlesBucket" in found:
        stored = kept.source_root(to, found["CandlesBucket"].name, name)
    if stored not in (None, root):
        raise DeployFailed(f"{stack} was not deployed: {ExchangeRootChanged(name, stored, root)}")


def described(formation: Any, stack: str) -> dict[str, Any] | None:
    """A stack as CloudFormation describes it; None where there is none."""
    try:
        found = formation.describe_stacks(StackName=stack)["Stacks"]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    there = [each for each in found if each["StackStatus"] != "DELETE_COMPLETE"]
    return there[0] if there else None


def _wait(to: Account, state: str, stack: str) -> None:
    formation = to.client("cloudformation")
    delay = 1 if to.embedded else 5
    try:
        formation.get_waiter(state).wait(
            StackName=stack, WaiterConfig={"Delay": delay, "MaxAttempts": 900 // delay}
        )
    except WaiterError as error:
        why = first_failure(formation, stack) or f"{state}: {error}"
        raise DeployFailed(f"{stack} was not deployed: {why}") from error
