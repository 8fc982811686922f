"""The log groups of a stack, and what is in them, also of the embedded cloud."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from local.aws import Account

#: In one answer. Source: CloudWatch Logs API Reference, "FilterLogEvents".
MOST_EVENTS = 10_000


def log_groups(to: Account, stack: str) -> list[str]:
    """The log groups of a stack's functions."""
    pages = to.client("logs").get_paginator("describe_log_groups")
    found = pages.paginate(logGroupNamePrefix=f"/aws/lambda/{stack}-")
    return [group["logGroupName"] for page in found for group in page["logGroups"]]


def log_events(
    to: Account, group: str, from_ms: int, until_ms: int | None = None
) -> Iterator[dict[str, Any]]:
    """Events of a log group from `from_ms` on, in order of time.

    For the embedded cloud, which gives the first 10,000 and no token: what follows is asked for
    from the last one's time on.
    """
    logs = to.client("logs")
    asked: dict[str, Any] = {"logGroupName": group, "startTime": from_ms}
    if until_ms is not None:
        asked["endTime"] = until_ms
    given: Counter[str] = Counter()
    while True:
        events = logs.filter_log_events(**asked)["events"]
        fresh = list(_behind(events, asked["startTime"], given))
        yield from fresh
        if len(events) < MOST_EVENTS or not fresh:
            return
        last = events[-1]["timestamp"]
        asked["startTime"] = last
        given = Counter(event["logStreamName"] for event in events if event["timestamp"] == last)


def _behind(
    events: list[dict[str, Any]], first_ms: int, given: Counter[str]
) -> Iterator[dict[str, Any]]:
    """`events` without those of their first moment that were given: so many of each stream."""
    left = +given
    for event in events:
        if event["timestamp"] == first_ms and left[event["logStreamName"]] > 0:
            left[event["logStreamName"]] -= 1
        else:
            yield event
