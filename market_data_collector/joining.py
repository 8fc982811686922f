"""Pages of coverage as one: what a page cuts comes in parts, and its rows are joined again."""

from collections.abc import Sequence
from typing import Any

from market_data_collector.calls import listed

Row = dict[str, Any]


def joined(pages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One answer, with one row for each symbol and timeframe."""
    rows: dict[tuple[str, str], Row] = {}
    for page in pages:
        for row in listed(page, "coverage"):
            name = (str(row.get("symbol")), str(row.get("timeframe")))
            rows[name] = _row(rows[name], row) if name in rows else row
    return {**pages[-1], "coverage": [*rows.values()], "next_page_token": None}


def _row(row: Row, later: Row) -> Row:
    explained = dict(_record(row.get("explained")))
    for reason, more in _record(later.get("explained")).items():
        explained[reason] = _number(explained.get(reason)) + _number(more)
    sums: dict[str, Any] = {
        name: _number(row.get(name)) + _number(later.get(name))
        for name in ("expected", "held", "missing", "uncertain")
        if name in row or name in later
    }
    expected = sums.get("expected", 0)
    sure = expected - sums.get("missing", 0) - sums.get("uncertain", 0)
    done = sure * 10_000 // expected / 100 if expected else None
    cells = [*listed(row, "cells"), *listed(later, "cells")]
    ends = {"start": row.get("start") or later.get("start"), "end": later.get("end")}
    return {**row, **ends, **sums, "explained": explained, "percent": done, "cells": cells}


def _record(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> Any:
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    return value if usable else 0
