"""What whoever deploys and destroys must be allowed to do: `python -m infra.deployer >
docs/deployer-policy.json`.

CloudFormation acts with the permissions of its caller, so there are those of each resource's
handlers for the properties that our template sets, beside the calls that `make deploy` and `make
destroy` make themselves. tests/unit/infra/test_deployer.py holds it to both. Names begin with the
stack's, which begins with ours; what has no such name has the resource `*`.

Sources: the handlers' permissions in CloudFormation's resource schemas; Service Authorization
Reference; IAM User Guide, "IAM and AWS STS quotas" (a managed policy has 6,144 characters).
"""

from __future__ import annotations

import json
import sys
from typing import Any

from infra.names import APP

Statement = dict[str, Any]

#: Characters of a managed policy, without white space.
LONGEST = 6144
_TRANSFORM = "arn:aws:cloudformation:*:aws:transform/Serverless-2016-10-31"
#: Databases of Glue have the stack's name with `_` for `-` (infra/queries.py).
_DATABASE = APP.replace("-", "_")
_OUR_FUNCTION = f"arn:aws:lambda:*:*:function:{APP}-*"


def policy() -> Statement:
    statements = [
        _allow(
            "Stacks",
            "cloudformation",
            "CreateStack UpdateStack DeleteStack CreateChangeSet ExecuteChangeSet Describe* "
            "ListStackResources GetTemplate",
            f"arn:aws:cloudformation:*:*:stack/{APP}-*/*",
            _TRANSFORM,
        ),
        {
            **_allow("Lists", "cloudformation", "DescribeStacks", "*"),
            "Action": [
                "cloudformation:DescribeStacks",
                "sts:GetCallerIdentity",
                "lambda:GetAccountSettings",
                "s3:ListAllMyBuckets",
                "dynamodb:ListTables",
                "cloudwatch:DescribeAlarms",
                "logs:Describe*",
            ],
        },
        _allow(
            "Artifacts",
            "s3",
            "PutObject GetObject DeleteObject PutObjectTagging",
            f"arn:aws:s3:::{APP}-artifacts-*/*",
        ),
        _allow("OneCandleFile", "s3", "GetObject", f"arn:aws:s3:::{APP}-*-candlesbucket-*/*"),
        _allow(
            "Buckets",
            "s3",
            "CreateBucket DeleteBucket ListBucket Get*Configuration GetBucket* Put*Configuration "
            "PutBucketPublicAccessBlock PutBucketVersioning *BucketPolicy *Tag*",
            f"arn:aws:s3:::{APP}-*",
        ),
        _allow(
            "Tables",
            "dynamodb",
            "CreateTable UpdateTable DeleteTable Describe* UpdateTimeToLive "
            "UpdateContinuousBackups UpdateContributorInsights GetResourcePolicy "
            "*Tag*",
            f"arn:aws:dynamodb:*:*:table/{APP}-*",
        ),
        _allow(
            "Ledger", "dynamodb", "GetItem", f"arn:aws:dynamodb:*:*:table/{APP}-*-MarketTable-*"
        ),
        _allow(
            "FirstKey",
            "dynamodb",
            "Query PutItem",
            f"arn:aws:dynamodb:*:*:table/{APP}-*-KeysTable-*",
        ),
        _allow(
            "Queues",
            "sqs",
            "CreateQueue DeleteQueue GetQueueUrl *QueueAttributes *Tag*",
            f"arn:aws:sqs:*:*:{APP}-*",
        ),
        _allow(
            "Functions",
            "lambda",
            "CreateFunction DeleteFunction GetFunction* UpdateFunctionCo* *FunctionConcurrency "
            "PutFunctionRecursionConfig GetRuntimeManagementConfig AddPermission RemovePermission "
            "GetPolicy *Tag*",
            _OUR_FUNCTION,
        ),
        {
            **_allow(
                "EventSources",
                "lambda",
                "CreateEventSourceMapping UpdateEventSourceMapping DeleteEventSourceMapping",
                "*",
            ),
            "Condition": {"ArnLike": {"lambda:FunctionArn": _OUR_FUNCTION}},
        },
        _allow(
            "EventSourcesRead",
            "lambda",
            "GetEventSourceMapping *Tag*",
            "*",
        ),
        _allow(
            "Roles",
            "iam",
            "CreateRole DeleteRole* GetRole* UpdateRole* UpdateAssumeRolePolicy PutRolePolicy "
            "List*Role* *TagRole",
            f"arn:aws:iam::*:role/{APP}-*",
        ),
        {
            **_allow("RolesOfFunctions", "iam", "PassRole", f"arn:aws:iam::*:role/{APP}-*"),
            "Condition": {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}},
        },
        {
            **_allow("ApiGatewaysOwnRole", "iam", "CreateServiceLinkedRole", "*"),
            "Condition": {"StringEquals": {"iam:AWSServiceName": "ops.apigateway.amazonaws.com"}},
        },
        _allow(
            "Apis",
            "apigateway",
            "GET POST PUT PATCH DELETE UpdateRestApiPolicy *Tag*",
            *(f"arn:aws:apigateway:*::/{path}" for path in ("restapis*", "apis*", "tags/*")),
        ),
        _allow("AccountOfApis", "apigateway", "GET", "arn:aws:apigateway:*::/account"),
        _allow(
            "AlarmKey",
            "kms",
            "CreateKey DescribeKey *ableKey *KeyRotation* *KeyPolicy ScheduleKeyDeletion "
            "UpdateKeyDescription *ResourceTags *agResource",
            "*",
        ),
        _allow(
            "Events",
            "events",
            "PutRule DeleteRule DescribeRule PutTargets RemoveTargets ListTargetsByRule "
            "*EventBus *Tag*",
            *(f"arn:aws:events:*:*:{kind}/{APP}-*" for kind in ("rule", "event-bus")),
        ),
        _allow(
            "Schedules",
            "scheduler",
            "CreateScheduleGroup DeleteScheduleGroup GetScheduleGroup DeleteSchedule *Tag*",
            *(f"arn:aws:scheduler:*:*:{kind}/{APP}-*" for kind in ("schedule-group", "schedule")),
        ),
        _allow(
            "Logs",
            "logs",
            "CreateLogGroup DeleteLogGroup *RetentionPolicy GetDataProtectionPolicy *Tag*",
            f"arn:aws:logs:*:*:log-group:*{APP}-*",
        ),
        _allow(
            "Topics",
            "sns",
            "CreateTopic DeleteTopic *TopicAttributes GetDataProtectionPolicy "
            "Subscribe Unsubscribe *SubscriptionAttributes "
            "ListSubscriptionsByTopic *Tag*",
            f"arn:aws:sns:*:*:{APP}-*",
        ),
        _allow(
            "AlarmsAndDashboard",
            "cloudwatch",
            "PutMetricAlarm DeleteAlarms *Dashboard* *Tag*",
            f"arn:aws:cloudwatch:*:*:alarm:{APP}-*",
            f"arn:aws:cloudwatch::*:dashboard/{APP}-*",
        ),
        {
            **_allow(
                "Queries",
                "glue",
                "",
                "arn:aws:glue:*:*:catalog",
                f"arn:aws:glue:*:*:*/{_DATABASE}_*",
                f"arn:aws:athena:*:*:workgroup/{APP}-*",
            ),
            "Action": ["glue:*Database*", "glue:*Table*", "athena:*WorkGroup", "athena:*Tag*"],
        },
        {
            **_allow("Budget", "budgets", "ModifyBudget", "*"),
            "Action": [
                *("budgets:ModifyBudget", "budgets:ViewBudget", "budgets:*Tag*"),
                "billing:GetBillingViewData",
            ],
        },
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def _allow(sid: str, service: str, actions: str, *resources: str) -> Statement:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": [f"{service}:{action}" for action in actions.split()],
        "Resource": [*resources],
    }


def document() -> str:
    """The whole of docs/deployer-policy.json."""
    return json.dumps(policy(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
