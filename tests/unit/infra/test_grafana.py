"""docs/grafana.json is what Grafana imports: in place, with what each panel needs."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from infra import grafana
from infra.package import ROOT

DASHBOARD = grafana.dashboard()
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def test_the_dashboard_is_up_to_date() -> None:
    text = (ROOT / "docs" / "grafana.json").read_text(encoding="utf-8")
    assert text == grafana.document(), "run: python -m infra.grafana > docs/grafana.json"


def test_panels_are_on_the_page_and_beside_one_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        assert columns.stop <= grafana.WIDTH
        cells = set(itertools.product(columns, range(place["y"], place["y"] + place["h"])))
        assert not cells & taken, panel["title"]
        taken |= cells
    # Without a hole between two rows.
    bottom = max(y for _, y in taken) + 1
    assert {y for _, y in taken} == set(range(bottom))


def test_every_panel_has_its_own_number_and_every_query_its_own_letter() -> None:
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))
    for panel in PANELS:
        letters = [target["refId"] for target in panel["targets"]]
        assert letters
        assert len(letters) == len(set(letters))


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_says_what_it_shows_of_the_chosen_job(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"] == grafana.SOURCE
        # One selector for each family that it asks for.
        assert target["expr"].count(grafana.JOB) == target["expr"].count("{") == 1
