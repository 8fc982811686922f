"""What each function may do: one role each, nothing that its code does not call.

Chalice wants a policy file; .chalice/policy-base.json denies everything, and these replace it in
the built template, so a function that is missing here can do nothing at all.
"""

from __future__ import annotations

from typing import Any

from infra import schedules
from infra.functions import FUNCTIONS, role

Statement = dict[str, Any]

READ = ("GetItem", "BatchGetItem", "Query")
WRITE = ("PutItem", "UpdateItem")
EVERYTHING = (*READ, *WRITE, "BatchWriteItem", "DeleteItem")


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
    all_queues = ("PlanQueue", "UrgentQueue", "WorkQueue", "DeadLetterQueue", "StreamFailureQueue")
    all_queues += ("WebhookQueue", "WebhookDeadLetterQueue")
    submit = [
        # Deleting frees the Idempotency-Key of a rejected request.
        _table("TasksTable", *READ, *WRITE, "DeleteItem", indexes=True),
        _send("PlanQueue"),
    ]
    # sweep sends again what plan did not get to send, so both need the same.
    fan_out = [
        _table("TasksTable", *READ, *WRITE, indexes=True),
        _send("PlanQueue", "UrgentQueue", "WorkQueue"),
    ]
    # Telling outside what happened: the bus, webhooks (noted in Tasks, then queued), totals.
    publish = [
        _allow(("events:PutEvents",), _arn("EventBus")),
        _send("WebhookQueue"),
        _table("TasksTable", "BatchGetItem", "PutItem"),
        _table("MarketTable", "GetItem", "PutItem", "UpdateItem"),
    ]
    # The trail, then the bus and webhooks; names of failed units come from the task.
    record = [
        _table("AuditTable", "Query", "PutItem"),
        _table("TasksTable", *READ),
        _send("StreamFailureQueue"),
        *publish,
    ]
    # Schedules and WebSockets end with the key that made them.
    check_keys = _table("KeysTable", "GetItem")
    # Telling WebSocket clients: who listens, then the queue of what is pushed to them.
    announce = [_table("ConnectionsTable", "Query"), _send("PushQueue")]
    read_candles = [
        _allow(("s3:GetObject",), {"Fn::Sub": "${CandlesBucket.Arn}/candles/*"}),
        _allow(("s3:ListBucket",), _arn("CandlesBucket")),
    ]
    return {
        "api_handler": [
            *submit,
            *schedules.statements(),
            _table("ConnectionsTable", "PutItem"),
            # Updating: one refresh a minute for symbols that are not known.
            _table("MarketTable", *READ, "UpdateItem"),
            _table("AuditTable", "Query", indexes=True),
            _table("KeysTable", "GetItem", "Query", "PutItem", "UpdateItem"),
            _allow(("sqs:GetQueueAttributes",), *(_arn(queue) for queue in all_queues)),
        ],
        "plan": [
            _receive("PlanQueue"),
            _send("UnreadableQueue"),
            *fan_out,
            _table("TasksTable", "BatchWriteItem"),
            _table("MarketTable", *READ, *WRITE),
        ],
        "collect": [
            _receive("UrgentQueue", "WorkQueue"),
            # The plan queue: asking for the task's next messages.
            _send("UrgentQueue", "WorkQueue", "PlanQueue", "UnreadableQueue"),
            _table("TasksTable", *READ, *WRITE),
            _table("MarketTable", *READ, *WRITE),
            _allow(
                ("s3:GetObject", "s3:PutObject"),
                {"Fn::Sub": "${CandlesBucket.Arn}/candles/*"},
            ),
            # Without it S3 answers 403 instead of 404 for an object that is not there yet. A
            # condition on the prefix would not hold for GetObject, which has none.
            _allow(("s3:ListBucket",), _arn("CandlesBucket")),
        ],
        "bury": [
            _receive("DeadLetterQueue"),
            _table("TasksTable", *READ, *WRITE),
            _send("PlanQueue", "UnreadableQueue"),
        ],
        "sweep": [
            *fan_out,
            _table("MarketTable", "GetItem"),
            _allow(("sqs:GetQueueAttributes",), *(_arn(queue) for queue in all_queues)),
        ],
        "refresh_prices": [_table("MarketTable", *READ, *WRITE)],
        "run_schedule": [
            _table("TasksTable", "GetItem", "PutItem"),
            _send("PlanQueue"),
            check_keys,
        ],
        "watch_schedules": [
            _table("TasksTable", *READ, "PutItem", "DeleteItem", indexes=True),
            _table("MarketTable", "GetItem", "BatchGetItem"),
            _send("PlanQueue"),
            check_keys,
            *schedules.statements(),
        ],
        "on_task_change": [*_stream("TasksTable"), *record, *announce],
        "on_market_change": [*_stream("MarketTable"), *record, *announce],
        "replay_changes": [_receive("StreamFailureQueue"), *record],
        "export_audit": [
            _table("AuditTable", "Query", indexes=True),
            _allow(("s3:GetObject", "s3:PutObject"), {"Fn::Sub": "${CandlesBucket.Arn}/audit/*"}),
            _allow(("s3:ListBucket",), _arn("CandlesBucket")),
        ],
        "deliver_webhook": [
            _receive("WebhookQueue"),
            _send("WebhookDeadLetterQueue"),
            _table("TasksTable", *READ, "UpdateItem"),
        ],
        "push_updates": [
            _receive("PushQueue"),
            _table("ConnectionsTable", *EVERYTHING),
            _table("TasksTable", "Query"),
            _table("MarketTable", "GetItem", "BatchGetItem"),
            check_keys,
            *read_candles,
            _push(),
        ],
        "websocket_connect": [_table("ConnectionsTable", "PutItem", "DeleteItem")],
        "websocket_message": [
            _table("ConnectionsTable", *EVERYTHING),
            # The index: a snapshot of the topic `tasks`.
            _table("TasksTable", *READ, indexes=True),
            _table("MarketTable", *READ),
            _table("AuditTable", "Query"),
            check_keys,
            *read_candles,
            _push(),
        ],
        "websocket_disconnect": [
            _table("ConnectionsTable", "GetItem", "BatchWriteItem", "DeleteItem")
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
        ("logs:CreateLogStream", "logs:PutLogEvents"),
        {
            "Fn::Sub": "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:"
            "/aws/lambda/${AWS::StackName}-*:*"
        },
    )


def _traces() -> Statement:
    # X-Ray knows no resources.
    return _allow(("xray:PutTraceSegments", "xray:PutTelemetryRecords"), "*")


def _table(table: str, *actions: str, indexes: bool = False) -> Statement:
    resources = [_arn(table)] + ([{"Fn::Sub": f"${{{table}.Arn}}/index/*"}] if indexes else [])
    return _allow(tuple(f"dynamodb:{action}" for action in actions), *resources)


def _stream(table: str) -> list[Statement]:
    return [
        _allow(
            ("dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:DescribeStream"),
            {"Fn::GetAtt": [table, "StreamArn"]},
        ),
        # ListStreams takes no stream, only a table.
        _allow(("dynamodb:ListStreams",), {"Fn::Sub": f"${{{table}.Arn}}/stream/*"}),
    ]


def _send(*queues: str) -> Statement:
    return _allow(("sqs:SendMessage",), *(_arn(queue) for queue in queues))


def _receive(*queues: str) -> Statement:
    return _allow(
        (
            "sqs:ReceiveMessage",
            "sqs:DeleteMessage",
            "sqs:GetQueueAttributes",
            "sqs:ChangeMessageVisibility",
        ),
        *(_arn(queue) for queue in queues),
    )


def _push() -> Statement:
    return _allow(
        ("execute-api:ManageConnections",),
        {
            "Fn::Sub": "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:"
            "${WebsocketAPI}/api/*"
        },
    )
