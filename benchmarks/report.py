"""A benchmark's result as text: a table, and remarks on how to read it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field


@dataclass
class Report:
    """`rows` hold one text per column."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        self.rows.append(cells)

    def __str__(self) -> str:
        return f"## {self.title}\n\n{self.body()}"

    def body(self) -> str:
        """The table, with its remarks below."""
        table = [self.columns, *self.rows]
        widths = [max(len(row[at]) for row in table) for at in range(len(self.columns))]

        def line(row: tuple[str, ...]) -> str:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            return f"| {' | '.join(cells)} |"

        rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
        remarks = [f"- {remark}" for remark in self.remarks]
        body = [line(self.columns), rule, *map(line, self.rows)]
        return "\n".join([*body, *([""] if remarks else []), *remarks])


def verdict(figure: float, budget: float) -> str:
    """`pass` up to the budget, as the design states it; the figure itself stays unrounded."""
    return "pass" if figure <= budget else "miss"


def machine() -> str:
    """What the figures depend on, without a name: cores, processor family, system, Python."""
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, "
        f"Python {platform.python_version()}"
    )
