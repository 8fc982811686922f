"""The text that Prometheus reads: its quoting, its version, and what it says when cut short."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from chalicelib.monitoring import prometheus
from chalicelib.schedules import manage
from chalicelib.schedules.promise import measure_freshness
from chalicelib.schedules.table import LAGS_READ
from chalicelib.tasks.table import TaskTable
from infra.package import ROOT
from tests.doubles.tasks import task_of


@given(
    st.text(),
    st.dictionaries(st.from_regex("[a-z][a-z_]{0,8}", fullmatch=True), st.text()),
    st.integers(0, 2**53) | st.floats(0, 1e300),
)
def test_whatever_a_label_or_a_description_holds_comes_back_as_it_was(
    about: str, labels: dict[str, str], value: float
) -> None:
    text = "".join(prometheus._metric("it", "gauge", about, [(labels, value)]))
    [family] = text_string_to_metric_families(text)
    [sample] = family.samples
    assert (family.name, family.type) == ("data_collector_it", "gauge")
    assert sample.labels == labels
    assert sample.value == float(value)


def test_the_version_it_tells_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    source = ROOT / project["tool"]["hatch"]["version"]["path"]
    assert f'VERSION = "{prometheus.VERSION}"' in source.read_text(encoding="utf-8").splitlines()


def test_it_says_so_where_one_read_does_not_hold_all_active_tasks(run, backend, aws, clock) -> None:
    big = "x" * 300_000
    for number in range(6):
        # The index holds the priority.
        task = task_of(task_id=f"t{number}", state="running", created_at=clock(), priority=big)
        run(TaskTable(backend).create(task))
    text = run(prometheus.metrics_text(backend))
    assert "data_collector_active_tasks_complete 0\n" in text
    assert "data_collector_active_tasks 6\n" not in text


# --- lags ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "complete", "shown"),
    [(LAGS_READ - 1, 1, True), (LAGS_READ, 0, False)],
)
def test_it_says_so_where_the_lags_leave_schedules_out(
    run, backend, clock, before: int, complete: int, shown: bool
) -> None:
    """The promise is the newest schedule's, behind so many that promise nothing."""
    asked = {"symbols": ["BTCUSDT"], "timeframes": ["1h"]}
    body = {"expression": "rate(1 hour)", "request": asked}
    for number in range(before):
        run(manage.create_schedule(backend, body, "me", "r", f"s{number:03d}"))
        clock.advance(1)
    body["freshness"] = {"max_lag_seconds": 60}
    run(manage.create_schedule(backend, body, "me", "r", "promise"))
    clock.advance(3 * 3_600_000)
    run(measure_freshness(backend, "r"))
    text = run(prometheus.metrics_text(backend))
    assert f"data_collector_schedules {before + 1}\n" in text
    assert f"data_collector_freshness_complete {complete}\n" in text
    assert ('data_collector_freshness_lag_seconds{timeframe="1h"}' in text) is shown


def test_lags_are_complete_where_there_are_no_schedules(run, backend) -> None:
    assert "data_collector_freshness_complete 1\n" in run(prometheus.metrics_text(backend))


def test_what_the_lags_are_of_is_told_in_the_metric_and_on_its_page(run, backend) -> None:
    """Their number is written out in words, in both places."""
    assert LAGS_READ == 100
    text = run(prometheus.metrics_text(backend))
    assert "# HELP data_collector_freshness_complete 0 where there are more than a hundred" in text
    page = (ROOT / "docs" / "OBSERVABILITY.md").read_text(encoding="utf-8")
    assert "the hundred oldest schedules" in page
    assert "`data_collector_freshness_complete`" in page
