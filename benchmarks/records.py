"""What the runs found: `docs/benchmarks/<name>.json`, and docs/BENCHMARKS.md, made of them.

A record is a run's tables and remarks, with the machine, the date, the load average when it began
(per minute) and its duration. The text of a section is the benchmark's own docstring.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import plots
from benchmarks.report import Report, machine
from infra.layout import laid_out

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "benchmarks"
IMAGES = ROOT / "docs" / "images"
PAGE = ROOT / "docs" / "BENCHMARKS.md"
#: A machine on which less ran when a benchmark began.
QUIET_LOAD = 0.5
#: In the order of the page. A name's section keeps its heading: other pages link to it.
HEADINGS = {
    "stack": "The whole stack",
    "worker": "CPU of the worker",
    "history": "History",
    "archive": "The bulk archive",
    "ceiling": "The exchange's ceiling",
    "cold_start": "Cold start",
    "start_calls": "AWS calls of POST /start",
    "flat": "The API, with few tasks and with many",
    "writes_per_unit": "Requests and dollars a unit",
    "growth": "Growth",
    "objects": "Objects",
    "waiting_behind": "Waiting behind a large task",
    "fairness": "Fairness",
    "quote": "Quotes",
    "audit_calls": "The audit trail",
    "pushes": "Pushes",
    "push_clients": "Pushes to real clients",
    "watching": "Logs and metrics of a worker",
    "idle": "At rest",
    "console": "The console",
    "zip_size": "Size of the package",
}
_INTRODUCTION = """\
# Benchmarks

What the design promises in numbers, and what was measured. `make bench` writes this page: all the
quick benchmarks, or with `make bench BENCH='stack growth'` those that are named. Each run replaces
its record in `docs/benchmarks`, and so its section, whether a budget is met or not. No test
measures time; a test holds this page to the records.

Compare ratios: the two sides of a ratio take turns within a run. Milliseconds of a busy machine are
too high. Counts are exact, and the same in each run. Nothing was measured on AWS.
"""

_UNTRIED = "`make bench BENCH={}` was not run since records are kept."


def write(name: str, reports: Sequence[Report], seconds: float, load: float) -> None:
    """The record of a run, its picture, and the page. `load`: of the minute before it."""
    record = {
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "load": round(load, 2),
        "seconds": round(seconds),
        "tables": [
            {
                "title": each.title,
                "columns": each.columns,
                "rows": each.rows,
                "remarks": each.remarks,
            }
            for each in reports
        ],
    }
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(laid_out(record, 4) + "\n", encoding="utf-8")
    for path, content in pages().items():
        path.write_text(content, encoding="utf-8")


def pages() -> dict[Path, str]:
    """The page and its pictures, as the records give them."""
    made, sections = {}, [_INTRODUCTION]
    for name, heading in HEADINGS.items():
        file = FOLDER / f"{name}.json"
        if not file.exists():
            sections.append(f"## {heading}\n\n{_text(name)}\n\n{_UNTRIED.format(name)}\n")
            continue
        record = json.loads(file.read_text(encoding="utf-8"))
        drawn = plots.drawn(name, record["tables"][0])
        if drawn:
            made[_image(name)] = drawn
        sections.append(_section(name, heading, record, has_picture=bool(drawn)))
    return {PAGE: "\n".join(sections), **made}


def _section(name: str, heading: str, record: Mapping[str, Any], *, has_picture: bool) -> str:
    load, seconds = record["load"], record["seconds"]
    quiet = "quiet" if load < QUIET_LOAD else "busy with other work"
    ran = (
        f"`make bench BENCH={name}` took {seconds:,} s on {record['date']}: {record['machine']}; "
        f"load {load} at its start ({quiet})."
    )
    parts = [f"## {heading}", _text(name), ran]
    for at, table in enumerate(record["tables"]):
        parts += [f"**{table['title']}**"] if len(record["tables"]) > 1 else []
        rows = [tuple(row) for row in table["rows"]]
        report = Report(table["title"], tuple(table["columns"]), rows, table["remarks"])
        parts.append(report.body())
        if has_picture and not at:
            parts.append(f"![{heading}](images/{_image(name).name})")
    return "\n\n".join(parts) + "\n"


def _text(name: str) -> str:
    module = ROOT / "benchmarks" / f"{name}.py"
    return ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""


def _image(name: str) -> Path:
    return IMAGES / f"benchmark-{name}.svg"
