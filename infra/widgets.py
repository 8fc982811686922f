"""The widgets of a CloudWatch dashboard, as its body spells them.

Source: CloudWatch User Guide, "Dashboard body structure and syntax".
"""

from __future__ import annotations

from typing import Any

from chalicelib.core.metrics import NAMESPACE
from infra.functions import FUNCTIONS

Widget = dict[str, Any]

STACK = "${AWS::StackName}"
#: Widths are of 24 columns; four graphs make a line.
WIDTH = 6


def text(markdown: str) -> Widget:
    shown = {"markdown": markdown, "background": "transparent"}
    return {"type": "text", "width": 24, "properties": shown}


def alarm_states(title: str, arns: list[str]) -> Widget:
    return {"type": "alarm", "width": WIDTH, "properties": {"title": title, "alarms": arns}}


def graph(
    title: str,
    metrics: list[list[Any]],
    stacked: bool = False,
    unit: str | None = None,
) -> Widget:
    left: dict[str, Any] = {"min": 0, "showUnits": False}
    if unit:
        left["label"] = unit
    return {
        "type": "metric",
        "width": WIDTH,
        "properties": {
            "title": title,
            "region": "${AWS::Region}",
            "view": "timeSeries",
            "stacked": stacked,
            "period": 60,
            "stat": "Sum",
            "metrics": metrics,
            "yAxis": {"left": left},
            "legend": {"position": "bottom"},
        },
    }


def table(title: str, query: str, *functions: str) -> Widget:
    sources = " | ".join(f"SOURCE '/aws/lambda/${{{function}}}'" for function in functions)
    return {
        "type": "log",
        "width": 12,
        "properties": {
            "title": title,
            "region": "${AWS::Region}",
            "view": "table",
            "query": f"{sources} | {query}",
        },
    }


def own(metric: str, /, **options: Any) -> list[Any]:
    """A metric of ours; options in lower case are CloudWatch's, others are dimensions."""
    dimensions = {name: value for name, value in options.items() if name[0].isupper()}
    rest = {name: value for name, value in options.items() if name not in dimensions}
    named = [part for pair in {"Stack": STACK, **dimensions}.items() for part in pair]
    return [NAMESPACE, metric, *named, rest]


def queue(queue: str, metric: str, **options: Any) -> list[Any]:
    name = f"${{{queue}.QueueName}}"
    return ["AWS/SQS", metric, "QueueName", name, {"label": queue, **options}]


def function(name: str, metric: str, **options: Any) -> list[Any]:
    function = f"${{{FUNCTIONS[name]}}}"
    return ["AWS/Lambda", metric, "FunctionName", function, {"label": name, **options}]


def each_function(metric: str) -> list[list[Any]]:
    return [function(name, metric) for name in FUNCTIONS]


def math(expression: str, label: str) -> list[Any]:
    return [{"expression": expression, "label": label, "id": f"e{_identifier(label)}"}]


def _identifier(label: str) -> str:
    return "".join(letter for letter in label.lower() if letter.isalnum())
