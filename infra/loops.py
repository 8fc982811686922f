"""The functions that their own messages wake again, and which AWS must not stop for that.

Lambda counts how often a function runs in one chain of requests. After about sixteen rounds it
stops the function, and the message goes to the dead letters. Our loops are meant: a low task looks
again every five seconds, a message waits out an outage in its queue, and counted units ask for the
next ones. Each of them ends by itself (docs/RELIABILITY.md, "Loops").

Source: AWS Lambda Developer Guide, "Use Lambda recursive loop detection to prevent infinite loops"
(invocation-recursion): the chain goes through SQS, S3 and SNS, and ends at any other service.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from infra.functions import FUNCTIONS, role

Resources = dict[str, dict[str, Any]]


def allow(resources: Resources) -> None:
    """Let run, in place, each function that can be reached from the queues that it sends to.

    `resources`: of the merge template, with event sources, policies and queues.
    """
    for function in FUNCTIONS.values():
        if function in _reached(resources, function):
            resources[function]["Properties"]["RecursiveLoop"] = "Allow"


def _reached(resources: Resources, function: str) -> set[str]:
    found: set[str] = set()
    ahead = [function]
    while ahead:
        following = set(_follow(resources, ahead.pop())) - found
        found |= following
        ahead += following
    return found


def _follow(resources: Resources, name: str) -> Iterator[str]:
    """What a message can reach next: queues from a function; functions, dead letters from a queue.

    A dead letter keeps its attributes, and with them its chain.
    """
    if name in FUNCTIONS.values():
        [policy] = resources[role(name)]["Properties"]["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]:
            if "sqs:SendMessage" in statement["Action"]:
                yield from (arn["Fn::GetAtt"][0] for arn in statement["Resource"])
        return
    redrive = resources[name]["Properties"].get("RedrivePolicy")
    if redrive:
        yield redrive["deadLetterTargetArn"]["Fn::GetAtt"][0]
    for function in FUNCTIONS.values():
        for event in resources[function]["Properties"].get("Events", {}).values():
            if event["Properties"].get("Queue") == {"Fn::GetAtt": [name, "Arn"]}:
                yield function
