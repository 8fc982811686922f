"""What one page of candles proves about the stretch that was asked for. Pure.

An exchange may leave rows out, cap pages, answer newest first, or answer another question. So a
short page is not the end of a stretch, and a missing candle is not a gap until there is evidence:

- an empty answer: no candle opens in the stretch;
- rows on both sides within one page: no candle opens between them. One row from before the start is
  no such side: some servers add it to whatever else they answer.

Whatever a page leaves open is asked for again, and every page must settle something.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from chalicelib.core import timeframes
from chalicelib.core.errors import ExchangeInconsistent


class Stretch(NamedTuple):
    """[start_ms, end_ms): candles that open there are asked for, or absent."""

    start_ms: int
    end_ms: int


class Proof(NamedTuple):
    """`opens`: open times of the rows inside, ascending; `left`: stretches still to be asked for.

    What is neither left nor between a row and its successor is proven to be absent.
    """

    opens: list[int]
    left: list[Stretch]


def proof_of(
    timeframe: str, asked: Stretch, opens: Collection[int], running_ms: int | None = None
) -> Proof:
    """What a page with rows at these open times, in any order, proves of the stretch `asked`.

    `running_ms`: open time of the candle that the exchange is still changing, where the page has
    it; nothing opens behind it. Raises ExchangeInconsistent where the page answers another question
    than the one that was asked.
    """
    ordered = sorted(set(opens))
    inside = [at for at in ordered if asked.start_ms <= at < asked.end_ms]
    early = sum(at < asked.start_ms for at in ordered)
    behind = bool(ordered) and ordered[-1] >= asked.end_ms
    if not inside:
        if (not behind and early <= 1) or (behind and early > 1):
            return Proof([], [])
        raise ExchangeInconsistent(
            f"{len(ordered)} rows, none of them in the stretch that was asked for"
        )
    left = []
    # The exchange's grid may be another one, or change here: what counts is where candles may open.
    if early <= 1 and timeframes.ceil(timeframe, asked.start_ms) < inside[0]:
        left.append(Stretch(asked.start_ms, inside[0]))
    ends = behind or inside[-1] == running_ms
    if not ends and timeframes.ceil(timeframe, inside[-1] + 1) < asked.end_ms:
        left.append(Stretch(inside[-1] + 1, asked.end_ms))
    return Proof(inside, left)
