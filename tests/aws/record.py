"""What a run has found, written into docs/COMPATIBILITY.md in place of what was there before."""

from __future__ import annotations

import datetime
import re

from infra.configuration import ROOT
from tests.aws.run import Run

PAGE = ROOT / "docs" / "COMPATIBILITY.md"


def write(name: str, run: Run) -> None:
    """`name`: of what answered, with its version: `dynalite 4.0.0`. Its first word names it."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_record(text, name, run, datetime.date.today()), encoding="utf-8")


def with_record(text: str, name: str, run: Run, day: datetime.date) -> str:
    """The page with the record; raises ValueError where the page has no place for it."""
    kind = name.split()[0]
    begin, end = f"<!-- {kind}: begin -->\n", f"<!-- {kind}: end -->\n"
    lines = [f"{name}, on {day.isoformat()}:", "", *run.lines()]
    found, times = re.subn(
        re.escape(begin) + ".*?" + re.escape(end),
        lambda _: begin + "\n" + "\n".join(lines) + "\n\n" + end,
        text,
        flags=re.DOTALL,
    )
    if times != 1:
        raise ValueError(f"docs/COMPATIBILITY.md has no place for {kind}")
    return found
