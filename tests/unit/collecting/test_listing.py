"""When the first candle opened takes two answers that agree."""

from __future__ import annotations

from typing import Any

import pytest

from chalicelib.collecting.listing import first_open
from chalicelib.core.errors import ExchangeRefused, ExchangeThrottled
from chalicelib.core.times import DAY
from chalicelib.exchange.binance import Page
from tests.doubles.clock import NOW


def page(*opens: int, unusable: tuple[int, ...] = ()) -> Page:
    return Page([(at, 1, 1, 1, 1, 1, at + 1, 1, 1, 1, 1) for at in opens], NOW, None, unusable)


@pytest.fixture
def first(run, worker):
    """What is taken for the first candle where the exchange gives these two answers."""

    def first(oldest: Any, before: Any = None) -> int | None:
        answers = iter([oldest, before])

        async def klines(*_: Any) -> Page:
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        worker.exchange.klines = klines
        return run(first_open(worker, "BTCUSDT", "1h", None))

    return first


def test_the_oldest_row_is_the_first_where_nothing_lies_before_it(first) -> None:
    assert first(page(9000, 5000, 7000), page()) == 5000


@pytest.mark.parametrize(
    ("oldest", "before"),
    [
        (page(), None),
        (page(unusable=(5000,)), None),
        (page(7000, unusable=(5000,)), page()),
        (page(7000), page(5000)),
        (page(7000), page(unusable=(5000,))),
        (ExchangeRefused("no such start"), None),
        (page(7000), ExchangeRefused("no such start")),
    ],
)
def test_without_proof_there_is_none(first, oldest, before) -> None:
    assert first(oldest, before) is None


def test_a_row_that_lies_far_ahead_is_none(first) -> None:
    assert first(page(NOW + DAY), page()) == NOW + DAY
    assert first(page(NOW + DAY + 1), page()) is None


def test_a_throttled_look_up_is_told(first) -> None:
    with pytest.raises(ExchangeThrottled):
        first(ExchangeThrottled("wait", NOW))
