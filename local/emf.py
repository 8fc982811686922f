"""Reading the embedded metric format, as CloudWatch does with the lines of a log group. Pure.

Source: Amazon CloudWatch User Guide, "Specification: Embedded metric format".
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

#: PutMetricData takes so many different values of one metric and time.
MOST_VALUES = 150
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
        header = fields["_aws"]
        for directive in header["CloudWatchMetrics"]:
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
                        int(header["Timestamp"]),
                        tuple(map(float, values)),
                    )
    except (ValueError, KeyError, TypeError):
        return


def by_minute(data: Iterable[Datum]) -> dict[str, list[dict[str, Any]]]:
    """Namespace -> what PutMetricData takes: each minute's values, and how often each was seen.

    Nothing that a statistic of a minute or more can tell is lost by it.
    """
    seen: dict[tuple[str, str, Dimensions, str, int], Counter[float]] = defaultdict(Counter)
    for datum in data:
        minute_s = datum.at_ms // 60_000 * 60
        key = (datum.namespace, datum.name, datum.dimensions, datum.unit, minute_s)
        seen[key].update(datum.values)
    put: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for (namespace, name, dimensions, unit, minute_s), counts in seen.items():
        found = list(counts.items())
        for start in range(0, len(found), MOST_VALUES):
            part = found[start : start + MOST_VALUES]
            put[namespace].append(
                {
                    "MetricName": name,
                    "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions],
                    "Timestamp": minute_s,
                    "Unit": unit,
                    "Values": [value for value, _ in part],
                    "Counts": [float(count) for _, count in part],
                }
            )
    return put
