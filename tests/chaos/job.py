"""The task that everything happens to, and the stack that it runs on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chalicelib.core.times import parse_time
from chalicelib.work.units import PlannedUnit
from infra.package import Package
from market_data_collector.client import Client
from market_data_collector.jobs import ENDED
from tests.chaos.endpoint import Endpoint
from tests.e2e.stack import Cloud, running_cloud
from tests.e2e.waiting import until

#: Across the end of a month, so that a unit of 5m or 15m writes two objects and may die between.
START, END = "2026-01-30T00:00:00Z", "2026-02-02T00:00:00Z"
TIMEFRAMES = ("5m", "15m", "1h")

SETTINGS = {
    # The shortest, so that what a killed worker held comes back soon.
    "COLLECT_TIMEOUT_SECONDS": "30",
    "RETENTION_SECONDS": "7200",
}
#: The template hides a message for six times its consumer's timeout, 12 minutes for a plan. That
#: leaves time to waste and changes nothing else; AWS allows any time from the timeout on.
VISIBILITY_S = {"PlanQueue": 120, "UrgentQueue": 60, "WorkQueue": 60, "DeadLetterQueue": 60}


@dataclass(frozen=True)
class Job:
    symbols: tuple[str, ...]

    @property
    def body(self) -> dict[str, Any]:
        return {
            "symbols": list(self.symbols),
            "timeframes": list(TIMEFRAMES),
            "start": START,
            "end": END,
        }

    @property
    def units(self) -> set[PlannedUnit]:
        window = parse_time(START), parse_time(END)
        return {
            PlannedUnit(symbol, timeframe, *window)
            for symbol in self.symbols
            for timeframe in TIMEFRAMES
        }


@contextmanager
def running_stack(home: Path, units: int, seed: int) -> Iterator[tuple[Cloud, Endpoint]]:
    """A stack of its own whose functions reach AWS through the endpoint."""
    with Endpoint() as endpoint:

        def put_in_front(built: Package, cloud_url: str) -> None:
            endpoint.forward_to(urlsplit(cloud_url).port or 80)
            template = json.loads(built.template.read_text(encoding="utf-8"))
            for resource in template["Resources"].values():
                if resource["Type"] == "AWS::Serverless::Function":
                    variables = resource["Properties"]["Environment"]["Variables"]
                    variables["AWS_ENDPOINT_URL"] = endpoint.url
            built.template.write_text(json.dumps(template), encoding="utf-8")

        arguments = ["--weight-limit", "60000", "--seed", str(seed)]
        arguments += ["--symbols", str(max(100, _symbols(units) * 11 // 10))]
        with running_cloud(home, SETTINGS, arguments, put_in_front) as cloud:
            queues = cloud.client("sqs")
            for name, seconds in VISIBILITY_S.items():
                queues.set_queue_attributes(
                    QueueUrl=cloud.outputs[name], Attributes={"VisibilityTimeout": str(seconds)}
                )
            yield cloud, endpoint


def job_of(api: Client, units: int) -> Job:
    """A job of at least `units` units; the stack knows its symbols afterwards."""
    refresh = api.refresh_symbols().task_id
    until(lambda: api.task(refresh), lambda task: task["status"] in ENDED)
    known = api.stats()["data_collector_status"]["available_symbols"]
    # The last one has no ASCII name.
    return Job((*known[: _symbols(units) - 1], known[-1]))


def _symbols(units: int) -> int:
    return -(-units // len(TIMEFRAMES))
