"""Why a change of a CloudFormation stack failed.

Source: CloudFormation API Reference, DescribeStackEvents (newest first, in pages, back to the
stack's creation) and DescribeEvents (what was found before anything was made).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Event = dict[str, Any]

#: Unlike these, a rollback belongs to what it undoes.
_BEGUN = ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS")


def first_failure(formation: Any, stack: str) -> str | None:
    """Where the stack's last operation first failed, as `<resource>: <reason>`.

    What follows from it comes later. Where no resource has failed, that is the rollback. None where
    nothing has failed.
    """
    first: Event | None = None
    for event in _pages(formation.describe_stack_events, "StackEvents", StackName=stack):
        if event["ResourceStatus"].endswith(("_FAILED", "ROLLBACK_IN_PROGRESS")):
            first = event
        if event["PhysicalResourceId"] == event["StackId"] and event["ResourceStatus"] in _BEGUN:
            break
    if first is None:
        return None
    found = None
    if first.get("DetailedStatus") == "VALIDATION_FAILED":  # the event itself names no resource
        found = _first_invalid(formation, stack)
    return found or f"{first['LogicalResourceId']}: {first.get('ResourceStatusReason')}"


def failures(formation: Any, stack: str) -> list[str]:
    """Of each resource of the stack's last operation that failed, `<resource>: <reason>`."""
    found: dict[str, str] = {}
    for event in _pages(formation.describe_stack_events, "StackEvents", StackName=stack):
        itself = event["PhysicalResourceId"] == event["StackId"]
        if itself and event["ResourceStatus"] in _BEGUN:
            break
        if not itself and event["ResourceStatus"].endswith("_FAILED"):
            name = event["LogicalResourceId"]
            found.setdefault(name, f"{name}: {event.get('ResourceStatusReason')}")
    return [*found.values()]


def _first_invalid(formation: Any, stack: str) -> str | None:
    asked = {"StackName": stack, "Filters": {"FailedEvents": True}}
    events = list(_pages(formation.describe_events, "OperationEvents", **asked))
    last = max(events, key=lambda event: event["Timestamp"], default={}).get("OperationId")
    for event in events:
        if event["OperationId"] == last and event["EventType"] == "VALIDATION_ERROR":
            return f"{event['LogicalResourceId']}: {event.get('ValidationStatusReason')}"
    return None


def _pages(call: Any, name: str, **asked: Any) -> Iterator[Event]:
    while True:
        answer = call(**asked)
        yield from answer[name]
        if "NextToken" not in answer:
            return
        asked["NextToken"] = answer["NextToken"]
