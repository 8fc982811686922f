"""GET /metrics as Prometheus would read it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from chalicelib.aws.calls import run
from chalicelib.events.totals import Totals
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.ledger import Ledger
from chalicelib.schedules.watch import watch_schedules
from chalicelib.tasks.submit import submit_collection
from chalicelib.work.queue import WorkQueue
from infra.grafana import dashboard
from tests.doubles.faults import Refuse
from tests.doubles.ledger import take_weight

BODY = {"symbols": ["BTCUSDT"], "timeframes": ["1h"]}


def scraped(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Metric -> labels -> value, by Prometheus's own parser; a series twice fails."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("gauge", "counter")
        for sample in family.samples:
            series = found.setdefault(sample.name, {})
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in series
            series[labels] = sample.value
    return found


@pytest.fixture
def metrics(http: Any) -> Any:
    return lambda: scraped(http("GET", "/metrics").body.decode())


def test_the_content_type_is_prometheus_own(http: Any) -> None:
    answer = http("GET", "/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.body.endswith(b"\n")


def test_it_takes_no_parameters_and_is_a_problem_document_where_something_fails(
    http: Any, aws: Any
) -> None:
    assert http("GET", "/metrics?match=all").status_code == 400
    aws.hooks.append(Refuse("dynamodb.Query"))
    answer = http("GET", "/metrics")
    assert answer.status_code == 503
    assert answer.json_body["reason"] == "BACKEND_UNAVAILABLE"


def test_tasks_and_queues_are_counted_as_they_are(http: Any, metrics: Any, backend: Any) -> None:
    before = metrics()
    assert before["data_collector_active_tasks"] == {(): 0}
    for _ in range(3):
        http("POST", "/start", {**BODY, "force": True})
    found = metrics()
    assert found["data_collector_tasks"] == {
        (("state", "pending"),): 3,
        (("state", "running"),): 0,
    }
    assert found["data_collector_active_tasks"] == {(): 3}
    assert found["data_collector_active_tasks_complete"] == {(): 1}
    depths = found["data_collector_queue_messages"]
    assert depths[("queue", "plan"), ("state", "visible")] == 3
    assert {dict(labels)["queue"] for labels in depths} == {
        *run(WorkQueue(backend).depths()),
        "webhooks",
        "webhook_dead_letters",
    }


def test_counters_grow_with_what_was_counted_and_begin_at_zero(metrics: Any, backend: Any) -> None:
    assert set(metrics()["data_collector_task_events_total"].values()) == {0}
    run(Totals(backend).count("one", "task.completed", backend.now_ms()))
    run(Totals(backend).count("one", "task.completed", backend.now_ms()))
    run(Totals(backend).count("two", "webhook.failed", backend.now_ms()))
    found = metrics()
    assert found["data_collector_task_events_total"][(("event", "completed"),)] == 1
    assert found["data_collector_webhook_deliveries_total"] == {
        (("outcome", "delivered"),): 0,
        (("outcome", "failed"),): 1,
    }


def test_the_exchanges_brakes_and_the_ages_of_what_is_stored_are_told(
    metrics: Any, backend: Any, clock: Any
) -> None:
    found = metrics()
    assert "data_collector_prices_age_seconds" not in found
    assert found["data_collector_breaker_open"] == {(): 0}
    run(CatalogueTable(backend).write_prices({"BTCUSDT": "1"}, backend.now_ms()))
    assert run(take_weight(Ledger(backend), 70, 4800, backend.now_ms())) == 0
    run(Ledger(backend).pause(backend.now_ms() + 90_000, "HTTP 429"))
    clock.advance(2_500)
    found = metrics()
    assert found["data_collector_prices_age_seconds"] == {(): 2.5}
    assert found["data_collector_exchange_weight_limit"] == {(): 4800}
    assert found["data_collector_exchange_weight_used"] == {(): 70}
    assert found["data_collector_exchange_weight_left"] == {(): 4730}
    assert found["data_collector_breaker_open"] == {(): 1}
    assert found["data_collector_breaker_open_seconds"] == {(): 87.5}
    assert found["data_collector_catalogue_symbols"] == {(): 2}
    clock.advance(60_000)
    assert metrics()["data_collector_exchange_weight_used"] == {(): 0}


def test_schedules_are_counted_and_the_latest_candles_of_each_timeframe_told(
    http: Any, metrics: Any, backend: Any, clock: Any
) -> None:
    found = metrics()
    assert found["data_collector_schedules"] == {(): 0}
    assert "data_collector_freshness_lag_seconds" not in found
    for symbol in ("BTCUSDT", "ETHUSDT"):
        body = {
            "expression": "rate(1 hour)",
            "request": {"symbols": [symbol], "timeframes": ["1m", "1h"]},
            "freshness": {"max_lag_seconds": 60},
        }
        assert http("POST", "/schedules", body).status_code == 201
    clock.advance(7_200_000)
    run(watch_schedules(backend, "r"))
    found = metrics()
    assert found["data_collector_schedules"] == {(): 2}
    lags = found["data_collector_freshness_lag_seconds"]
    assert set(lags) == {(("timeframe", "1h"),), (("timeframe", "1m"),)}
    assert lags[(("timeframe", "1m"),)] > lags[(("timeframe", "1h"),)] > 0


def test_a_lag_that_is_not_measured_any_more_is_not_told_any_more(
    http: Any, metrics: Any, backend: Any, clock: Any
) -> None:
    body = {
        "expression": "rate(1 hour)",
        "request": {"symbols": ["BTCUSDT"], "timeframes": ["1m"]},
        "freshness": {"max_lag_seconds": 60},
    }
    schedule = http("POST", "/schedules", body).json_body["schedule_id"]
    run(watch_schedules(backend, "r"))
    assert "data_collector_freshness_lag_seconds" in metrics()
    assert http("PATCH", f"/schedules/{schedule}", {"freshness": None}).status_code == 200
    for _ in range(5):
        clock.advance(60_000)
        run(watch_schedules(backend, "r"))
    found = metrics()
    assert found["data_collector_schedules"] == {(): 1}
    assert "data_collector_freshness_lag_seconds" not in found


def test_neither_its_calls_nor_its_series_grow_with_what_there_is(
    metrics: Any, backend: Any, aws: Any
) -> None:
    run(CatalogueTable(backend).write_prices({"BTCUSDT": "1"}, backend.now_ms()))
    aws.counts.clear()
    few = metrics()
    calls = dict(aws.counts)
    symbols = {f"COIN{number}USDT": "TRADING" for number in range(3000)}
    run(CatalogueTable(backend).write_catalogue(symbols, 6000, backend.now_ms()))
    run(CatalogueTable(backend).write_prices(dict.fromkeys(symbols, "1"), backend.now_ms()))
    for number in range(300):
        run(submit_collection(backend, {**BODY, "symbols": [f"COIN{number}USDT"]}, "me", "r"))
    aws.counts.clear()
    many = metrics()
    assert dict(aws.counts) == calls
    assert sum(calls.values()) < 20
    assert {name: set(series) for name, series in few.items()} == {
        name: set(series) for name, series in many.items()
    }
    assert many["data_collector_active_tasks"] == {(): 300}


def test_the_dashboard_of_grafana_asks_for_every_metric_and_label_and_for_no_other(
    http: Any, metrics: Any, backend: Any, clock: Any
) -> None:
    run(CatalogueTable(backend).write_prices({"BTCUSDT": "1"}, backend.now_ms()))
    body = {
        "expression": "rate(1 hour)",
        "request": {"symbols": ["BTCUSDT"], "timeframes": ["1h"]},
        "freshness": {"max_lag_seconds": 60},
    }
    assert http("POST", "/schedules", body).status_code == 201
    clock.advance(7_200_000)
    run(watch_schedules(backend, "r"))
    exported = {
        name: {label for labels in series for label, _ in labels}
        for name, series in metrics().items()
    }
    #: Which Python answers is of no use to who looks at a dashboard.
    exported["data_collector_build_info"].remove("python")
    asked: dict[str, set[str]] = {}
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            [name] = re.findall(r"(\w+)\{", target["expr"])
            shown = " ".join(re.findall(r"\{\{.*?\}\}", target["legendFormat"]))
            grouped = " ".join(re.findall(r"by \((.*?)\)", target["expr"]))
            labels = {*re.findall(r"\w+", shown), *grouped.split()}
            labels |= set(re.findall(r"(\w+)=", target["expr"])) - {"job"}
            asked.setdefault(name, set()).update(labels)
    assert asked.pop("up") == set()  # of Prometheus itself
    assert asked == exported
