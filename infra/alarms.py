"""Alarms, all to one SNS topic. Each names its paragraph of docs/RUNBOOK.md.

Plain metrics only, no metric math. What absent data mean is chosen for each alarm: most metrics are
there only when something happens, so silence is good news; from a sweep it is the bad news itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from chalicelib.core.metrics import METRICS, NAMESPACE
from chalicelib.core.settings import Settings
from infra.functions import FUNCTIONS, events

Resource = dict[str, Any]

RUNBOOK = "docs/RUNBOOK.md"
#: What absent data are taken for.
QUIET, BAD = "notBreaching", "breaching"
#: Functions whose throttling somebody notices: a caller waits, or messages use up their deliveries.
_THROTTLED = ("api_handler", "plan", "collect")
#: Seconds that a message may wait in the queue that wakes a function. A large task's messages may
#: wait for as long as the exchange lets it take; a webhook's receiver may ask for an hour's pause
#: three times before SQS leaves its message out of the age. What waits to be pushed is forgotten
#: after five minutes, so it never becomes older.
_PATIENCE_S = {
    "PlanQueue": 300,
    "UrgentQueue": 900,
    "WorkQueue": 3 * 3600,
    "WebhookQueue": 3 * 3600,
    "PushQueue": 120,
}
#: SQS's name for how many messages wait.
_WAITING = "ApproximateNumberOfMessagesVisible"
#: Functions that run once a day, or when a person starts them: one failure is one too many. The
#: tries of a run that ends in a timeout are minutes apart, never three of them in five minutes.
_SELDOM = ("export_audit", "replay_changes")


class Alarm(NamedTuple):
    """`paragraph`: heading in the runbook; `periods` of `seconds` must all be over `threshold`."""

    paragraph: str
    about: str
    namespace: str
    metric: str
    dimensions: Mapping[str, str]
    statistic: str = "Sum"
    comparison: str = ">"
    threshold: float = 0
    seconds: int = 60
    periods: int = 1
    missing: str = QUIET


_COMPARISONS = {
    ">": "GreaterThanThreshold",
    ">=": "GreaterThanOrEqualToThreshold",
    "<": "LessThanThreshold",
}


def alarms(settings: Settings) -> dict[str, Alarm]:
    """Resource name in the template -> alarm."""
    found = {
        "DeadLettersAlarm": _own(
            "Dead letters", "messages that no worker could finish were given up", "DeadLetters"
        ),
        "DeadLettersStuckAlarm": _queue(
            "Dead letters stuck",
            "dead letters are not being buried",
            "DeadLetterQueue",
            seconds=300,
            periods=3,
        ),
        "UnreadableMessagesAlarm": _queue(
            "Unreadable messages",
            "messages that no code could read were set aside",
            "UnreadableQueue",
        ),
        "StreamRecordsFailedAlarm": _queue(
            "Stream records failed",
            "changes of a table were given up by a stream function",
            "StreamFailureQueue",
        ),
        "SweepSilentAlarm": _own(
            "Sweep silent",
            "no sweep has come to its end for five minutes",
            "SweepsDone",
            comparison="<",
            threshold=1,
            periods=5,
            missing=BAD,
        ),
        "ExchangeBannedAlarm": _own(
            "Exchange banned us", "the exchange answered 418", "ExchangeBanned"
        ),
        "ExchangePausedAlarm": _own(
            "Exchange paused for long",
            "the fleet has been waiting for the exchange for a quarter of an hour",
            "BreakerOpen",
            statistic="Minimum",
            comparison=">=",
            threshold=1,
            periods=15,
        ),
        "ExchangeSchemaDriftAlarm": _own(
            "Exchange schema drift",
            "the exchange answers pages of candles that cannot be read",
            "ExchangeSchemaDrift",
        ),
        "CatalogueRefusedAlarm": _own(
            "Catalogue refused",
            "the exchange's list of symbols misses too many known ones",
            "CatalogueRefused",
            seconds=300,
        ),
        "FreshnessAlarm": _own(
            "Freshness broken",
            "stored candles are further behind than a schedule promises",
            "FreshnessBroken",
            statistic="Maximum",
            seconds=300,
        ),
        "ApiErrorsAlarm": _own(
            "API errors",
            "the API answered 5xx five times in five minutes",
            "ApiRequests",
            comparison=">=",
            threshold=5,
            seconds=300,
            Status="5xx",
        ),
        "ScheduleFailuresAlarm": _queue(
            "Schedule failures", "a schedule's firing never got through", "ScheduleFailureQueue"
        ),
        "WebhookDeadLettersAlarm": _queue(
            "Webhook dead letters",
            "a webhook's receiver refused every delivery",
            "WebhookDeadLetterQueue",
        ),
    }
    for name, resource in FUNCTIONS.items():
        seldom = name in _SELDOM
        found[f"{resource}ErrorsAlarm"] = _function(
            "A function fails",
            f"{name} crashed or ran out of time"
            + ("" if seldom else " three times in five minutes"),
            resource,
            "Errors",
            comparison=">=",
            threshold=1 if seldom else 3,
            seconds=300,
        )
    for name in _THROTTLED:
        found[f"{FUNCTIONS[name]}ThrottlesAlarm"] = _function(
            "Throttles", f"Lambda refused to run {name}", FUNCTIONS[name], "Throttles", periods=2
        )
    for name, sources in events(settings).items():
        resource = FUNCTIONS[name]
        for source in sources.values():
            if source["Type"] == "DynamoDB":
                found[f"{resource}IteratorAgeAlarm"] = _function(
                    "Iterator age",
                    f"{name} is more than a minute behind its table",
                    resource,
                    "IteratorAge",
                    statistic="Maximum",
                    threshold=60_000,
                    periods=3,
                )
            if source["Type"] == "SQS":
                # A dead letter's age counts from when it was first sent: it is old at once.
                if name == "bury":
                    continue
                queue = source["Properties"]["Queue"]["Fn::GetAtt"][0]
                patience_s = _PATIENCE_S[queue]
                found[f"{queue}AgeAlarm"] = _queue(
                    "Oldest message age",
                    f"a message has waited in {queue} for more than {patience_s // 60} minutes",
                    queue,
                    "ApproximateAgeOfOldestMessage",
                    statistic="Maximum",
                    threshold=patience_s,
                    periods=3,
                )
    return found


def resources(settings: Settings) -> dict[str, Resource]:
    """The topic, its subscription where there is an address, and the alarms."""
    made: dict[str, Resource] = {
        "AlarmKey": _key(),
        "AlarmTopic": {
            "Type": "AWS::SNS::Topic",
            "Properties": {"KmsMasterKeyId": {"Ref": "AlarmKey"}},
        },
    }
    if settings.alarm_email:
        made["AlarmSubscription"] = {
            "Type": "AWS::SNS::Subscription",
            "Properties": {
                "TopicArn": {"Ref": "AlarmTopic"},
                "Protocol": "email",
                "Endpoint": settings.alarm_email,
            },
        }
    for name, alarm in alarms(settings).items():
        made[name] = {
            "Type": "AWS::CloudWatch::Alarm",
            "Properties": {
                "AlarmName": {"Fn::Sub": f"${{AWS::StackName}}-{name.removesuffix('Alarm')}"},
                "AlarmDescription": f"{alarm.about}. {RUNBOOK}#{anchor(alarm.paragraph)}",
                "Namespace": alarm.namespace,
                "MetricName": alarm.metric,
                "Dimensions": [
                    {"Name": dimension, "Value": {"Fn::Sub": value} if "${" in value else value}
                    for dimension, value in alarm.dimensions.items()
                ],
                "Statistic": alarm.statistic,
                "ComparisonOperator": _COMPARISONS[alarm.comparison],
                "Threshold": alarm.threshold,
                "Period": alarm.seconds,
                "EvaluationPeriods": alarm.periods,
                "TreatMissingData": alarm.missing,
                "AlarmActions": [{"Ref": "AlarmTopic"}],
                "OKActions": [{"Ref": "AlarmTopic"}],
            },
        }
    return made


def _key() -> Resource:
    """The key that encrypts the topic. SNS's own key, aws/sns, costs nothing, but CloudWatch may
    not use it.

    Source: Amazon SNS Developer Guide, "Enable compatibility between event sources from AWS
    services and encrypted topics".
    """
    root = {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}
    return {
        "Type": "AWS::KMS::Key",
        "Properties": {
            "Description": {"Fn::Sub": "Alarms of ${AWS::StackName}"},
            "EnableKeyRotation": True,
            "PendingWindowInDays": 7,
            "KeyPolicy": {
                "Version": "2012-10-17",
                "Statement": [
                    # Without it, nobody could ever change or delete the key.
                    {
                        "Sid": "Administration",
                        "Effect": "Allow",
                        "Principal": {"AWS": root},
                        "Action": "kms:*",
                        "Resource": "*",
                    },
                    {
                        "Sid": "AlarmsOfThisAccount",
                        "Effect": "Allow",
                        "Principal": {"Service": "cloudwatch.amazonaws.com"},
                        "Action": ["kms:Decrypt", "kms:GenerateDataKey*"],
                        "Resource": "*",
                        "Condition": {
                            "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
                        },
                    },
                ],
            },
        },
    }


def anchor(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it of words."""
    return heading.lower().replace(" ", "-")


def _own(paragraph: str, about: str, metric: str, **rule: Any) -> Alarm:
    """On a metric of ours: its total, or with dimensions given by name."""
    names = METRICS[metric].dimensions
    dimensions = {name: rule.pop(name) for name in names if name in rule}
    if not dimensions and names and not METRICS[metric].total:
        raise ValueError(f"{metric} has no total")
    stack = {"Stack": "${AWS::StackName}"}
    return Alarm(paragraph, about, NAMESPACE, metric, stack | dimensions, **rule)


def _queue(paragraph: str, about: str, queue: str, metric: str = _WAITING, **rule: Any) -> Alarm:
    name = {"QueueName": f"${{{queue}.QueueName}}"}
    return Alarm(paragraph, about, "AWS/SQS", metric, name, **rule)


def _function(paragraph: str, about: str, function: str, metric: str, **rule: Any) -> Alarm:
    name = {"FunctionName": f"${{{function}}}"}
    return Alarm(paragraph, about, "AWS/Lambda", metric, name, **rule)
