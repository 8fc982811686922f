"""Times: epoch milliseconds UTC everywhere inside, ISO 8601 for people."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
FOREVER_MS = 253_402_300_800_000  # 10000-01-01T00:00:00Z: above every candle
#: The least that a number of ms may be, 1973-03-03. A thousand times as much is the year 5138. A
#: number below is in seconds, above in µs or ns: each unit's range ends where the next begins.
_LEAST_MS = 10**11
#: `datetime.fromisoformat` takes any character between date and time, "-" and line ends, too.
_ISO_FORM = re.compile(r"[0-9W-]{7,10}([Tt ][0-9:.,]+(Z|[+-][0-9:.]+)?)?")
_NUMBER_FORM = re.compile(r"\s*[0-9]{1,20}(\.[0-9]{0,9})?\s*")


def iso(at_ms: int | None) -> str | None:
    """ISO 8601 in UTC, to the millisecond; None stays None."""
    if at_ms is None:
        return None
    return utc(at_ms).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % 1000:03d}Z"


def parse_time(value: object) -> int:
    """Epoch ms of an ISO 8601 date or date-time (UTC where it has no offset) or of an integer.

    An integer is in ms, and 0 or from 1973 to 5138: one in another unit lies outside. Raises
    ValueError, with a sentence for whoever sent it, for anything else, or outside 1970 to 9999.
    """
    if isinstance(value, str) and _ISO_FORM.fullmatch(value):
        at_ms = _read_iso(value)
        if at_ms is not None and 0 <= at_ms < FOREVER_MS:
            return at_ms
    elif type(value) is int and (value == 0 or _is_plausible(value)):
        return value
    meant = _in_another_unit(value)
    hint = "" if meant is None else f"; did you mean {iso(meant)}?"
    raise ValueError(
        "must be an ISO 8601 date or date-time from 1970 on, like 2026-01-31 or "
        f"2026-01-31T12:00:00Z, or a number of epoch milliseconds{hint}"
    )


def _read_iso(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return epoch_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _is_plausible(at_ms: float) -> bool:
    return _LEAST_MS <= at_ms < 1000 * _LEAST_MS


def _in_another_unit(value: object) -> int | None:
    """Epoch ms of a number of seconds, ms, µs or ns, which its size tells apart."""
    if isinstance(value, str) and _NUMBER_FORM.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 10**20:
        return None
    sizes = (value * 1000, value, value / 1000, value / 1_000_000)
    return next((int(size) for size in sizes if _is_plausible(size)), None)


def utc(at_ms: int) -> datetime:
    # Through timedelta, not fromtimestamp: exact for every ms, and independent of the platform.
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)


def epoch_ms(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
