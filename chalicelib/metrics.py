"""What the functions measure: CloudWatch metrics in the embedded metric format (EMF).

A function counts and measures while it works; at the end of the invocation its edge calls `flush`,
which prints one line per set of dimensions, and CloudWatch makes metrics of them: no call, and no
waiting. Every metric is declared in `METRICS`, so dimensions stay bounded, dashboards and alarms
can be checked against it, and a name that is spelt wrong fails a test instead of vanishing.

Source: Amazon CloudWatch User Guide, "Specification: Embedded metric format".
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import NamedTuple

NAMESPACE = "MarketDataCollector"
#: EMF takes so many values of one metric in one line.
_MOST_VALUES = 100

COUNT, MS, SECONDS, PERCENT = "Count", "Milliseconds", "Seconds", "Percent"


class Metric(NamedTuple):
    """A CloudWatch unit, the names of its dimensions beside `Stack`, and what it says."""

    unit: str
    dimensions: tuple[str, ...]
    about: str


METRICS: dict[str, Metric] = {
    "UnitsSucceeded": Metric(COUNT, ("Timeframe",), "units collected"),
    "UnitsFailed": Metric(COUNT, ("Reason",), "units that failed, by the reason on the task"),
    "CandlesStored": Metric(COUNT, ("Timeframe",), "candles written to the bucket"),
    "CandlesRejected": Metric(COUNT, (), "candles that contradicted themselves"),
    "ColdStarts": Metric(COUNT, ("Function",), "containers started"),
}

_Key = tuple[tuple[str, str], ...]
_values: dict[_Key, dict[str, list[float]]] = {}


def count(name: str, value: int = 1, **dimensions: str) -> None:
    """Add to a metric that is counted; counts of one invocation go out as their sum."""
    values = _of(name, dimensions)
    if values:
        values[0] += value
    else:
        values.append(value)


def measure(name: str, value: float, **dimensions: str) -> None:
    """Note one observation of a metric; each goes out by itself."""
    values = _of(name, dimensions)
    if len(values) < _MOST_VALUES:
        values.append(value)


def flush() -> None:
    """Print what was counted since the last time, one line per set of dimensions, and forget it."""
    collected = {key: dict(metrics) for key, metrics in _values.items()}
    _values.clear()
    for key, metrics in collected.items():
        dimensions = dict(key)
        line = {
            "_aws": {
                "Timestamp": time.time_ns() // 1_000_000,
                "CloudWatchMetrics": [
                    {
                        "Namespace": NAMESPACE,
                        "Dimensions": [list(dimensions)],
                        "Metrics": [{"Name": name, "Unit": METRICS[name].unit} for name in metrics],
                    }
                ],
            },
            **dimensions,
            **{name: found[0] if len(found) == 1 else found for name, found in metrics.items()},
        }
        print(json.dumps(line), file=sys.stderr, flush=True)


def _of(name: str, dimensions: dict[str, str]) -> list[float]:
    declared = METRICS[name].dimensions
    if set(dimensions) != set(declared):
        raise ValueError(f"{name} has the dimensions {declared}, not {tuple(dimensions)}")
    stack = os.environ.get("STACK", "local")
    key = (("Stack", stack), *((each, dimensions[each]) for each in declared))
    return _values.setdefault(key, {}).setdefault(name, [])
