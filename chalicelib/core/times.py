"""Times: epoch milliseconds UTC everywhere inside, ISO 8601 for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
FOREVER_MS = 253_402_300_800_000  # 10000-01-01T00:00:00Z: above every candle


def iso(at_ms: int | None) -> str | None:
    """ISO 8601 in UTC, to the millisecond; None stays None."""
    if at_ms is None:
        return None
    return utc(at_ms).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % 1000:03d}Z"


def parse_time(value: object) -> int:
    """Epoch ms of an ISO 8601 date or date-time (UTC where it has no offset) or an integer.

    Raises ValueError where it is neither, or lies outside 1970 to 9999.
    """
    if isinstance(value, bool):
        raise ValueError("not a time")
    if isinstance(value, int):
        at_ms = value
    elif isinstance(value, str):
        moment = datetime.fromisoformat(value)
        at_ms = epoch_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    else:
        raise ValueError("not a time")
    if not 0 <= at_ms < FOREVER_MS:
        raise ValueError("outside 1970 to 9999")
    return at_ms


def utc(at_ms: int) -> datetime:
    # Through timedelta, not fromtimestamp: exact for every ms, and independent of the platform.
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)


def epoch_ms(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
