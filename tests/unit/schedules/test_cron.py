"""EventBridge's expressions: read precisely, and run when a minute-by-minute model says."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chalicelib.schedules import cron

DAY_MS = 86_400_000
BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def runs(expression: str, zone: str, start: str, count: int) -> list[str]:
    """The next `count` runs after `start`, as UTC texts."""
    at_ms, found = ms(start), []
    for _ in range(count):
        following = cron.next_after(cron.parse(expression), ZoneInfo(zone), at_ms)
        if following is None:
            break
        at_ms = following
        found.append(datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%MZ"))
    return found


def refusal(text: str) -> str | None:
    try:
        cron.parse(text)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("cron(0 6 * * ? *)", ["2026-03-05T06:00Z", "2026-03-06T06:00Z"]),
        ("cron(0/20 12 * * ? *)", ["2026-03-04T12:00Z", "2026-03-04T12:20Z", "2026-03-04T12:40Z"]),
        ("cron(*/30 23 ? * MON-FRI *)", ["2026-03-04T23:00Z", "2026-03-04T23:30Z"]),
        ("cron(0 0 L * ? *)", ["2026-03-31T00:00Z", "2026-04-30T00:00Z"]),
        # 1 August 2026 is a Saturday, and the weekday must be of the same month.
        ("cron(0 0 1W 8 ? 2026)", ["2026-08-03T00:00Z"]),
        # 31 May 2026 is a Sunday, and the last of its month.
        ("cron(0 0 31W 5 ? 2026)", ["2026-05-29T00:00Z"]),
        ("cron(0 0 31W * ? 2026)", ["2026-03-31T00:00Z", "2026-05-29T00:00Z"]),
        ("cron(15 10 ? * 6#3 *)", ["2026-03-20T10:15Z", "2026-04-17T10:15Z"]),
        ("cron(15 10 ? * FRI#3 *)", ["2026-03-20T10:15Z"]),
        ("cron(15 10 ? * 6L 2026-2027)", ["2026-03-27T10:15Z", "2026-04-24T10:15Z"]),
        ("cron(0 0 ? * L *)", ["2026-03-07T00:00Z", "2026-03-14T00:00Z"]),
        ("cron(0 0 29 2 ? *)", ["2028-02-29T00:00Z", "2032-02-29T00:00Z"]),
        ("cron(0 0 ? feb 2#5 *)", ["2044-02-29T00:00Z"]),
        ("cron(5,35 4-5 1,15 JAN,JUL ? *)", ["2026-07-01T04:05Z", "2026-07-01T04:35Z"]),
    ],
)
def test_an_expression_runs_when_the_user_guide_says(expression: str, expected: list[str]) -> None:
    assert runs(expression, "UTC", "2026-03-04T11:30:00Z", len(expected)) == expected


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "must read cron(...) or rate(...)"),
        ("0 6 * * ? *", "must read cron(...) or rate(...)"),
        ("at(2026-01-01T00:00:00)", "POST /start"),
        ("cron(0 6 * * *)", "cron has 5 fields; it needs six: minutes, hours, day-of-month"),
        ("cron(0 6 * * ? * *)", "cron has 7 fields"),
        ("cron(0 6 * * * *)", "exactly one of day-of-month (the third field)"),
        ("cron(0 6 ? * ? *)", "they are ? and ?"),
        ("cron(60 6 * * ? *)", "minutes: 60 is not from 0 to 59"),
        ("cron(0 24 * * ? *)", "hours: 24 is not from 0 to 23"),
        ("cron(0 6-25 * * ? *)", "hours: 25 in 6-25 is not from 0 to 23"),
        ("cron(0 22-2 * * ? *)", "hours: 22-2 goes backwards"),
        ("cron(0 6 32 * ? *)", "day-of-month: 32 is not from 1 to 31"),
        ("cron(0 6 * 13 ? *)", "month: 13 is not from 1 to 12"),
        ("cron(0 6 * MON ? *)", "month: MON is not from 1 to 12"),
        ("cron(0 6 ? * JAN *)", "day-of-week: JAN is not from 1 to 7"),
        ("cron(0 6 ? * 0 *)", "day-of-week: 0 is not from 1 to 7"),
        ("cron(0 6 * * ? 1969)", "year: 1969 is not from 1970 to 2199"),
        ("cron(*/0 6 * * ? *)", "the step after / must be from 1 to 59"),
        ("cron(1,,2 6 * * ? *)", "minutes: nothing is not from 0 to 59"),
        ("cron(0 6 LW * ? *)", "LW is no weekday rule"),
        ("cron(0 6 ? * 6#6 *)", "the third Friday is 6#3"),
        ("cron(0 6 ? * 6L,2 *)", "day-of-week"),
        ("cron(L 6 * * ? *)", "minutes: L is not from 0 to 59"),
        ("cron(0 6 30 2 ? *)", "it would never run"),
        ("rate(0 minutes)", "at least one minute"),
        ("rate(1 minutes)", "write rate(1 minute)"),
        ("rate(5 minute)", "write rate(5 minutes)"),
        ("rate(30 seconds)", "a rate reads like rate(5 minutes)"),
        ("rate(400 days)", "longer than 366 days"),
    ],
)
def test_a_wrong_expression_is_refused_with_what_is_wrong(expression: str, said: str) -> None:
    with pytest.raises(ValueError) as refused:
        cron.parse(expression)
    assert said in str(refused.value)


@given(st.text(max_size=40) | st.from_regex(r"cron\([0-9A-Z*?,/#-]{1,6}( \S{1,6}){5}\)"))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused_with_a_sentence(text: str) -> None:
    refused = refusal(text)
    assert refused is None or len(refused) > 10


def test_a_rate_counts_from_the_last_run() -> None:
    rate = cron.parse("rate(90 minutes)")
    assert cron.next_after(rate, UTC, 1_000) == 1_000 + 90 * 60_000


def test_an_expression_whose_years_are_over_has_no_next_run() -> None:
    assert runs("cron(0 6 * * ? 2025)", "UTC", "2026-01-01T00:00:00Z", 1) == []


def test_a_time_that_the_clocks_leave_out_is_left_out() -> None:
    # In Berlin, 29 March 2026 has no 02:30.
    assert runs("cron(30 2 * * ? *)", "Europe/Berlin", "2026-03-27T12:00:00Z", 3) == [
        "2026-03-28T01:30Z",
        "2026-03-30T00:30Z",
        "2026-03-31T00:30Z",
    ]


def test_a_time_that_the_clocks_show_twice_runs_once_at_the_first() -> None:
    # In Berlin, 25 October 2026 has 02:30 twice: at 00:30 and at 01:30 UTC.
    assert runs("cron(30 2 * * ? *)", "Europe/Berlin", "2026-10-24T12:00:00Z", 2) == [
        "2026-10-25T00:30Z",
        "2026-10-26T01:30Z",
    ]
    assert runs("cron(30 2 * * ? *)", "Europe/Berlin", "2026-10-25T01:00:00Z", 1) == [
        "2026-10-26T01:30Z"
    ]


# --- against a model that looks at every minute ---------------------------------------------------


def _entries(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(sorted)
    step = st.integers(1, min(high, 20))
    one = st.one_of(
        number.map(str),
        span.map(lambda ends: f"{ends[0]}-{ends[1]}"),
        st.tuples(number, step).map(lambda pair: f"{pair[0]}/{pair[1]}"),
        st.tuples(span, step).map(lambda pair: f"{pair[0][0]}-{pair[0][1]}/{pair[1]}"),
        step.map(lambda every: f"*/{every}"),
        st.just("*"),
    )
    return st.lists(one, min_size=1, max_size=3).map(",".join)


def _set(text: str, low: int, high: int) -> set[int]:
    """The model's own reading of a field without rules."""
    found = set()
    for number in range(low, high + 1):
        for entry in text.split(","):
            body, _, step = entry.partition("/")
            if body == "*":
                first, last = low, high
            elif "-" in body:
                first, last = map(int, body.split("-"))
            else:
                first = int(body)
                last = high if step else first
            if first <= number <= last and (number - first) % int(step or 1) == 0:
                found.add(number)
    return found


def _fits(fields: tuple[str, ...], wall: datetime) -> bool:
    minutes, hours, month_day, months, week_day = fields
    if wall.minute not in _set(minutes, 0, 59) or wall.hour not in _set(hours, 0, 23):
        return False
    if wall.month not in _set(months, 1, 12):
        return False
    weeks = calendar.Calendar(calendar.SUNDAY).monthdayscalendar(wall.year, wall.month)
    column = (wall.weekday() + 1) % 7
    same = [week[column] for week in weeks if week[column]]  # the month's days of this weekday
    if week_day != "?":
        if week_day == "L":
            return column == 6
        if week_day.endswith("L"):
            return column + 1 == int(week_day[0]) and wall.day == same[-1]
        if "#" in week_day:
            day, nth = map(int, week_day.split("#"))
            return column + 1 == day and wall.day in same[nth - 1 : nth]
        return column + 1 in _set(week_day, 1, 7)
    days = [day for week in weeks for day in week if day]
    if month_day == "L":
        return wall.day == days[-1]
    if month_day.endswith("W"):
        wanted = int(month_day[:-1])
        working = [day for week in weeks for day in week[1:6] if day]
        # No two working days are equally near to a Saturday or Sunday inside the month.
        nearest = min(working, key=lambda day: (abs(day - wanted), day))
        return wanted in days and wall.day == nearest
    return wall.day in _set(month_day, 1, 31)


_month_days = st.one_of(
    _entries(1, 31), st.just("L"), st.integers(1, 31).map(lambda day: f"{day}W")
).map(lambda text: (text, "?"))
_week_days = st.one_of(
    _entries(1, 7),
    st.just("L"),
    st.integers(1, 7).map(lambda day: f"{day}L"),
    st.tuples(st.integers(1, 7), st.integers(1, 5)).map(lambda pair: f"{pair[0]}#{pair[1]}"),
).map(lambda text: ("?", text))
#: A few days around each change of the clocks, and one month's end without any.
_starts = st.sampled_from(
    [
        (BERLIN, "2026-03-28T20:00:00Z"),
        (BERLIN, "2026-10-24T20:00:00Z"),
        (NEW_YORK, "2026-03-07T20:00:00Z"),
        (NEW_YORK, "2026-11-01T00:00:00Z"),
        (ZoneInfo("Australia/Lord_Howe"), "2026-04-04T10:00:00Z"),  # half an hour back
        (ZoneInfo("Asia/Kolkata"), "2026-02-27T00:00:00Z"),
        (ZoneInfo("UTC"), "2026-05-30T12:00:00Z"),
    ]
)


@given(
    minutes=_entries(0, 59),
    hours=_entries(0, 23),
    days=st.one_of(_month_days, _week_days),
    months=st.one_of(st.just("*"), _entries(1, 12)),
    start=_starts,
)
@settings(max_examples=50, deadline=None)
def test_runs_are_those_of_a_model_that_looks_at_every_minute(
    minutes: str, hours: str, days: tuple[str, str], months: str, start: tuple[ZoneInfo, str]
) -> None:
    zone, text = start
    text_of = f"cron({minutes} {hours} {days[0]} {months} {days[1]} *)"
    refused = refusal(text_of)
    assert refused is None or "never run" in refused
    assume(refused is None)
    expression = cron.parse(text_of)
    begin = datetime.fromisoformat(text)
    fields = (minutes, hours, days[0], months, days[1])
    expected = []
    for minute in range(1, 36 * 60):
        moment = begin + timedelta(minutes=minute)
        local = moment.astimezone(zone)
        if not local.fold and _fits(fields, local):
            expected.append(int(moment.timestamp()) * 1000)
    found, at_ms = [], int(begin.timestamp() * 1000)
    until = at_ms + 36 * 3_600_000 - 60_000
    while len(found) <= 60:
        following = cron.next_after(expression, zone, at_ms)
        if following is None or following > until:
            break
        found.append(at_ms := following)
    assert found == expected[: len(found)]
    assert len(found) == min(len(expected), 61)
