"""The text that Prometheus reads: its quoting, its version, and what it says when cut short."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from chalicelib import exposing
from infra.package import ROOT


@given(
    st.text(),
    st.dictionaries(st.from_regex("[a-z][a-z_]{0,8}", fullmatch=True), st.text()),
    st.integers(0, 2**53) | st.floats(0, 1e300),
)
def test_whatever_a_label_or_a_description_holds_comes_back_as_it_was(
    about: str, labels: dict[str, str], value: float
) -> None:
    text = "".join(exposing._metric("it", "gauge", about, [(labels, value)]))
    [family] = text_string_to_metric_families(text)
    [sample] = family.samples
    assert (family.name, family.type) == ("data_collector_it", "gauge")
    assert sample.labels == labels
    assert sample.value == float(value)


def test_the_version_it_tells_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["version"] == exposing.VERSION


def test_it_says_so_where_one_read_does_not_hold_all_active_tasks(run, desk, aws, clock) -> None:
    big = "x" * 300_000
    for number in range(6):
        meta = {
            "task_id": f"t{number}",
            "task_type": "data_collection",
            "state": "running",
            "attempt": 1,
            "owner": "me",
            "created_at": clock(),
            "priority": big,  # the index holds it
        }
        run(desk.tasks.create(meta))
    text = run(exposing.metrics_text(desk))
    assert "data_collector_active_tasks_complete 0\n" in text
    assert "data_collector_active_tasks 6\n" not in text
