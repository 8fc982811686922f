"""docs/BENCHMARKS.md and its pictures are what the records of the benchmarks give."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import plots, records
from benchmarks.__main__ import NAMES, WHEN_NAMED


def test_the_page_and_its_pictures_are_made_of_the_records() -> None:
    for path, content in records.pages().items():
        assert path.read_text(encoding="utf-8") == content, f"{path.name} is not its records'"


def test_no_picture_is_left_of_a_benchmark_that_has_none() -> None:
    assert {*records.IMAGES.glob("benchmark-*")} == {*records.pages()} - {records.PAGE}


def test_every_benchmark_has_a_heading_and_every_record_a_benchmark() -> None:
    assert sorted(records.HEADINGS) == sorted((*NAMES, *WHEN_NAMED))
    assert {file.stem for file in records.FOLDER.iterdir()} <= {*records.HEADINGS}


def test_a_run_that_lost_is_shown_with_its_machine_and_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {
        "machine": "3 cores",
        "date": "2026-05-04",
        "load": 7.5,
        "seconds": 61,
        "tables": [
            {"title": "t", "columns": ["what", "verdict"], "rows": [["CPU", "miss"]], "remarks": []}
        ],
    }
    (tmp_path / "idle.json").write_text(json.dumps(record))
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    page = records.pages()[records.PAGE]
    assert "| CPU  | miss    |" in page
    assert "took 61 s on 2026-05-04: 3 cores; load 7.5 at its start (busy with other work)" in page
    assert "`make bench BENCH=stack` was not run" in page


def test_a_picture_has_a_bar_as_long_as_its_figure() -> None:
    columns = ["what", "side", "candles a s"]
    rows = [["x", "ours", "3,000"], ["x", "ccxt & pandas", "1,500"], ["x", "none", ""]]
    picture = plots.drawn("stack", {"columns": columns, "rows": rows})
    assert picture is not None
    widths = [float(each) for each in re.findall(r'<rect x="356" .*? width="([0-9.]+)"', picture)]
    assert len(widths) == 2
    assert widths[0] == 2 * widths[1]
    assert "x, ccxt &amp; pandas" in picture


def test_a_line_has_a_point_for_each_row_that_is_a_number() -> None:
    rows = [["10", "1.5"], ["1,000", "90"], ["growth", "0.9"]]
    picture = plots.drawn("history", {"columns": ["symbols", "seconds"], "rows": rows})
    assert picture is not None
    assert picture.count("<circle") == 2
