"""What a receiver's answer means, and how long to wait before the next try. Pure.

Source: RFC 9110, Retry-After.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime

#: Seconds between tries, each stretched or shortened by up to a fifth.
WAITS = (5, 30, 120, 600, 3600)
MOST_TRIES = len(WAITS) + 1
LONGEST_WAIT = 3600
_JITTER = 0.2
#: Statuses below 500 after which trying again makes sense: the receiver was slow, or busy.
_PASSING = (408, 425, 429)


@dataclass(frozen=True)
class Answer:
    """What came of one try.

    `status`: the HTTP status; 0 where no answer came. `problem` then says why; it never repeats
    what was received. `retry_after`: that header as it came. `refused`: nothing may be sent to
    this address, so that trying again is no use.
    """

    status: int
    problem: str = ""
    retry_after: str | None = None
    refused: bool = False


def is_delivered(status: int) -> bool:
    return 200 <= status < 300


def may_pass(status: int) -> bool:
    """Whether the same request may fare better later."""
    return status >= 500 or status in _PASSING


def wait_seconds(tries: int, chance: float, retry_after: int = 0) -> int | None:
    """Seconds to wait after the `tries`th failed try (from 1); None where it was the last.

    `chance` from 0 to 1 spreads the next requests to a receiver. `retry_after` is what the
    receiver asked for, in seconds.
    """
    if tries >= MOST_TRIES:
        return None
    seconds = WAITS[tries - 1] * (1 - _JITTER + 2 * _JITTER * chance)
    return max(round(seconds), min(retry_after, LONGEST_WAIT))


def retry_after_seconds(text: str | None, now_s: int) -> int:
    """Seconds of a Retry-After header, which holds seconds or a date; 0 where it says nothing."""
    if not text:
        return 0
    if text.strip().isascii() and text.strip().isdecimal():
        return min(int(text.strip()[:9]), LONGEST_WAIT)
    try:
        return min(max(0, int(parsedate_to_datetime(text).timestamp()) - now_s), LONGEST_WAIT)
    except (ValueError, TypeError, OverflowError):
        return 0
