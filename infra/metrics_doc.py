"""The table of metrics in docs/OBSERVABILITY.md: `python -m infra.metrics_doc` writes it there."""

from __future__ import annotations

from pathlib import Path

from chalicelib.core.metrics import METRICS
from infra.configuration import ROOT

PAGE = ROOT / "docs" / "OBSERVABILITY.md"
BEGIN, END = "<!-- metrics: begin -->\n", "<!-- metrics: end -->\n"


def table() -> str:
    lines = ["| metric | unit | dimensions | what it says |", "|---|---|---|---|"]
    for name, metric in sorted(METRICS.items()):
        sets = []
        if metric.total or not metric.dimensions:
            sets.append("`Stack`")
        if metric.dimensions:
            sets.append("`" + ", ".join(("Stack", *metric.dimensions)) + "`")
        lines.append(f"| `{name}` | {metric.unit} | {' and '.join(sets)} | {metric.about} |")
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    """A page with the table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main(page: Path = PAGE) -> None:
    page.write_text(with_table(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
