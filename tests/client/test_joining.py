"""Pages of coverage as one answer: what is said of a row that a page cuts."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.candles.explain import Counts
from market_data_collector.joining import joined

counts = st.tuples(*[st.integers(0, 500)] * 3)


@given(st.lists(counts, min_size=1, max_size=4))
def test_a_row_in_parts_is_as_full_as_the_server_says_of_the_whole(
    parts: list[tuple[int, int, int]],
) -> None:
    pages: list[dict[str, Any]] = []
    for held, missing, uncertain in parts:
        row = {"symbol": "BTCUSDT", "timeframe": "1h", "held": held, "missing": missing}
        row |= {"uncertain": uncertain, "expected": held + missing + uncertain}
        pages.append({"coverage": [row | {"percent": Counts(**_counted(row)).percent}]})
    held, missing, uncertain = map(sum, zip(*parts, strict=True))
    [whole] = joined(pages)["coverage"]
    expected = {"held": held, "missing": missing, "uncertain": uncertain}
    assert {name: whole[name] for name in expected} == expected
    whole_counts = Counts(**_counted({**expected, "expected": held + missing + uncertain}))
    assert whole["percent"] == whole_counts.percent


def _counted(row: dict[str, Any]) -> dict[str, Any]:
    names = ("expected", "held", "missing", "uncertain")
    return {"explained": {}, **{name: row[name] for name in names}}
