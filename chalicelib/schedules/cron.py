"""EventBridge Scheduler's recurring expressions: cron(...) and rate(...), and when they run. Pure.

    cron(minutes hours day-of-month month day-of-week year)      in a time zone
    rate(5 minutes)                                              from one moment on

Sources: EventBridge Scheduler User Guide, "Schedule types in EventBridge Scheduler" (fields, values
and wildcards; one of the two day fields must be ?). Its section "Daylight savings time": where the
clocks skip a time, there is no run; where they show a time twice, there is one.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache

MINUTE_MS = 60_000
_UNIT_MS = {"minute": MINUTE_MS, "hour": 60 * MINUTE_MS, "day": 1440 * MINUTE_MS}
#: A year. A longer rate is taken for a mistake.
_LONGEST_RATE_MS = 366 * 1440 * MINUTE_MS
_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
#: Field -> its names and their numbers. 1 is January, or Sunday.
_NAMES = {
    field: {name: number for number, name in enumerate(names, 1)}
    for field, names in (("month", _MONTHS), ("day-of-week", _DAYS))
}

#: (name, least, most) in the order of the expression.
FIELDS = (
    ("minutes", 0, 59),
    ("hours", 0, 23),
    ("day-of-month", 1, 31),
    ("month", 1, 12),
    ("day-of-week", 1, 7),
    ("year", 1970, 2199),
)


@dataclass(frozen=True)
class Rate:
    """Every `every_ms`, counted from the last run."""

    every_ms: int


@dataclass(frozen=True)
class Cron:
    """The allowed values. `month_day` and `week_day` hold a set, or a rule like L, 15W or 6#3."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    month_day: frozenset[int] | str
    months: frozenset[int]
    week_day: frozenset[int] | str
    years: frozenset[int]

    def has(self, day: date) -> bool:
        """Whether it runs on this day."""
        if day.year not in self.years or day.month not in self.months:
            return False
        return _fits_month_day(self.month_day, day) and _fits_week_day(self.week_day, day)


Expression = Rate | Cron


@lru_cache(maxsize=256)
def parse(text: str) -> Expression:
    """The expression of a text. Raises ValueError with a sentence that says what to write."""
    if re.fullmatch(r"at\(.*\)", text):
        raise ValueError("at(...) runs only once: send POST /start at that time instead")
    if found := re.fullmatch(r"rate\((\d{1,9}) (minutes?|hours?|days?)\)", text, re.ASCII):
        return _rate(int(found[1]), found[2])
    if text.startswith("rate("):
        raise ValueError("a rate reads like rate(5 minutes), rate(1 hour) or rate(2 days)")
    # Plain spaces alone: EventBridge would not take one that only looks so for the end of a field.
    found = re.fullmatch(r"cron\(([\x20-\x7e]*)\)", text)
    if not found:
        raise ValueError("must read cron(...) or rate(...), like cron(0 6 * * ? *)")
    parts = found[1].split()
    if len(parts) != len(FIELDS):
        names = ", ".join(name for name, _, _ in FIELDS)
        raise ValueError(f"cron has {len(parts)} fields; it needs six: {names}")
    return _cron(parts)


def next_after(expression: Expression, zone: tzinfo, at_ms: int) -> int | None:
    """The first run after `at_ms` (epoch ms); None where no run is left.

    A rate counts from `at_ms`. A cron expression is in the wall clock time of `zone`.
    """
    if isinstance(expression, Rate):
        return at_ms + expression.every_ms
    after = datetime.fromtimestamp(at_ms // 1000, UTC)
    wall = after.astimezone(zone).replace(tzinfo=None)
    for day in _days(expression, wall.date()):
        for hour in expression.hours:
            for minute in expression.minutes:
                candidate = datetime(day.year, day.month, day.day, hour, minute)
                if candidate <= wall:
                    continue
                # Where the clocks show a time twice, this is its first moment.
                moment = candidate.replace(tzinfo=zone).astimezone(UTC)
                left_out = moment.astimezone(zone).replace(tzinfo=None) != candidate
                if moment > after and not left_out:
                    return int(moment.timestamp()) * 1000
    return None


def _days(cron: Cron, first: date) -> Iterator[date]:
    """The days of `cron` from `first` on."""
    for year in range(max(first.year, min(cron.years)), max(cron.years) + 1):
        for month in sorted(cron.months) if year in cron.years else ():
            if (year, month) < (first.year, first.month):
                continue
            for number in range(1, calendar.monthrange(year, month)[1] + 1):
                day = date(year, month, number)
                if day >= first and cron.has(day):
                    yield day


# --- reading ------------------------------------------------------------------------------------


def _rate(count: int, unit: str) -> Rate:
    singular = unit.removesuffix("s")
    if count == 0:
        raise ValueError("a rate must be at least one minute")
    if (count == 1) != (unit == singular):
        right = f"rate({count} {singular if count == 1 else singular + 's'})"
        raise ValueError(f"write {right}: one {singular}, several {singular}s")
    every_ms = count * _UNIT_MS[singular]
    if every_ms > _LONGEST_RATE_MS:
        raise ValueError("a rate must not be longer than 366 days")
    return Rate(every_ms)


def _cron(parts: list[str]) -> Cron:
    month_day, week_day = parts[2], parts[4]
    if (month_day == "?") == (week_day == "?"):
        raise ValueError(
            "exactly one of day-of-month (the third field) and day-of-week (the fifth) must be ?; "
            f"they are {month_day} and {week_day}"
        )
    sets = [_values(part, *field) for part, field in zip(parts, FIELDS, strict=True)]
    minutes, hours, days, months, weekdays, years = sets
    for name, at in (("minutes", 0), ("hours", 1), ("month", 3), ("year", 5)):
        if isinstance(sets[at], str):
            raise ValueError(f"{name}: {parts[at]} is only for the two day fields")
    cron = Cron(
        tuple(sorted(minutes)),  # type: ignore[arg-type]
        tuple(sorted(hours)),  # type: ignore[arg-type]
        days,
        months,  # type: ignore[arg-type]
        weekdays,
        years,  # type: ignore[arg-type]
    )
    if next(_days(cron, date(1970, 1, 1)), None) is None:
        raise ValueError("there is no such day: it would never run")
    return cron


def _values(text: str, name: str, low: int, high: int) -> frozenset[int] | str:
    """The values of one field, or its rule (?, L, 15W, 6L, 6#3) as it is written."""
    if text == "?" and name.startswith("day-"):
        return "?"
    rule = _rule(text.upper(), name)
    if rule is not None:
        return rule
    found: set[int] = set()
    for part in text.split(","):
        found |= _part(part, name, low, high)
    return frozenset(found)


def _rule(text: str, name: str) -> str | None:
    if name == "day-of-month":
        if text == "L" or re.fullmatch(r"([1-9]|[12]\d|3[01])W", text, re.ASCII):
            return text
        if "W" in text:
            raise ValueError(f"day-of-month: {text} is no weekday rule; one reads like 15W")
    if name == "day-of-week":
        for day, number in _NAMES[name].items():
            text = re.sub(rf"^{day}(?=[L#])", str(number), text)
        if text == "L" or re.fullmatch(r"[1-7](L|#[1-5])", text, re.ASCII):
            return text
        if "#" in text:
            raise ValueError(f"day-of-week: {text} is no such day; the third Friday is 6#3")
    return None


def _part(text: str, name: str, low: int, high: int) -> set[int]:
    """One entry of a list: *, 5, 5-10, */15, 5/15 or 5-50/15."""
    body, slash, step = text.partition("/")
    every = 1
    if slash:
        if not re.fullmatch(r"[1-9]\d{0,3}", step, re.ASCII) or int(step) > high:
            raise ValueError(f"{name}: {text}: the step after / must be from 1 to {high}")
        every = int(step)
    if body == "*":
        first, last = low, high
    else:
        start, dash, end = body.partition("-")
        first = _number(start, text, name, low, high)
        last = _number(end, text, name, low, high) if dash else high if slash else first
    if first > last:
        raise ValueError(f"{name}: {text} goes backwards; write two ranges with a comma")
    return set(range(first, last + 1, every))


def _number(text: str, whole: str, name: str, low: int, high: int) -> int:
    number = _NAMES.get(name, {}).get(text.upper(), -1)
    if re.fullmatch(r"\d{1,4}", text, re.ASCII):
        number = int(text)
    if not low <= number <= high:
        where = "" if text == whole else f" in {whole}"
        raise ValueError(f"{name}: {text or 'nothing'}{where} is not from {low} to {high}")
    return number


# --- day rules ----------------------------------------------------------------------------------


def _fits_month_day(rule: frozenset[int] | str, day: date) -> bool:
    if isinstance(rule, frozenset):
        return day.day in rule
    last = calendar.monthrange(day.year, day.month)[1]
    if rule == "?":
        return True
    if rule == "L":
        return day.day == last
    return day == _nearest_weekday(day, int(rule[:-1]), last)


def _nearest_weekday(month: date, number: int, last: int) -> date | None:
    """The weekday nearest to a day of the month, inside that month; None without such a day."""
    if number > last:
        return None
    day = month.replace(day=number)
    if day.weekday() == 5:  # Saturday
        return day - timedelta(days=1) if number > 1 else day + timedelta(days=2)
    if day.weekday() == 6:
        return day + timedelta(days=1) if number < last else day - timedelta(days=2)
    return day


def _fits_week_day(rule: frozenset[int] | str, day: date) -> bool:
    number = day.isoweekday() % 7 + 1
    if isinstance(rule, frozenset):
        return number in rule
    if rule == "?":
        return True
    if rule == "L":  # the last day of the week
        return number == 7
    if number != int(rule[0]):
        return False
    if rule[1] == "L":
        return day.day + 7 > calendar.monthrange(day.year, day.month)[1]
    return (day.day - 1) // 7 + 1 == int(rule[2])
