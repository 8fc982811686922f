"""What one page of candles proves about the stretch that was asked for. Pure.

An exchange may leave rows out, cap pages, answer newest first, or answer another question. So a
short page is not the end of a stretch, and a missing candle is not a gap until there is evidence:

- an empty answer: no candle opens in the stretch;
- rows on both sides within one page: no candle opens between them. One row from before the start or
  behind the end is no such side: some servers add it to whatever else they answer.

Rows of another timeframe prove nothing. Neither is a candle missing that has just closed, as long
as none behind it was seen: an exchange may show it some seconds late.

Whatever a page leaves open is asked for again, and every page must settle something. A row whose
open time cannot be read may be any candle that is missing in its page.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence

from chalicelib.candles.answers import Answer, Row, SoundRows, last_open_by
from chalicelib.candles.candles import are_of_another_timeframe
from chalicelib.candles.intervals import Interval
from chalicelib.core import timeframes
from chalicelib.core.errors import ExchangeDrifted, ExchangeInconsistent
from chalicelib.core.times import MINUTE

#: An exchange shows a candle that has closed no later than this (ms).
_LATE_MS = MINUTE // 2


def check_timeframe(timeframe: str, rows: Sequence[Row]) -> None:
    """Raises ExchangeInconsistent where rows are those of another timeframe."""
    if isinstance(rows, SoundRows):
        opens, closes = rows.candles.open_times, rows.candles.columns["close_time"]
        is_another = are_of_another_timeframe(timeframe, opens, closes)
    else:
        is_another = are_of_another_timeframe(
            timeframe, [row[0] for row in rows], [row[6] for row in rows]
        )
    if is_another:
        raise ExchangeInconsistent(f"candles of another timeframe than {timeframe}")


def settled_until(
    timeframe: str, answers: Sequence[Answer], unusable: Collection[int], is_unread: bool
) -> int:
    """Up to when answers can say what is missing: no later than the candle opens that runs at the
    exchange's clock, on the grid of those answered.

    `unusable`: open times of rows that cannot be read; `is_unread`: whether there are rows of which
    not even that can be read.
    """
    server_ms = min(answer.server_ms for answer in answers)
    found = (last_open_by(answer.rows, server_ms) for answer in answers)
    opens = [at for at in found if at is not None]
    last = max(opens, default=None)
    running_ms = timeframes.floor(timeframe, server_ms, last)
    if is_unread:
        return running_ms
    opens += [at for at in unusable if at <= server_ms]
    behind_ms = max((timeframes.following(timeframe, at) for at in opens), default=0)
    late_ms = timeframes.floor(timeframe, server_ms - _LATE_MS, last)
    return min(running_ms, max(behind_ms, late_ms))


def left_open(
    timeframe: str,
    asked: Interval,
    opens: Sequence[int],
    unread: int = 0,
    running_ms: int | None = None,
) -> list[Interval]:
    """What a page with rows at these open times leaves open of the stretch `asked`.

    `opens`: ascending, each once. What is neither left nor at a row is proven to be absent.
    `unread`: rows without an open time; `running_ms`: open time of the candle that the exchange is
    still changing, where the page has it: nothing opens behind it. Raises ExchangeInconsistent
    where the page answers another question than the one that was asked, ExchangeDrifted where its
    rows cannot be read.
    """
    early, behind = (bisect_left(opens, at) for at in asked)
    late = len(opens) - behind
    if early == behind:
        return _none_inside(timeframe, asked, early, late, unread)
    left = []
    # The exchange's grid may be another one, or change here: what counts is where candles may open.
    if early <= 1 and timeframes.ceil(timeframe, asked.start_ms) < opens[early]:
        left.append(Interval(asked.start_ms, opens[early]))
    last = opens[behind - 1]
    ends = late > 1 or last == running_ms
    if not ends and timeframes.ceil(timeframe, last + 1) < asked.end_ms:
        left.append(Interval(last + 1, asked.end_ms))
    return left


def _none_inside(
    timeframe: str, asked: Interval, early: int, late: int, unread: int
) -> list[Interval]:
    """Of a page without a row inside: nothing is left open, or it cannot be believed."""
    if unread and early <= 1 and not late:
        if (asked.end_ms - asked.start_ms) // timeframes.LENGTH_MS[timeframe] > unread:
            raise ExchangeDrifted(f"none of {unread} rows can be read")
        return []  # they are the candles that were asked for
    if (early <= 1 and not late) or (early > 1 and late > 1):
        return []
    raise ExchangeInconsistent(
        f"{early + late} rows, none of them in the stretch that was asked for"
    )
