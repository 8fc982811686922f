"""Assets are stored in half the size, and come back as they were."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.exchange.assets import grouped, ungrouped

words = st.text("AB-1", min_size=1, max_size=4)


@settings(deadline=None)
@given(st.dictionaries(words, st.tuples(words, words)), st.sets(st.tuples(words, words)))
def test_assets_come_back_as_they_were(
    odd: dict[str, tuple[str, str]], usual: set[tuple[str, str]]
) -> None:
    assets = odd | {base + quote: (base, quote) for base, quote in usual}
    assert ungrouped(grouped(assets)) == assets


def test_a_usual_name_is_not_written_out() -> None:
    assets = {"BTCUSDT": ("BTC", "USDT"), "ETHUSDT": ("ETH", "USDT"), "X-Y": ("X", "Y")}
    assert grouped(assets) == {"USDT": ["BTC", "ETH"], "Y": [["X-Y", "X"]]}
