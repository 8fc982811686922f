"""Reading the embedded metric format, as CloudWatch does with the lines of a log group. Pure.

Source: Amazon CloudWatch User Guide, "Specification: Embedded metric format".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

Dimensions = tuple[tuple[str, str], ...]


class Datum(NamedTuple):
    """Observations of one metric at one time; `at_ms` epoch ms."""

    namespace: str
    name: str
    dimensions: Dimensions
    unit: str
    at_ms: int
    values: tuple[float, ...]


def data_of(line: str) -> Iterator[Datum]:
    """The data of a log line; none where it is no EMF. A line that breaks the form is no EMF."""
    try:
        fields = json.loads(line)
        told = fields["_aws"]
        for directive in told["CloudWatchMetrics"]:
            for names in directive["Dimensions"]:
                dimensions = tuple((name, str(fields[name])) for name in names)
                for metric in directive["Metrics"]:
                    found = fields[metric["Name"]]
                    values = found if isinstance(found, list) else [found]
                    yield Datum(
                        directive["Namespace"],
                        metric["Name"],
                        dimensions,
                        metric.get("Unit", "None"),
                        int(told["Timestamp"]),
                        tuple(map(float, values)),
                    )
    except (ValueError, KeyError, TypeError):
        return


def as_put(datum: Datum) -> dict[str, Any]:
    """The MetricDatum of PutMetricData."""
    return {
        "MetricName": datum.name,
        "Dimensions": [{"Name": name, "Value": value} for name, value in datum.dimensions],
        "Timestamp": datum.at_ms / 1000,
        "Unit": datum.unit,
        "Values": list(datum.values),
    }
