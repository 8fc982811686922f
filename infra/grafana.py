"""A Grafana dashboard over `GET /metrics`: `python -m infra.grafana > docs/grafana.json`.

Source: Grafana documentation, "Dashboard JSON model".
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from chalicelib.monitoring.prometheus import PREFIX
from infra.layout import laid_out

WIDTH = 24
HEIGHTS = {"stat": 4, "timeseries": 8}
#: The page's choices at its top: which Prometheus, and which of its jobs.
SOURCE = {"type": "prometheus", "uid": "${source}"}
JOB = 'job="$job"'
GIVEN_UP = 'queue=~".*dead_letters"'
#: Colour, and the value from which on it holds.
Steps = tuple[tuple[str, float | None], ...]
GOOD_IF_ONE: Steps = (("red", None), ("green", 1))
BAD_FROM_ONE: Steps = (("green", None), ("red", 1))
NEUTRAL: Steps = (("blue", None),)
YES_NO = {"0": "no", "1": "yes"}


def of(name: str, labels: str = "") -> str:
    """A family of `GET /metrics` as PromQL, of the chosen job; `labels` narrow it further."""
    return f"{PREFIX}{name}{{{','.join(filter(None, (JOB, labels)))}}}"


@dataclass(frozen=True)
class Panel:
    title: str
    #: PromQL -> the name of its line; `{{label}}` in it is filled in.
    queries: dict[str, str]
    about: str
    unit: str = "short"
    steps: Steps = NEUTRAL
    #: Value -> the word that stands for it.
    words: dict[str, str] | None = None
    #: `name` shows a value's name in its place.
    shown: str = "value"


HEALTHY = (
    Panel(
        "Answers",
        {f"up{{{JOB}}}": ""},
        "No: the last scrape failed.",
        steps=GOOD_IF_ONE,
        words=YES_NO,
    ),
    Panel(
        "Version",
        {of("build_info"): "{{version}}, {{exchange}}"},
        "What answers, and the exchange it collects from.",
        shown="name",
    ),
    Panel(
        "Paused by a person",
        {of("paused"): ""},
        "Yes: nothing is asked until somebody resumes.",
        steps=BAD_FROM_ONE,
        words=YES_NO,
    ),
    Panel(
        "Waits for the exchange",
        {of("breaker_open_seconds"): ""},
        "All workers wait for so long: the exchange asked for it, or does not answer.",
        unit="s",
        steps=(("green", None), ("orange", 1), ("red", 600)),
    ),
    Panel(
        "Given up",
        {f"sum({of('queue_messages', GIVEN_UP)})": ""},
        "Messages that wait for a person: docs/RUNBOOK.md.",
        steps=BAD_FROM_ONE,
    ),
    Panel(
        "Worst lag",
        {f"max({of('freshness_lag_seconds')})": ""},
        "How late candles are, of what the hundred oldest schedules promise. Empty: none promises.",
        unit="s",
    ),
)
KEEPING_UP = (
    Panel("Tasks that have not ended", {of("tasks"): "{{state}}"}, "By state."),
    Panel(
        "What became of tasks, an hour",
        {f"increase({of('task_events_total')}[1h])": "{{event}}"},
        "Each event is counted once.",
    ),
    Panel(
        "Messages in the queues",
        {f"sum by (queue) ({of('queue_messages')})": "{{queue}}"},
        "Visible, in flight and delayed. A queue that only grows is not worked on.",
    ),
    Panel(
        "Messages by what they wait for",
        {f"sum by (state) ({of('queue_messages')})": "{{state}}"},
        "In flight: being worked on. Delayed: waiting for their time.",
    ),
)
EXCHANGE = (
    Panel(
        "Request weight in the running minute",
        {
            of("exchange_weight_limit"): "limit",
            of("exchange_weight_used"): "used",
            of("exchange_weight_left"): "left",
        },
        "Used comes near the limit while much is collected.",
    ),
    Panel(
        "Breaker and pause",
        {of("breaker_open"): "breaker open", of("paused"): "paused"},
        "1 while all workers wait: for the exchange, or for a person.",
    ),
    Panel(
        "Age of prices and of the list of symbols",
        {of("prices_age_seconds"): "prices", of("catalogue_age_seconds"): "symbols"},
        "Prices are read every minute.",
        unit="s",
    ),
    Panel(
        "Symbols",
        {
            of("catalogue_symbols"): "listed",
            of("catalogue_symbols_trading"): "trading",
            of("prices"): "with a price",
        },
        "A number that falls: the exchange delisted some, or its answer was cut short.",
    ),
)
TOLD = (
    Panel(
        "Lag of candles",
        {f"max by (timeframe) ({of('freshness_lag_seconds')})": "{{timeframe}}"},
        "The worst of what the hundred oldest schedules promise.",
        unit="s",
    ),
    Panel(
        "Webhooks, an hour",
        {f"increase({of('webhook_deliveries_total')}[1h])": "{{outcome}}"},
        "Events that reached a webhook, or were given up.",
    ),
)
WHOLE = (
    Panel("Active tasks", {of("active_tasks"): ""}, "Tasks that have not ended."),
    Panel(
        "All active tasks counted",
        {of("active_tasks_complete"): ""},
        "No: there are more than one read finds.",
        steps=GOOD_IF_ONE,
        words=YES_NO,
    ),
    Panel("Schedules", {of("schedules"): ""}, "Schedules that are looked after."),
    Panel(
        "All schedules in the lag",
        {of("freshness_complete"): ""},
        "No: there are more than a hundred, and the newer are left out.",
        steps=GOOD_IF_ONE,
        words=YES_NO,
    ),
)
#: Heading, kind of its panels, how many stand side by side, and the panels.
ROWS: tuple[tuple[str, str, int, tuple[Panel, ...]], ...] = (
    ("Is it healthy?", "stat", 6, HEALTHY),
    ("Is it keeping up?", "timeseries", 2, KEEPING_UP),
    ("Does the exchange answer?", "timeseries", 2, EXCHANGE),
    ("Is it fresh, and does it say so?", "timeseries", 2, TOLD),
    ("Is this page whole?", "stat", 4, WHOLE),
)


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for heading, kind, side_by_side, row in ROWS:
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        number = len(panels) + 1
        panels.append(
            {"type": "row", "id": number, "title": heading, "collapsed": False, "gridPos": place}
            | {"panels": []}
        )
        y, width, height = y + 1, WIDTH // side_by_side, HEIGHTS[kind]
        for at, panel in enumerate(row):
            down, right = divmod(at, side_by_side)
            place = {"x": right * width, "y": y + down * height, "w": width, "h": height}
            panels.append(_panel(panel, kind, len(panels) + 1, place))
        y += height * -(-len(row) // side_by_side)
    return {
        "uid": "market-data-collector",
        "title": "Market data collector",
        "description": "What GET /metrics says. docs/OBSERVABILITY.md tells how to scrape it.",
        "tags": ["market-data-collector"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "1m",
        "templating": {"list": [_source(), _job()]},
        "panels": panels,
    }


def _panel(panel: Panel, kind: str, number: int, place: dict[str, int]) -> dict[str, Any]:
    steps = [{"color": color, "value": value} for color, value in panel.steps]
    defaults: dict[str, Any] = {"unit": panel.unit}
    options: dict[str, Any] = {"legend": {"displayMode": "list", "placement": "bottom"}}
    if kind == "stat":
        defaults["color"] = {"mode": "thresholds"}
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        options = {
            "reduceOptions": {"calcs": ["lastNotNull"]},
            "textMode": panel.shown,
            "colorMode": "value",
            "graphMode": "none",
        }
    else:
        defaults |= {"min": 0, "custom": {"fillOpacity": 10}}
    if panel.words:
        words = {value: {"text": text} for value, text in panel.words.items()}
        defaults["mappings"] = [{"type": "value", "options": words}]
    return {
        "type": kind,
        "id": number,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": query}
            | {"legendFormat": name or panel.title, "range": True}
            for at, (query, name) in enumerate(panel.queries.items())
        ],
    }


def _source() -> dict[str, Any]:
    kind = {"type": "datasource", "query": "prometheus"}
    return {"name": "source", "label": "Prometheus"} | kind


def _job() -> dict[str, Any]:
    """The jobs that scrape a collector, one for each stage."""
    query = {"query": f"label_values({PREFIX}build_info, job)", "refId": "job"}
    return {
        "name": "job",
        "label": "Job",
        "type": "query",
        "datasource": SOURCE,
        "query": query,
    } | {"refresh": 2}


def document() -> str:
    """The whole of docs/grafana.json."""
    return laid_out(dashboard(), 2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
