"""A deployed dashboard with its data: what it names, and what CloudWatch has of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from local.aws import Account
from local.insights import Answer, ask
from local.metric_math import Series, calculate

#: Namespace, name, dimensions: what CloudWatch tells metrics apart by.
Identity = tuple[str, str, tuple[tuple[str, str], ...]]
#: GetMetricData takes so many queries at once.
_MOST_QUERIES = 500


@dataclass
class Line:
    """One line of a graph."""

    label: str
    stat: str
    period: int
    identity: Identity | None = None
    expression: str | None = None
    id: str | None = None
    visible: bool = True
    color: str | None = None
    values: Series = field(default_factory=dict)


@dataclass
class Board:
    """`widgets`: as defined; `lines`: of the graphs, by the widget's place in them; and so on."""

    name: str
    start_s: float
    end_s: float
    widgets: list[dict[str, Any]]
    lines: dict[int, list[Line]]
    answers: dict[int, Answer]
    #: Alarm's ARN -> (name, state).
    alarms: dict[str, tuple[str, str]]


def definition(to: Account, name: str) -> list[dict[str, Any]]:
    """The widgets of a deployed dashboard."""
    dashboard = to.client("cloudwatch").get_dashboard(DashboardName=name)
    widgets: list[dict[str, Any]] = json.loads(dashboard["DashboardBody"])["widgets"]
    return widgets


def load(to: Account, name: str, start_s: float, end_s: float) -> Board:
    widgets = definition(to, name)
    lines = {
        at: lines_of(widget) for at, widget in enumerate(widgets) if widget["type"] == "metric"
    }
    _fill(to, [line for found in lines.values() for line in found], start_s, end_s)
    for found in lines.values():
        _calculate(found, start_s, end_s)
    answers = {
        at: ask(to, widget["properties"]["query"], [], int(start_s * 1000), int(end_s * 1000))
        for at, widget in enumerate(widgets)
        if widget["type"] == "log"
    }
    shown = to.client("cloudwatch").get_paginator("describe_alarms").paginate()
    alarms = {
        alarm["AlarmArn"]: (alarm["AlarmName"], alarm["StateValue"])
        for page in shown
        for alarm in page["MetricAlarms"]
    }
    return Board(name, start_s, end_s, widgets, lines, answers, alarms)


def lines_of(widget: dict[str, Any]) -> list[Line]:
    """The lines that a graph's `metrics` spell."""
    properties, found = widget["properties"], []
    for entry in properties["metrics"]:
        options = entry[-1] if isinstance(entry[-1], dict) else {}
        names = entry[:-1] if options else entry
        line = Line(
            label=options.get("label", names[1] if names else ""),
            stat=options.get("stat", properties.get("stat", "Average")),
            period=options.get("period", properties.get("period", 300)),
            expression=options.get("expression"),
            id=options.get("id"),
            visible=options.get("visible", True),
            color=options.get("color"),
        )
        if names:
            pairs = zip(names[2::2], names[3::2], strict=True)
            line.identity = (names[0], names[1], tuple(sorted(pairs)))
        found.append(line)
    return found


def named_metrics(widgets: list[dict[str, Any]]) -> Iterator[Identity]:
    """Every metric that a dashboard names."""
    for widget in widgets:
        if widget["type"] == "metric":
            yield from (line.identity for line in lines_of(widget) if line.identity)


def _fill(to: Account, lines: list[Line], start_s: float, end_s: float) -> None:
    asked = [line for line in lines if line.identity is not None]
    cloudwatch = to.client("cloudwatch")
    for first in range(0, len(asked), _MOST_QUERIES):
        part = asked[first : first + _MOST_QUERIES]
        answer = cloudwatch.get_metric_data(
            MetricDataQueries=[_query(f"q{at}", line) for at, line in enumerate(part)],
            StartTime=datetime.fromtimestamp(start_s, UTC),
            EndTime=datetime.fromtimestamp(end_s, UTC),
        )
        for result in answer["MetricDataResults"]:
            times = [at.timestamp() for at in result["Timestamps"]]
            line = part[int(result["Id"][1:])]
            line.values = dict(sorted(zip(times, result["Values"], strict=True)))


def _query(id: str, line: Line) -> dict[str, Any]:
    assert line.identity is not None
    namespace, name, dimensions = line.identity
    metric = {
        "Namespace": namespace,
        "MetricName": name,
        "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions],
    }
    return {"Id": id, "MetricStat": {"Metric": metric, "Period": line.period, "Stat": line.stat}}


def _calculate(lines: list[Line], start_s: float, end_s: float) -> None:
    """Expressions over the lines with an id; the embedded cloud calculates none itself."""
    named = {line.id: line for line in lines if line.id and line.identity}
    series = {id: line.values for id, line in named.items()}
    periods = {id: line.period for id, line in named.items()}
    for line in lines:
        if line.expression:
            first = int(start_s // line.period) * line.period
            times = [float(at) for at in range(first, int(end_s), line.period)]
            line.values = calculate(line.expression, series, periods, times)
