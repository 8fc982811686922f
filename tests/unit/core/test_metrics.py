"""Metrics: what is written is what was measured, in lines that CloudWatch takes."""

from __future__ import annotations

import ast
import json
from collections import defaultdict
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import metrics
from infra.package import ROOT
from local.emf import data_of

UNITS = {"Count", "Milliseconds", "Seconds", "Percent"}
SOURCES = [ROOT / "app.py", *sorted((ROOT / "chalicelib").rglob("*.py"))]


@pytest.fixture(autouse=True)
def clean(monkeypatch, capsys):
    monkeypatch.setenv("STACK", "s")
    metrics.flush()
    capsys.readouterr()
    yield
    metrics.flush()


@pytest.fixture
def written(capsys):
    """Flush, and give the lines that were written."""

    def written():
        metrics.flush()
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    return written


def test_a_line_is_as_the_specification_has_it(written) -> None:
    metrics.count("UnitsSucceeded", Timeframe="1m")
    metrics.count("UnitsSucceeded", 2, Timeframe="1m")
    [line] = written()
    header = line.pop("_aws")
    assert line == {"Exchange": "", "Stack": "s", "Timeframe": "1m", "UnitsSucceeded": 3}
    assert header["CloudWatchMetrics"] == [
        {
            "Namespace": "MarketDataCollector",
            "Dimensions": [["Stack"], ["Stack", "Timeframe"]],
            "Metrics": [{"Name": "UnitsSucceeded", "Unit": "Count"}],
        }
    ]
    assert header["Timestamp"] > 1_700_000_000_000


def test_metrics_of_the_same_dimensions_share_a_line(written) -> None:
    metrics.count("BreakerOpened")
    metrics.measure("ExchangeLatency", 12.5)
    metrics.measure("ExchangeLatency", 7)
    [line] = written()
    assert (line["BreakerOpened"], line["ExchangeLatency"]) == (1, [12.5, 7])


def test_what_was_written_is_forgotten(written) -> None:
    metrics.count("BreakerOpened")
    assert len(written()) == 1
    assert written() == []


@pytest.mark.parametrize(
    "given_dimensions", [{}, {"Symbol": "BTCUSDT"}, {"Timeframe": "1m", "X": "y"}]
)
def test_dimensions_that_are_not_declared_are_refused(given_dimensions) -> None:
    with pytest.raises(ValueError, match="UnitsSucceeded has the dimensions"):
        metrics.count("UnitsSucceeded", **given_dimensions)


def test_a_metric_that_is_not_declared_is_refused() -> None:
    with pytest.raises(KeyError):
        metrics.count("UnitsSuceeded")


OBSERVED = st.tuples(st.sampled_from(["ExchangeLatency", "TaskSeconds"]), st.floats(0, 1e6))
COUNTED = st.tuples(st.sampled_from(["BreakerOpened", "CandlesRejected"]), st.integers(0, 1000))


@given(
    observed=st.lists(OBSERVED, max_size=30),
    copies=st.integers(1, 30),
    counted=st.lists(COUNTED, max_size=20),
)
def test_nothing_observed_is_lost_or_bent_however_much_there_is(observed, copies, counted) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_LAMBDA_FUNCTION_NAME", "f")  # as in a function
        lines: list[str] = []
        patch.setattr(metrics.sys, "stderr", Lines(lines))
        for name, value in observed * copies:
            metrics.measure(name, value)
        for name, value in counted:
            metrics.count(name, value)
        metrics.flush()
    seen, sums = defaultdict(list), defaultdict(float)
    for line in lines:
        for datum in data_of(line):
            assert len(datum.values) <= 100
            seen[datum.name] += datum.values
            sums[datum.name] += sum(datum.values)
    for name in ("ExchangeLatency", "TaskSeconds"):
        assert seen[name] == [value for which, value in observed * copies if which == name]
    for name in ("BreakerOpened", "CandlesRejected"):
        assert sums[name] == sum(value for which, value in counted if which == name)


class Lines:
    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def write(self, text: str) -> None:
        assert text.endswith("\n")
        assert text.count("\n") == 1
        assert len(text) < 1_000_000
        self._lines.append(text)

    def flush(self) -> None:
        return


def test_a_total_is_the_sum_over_its_dimensions(written) -> None:
    for timeframe, number in (("1m", 3), ("1h", 4)):
        metrics.count("CandlesStored", number, Timeframe=timeframe)
    data = [datum for line in written() for datum in data_of(json.dumps(line))]
    total = sum(sum(datum.values) for datum in data if datum.dimensions == (("Stack", "s"),))
    assert total == 7


def test_a_process_that_never_flushes_does_not_grow_for_ever(monkeypatch, written) -> None:
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)
    for at in range(10_000):
        metrics.measure("ExchangeLatency", at)
    assert sum(len(line.get("ExchangeLatency", [])) for line in written()) < 100


def test_a_container_is_counted_as_started_once(monkeypatch, written) -> None:
    monkeypatch.setenv("FUNCTION", "plan")
    monkeypatch.setattr(metrics, "_started", [])
    metrics.note_start()
    metrics.note_start()
    [line] = written()
    assert (line["Function"], line["ColdStarts"]) == ("plan", 1)


# --- what is declared -------------------------------------------------------------------------


@cache
def used() -> dict[str, set[tuple[str, ...]]]:
    """Metric -> the dimensions it is counted or measured with, from the sources."""
    found: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name not in ("count", "measure"):
                continue
            names = [n.value for n in ast.walk(node.args[0]) if isinstance(n, ast.Constant)]
            for metric in names:
                if isinstance(metric, str) and metric[:1].isupper():
                    found[metric].add(tuple(sorted(k.arg or "" for k in node.keywords)))
    return found


def test_every_declared_metric_is_measured_somewhere_and_no_other_is() -> None:
    assert set(used()) == set(metrics.METRICS)


@pytest.mark.parametrize("name", sorted(metrics.METRICS))
def test_a_metric_is_measured_with_the_dimensions_it_declares(name: str) -> None:
    assert used()[name] == {tuple(sorted(metrics.METRICS[name].dimensions))}


@pytest.mark.parametrize("name", sorted(metrics.METRICS))
def test_a_metric_has_a_unit_a_meaning_and_bounded_dimensions(name: str) -> None:
    metric = metrics.METRICS[name]
    assert metric.unit in UNITS
    assert metric.about
    unbounded = {"symbol", "task", "taskid", "owner", "requestid", "connection", "topic", "url"}
    assert not {dimension.lower() for dimension in metric.dimensions} & unbounded
    assert len(metric.dimensions) <= 1  # custom metrics cost by the number of combinations
