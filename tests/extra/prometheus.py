"""A real Prometheus scrapes a running stack as docs/OBSERVABILITY.md says, and answers every
query of docs/grafana.json.

`make test-extra` runs this file with Debian's Prometheus (local/extra.sh). Keys are on.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from infra.grafana import PREFIX
from infra.package import ROOT
from local.ports import free_port
from local.processes import start, stop
from market_data_collector.cli.api import Api
from tests.e2e.stack import Cloud
from tests.e2e.waiting import ended, until
from tests.unit.docs.pages import blocks, text_of

#: Where local/extra.sh puts it if there is none.
UNPACKED = ROOT / "build" / "prometheus" / "usr" / "bin"
JOB = "market-data-collector"
DASHBOARD = json.loads((ROOT / "docs" / "grafana.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']}: {target['legendFormat']}")
    for panel in PANELS
    for target in panel["targets"]
]
#: A schedule that promises what nobody has collected yet, so that there is a lag.
PROMISE = {
    "name": "promise",
    "expression": "cron(0 6 * * ? *)",
    "request": {"symbols": ["BTCUSDT"], "timeframes": ["1h"]},
    "freshness": {"max_lag_seconds": 7200},
}


class Prometheus:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, **asked: str) -> dict[str, Any]:
        """What the HTTP API answers; its `data`, `warnings` and so on."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(asked)}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=10) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found

    def series(self, query: str) -> list[dict[str, Any]]:
        """What a panel shows, over the last quarter of an hour; no warning comes with it."""
        now = time.time()
        answer = self.ask("query_range", query=query, start=str(now - 900), end=str(now), step="1s")
        assert answer["status"] == "success"
        assert not answer.get("warnings"), answer
        assert not answer.get("infos"), answer
        return list(answer["data"]["result"])


@pytest.fixture(scope="module")
def prometheus(
    cloud: Cloud, admin: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """It has seen a collection come to its end, and a promise broken."""
    home = tmp_path_factory.mktemp("prometheus")
    with Api(cloud.api_url, key=admin) as api:
        key = api.create_key("prometheus", ["observe"])["key"]
        (home / "observe-key").write_text(key, encoding="utf-8")
        (home / "prometheus.yml").write_text(_configuration(cloud.api_url), encoding="utf-8")
        port = free_port()
        process = start(_command(home, port), {}, home, home / "prometheus.log")
        try:
            found = Prometheus(port)
            _scraped(found)
            api.create_schedule(PROMISE)
            cloud.invoke("WatchSchedules", {"time": "2026-01-01T00:00:00Z"})
            cloud.invoke("RefreshPrices", {"time": "2026-01-01T00:00:00Z"})
            task = api.start({"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1m", "1h"]})
            assert ended(api, task["task_id"])["status"] == "completed"
            completed = f'{PREFIX}task_events_total{{event="completed"}}'
            until(lambda: _latest(found, completed), lambda count: count >= 2)
            until(lambda: found.series(f"{PREFIX}freshness_lag_seconds"), bool)
            until(lambda: found.series(f"{PREFIX}prices_age_seconds"), bool)
            yield found
        finally:
            stop(process)


def _configuration(api_url: str) -> str:
    """The page's own configuration, of this stack, each second."""
    [page] = blocks(text_of("docs/OBSERVABILITY.md"), "yaml")
    at = urlsplit(api_url)
    text = page.replace("scheme: https", "scheme: http")
    text = text.replace("metrics_path: /api/", f"metrics_path: {at.path}/api/")
    text, times = re.subn(r"targets: \[.*\]", f"targets: ['{at.netloc}']", text)
    assert times == 1
    text, times = re.subn("scrape_interval: .*", "scrape_interval: 1s", text)
    assert times == 1
    return text


def _command(home: Path, port: int) -> list[str]:
    program = shutil.which("prometheus", path=f"{os.environ['PATH']}:{UNPACKED}")
    assert program, "run: sh local/extra.sh"
    return [
        program,
        f"--config.file={home / 'prometheus.yml'}",
        f"--storage.tsdb.path={home / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]


def _scraped(found: Prometheus) -> None:
    """Wait for two scrapes that were answered: a rate needs two."""

    def answered() -> list[dict[str, Any]]:
        try:
            return found.series(f'count_over_time(up{{job="{JOB}"}}[1m]) > 1 and up == 1')
        except OSError:  # it is still starting
            return []

    until(answered, bool)


def _latest(found: Prometheus, query: str) -> float:
    return max((float(row["values"][-1][1]) for row in found.series(query)), default=0)


@pytest.mark.parametrize("query", QUERIES)
def test_prometheus_answers_every_query_of_the_dashboard(
    prometheus: Prometheus, query: str
) -> None:
    asked = query.replace("$job", JOB)
    found = prometheus.series(asked)
    assert found
    values = [float(value) for row in found for _, value in row["values"]]
    assert all(value == value and value >= 0 for value in values)  # no NaN
    print(asked, {str(row["metric"]): row["values"][-1][1] for row in found})


def test_the_dashboard_offers_the_job_to_choose(prometheus: Prometheus) -> None:
    [job] = [each for each in DASHBOARD["templating"]["list"] if each["name"] == "job"]
    metric = re.fullmatch(r"label_values\((\w+), job\)", job["query"]["query"])
    assert metric
    answer = prometheus.ask("label/job/values", **{"match[]": metric[1]})
    assert answer["data"] == [JOB]


def test_the_counters_tell_what_was_collected_meanwhile(prometheus: Prometheus) -> None:
    completed = prometheus.series(f'increase({PREFIX}task_events_total{{event="completed"}}[10m])')
    assert max(float(value) for row in completed for _, value in row["values"]) > 0


def test_every_line_of_a_panel_has_a_name_of_its_own(prometheus: Prometheus) -> None:
    for panel in PANELS:
        names = []
        for target in panel["targets"]:
            for row in prometheus.series(target["expr"].replace("$job", JOB)):
                fill = row["metric"]
                legend = target["legendFormat"]
                names.append(re.sub(r"\{\{(\w+)\}\}", lambda name, of=fill: of[name[1]], legend))
        assert len(names) == len(set(names)), (panel["title"], names)
