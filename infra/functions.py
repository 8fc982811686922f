"""What each function is told (environment) and what wakes it up (event sources).

Chalice makes the functions from app.py; timeouts and memory are in .chalice/config.json. Keys here
are Chalice's resource names: the handler's name in CamelCase.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chalicelib.core.settings import Settings
from chalicelib.work import priorities
from chalicelib.work.units import BATCH_MESSAGES
from infra import access_logs, schedules
from infra.configuration import ROOT

Resource = dict[str, Any]

#: Where a description of an API says which types are binary. All are, so that whoever asks for a
#: Parquet file gets bytes, whatever else their Accept header names: API Gateway looks at the first
#: type of that header alone. Bodies of requests then come in base64, too, which Chalice undoes.
#: Source: API Gateway Developer Guide, "Return binary media from a Lambda proxy integration".
BINARY_TYPES = "x-amazon-apigateway-binary-media-types"

#: Chalice's name of a handler in config.json -> resource in the template.
FUNCTIONS = {
    "api_handler": "APIHandler",
    "plan": "Plan",
    "collect": "Collect",
    "bury": "Bury",
    "sweep": "Sweep",
    "refresh_prices": "RefreshPrices",
    "run_schedule": "RunSchedule",
    "watch_schedules": "WatchSchedules",
    "on_task_change": "OnTaskChange",
    "on_market_change": "OnMarketChange",
    "export_audit": "ExportAudit",
    "replay_changes": "ReplayChanges",
    "deliver_webhook": "DeliverWebhook",
    "push_updates": "PushUpdates",
    "websocket_connect": "WebsocketConnect",
    "websocket_message": "WebsocketMessage",
    "websocket_disconnect": "WebsocketDisconnect",
}

#: Each page of candles needs the same few hundred KB. glibc would give them back to the kernel when
#: a page is done, and get them anew, zeroed, 4 KB at a time: a twentieth of a worker's CPU. So it
#: keeps up to 16 MB, and takes blocks of up to 4 MB from what it keeps.
#: Source: mallopt(3), M_TOP_PAD and M_MMAP_THRESHOLD.
ALLOCATOR = {"MALLOC_TOP_PAD_": str(16 << 20), "MALLOC_MMAP_THRESHOLD_": str(4 << 20)}

#: The settings that name resources, as CloudFormation resolves them.
RESOURCE_VARIABLES: dict[str, Resource] = {
    "TASKS_TABLE": {"Ref": "TasksTable"},
    "MARKET_TABLE": {"Ref": "MarketTable"},
    "CONNECTIONS_TABLE": {"Ref": "ConnectionsTable"},
    "AUDIT_TABLE": {"Ref": "AuditTable"},
    "KEYS_TABLE": {"Ref": "KeysTable"},
    "CANDLES_BUCKET": {"Ref": "CandlesBucket"},
    "PLAN_QUEUE_URL": {"Ref": "PlanQueue"},
    "URGENT_QUEUE_URL": {"Ref": "UrgentQueue"},
    "WORK_QUEUE_URL": {"Ref": "WorkQueue"},
    "DEAD_LETTER_QUEUE_URL": {"Ref": "DeadLetterQueue"},
    "STREAM_FAILURE_QUEUE_URL": {"Ref": "StreamFailureQueue"},
    "UNREADABLE_QUEUE_URL": {"Ref": "UnreadableQueue"},
    "EVENT_BUS": {"Ref": "EventBus"},
    "WEBHOOK_QUEUE_URL": {"Ref": "WebhookQueue"},
    "WEBHOOK_DEAD_LETTER_QUEUE_URL": {"Ref": "WebhookDeadLetterQueue"},
    "PUSH_QUEUE_URL": {"Ref": "PushQueue"},
    "URL_SUFFIX": {"Ref": "AWS::URLSuffix"},
    "WS_ENDPOINT": {
        "Fn::Sub": "https://${WebsocketAPI}.execute-api.${AWS::Region}.${AWS::URLSuffix}/api"
    },
}


def timeouts(settings: Settings, file: Path = ROOT / ".chalice" / "config.json") -> dict[str, int]:
    """Seconds per function; `collect` follows its setting."""
    config = json.loads(file.read_text(encoding="utf-8"))
    own = config["lambda_functions"]
    found = {name: own[name].get("lambda_timeout", config["lambda_timeout"]) for name in FUNCTIONS}
    return {**found, "collect": settings.collect_timeout_seconds}


def functions(settings: Settings, variables: dict[str, str]) -> dict[str, Resource]:
    """The parts of the functions that Chalice does not write."""
    merged: dict[str, Resource] = {}
    woken_by = events(settings)
    for name, resource in FUNCTIONS.items():
        own = {"STACK": {"Ref": "AWS::StackName"}, "FUNCTION": name}
        if resource in schedules.MANAGERS:
            own |= schedules.VARIABLES
        if resource == "Collect":
            own |= ALLOCATOR
        properties: Resource = {
            "Environment": {"Variables": {**variables, **RESOURCE_VARIABLES, **own}}
        }
        if name in woken_by:
            properties["Events"] = woken_by[name]
        properties["Tracing"] = _tracing(settings, resource)
        merged[resource] = {"Properties": properties}
    merged["Collect"]["Properties"]["Timeout"] = settings.collect_timeout_seconds
    if settings.reserve == "yes":
        merged["Collect"]["Properties"]["ReservedConcurrentExecutions"] = settings.collectors
    # Chalice names the log group after a resource that it then calls APIHandler.
    merged["ApiHandlerLogGroup"] = {
        "Properties": {"LogGroupName": {"Fn::Sub": "/aws/lambda/${APIHandler}"}}
    }
    # With a version, SAM makes no second public stage beside ours, which it calls Stage (AWS SAM
    # Developer Guide, AWS::Serverless::Api, OpenApiVersion). Chalice writes Swagger 2.0.
    traced = settings.tracing != "none"
    merged["RestAPI"] = {
        "Properties": {
            "TracingEnabled": traced,
            "OpenApiVersion": "2.0",
            "DefinitionBody": {BINARY_TYPES: ["*/*"]},
            **access_logs.of_rest_api(settings),
        }
    }
    merged["WebsocketAPIStage"] = {"Properties": access_logs.of_websocket_api(settings)}
    if settings.api_requests_per_second:
        throttling = _throttling(settings.api_requests_per_second)
        every = {"ResourcePath": "/*", "HttpMethod": "*", **throttling}
        merged["RestAPI"]["Properties"]["MethodSettings"] = [every]
    if settings.ws_messages_per_second:
        throttling = _throttling(settings.ws_messages_per_second)
        merged["WebsocketAPIStage"]["Properties"]["DefaultRouteSettings"] = throttling
    return merged


def _throttling(per_second: int) -> Resource:
    """What API Gateway lets through, and twice as much in a burst."""
    return {"ThrottlingRateLimit": per_second, "ThrottlingBurstLimit": 2 * per_second}


def _tracing(settings: Settings, resource: str) -> str:
    """Whether a function records traces of its own, or only passes on the headers that it gets.

    There is no more to choose: "The sampling rate is 1 request per second and 5 percent of
    additional requests. You can't configure the X-Ray sampling rate for your functions" (Lambda
    Developer Guide, "Visualize Lambda function invocations using AWS X-Ray").
    """
    traced = settings.tracing == "all" or (settings.tracing, resource) == ("api", "APIHandler")
    return "Active" if traced else "PassThrough"


def role(resource: str) -> str:
    """Chalice's name of the role of a function's resource."""
    return "ApiHandlerRole" if resource == "APIHandler" else f"{resource}Role"


def events(settings: Settings) -> dict[str, Resource]:
    """Handler's name -> its event sources, by their names in the template."""
    # A source runs at least two (SQS event source mappings, "Configuring maximum concurrency").
    urgent, normal = (
        priorities.workers_of(each, settings.collectors)
        for each in (priorities.HIGH, priorities.NORMAL)
    )
    return {
        "plan": {"Planned": _queue("PlanQueue", batch=1, at_once=2)},
        # Two mappings whose MaximumConcurrency adds up to COLLECTORS, as does what is reserved:
        # urgent work always has workers, and no poller ever receives a message that it cannot run,
        # which would push good messages towards the dead letters.
        "collect": {
            "Urgent": _queue("UrgentQueue", batch=BATCH_MESSAGES, at_once=urgent),
            "Normal": _queue("WorkQueue", batch=BATCH_MESSAGES, at_once=normal),
        },
        "bury": {"Dead": _queue("DeadLetterQueue", batch=10, at_once=2)},
        "on_task_change": {"Changed": _task_stream()},
        "on_market_change": {"Changed": _market_stream(), "Keys": _key_stream()},
        # Past midnight (UTC) by more than any event of the day before takes to be recorded.
        "export_audit": {"EveryDay": _schedule("cron(20 0 * * ? *)")},
        # Its own few workers: receivers that hang hold up each other, and nothing else.
        "deliver_webhook": {"Queued": _queue("WebhookQueue", batch=10, at_once=2)},
        # One invocation at a time for each topic anyway; but each minute's prices are thousands of
        # topics, and would otherwise take every execution that the account has left.
        "push_updates": {"Queued": _queue("PushQueue", batch=10, at_once=20)},
        "sweep": {"EveryMinute": _schedule("rate(1 minute)")},
        "refresh_prices": {"EveryMinute": _schedule("rate(1 minute)")},
        # run_schedule is woken up by EventBridge Scheduler (infra/schedules.py).
        "watch_schedules": {"EveryMinute": _schedule("rate(1 minute)")},
    }


def _queue(queue: str, batch: int, at_once: int) -> Resource:
    return {
        "Type": "SQS",
        "Properties": {
            "Queue": {"Fn::GetAtt": [queue, "Arn"]},
            "BatchSize": batch,
            "ScalingConfig": {"MaximumConcurrency": at_once},
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
        },
    }


def _task_stream() -> Resource:
    # Only what a person can see: the task, its counters, schedules, and what became of a webhook's
    # deliveries; not units, idempotency keys, or the webhook with its secret.
    kinds = ["META", {"prefix": "PROG#"}, {"prefix": "SCHED#"}, {"prefix": "HOOK#"}]
    return _stream("TasksTable", {"sk": {"S": kinds}})


def _market_stream() -> Resource:
    # Not the ledger and breaker, which every worker writes all the time.
    prefixes = ("CATALOGUE", "REFUSED", "PAUSE", "PRICES", "COVER")
    kinds = [{"prefix": f"{prefix}#"} for prefix in prefixes]
    return _stream("MarketTable", {"pk": {"S": kinds}})


def _key_stream() -> Resource:
    # Two streams wake one function: keys change seldom, but for the note that one was used.
    return _stream("KeysTable", {"pk": {"S": ["KEYS"]}})


def _stream(table: str, keys: Resource) -> Resource:
    return {
        "Type": "DynamoDB",
        "Properties": {
            "Stream": {"Fn::GetAtt": [table, "StreamArn"]},
            "StartingPosition": "TRIM_HORIZON",
            "BatchSize": 100,
            "MaximumBatchingWindowInSeconds": 0,
            # Nothing is given up while the stream still holds it: what fails is AWS, which passes.
            # What breaks our own code is set aside by the function, and holds back nothing.
            "BisectBatchOnFunctionError": True,
            "MaximumRetryAttempts": -1,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "DestinationConfig": {
                "OnFailure": {
                    "Type": "SQS",
                    "Destination": {"Fn::GetAtt": ["StreamFailureQueue", "Arn"]},
                }
            },
            "FilterCriteria": {"Filters": [{"Pattern": json.dumps({"dynamodb": {"Keys": keys}})}]},
        },
    }


def _schedule(expression: str, enabled: bool = True) -> Resource:
    return {"Type": "Schedule", "Properties": {"Schedule": expression, "Enabled": enabled}}
