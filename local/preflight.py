"""Before `make deploy`: what would otherwise fail half-way through, said in one sentence each."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.core.environ import from_environ
from chalicelib.core.errors import SettingsInvalid
from chalicelib.core.settings import Settings
from infra.configuration import environment
from infra.names import stack_name
from infra.region import RegionUnknown
from local.aws import Account, account
from local.failures import StartFailed

#: What AWS insists on leaving unreserved in every account (Lambda Developer Guide, "Configuring
#: reserved concurrency for a function").
LEFT_UNRESERVED = 100


def preflight(to: Account, stack: str, settings: Settings) -> str:
    """Who deploys where. Raises StartFailed."""
    try:
        identity = to.client("sts").get_caller_identity()
        if settings.reserve == "yes":
            _require_executions(to, stack, settings.collectors)
    except (BotoCoreError, ClientError) as error:
        raise StartFailed(
            f"AWS cannot be reached with the credentials of this shell (AWS_PROFILE?): {error}"
        ) from error
    return f"{identity['Arn']} in {to.region_name}"


def _require_executions(to: Account, stack: str, collectors: int) -> None:
    limits = to.client("lambda").get_account_settings()["AccountLimit"]
    free = limits["UnreservedConcurrentExecutions"] + _reserved_already(to, stack)
    if free - collectors < LEFT_UNRESERVED:
        raise StartFailed(
            f"This account has {free} concurrent executions of Lambda to reserve from, and "
            f"reserving {collectors} for the collector needs at least "
            f"{collectors + LEFT_UNRESERVED}: deploy with RESERVE=no, which reserves none (the "
            f"queues still run {collectors} at most), or request an increase of 'Concurrent "
            "executions' (L-B99A9384) under Service Quotas, AWS Lambda."
        )


def _reserved_already(to: Account, stack: str) -> int:
    """What the stack's own function has reserved: an update takes the place of it."""
    try:
        collect = to.client("cloudformation").describe_stack_resource(
            StackName=stack, LogicalResourceId="Collect"
        )["StackResourceDetail"]
        found = to.client("lambda").get_function_concurrency(
            FunctionName=collect["PhysicalResourceId"]
        )
    except ClientError as error:
        # No such stack, none of its functions yet, or the function of one that was rolled back.
        missing = error.response["Error"]["Code"] == "ResourceNotFoundException"
        if missing or "does not exist" in str(error):
            return 0
        raise
    return int(found.get("ReservedConcurrentExecutions", 0))


def require_log_role(to: Account, template: dict[str, Any]) -> None:
    """Raises StartFailed where the template's APIs keep access logs, and the account lets API
    Gateway write none: CloudFormation would fail at the stage, after everything else.
    """
    stages = [resource["Properties"] for resource in template["Resources"].values()]
    logged = any({"AccessLogSetting", "AccessLogSettings"} & set(stage) for stage in stages)
    if logged and not to.client("apigateway").get_account().get("cloudwatchRoleArn"):
        raise StartFailed(
            "API Gateway has no role in this account and region with which it may write logs: "
            "give it one once (docs/AWS.md, 'Access logs'), or set ACCESS_LOGS=false."
        )


def main() -> int:
    parser = argparse.ArgumentParser(description="Say who deploys where, or what is in the way.")
    parser.add_argument("--stage", default="dev")
    stage = parser.parse_args().stage
    try:
        settings = from_environ(environment(stage, os.environ))
        print("Deploying as", preflight(account(os.environ), stack_name(stage), settings))
    except (RegionUnknown, SettingsInvalid, StartFailed) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
