"""Tables, queues and the bucket: what holds state. No names are given, so that CloudFormation
can replace a resource and several stacks fit into one account."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Resource = dict[str, Any]

DAY_S = 86_400
#: A message is tried this often before it goes to the dead letters; AWS asks for at least five,
#: because a throttled receive counts too.
MAX_RECEIVES = 5
#: A webhook is tried six times by its own count; more receives than these are crashes.
WEBHOOK_RECEIVES = 12
#: Ours are of some kilobytes. As JSON, a message may take three times as many.
MOST_BYTES = 64 * 1024
#: AWS's rule for a queue that feeds a function: less, and a slow batch is delivered twice.
VISIBILITY_FACTOR = 6

#: Lists read `state` and `ttl` of these and no more; no index can be made narrower in place.
_LISTED = [
    "task_id",
    "task_type",
    "state",
    "attempt",
    "created_at",
    "started_at",
    "completed_at",
    "stopped_at",
    "message",
    "error",
    "result",
    "total_units",
    "progs_total",
    "ttl",
    "priority",
    "schedule_id",
]
#: What sweep, the active list and tasks that give way to others need of a task.
_LOOKED_AFTER = ["task_id", "task_type", "state", "attempt", "created_at", "ttl", "priority"]


def tables(protected: bool = False) -> dict[str, Resource]:
    """`protected`: no table can be deleted, by a person or with the stack."""
    tasks = _table(
        _index("by_owner", "owner", "created_key", _LISTED),
        # By the ttl lists leave out what has expired.
        _index("by_state", "listed_as", "created_key", ["ttl"]),
        _index("active", "active", "created_key", _LOOKED_AFTER),
    )
    tasks["Properties"]["StreamSpecification"] = {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    # What the candles' files hold and where they have gaps: it goes where they go.
    market = {**_table(), **_kept()}
    market["Properties"]["StreamSpecification"] = {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    # The audit trail outlives the stack that wrote it.
    audit = {**_table(_index("by_day", "day", "sk_time", None)), **_kept()}
    # Who could call the API can call it again when the stack is made anew; old keys stay revoked.
    keys = {**_table(), **_kept()}
    keys["Properties"]["StreamSpecification"] = {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    made = {
        "TasksTable": tasks,
        "MarketTable": market,
        "ConnectionsTable": _table(),
        "AuditTable": audit,
        "KeysTable": keys,
    }
    for table in made.values():
        table["Properties"]["DeletionProtectionEnabled"] = protected
    return made


def queues(timeouts: dict[str, int]) -> dict[str, Resource]:
    """`timeouts`: seconds, of the functions that consume (plan, collect, bury)."""
    return {
        "PlanQueue": _work_queue(timeouts["plan"]),
        "UrgentQueue": _work_queue(timeouts["collect"]),
        "WorkQueue": _work_queue(timeouts["collect"]),
        "DeadLetterQueue": _small(_queue(14, timeouts["bury"] * VISIBILITY_FACTOR)),
        # Messages that no code of ours wrote. `data-collector dead-letters` shows them.
        "UnreadableQueue": _queue(14, 60),
        # Stream records that broke our code. replay_changes takes them, when a person starts it.
        "StreamFailureQueue": _queue(14, 60),
        "PushQueue": _push_queue(timeouts["push_updates"]),
        # Firings that never got through to run_schedule; the watch makes up for them.
        "ScheduleFailureQueue": _queue(14, 60),
        "WebhookQueue": _redriven(
            _queue(4, timeouts["deliver_webhook"] * VISIBILITY_FACTOR),
            "WebhookDeadLetterQueue",
            WEBHOOK_RECEIVES,
        ),
        # What no receiver took. A person reads these, and puts them back once it would.
        "WebhookDeadLetterQueue": _queue(14, 60),
    }


def bucket(versioned: bool = False, rules: Sequence[Resource] = ()) -> dict[str, Resource]:
    """`versioned`: what an object held before its last write can be had for a day; `rules`: by
    which objects expire besides."""
    everything = [_arn("CandlesBucket"), {"Fn::Sub": "${CandlesBucket.Arn}/*"}]
    return {
        "CandlesBucket": {
            "Type": "AWS::S3::Bucket",
            **_kept(),
            "Properties": {
                "PublicAccessBlockConfiguration": {
                    "BlockPublicAcls": True,
                    "BlockPublicPolicy": True,
                    "IgnorePublicAcls": True,
                    "RestrictPublicBuckets": True,
                },
                "BucketEncryption": {
                    "ServerSideEncryptionConfiguration": [
                        {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
                    ]
                },
                # Suspended keeps the old versions that there are; the rule below ends those, too.
                "VersioningConfiguration": {"Status": "Enabled" if versioned else "Suspended"},
                "LifecycleConfiguration": {
                    "Rules": [
                        {
                            "Id": "ExpireOldVersions",
                            "Status": "Enabled",
                            "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
                        },
                        {
                            "Id": "AbortIncompleteUploads",
                            "Status": "Enabled",
                            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
                        },
                        *rules,
                    ]
                },
            },
        },
        # Not kept like the bucket: CloudFormation replaces no policy that is there, so a stack that
        # takes the bucket over could not make its own.
        "CandlesBucketPolicy": {
            "Type": "AWS::S3::BucketPolicy",
            "Properties": {
                "Bucket": {"Ref": "CandlesBucket"},
                "PolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Sid": "OnlyOverTls",
                            "Effect": "Deny",
                            "Principal": "*",
                            "Action": "s3:*",
                            "Resource": everything,
                            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                        }
                    ],
                },
            },
        },
    }


def _table(*indexes: Resource) -> Resource:
    keys = ["pk", "sk"]
    keys += [key["AttributeName"] for index in indexes for key in index["KeySchema"]]
    properties: Resource = {
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": _schema("pk", "sk"),
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": "S"} for name in dict.fromkeys(keys)
        ],
        "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": True},
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
    }
    if indexes:
        properties["GlobalSecondaryIndexes"] = list(indexes)
    return {"Type": "AWS::DynamoDB::Table", "Properties": properties}


def _index(name: str, hash_key: str, range_key: str, include: list[str] | None) -> Resource:
    """An index that holds `include`; everything where that is None.

    A stack in use takes no change of it (tests/unit/infra/test_indexes.py).
    """
    projection: Resource = {"ProjectionType": "ALL"}
    if include is not None:
        projection = {"ProjectionType": "INCLUDE", "NonKeyAttributes": include}
    return {
        "IndexName": name,
        "KeySchema": _schema(hash_key, range_key),
        "Projection": projection,
    }


def _schema(hash_key: str, range_key: str) -> list[Resource]:
    return [
        {"AttributeName": hash_key, "KeyType": "HASH"},
        {"AttributeName": range_key, "KeyType": "RANGE"},
    ]


def _work_queue(consumer_timeout_s: int) -> Resource:
    queue = _small(_queue(4, consumer_timeout_s * VISIBILITY_FACTOR))
    return _redriven(queue, "DeadLetterQueue", MAX_RECEIVES)


def _small(queue: Resource) -> Resource:
    """Taking no message that would not fit into UnreadableQueue as JSON, with its attributes."""
    queue["Properties"]["MaximumMessageSize"] = MOST_BYTES
    return queue


def _redriven(queue: Resource, dead_letters: str, receives: int) -> Resource:
    queue["Properties"]["RedrivePolicy"] = {
        "deadLetterTargetArn": {"Fn::GetAtt": [dead_letters, "Arn"]},
        "maxReceiveCount": receives,
    }
    return queue


def _push_queue(consumer_timeout_s: int) -> Resource:
    queue = _queue(1, consumer_timeout_s * VISIBILITY_FACTOR)
    queue["Properties"] |= {
        "FifoQueue": True,
        # Without these two, all topics together are held to 300 messages a second.
        "DeduplicationScope": "messageGroup",
        "FifoThroughputLimit": "perMessageGroupId",
        # No dead letters: an update that could not be pushed for five minutes is worth nothing, and
        # until it goes, its topic's next ones wait behind it.
        "MessageRetentionPeriod": 300,
    }
    return queue


def bus() -> dict[str, Resource]:
    """The bus on which events go out. Unlike most, it needs a name: the stack's own."""
    return {
        "EventBus": {
            "Type": "AWS::Events::EventBus",
            "Properties": {"Name": {"Ref": "AWS::StackName"}},
        }
    }


def _queue(retention_days: int, visibility_s: int) -> Resource:
    return {
        "Type": "AWS::SQS::Queue",
        "Properties": {
            "MessageRetentionPeriod": retention_days * DAY_S,
            "VisibilityTimeout": visibility_s,
            "SqsManagedSseEnabled": True,
        },
    }


def _arn(resource: str) -> Resource:
    return {"Fn::GetAtt": [resource, "Arn"]}


def _kept() -> Resource:
    return {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
