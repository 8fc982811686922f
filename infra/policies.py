"""What each function may do: one role each, nothing that its code does not call.

Chalice wants a policy file; .chalice/policy-base.json denies everything, and these replace it in
the built template, so a function that is missing here can do nothing at all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from infra import schedules
from infra.functions import FUNCTIONS, role

Statement = dict[str, Any]


class Documented(NamedTuple):
    """What AWS itself does with a function's role: no code of ours calls it, and no embedded cloud
    checks it. So the documentation is all that there is."""

    actions: tuple[str, ...]
    source: str


BY_LAMBDA = {
    "logs": Documented(
        ("logs:CreateLogStream", "logs:PutLogEvents"),
        "Lambda Developer Guide, AWSLambdaBasicExecutionRole, without CreateLogGroup",
    ),
    "traces": Documented(
        ("xray:PutTraceSegments", "xray:PutTelemetryRecords"),
        "Lambda Developer Guide, 'Visualize Lambda function invocations using AWS X-Ray'",
    ),
    "queue": Documented(
        ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"),
        "Lambda Developer Guide, 'Creating and configuring an Amazon SQS event source mapping'",
    ),
    "stream": Documented(
        (
            *("dynamodb:GetRecords", "dynamodb:GetShardIterator"),
            *("dynamodb:DescribeStream", "dynamodb:ListStreams"),
        ),
        "Lambda Developer Guide, AWSLambdaDynamoDBExecutionRole",
    ),
}


#: Actions that our code's calls need, and which no embedded cloud checks.
UNCHECKED = {
    "iam:PassRole": "EventBridge Scheduler User Guide, 'Identity-based policies': PassRole",
    "s3:ListBucket": "S3 API Reference, GetObject: without it a missing object is a 403, no 404",
}


def roles() -> dict[str, dict[str, Any]]:
    """Chalice's role resources with the policies of their functions."""
    return {
        role(resource): {
            "Properties": {
                "Policies": [
                    {
                        "PolicyName": f"{role(resource)}Policy",
                        "PolicyDocument": {
                            "Version": "2012-10-17",
                            "Statement": [_logs(), _traces(), *_statements()[name]],
                        },
                    }
                ]
            }
        }
        for name, resource in FUNCTIONS.items()
    }


def _statements() -> dict[str, list[Statement]]:
    queues = ("PlanQueue", "UrgentQueue", "WorkQueue", "DeadLetterQueue")
    webhook_queues = ("WebhookQueue", "WebhookDeadLetterQueue")
    # sweep sends again what plan did not get to send, so both need the same.
    fan_out = [
        # Places of active tasks, where attempts open by themselves: the batch.
        _table("TasksTable", "GetItem", "BatchGetItem", "Query", "UpdateItem"),
        _index("TasksTable", "active"),
        _send("PlanQueue", "UrgentQueue", "WorkQueue"),
    ]
    # The trail; names of failed units come from the task.
    audit = _table("AuditTable", "Query", "PutItem")
    bus = _allow(("events:PutEvents",), _arn("EventBus"))
    # Symbols that stop trading have their last candles collected: what is held of them, the task,
    # which is counted.
    last_candles = [
        _table("MarketTable", "BatchGetItem"),
        _table("TasksTable", "GetItem", "PutItem", "UpdateItem"),
        _send("PlanQueue"),
    ]
    # What happened to tasks: the trail, the bus, webhooks (noted in Tasks, then queued), totals.
    record = [
        audit,
        bus,
        _table("TasksTable", "GetItem", "BatchGetItem", "PutItem"),
        _table("MarketTable", "GetItem", "PutItem", "UpdateItem"),
    ]
    # Schedules and WebSockets end with the key that made them.
    check_keys = _table("KeysTable", "GetItem")
    # Telling WebSocket clients: who listens, then the queue of what is pushed to them.
    announce = [_table("ConnectionsTable", "Query"), _send("PushQueue")]
    return {
        "api_handler": [
            # Deleting frees the Idempotency-Key of a rejected request.
            _table(
                *("TasksTable", "GetItem", "BatchGetItem", "Query"),
                *("PutItem", "UpdateItem", "DeleteItem"),
            ),
            _index("TasksTable", "by_owner", "by_state", "active"),
            _send("PlanQueue"),
            *schedules.statements(),
            # Reading: how many connections the caller has open.
            _table("ConnectionsTable", "GetItem", "PutItem"),
            # Updating: one refresh a minute for symbols that are not known. Both: pauses. Coverage
            # and quotes: the summaries of many symbols.
            _table("MarketTable", "GetItem", "BatchGetItem", "Query", "UpdateItem", "PutItem"),
            _table("AuditTable", "Query"),
            _index("AuditTable", "by_day"),
            _table("KeysTable", "GetItem", "Query", "PutItem", "UpdateItem"),
            # The same for URLs that it signs. Listing: which objects there are.
            *_objects("candles", "s3:GetObject"),
            _measure(*queues, *webhook_queues),
        ],
        "plan": [
            _woken_by("PlanQueue"),
            _send("UnreadableQueue"),
            *fan_out,
            _table("TasksTable", "PutItem", "BatchWriteItem"),
            _table("MarketTable", "GetItem", "BatchGetItem", "PutItem", "UpdateItem"),
            # Which objects are to be verified.
            _allow(("s3:ListBucket",), _arn("CandlesBucket")),
        ],
        "collect": [
            _woken_by("UrgentQueue", "WorkQueue"),
            _put_off("UrgentQueue", "WorkQueue"),
            # The plan queue: asking for the task's next messages.
            _send("UrgentQueue", "WorkQueue", "PlanQueue", "UnreadableQueue"),
            _table("TasksTable", "GetItem", "BatchGetItem", "Query", "UpdateItem"),
            # Asking for some: what other symbols say of an outage.
            _table("MarketTable", "GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem"),
            *_objects("candles", "s3:GetObject", "s3:PutObject"),
        ],
        "bury": [
            _woken_by("DeadLetterQueue"),
            _table("TasksTable", "GetItem", "Query", "UpdateItem"),
            # A task that ends says what of it lies before the first candle.
            _table("MarketTable", "GetItem", "BatchGetItem"),
            _send("PlanQueue", "UnreadableQueue"),
        ],
        "sweep": [*fan_out, _table("MarketTable", "GetItem", "BatchGetItem"), _measure(*queues)],
        "refresh_prices": [_table("MarketTable", "GetItem", "PutItem", "UpdateItem")],
        "run_schedule": [
            _table("TasksTable", "GetItem", "BatchGetItem", "PutItem", "UpdateItem"),
            _send("PlanQueue"),
            check_keys,
        ],
        "watch_schedules": [
            _table(
                *("TasksTable", "GetItem", "BatchGetItem"),
                *("PutItem", "UpdateItem", "DeleteItem"),
            ),
            _index("TasksTable", "active"),
            _table("MarketTable", "GetItem", "BatchGetItem"),
            _send("PlanQueue"),
            check_keys,
            *schedules.statements(),
        ],
        "on_task_change": [
            *_stream("TasksTable"),
            *record,
            _send("WebhookQueue", "StreamFailureQueue"),
            *announce,
        ],
        "on_market_change": [
            *_stream("MarketTable"),
            *_stream("KeysTable"),
            audit,
            bus,
            _send("StreamFailureQueue"),
            *announce,
            *last_candles,
        ],
        "replay_changes": [
            _allow(("sqs:ReceiveMessage", "sqs:DeleteMessage"), _arn("StreamFailureQueue")),
            *record,
            _send("WebhookQueue"),
            *last_candles,
        ],
        "export_audit": [
            _index("AuditTable", "by_day"),
            *_objects("audit", "s3:GetObject", "s3:PutObject"),
        ],
        "deliver_webhook": [
            _woken_by("WebhookQueue"),
            _put_off("WebhookQueue"),
            # Its own queue, too: what has to wait.
            _send("WebhookQueue", "WebhookDeadLetterQueue"),
            _table("TasksTable", "GetItem", "BatchGetItem", "UpdateItem"),
        ],
        "push_updates": [
            _woken_by("PushQueue"),
            _put_off("PushQueue"),
            _table(
                *("ConnectionsTable", "GetItem", "Query"),
                *("UpdateItem", "BatchWriteItem", "DeleteItem"),
            ),
            _table("TasksTable", "BatchGetItem", "Query"),
            _table("MarketTable", "GetItem", "BatchGetItem"),
            check_keys,
            *_objects("candles", "s3:GetObject"),
            _push(),
        ],
        "websocket_connect": [
            _table("ConnectionsTable", "BatchGetItem", "PutItem", "UpdateItem", "DeleteItem")
        ],
        "websocket_message": [
            # Getting and deleting: where the client has gone before it got its answer.
            _table("ConnectionsTable", "GetItem", "UpdateItem", "BatchWriteItem", "DeleteItem"),
            # The index: a snapshot of the topic `tasks`.
            _table("TasksTable", "GetItem", "BatchGetItem", "Query"),
            _index("TasksTable", "by_state", "active"),
            _table("MarketTable", "GetItem", "BatchGetItem"),
            _table("AuditTable", "Query"),
            check_keys,
            *_objects("candles", "s3:GetObject"),
            _push(),
        ],
        "websocket_disconnect": [
            _table("ConnectionsTable", "GetItem", "UpdateItem", "BatchWriteItem", "DeleteItem")
        ],
    }


def _allow(actions: tuple[str, ...], *resources: Any) -> Statement:
    return {"Effect": "Allow", "Action": list(actions), "Resource": list(resources)}


def _arn(resource: str) -> dict[str, Any]:
    return {"Fn::GetAtt": [resource, "Arn"]}


def _logs() -> Statement:
    # Not the function's own log group: the function refers to this role, so that would be a circle.
    # CreateLogGroup is left out, because the template makes the groups, with their retention.
    return _allow(
        BY_LAMBDA["logs"].actions,
        {
            "Fn::Sub": "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:"
            "/aws/lambda/${AWS::StackName}-*:*"
        },
    )


def _traces() -> Statement:
    # X-Ray knows no resources.
    return _allow(BY_LAMBDA["traces"].actions, "*")


def _table(table: str, *actions: str) -> Statement:
    return _allow(tuple(f"dynamodb:{action}" for action in actions), _arn(table))


def _index(table: str, *indexes: str) -> Statement:
    arns = [{"Fn::Sub": f"${{{table}.Arn}}/index/{index}"} for index in indexes]
    return _allow(("dynamodb:Query",), *arns)


def _objects(folder: str, *actions: str) -> list[Statement]:
    return [
        _allow(actions, {"Fn::Sub": f"${{CandlesBucket.Arn}}/{folder}/*"}),
        # Without it S3 answers 403 instead of 404 for an object that is not there yet. A condition
        # on the prefix would not hold for GetObject, which has none.
        _allow(("s3:ListBucket",), _arn("CandlesBucket")),
    ]


def _stream(table: str) -> list[Statement]:
    *of_stream, listing = BY_LAMBDA["stream"].actions
    return [
        _allow(tuple(of_stream), {"Fn::GetAtt": [table, "StreamArn"]}),
        # ListStreams takes no stream, only a table.
        _allow((listing,), {"Fn::Sub": f"${{{table}.Arn}}/stream/*"}),
    ]


def _send(*queues: str) -> Statement:
    return _allow(("sqs:SendMessage",), *(_arn(queue) for queue in queues))


def _measure(*queues: str) -> Statement:
    return _allow(("sqs:GetQueueAttributes",), *(_arn(queue) for queue in queues))


def _put_off(*queues: str) -> Statement:
    return _allow(("sqs:ChangeMessageVisibility",), *(_arn(queue) for queue in queues))


def _woken_by(*queues: str) -> Statement:
    return _allow(BY_LAMBDA["queue"].actions, *(_arn(queue) for queue in queues))


def _push() -> Statement:
    return _allow(
        ("execute-api:ManageConnections",),
        {
            "Fn::Sub": "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:"
            "${WebsocketAPI}/api/*"
        },
    )
