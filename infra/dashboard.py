"""The CloudWatch dashboard: one page that answers, from top to bottom, four questions.

Is it healthy? Is it keeping up? What does it cost? Which symbol fails? Made of the same tables of
functions, queues and settings as the rest of the template, so what is added there appears here.

Prices are those of us-east-1 in 2025 and 2026 (Lambda on arm64, DynamoDB on demand): an estimate.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chalicelib.core.settings import Settings
from chalicelib.tasks import states
from infra import alarms
from infra.configuration import ROOT
from infra.functions import FUNCTIONS, events
from infra.widgets import (
    Widget,
    alarm_states,
    each_function,
    function,
    graph,
    math,
    own,
    queue,
    table,
    text,
)

Resource = dict[str, Any]

HEIGHT = 6
DAY_S = 86_400
USD = {
    "gb_second": 0.0000133334,
    "invocation": 0.20 / 1e6,
    "write_unit": 0.625 / 1e6,
    "read_unit": 0.125 / 1e6,
    "sqs": 0.40 / 1e6,
    # Every request to the bucket at the price of a PUT; reads cost less than a tenth of it.
    "s3": 5.00 / 1e6,
    "api": 3.50 / 1e6,
}
GOOD, WARN, BAD, GREY = "#0072b2", "#e69f00", "#d13212", "#7f8c8d"
OUTCOMES = {
    "ok": GOOD,
    "refused": WARN,
    "throttled": "#cc79a7",
    "banned": BAD,
    "unavailable": GREY,
}
STATUSES = {"2xx": GOOD, "4xx": WARN, "5xx": BAD}
ENDS = {states.COMPLETED: GOOD, states.FAILED: BAD, states.CANCELLED: GREY}
FAILED_UNITS = (
    'filter event = "unit_failed"'
    " | stats count(*) as failures, latest(time) as last by symbol, timeframe, reason"
    " | sort failures desc | limit 15"
)
SLOW_REQUESTS = (
    'fields time, symbol, timeframe, ms | filter event = "exchange_slow" | sort ms desc | limit 15'
)


def resources(
    settings: Settings, queues: Mapping[str, Resource], tables: Mapping[str, Resource]
) -> dict[str, Resource]:
    content = json.dumps(body(settings, queues, tables))
    return {
        "Dashboard": {
            "Type": "AWS::CloudWatch::Dashboard",
            "Properties": {
                "DashboardName": {"Ref": "AWS::StackName"},
                "DashboardBody": {"Fn::Sub": content},
            },
        }
    }


def body(
    settings: Settings, queues: Mapping[str, Resource], tables: Mapping[str, Resource]
) -> dict[str, Any]:
    """The dashboard's body; `${...}` in it is CloudFormation's to fill in."""
    rows = [
        ("Is it healthy?", _healthy(settings, queues)),
        ("Is it keeping up?", _keeping_up(settings, queues)),
        ("What does it cost?", _cost(tables)),
        ("Which symbol fails?", _failing()),
    ]
    widgets: list[Widget] = []
    y = 0
    for heading, row in rows:
        widgets.append({**text(f"# {heading}"), "x": 0, "y": y, "height": 1})
        y, x = y + 1, 0
        for widget in row:
            if x + widget["width"] > 24:
                y, x = y + HEIGHT, 0
            widgets.append({**widget, "x": x, "y": y, "height": HEIGHT})
            x += widget["width"]
        y += HEIGHT
    return {"periodOverride": "inherit", "start": "-PT3H", "widgets": widgets}


def _healthy(settings: Settings, queues: Mapping[str, Resource]) -> list[Widget]:
    given_up = ("DeadLetterQueue", "FailureQueue", "UnreadableQueue")
    dead = [name for name in queues if name.endswith(given_up)]
    return [
        alarm_states("Alarms", [f"${{{name}.Arn}}" for name in alarms.alarms(settings)]),
        graph("Errors of functions, a minute", each_function("Errors"), stacked=True),
        graph(
            "Dead letters: given up, and waiting",
            [
                own("DeadLetters", label="given up", color=BAD),
                *(
                    queue(name, "ApproximateNumberOfMessagesVisible", stat="Maximum")
                    for name in dead
                ),
            ],
        ),
        graph(
            "Throttles and retries, a minute",
            [
                *each_function("Throttles"),
                own("Retries", label="deliveries after the first"),
                own("MessagesFailed", label="deliveries that failed"),
            ],
            stacked=True,
        ),
        graph(
            "Exchange: breaker",
            [
                own("BreakerOpen", stat="Maximum", label="open (1) or shut (0)", color=WARN),
                own("BreakerOpened", label="times opened"),
                own("ExchangeBanned", label="answers 418", color=BAD),
                own("CatalogueRefused", label="lists of symbols refused", color=BAD),
            ],
        ),
        graph(
            "Exchange: requests a minute",
            [
                own("ExchangeRequests", label=name, color=color, Outcome=name)
                for name, color in OUTCOMES.items()
            ],
            stacked=True,
        ),
        graph(
            "API: requests a minute",
            [
                own("ApiRequests", label=name, color=color, Status=name)
                for name, color in STATUSES.items()
            ],
            stacked=True,
        ),
        graph(
            "Errors logged, and repairs by sweep",
            [
                own("ErrorsLogged", label="lines of level error", color=BAD),
                own("SweepRepairs", label="repairs"),
                own("SweepsDone", label="sweeps done"),
            ],
        ),
    ]


def _keeping_up(settings: Settings, queues: Mapping[str, Resource]) -> list[Widget]:
    woken_by = events(settings)
    feeding = [
        source["Properties"]["Queue"]["Fn::GetAtt"][0]
        for sources in woken_by.values()
        for source in sources.values()
        if source["Type"] == "SQS"
    ]
    streams = [
        name
        for name, sources in woken_by.items()
        if any(source["Type"] == "DynamoDB" for source in sources.values())
    ]
    return [
        graph(
            "Freshness: behind what has closed",
            [
                own("FreshnessLag", stat="Maximum", label=name, Timeframe=name)
                for name in settings.default_timeframes
            ],
            unit="s",
        ),
        graph(
            "Messages in queues",
            [queue(name, "ApproximateNumberOfMessagesVisible", stat="Maximum") for name in feeding],
            stacked=True,
        ),
        graph(
            "Age of the oldest message",
            [queue(name, "ApproximateAgeOfOldestMessage", stat="Maximum") for name in feeding],
            unit="s",
        ),
        graph(
            "Streams: iterator age",
            [function(name, "IteratorAge", stat="Maximum") for name in streams],
            unit="ms",
        ),
        graph(
            "Units a minute",
            [
                own("UnitsSucceeded", label="collected", color=GOOD),
                own("UnitsFailed", label="failed", color=BAD),
            ],
        ),
        graph(
            "Tasks: seconds from start to end",
            [
                own("TaskSeconds", stat="p50", label="median"),
                own("TaskSeconds", stat="p95", label="95th percentile"),
                own("OldestTaskSeconds", stat="Maximum", label="oldest still active"),
            ],
            unit="s",
        ),
        graph(
            "Exchange: time to answer",
            [
                own("ExchangeLatency", stat="p50", label="median"),
                own("ExchangeLatency", stat="p99", label="99th percentile"),
            ],
            unit="ms",
        ),
        graph(
            "Exchange: request weight in the running minute",
            [own("ExchangeWeightUsed", stat="Maximum", label="used")],
        ),
    ]


def _cost(tables: Mapping[str, Resource]) -> list[Widget]:
    memory = _memory_gb()
    durations = [
        function(name, "Duration", id=f"d{at}", visible=False) for at, name in enumerate(FUNCTIONS)
    ]
    invocations = [
        function(name, "Invocations", id=f"i{at}", visible=False)
        for at, name in enumerate(FUNCTIONS)
    ]
    gb_seconds = {name: f"FILL(d{at},0)/1000*{memory[name]:g}" for at, name in enumerate(FUNCTIONS)}
    counted = {
        "write_unit": own("ConsumedWriteUnits", id="write", visible=False),
        "read_unit": own("ConsumedReadUnits", id="read", visible=False),
        "sqs": own("AwsCalls", Service="sqs", id="sqs", visible=False),
        "s3": own("AwsCalls", Service="s3", id="s3", visible=False),
        "api": own("ApiRequests", id="api", visible=False),
    }
    a_day = f"*{DAY_S}/PERIOD(d0)"
    lambdas = (
        f"(({'+'.join(gb_seconds.values())})*{USD['gb_second']:.10f}"
        f"+({'+'.join(f'FILL(i{at},0)' for at in range(len(FUNCTIONS)))})*{USD['invocation']:.10f})"
    )
    dynamo = (
        f"(FILL(write,0)*{USD['write_unit']:.10f}+FILL(read,0)*{USD['read_unit']:.10f})" + a_day
    )
    return [
        graph(
            "Lambda: GB-seconds",
            [*durations, *(math(text, name) for name, text in gb_seconds.items())],
            stacked=True,
        ),
        graph(
            "DynamoDB: units, as its answers say",
            [
                own("ConsumedWriteUnits", label="write units"),
                own("ConsumedReadUnits", label="read units"),
                *(
                    [
                        "AWS/DynamoDB",
                        "ConsumedWriteCapacityUnits",
                        "TableName",
                        f"${{{name}}}",
                        {"stat": "Sum", "label": f"{name}, as billed"},
                    ]
                    for name in tables
                ),
            ],
        ),
        graph(
            "Requests to AWS",
            [
                own("AwsCalls", label=name, Service=name)
                for name in ("dynamodb", "s3", "sqs", "apigatewaymanagementapi")
            ],
            stacked=True,
        ),
        graph(
            "Estimated US$ a day at this pace",
            [
                *durations,
                *invocations,
                *counted.values(),
                math(lambdas + a_day, "Lambda"),
                math(dynamo, "DynamoDB"),
                math(f"FILL(sqs,0)*{USD['sqs']:.10f}{a_day}", "SQS, sent by us"),
                math(f"FILL(s3,0)*{USD['s3']:.10f}{a_day}", "S3, all as PUT"),
                math(f"FILL(api,0)*{USD['api']:.10f}{a_day}", "API Gateway"),
            ],
            stacked=True,
            unit="US$",
        ),
        graph(
            "Cold starts",
            [own("ColdStarts", label=name, Function=name) for name in FUNCTIONS],
            stacked=True,
        ),
        graph(
            "Candles stored, and rejected as contradictory",
            [
                own("CandlesStored", label="stored"),
                own("CandlesRejected", label="rejected"),
            ],
        ),
        graph(
            "Tasks ended",
            [
                own("TasksEnded", label=state, color=color, State=state)
                for state, color in ENDS.items()
            ],
            stacked=True,
        ),
        graph(
            "Wait in the queues before the first delivery",
            [
                own("QueueWait", stat="p95", label=name, Queue=name)
                for name in ("plan", "urgent", "work")
            ],
            unit="s",
        ),
    ]


def _failing() -> list[Widget]:
    return [
        table("Failed units by symbol", FAILED_UNITS, "Collect", "Bury"),
        table("Slowest requests to the exchange (over one second)", SLOW_REQUESTS, "Collect"),
    ]


def _memory_gb() -> dict[str, float]:
    config = json.loads((ROOT / ".chalice" / "config.json").read_text(encoding="utf-8"))
    own = config["lambda_functions"]
    return {
        name: own[name].get("lambda_memory_size", config["lambda_memory_size"]) / 1024
        for name in FUNCTIONS
    }
