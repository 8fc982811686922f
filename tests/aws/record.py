"""What a run has found, written into docs/COMPATIBILITY.md in place of what was there before."""

from __future__ import annotations

import datetime

from infra.configuration import ROOT
from infra.tables_doc import between_marks
from tests.aws.run import Run

PAGE = ROOT / "docs" / "COMPATIBILITY.md"


def write(name: str, run: Run) -> None:
    """`name`: of what answered, with its version: `dynalite 4.0.0`. Its first word names it."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_record(text, name, run, datetime.date.today()), encoding="utf-8")


def with_record(text: str, name: str, run: Run, day: datetime.date) -> str:
    """The page with the record; raises ValueError where the page has no place for it."""
    lines = [f"{name}, on {day.isoformat()}:", "", *run.lines()]
    return between_marks(text, name.split()[0], lines)
