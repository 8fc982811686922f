"""Before `make deploy`: what would otherwise fail half-way through, said in one sentence each."""

from __future__ import annotations

import os
import sys
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from local.aws import Account, account
from local.failures import StartFailed

#: What `collect` reserves, and what AWS insists on leaving unreserved in every account.
RESERVED, LEFT_UNRESERVED = 5, 100


def preflight(to: Account) -> str:
    """Who deploys where. Raises StartFailed."""
    if not to.embedded and not (to.region or boto3.Session().region_name):
        raise StartFailed("No AWS region is chosen: set AWS_REGION, for example eu-west-1.")
    try:
        identity = to.client("sts").get_caller_identity()
        limits = to.client("lambda").get_account_settings()["AccountLimit"]
    except (BotoCoreError, ClientError) as error:
        raise StartFailed(
            f"AWS cannot be reached with the credentials of this shell (AWS_PROFILE?): {error}"
        ) from error
    unreserved = limits["UnreservedConcurrentExecutions"]
    if unreserved - RESERVED < LEFT_UNRESERVED:
        raise StartFailed(
            f"This account has {unreserved} unreserved concurrent executions of Lambda; reserving "
            f"{RESERVED} for the collector needs at least {RESERVED + LEFT_UNRESERVED}: request an "
            "increase of 'Concurrent executions' (L-B99A9384) under Service Quotas, AWS Lambda."
        )
    return f"{identity['Arn']} in {to.region or boto3.Session().region_name or to.region_name}"


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
    try:
        print("Deploying as", preflight(account(os.environ)))
    except StartFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
