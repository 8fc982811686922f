"""What the functions measure: CloudWatch metrics in the embedded metric format (EMF).

A function counts and measures while it works; at the end of the invocation its edge calls `flush`,
which prints one line per set of dimensions, and CloudWatch makes metrics of them: no call, and no
waiting. Every metric is declared in `METRICS`, so dimensions stay bounded, dashboards and alarms
can be checked against it, and a name that is spelt wrong fails a test instead of vanishing.

A stack asks one exchange. Its name is a property of each line, for queries, and no dimension: that
would double the price of every metric, and split those of a stack that changes its exchange.

Source: Amazon CloudWatch User Guide, "Specification: Embedded metric format": at most 100 metrics
in a line, 100 values of one metric, 30 dimensions, and one line of at most 1 MB.
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import lru_cache
from typing import NamedTuple

NAMESPACE = "MarketDataCollector"
#: EMF takes so many values of one metric, and so many metrics, in one line.
MOST_VALUES = 100
MOST_METRICS = 100

COUNT, MS, SECONDS, PERCENT = "Count", "Milliseconds", "Seconds", "Percent"


class Metric(NamedTuple):
    """A CloudWatch unit, the names of its dimensions beside `Stack`, and what it says.

    `total`: it is also published without them, as the sum over all; for alarms.
    """

    unit: str
    dimensions: tuple[str, ...]
    about: str
    total: bool = False


METRICS: dict[str, Metric] = {
    # What is collected.
    "UnitsSucceeded": Metric(COUNT, ("Timeframe",), "units collected", True),
    "UnitsFailed": Metric(COUNT, ("Reason",), "units that failed, by the reason on the task", True),
    "CandlesStored": Metric(COUNT, ("Timeframe",), "candles written to the bucket", True),
    "CandlesRevised": Metric(COUNT, (), "stored candles that a later answer changed"),
    "CandlesRejected": Metric(COUNT, (), "candles that contradicted themselves"),
    "CandleLag": Metric(
        SECONDS, ("Timeframe",), "from a candle's close to its being stored, the newest of a unit"
    ),
    "FreshnessLag": Metric(
        SECONDS, ("Timeframe",), "how far the stored candles are behind what has closed", True
    ),
    "FreshnessBreaches": Metric(COUNT, (), "promises of freshness that were found broken"),
    "FreshnessBroken": Metric(COUNT, (), "promises of freshness that are broken, each minute"),
    # The exchange.
    "ExchangeLatency": Metric(MS, (), "one request to the exchange, with its answer read"),
    "ExchangeRequests": Metric(
        COUNT, ("Outcome",), "requests: ok, refused, throttled, banned or unavailable", True
    ),
    "ExchangeWeightUsed": Metric(COUNT, (), "request weight spent in the running minute"),
    "ExchangeBanned": Metric(COUNT, (), "answers 418: the exchange has banned our address"),
    "ExchangeSchemaDrift": Metric(COUNT, (), "pages of candles of which no row could be read"),
    "ExchangeValuesUnusable": Metric(
        COUNT, (), "rows, symbols and prices of the exchange that were passed over"
    ),
    "ArchiveFiles": Metric(
        COUNT,
        ("Outcome",),
        "files of the bulk archive: used, missing, damaged, stale or unavailable",
    ),
    "CatalogueRefused": Metric(COUNT, (), "lists of symbols that missed too many known ones"),
    "BreakerOpened": Metric(COUNT, (), "times that a worker stopped the whole fleet"),
    "BreakerOpen": Metric(COUNT, (), "1 while the fleet waits for the exchange, else 0"),
    # Tasks, queues and repairs.
    "TasksStarted": Metric(COUNT, (), "tasks that began to collect, or to refresh"),
    "TasksEnded": Metric(COUNT, ("State",), "tasks that ended, by their end state", True),
    "TaskSeconds": Metric(SECONDS, (), "from an attempt's start to its end"),
    "TasksActive": Metric(COUNT, (), "tasks that have not ended, each minute"),
    "OldestTaskSeconds": Metric(SECONDS, (), "age of the oldest task that has not ended"),
    "QueueDepth": Metric(COUNT, ("Queue",), "messages in a queue: visible, in flight and delayed"),
    "QueueWait": Metric(SECONDS, ("Queue",), "from sending a message to its delivery"),
    "Retries": Metric(COUNT, ("Function",), "deliveries of a message after its first", True),
    "MessagesFailed": Metric(COUNT, ("Function",), "deliveries that failed and come back", True),
    "DeadLetters": Metric(COUNT, (), "messages that were given up and buried"),
    "MessagesUnreadable": Metric(COUNT, (), "messages that no code could read, and were set aside"),
    "StreamLag": Metric(MS, ("Function",), "age of the newest stream record of a batch", True),
    "StreamRecordsFailed": Metric(
        COUNT, ("Table",), "stream records that broke our code and were set aside", True
    ),
    "WebhookDeliveries": Metric(
        COUNT, ("Outcome",), "tries of webhooks: delivered, retried or failed for good"
    ),
    "SweepsDone": Metric(COUNT, (), "sweeps that came to their end"),
    "SweepRepairs": Metric(COUNT, ("Repair",), "what sweep did again after a crash", True),
    "SweepFailures": Metric(COUNT, (), "active items that a sweep could not read or repair"),
    # WebSockets.
    "UpdatesPushed": Metric(COUNT, ("Kind",), "updates pushed to a topic's listeners", True),
    "PushDelay": Metric(MS, ("Kind",), "from a change to its having reached its last listener"),
    "MessagesSent": Metric(COUNT, (), "messages of updates sent to single connections"),
    "SendsFailed": Metric(COUNT, (), "messages that a connection did not get, and is to notice"),
    "ConnectionsGone": Metric(COUNT, (), "connections found to be gone when sending to them"),
    "UpdatesNotAnnounced": Metric(COUNT, (), "updates that could not be queued"),
    # The functions, and what they cost.
    "ApiRequests": Metric(COUNT, ("Status",), "HTTP requests: 2xx, 4xx or 5xx", True),
    "ColdStarts": Metric(COUNT, ("Function",), "containers started", True),
    "ErrorsLogged": Metric(COUNT, ("Function",), "log lines of level error", True),
    "AwsCalls": Metric(COUNT, ("Service",), "requests to AWS services", True),
    "ConsumedReadUnits": Metric(COUNT, (), "DynamoDB read units, as its answers say"),
    "ConsumedWriteUnits": Metric(COUNT, (), "DynamoDB write units, as its answers say"),
}

_Key = tuple[tuple[str, str], ...]
#: Dimensions beside `Stack`, and whether there is a total without them, too.
_Place = tuple[_Key, bool]
_values: dict[_Place, dict[str, list[float]]] = {}
_started: list[str] = []


def count(name: str, value: float = 1, **dimensions: str) -> None:
    """Add to a metric that is counted; counts of one invocation go out as their sum."""
    values = _of(name, dimensions)
    if values:
        values[0] += value
    else:
        values.append(value)


def measure(name: str, value: float, **dimensions: str) -> None:
    """Note one observation of a metric; each goes out by itself, however many there are."""
    values = _of(name, dimensions)
    values.append(value)
    if len(values) < MOST_VALUES or "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
        return
    # Outside Lambda nobody flushes: the values must not grow for ever.
    values.clear()


def function() -> str:
    """The name of the handler that runs, which the template sets; "local" elsewhere."""
    return os.environ.get("FUNCTION", "local")


def note_start() -> None:
    """Count the container's first invocation as its cold start."""
    if not _started:
        _started.append(function())
        count("ColdStarts", Function=function())


def flush() -> None:
    """Print what was counted since the last time, one line per set of dimensions, and forget it."""
    collected = list(_values.items())
    _values.clear()
    at_ms = time.time_ns() // 1_000_000
    stack = os.environ.get("STACK", "local")
    for (key, total), metrics in collected:
        dimensions = {"Stack": stack, **dict(key)}
        sets = [["Stack"], list(dimensions)] if total else [list(dimensions)]
        for part in _parts(metrics):
            line = {
                "_aws": {
                    "Timestamp": at_ms,
                    "CloudWatchMetrics": [
                        {
                            "Namespace": NAMESPACE,
                            "Dimensions": sets,
                            "Metrics": [
                                {"Name": name, "Unit": METRICS[name].unit} for name in part
                            ],
                        }
                    ],
                },
                "Exchange": os.environ.get("EXCHANGE", ""),
                **dimensions,
                **{name: found[0] if len(found) == 1 else found for name, found in part.items()},
            }
            # One write per line: what another thread writes must not end up inside it.
            sys.stderr.write(json.dumps(line) + "\n")
    sys.stderr.flush()


def _parts(metrics: dict[str, list[float]]) -> list[dict[str, list[float]]]:
    """The metrics of one set of dimensions, cut into what one line may hold each."""
    parts: list[dict[str, list[float]]] = []
    left = {name: values for name, values in metrics.items() if values}
    while left:
        part = {name: left[name][:MOST_VALUES] for name in list(left)[:MOST_METRICS]}
        parts.append(part)
        left = {
            name: values[MOST_VALUES:] if name in part else values
            for name, values in left.items()
            if name not in part or len(values) > MOST_VALUES
        }
    return parts


def _of(name: str, dimensions: dict[str, str]) -> list[float]:
    place = _place(name, tuple(dimensions.items()))
    return _values.setdefault(place, {}).setdefault(name, [])


@lru_cache(maxsize=1024)
def _place(name: str, given: tuple[tuple[str, str], ...]) -> _Place:
    """Among `_values`. Raises ValueError where these are not the metric's dimensions."""
    _, declared, _, total = METRICS[name]
    dimensions = dict(given)
    if dimensions.keys() != set(declared):
        raise ValueError(f"{name} has the dimensions {declared}, not {tuple(dimensions)}")
    key = tuple((each, dimensions[each]) for each in declared)
    # A total without dimensions of its own would be published twice.
    return key, total and bool(declared)
