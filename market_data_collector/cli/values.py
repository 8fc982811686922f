"""Reading answers forgivingly and writing their values for people.

The API may be newer or older than this client: a missing or odd field becomes "–", never a crash.
"""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

NOTHING = "–"


def number(value: Any) -> float | int | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def count(mapping: Any, name: str) -> int | None:
    """A non-negative whole number, or None."""
    value = number(record(mapping).get(name))
    return None if value is None or value < 0 else int(value)


def record(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def records(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def texts(value: Any) -> list[str]:
    return [plain(entry) for entry in value] if isinstance(value, list) else []


def plain(value: Any) -> str:
    """On one line, and without control characters: a message must not steer the terminal."""
    if value is None or value == "":
        return NOTHING
    text = " ".join(str(value).split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text) or NOTHING


def amount(value: Any) -> str:
    """1234567 as 1,234,567."""
    found = number(value)
    return NOTHING if found is None else f"{int(found):,}"


def price(value: Any) -> str:
    """Every digit that was sent, never in exponents: 1.2e-07 as 0.00000012."""
    try:
        exact = Decimal(str(value))
    except InvalidOperation:
        return plain(value)
    return f"{exact:,f}" if exact.is_finite() and abs(exact.adjusted()) < 30 else plain(value)


def span(seconds: float) -> str:
    """A duration in seconds as 0:07, 12:07 or 1:12:07."""
    minutes, seconds = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def moment(value: Any) -> datetime | None:
    """An ISO 8601 time as an aware UTC datetime, or None."""
    try:
        parsed = datetime.fromisoformat(value)
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def when(value: Any, layout: str = "%Y-%m-%d %H:%M:%S UTC") -> str:
    parsed = moment(value)
    return parsed.strftime(layout) if parsed else plain(value)


def seconds_between(start: Any, end: Any) -> float | None:
    first, last = moment(start), moment(end)
    return (last - first).total_seconds() if first and last and last >= first else None
