"""What CloudWatch does and the embedded cloud does not: `python -m local.metrics`.

* It reads metrics out of what the functions log (EMF) and stores them, each line once.
* It counts invocations, their durations and those that crashed by the same logs. (The embedded
  cloud does so only for the Invoke API; an invocation by that is counted twice.)
* It measures the queues once in a while, from their attributes and their stored messages.
* It tells a stream's iterator age, which the stream's own function has measured.
* It evaluates alarms by their dimensions, periods and missing data; the embedded cloud's own
  evaluation, which knows none of these, is switched off (local/emulator.py).

It looks soon after something was logged (`Pace`), and seldom while nothing is: at rest all of this
may cost next to nothing, in this process and in the embedded cloud, which answers it.

Only what is really measured there is stored. What AWS would publish and nobody can measure here is
in `EMULATOR_LACKS`, each with its reason.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.alarming import evaluate
from local.aws import Account
from local.emf import Datum, by_minute, data_of
from local.journal import Invocation, Journal
from local.layout import read_object, write_whole

_NO_SOCKET_LOGS = "the emulator keeps no log of what a WebSocket wakes"
#: Patterns of (namespace, metric, value of a dimension) -> why the embedded cloud cannot tell it.
EMULATOR_LACKS = {
    ("AWS/DynamoDB", "ConsumedWriteCapacityUnits", "*"): (
        "the tables' own total is not kept; ConsumedWriteUnits, as answers say, stands beside it"
    ),
    ("AWS/Lambda", "*", "*-Websocket*"): _NO_SOCKET_LOGS,
    ("MarketDataCollector", "*", "websocket_*"): _NO_SOCKET_LOGS,
}
_REPORT = re.compile(r"REPORT RequestId: \S+\tDuration: ([\d.]+) ms")
#: What `events.edge` logs of an invocation that crashed. One that was killed cannot say so.
_CRASHED = '"event": "invocation_failed"'
_MOST_DATA = 500
#: A look waits until nothing was logged for so long, because what a task logs comes in bursts;
_SETTLED_S = 2.0
#: but not longer than this.
LONGEST_WAIT_S = 5.0
#: So long between two looks while nothing is logged. The sweep logs every minute, so this is for a
#: stack whose schedules stand still: its alarms must ring.
_AT_REST_S = 90.0
_STAT_S = 1.0


class Pace:
    """When to look. `now_s`: any clock that only goes forward."""

    def __init__(self) -> None:
        self._end = -1
        self._first_s: float | None = None
        self._last_s = self._looked_s = 0.0

    def is_due(self, end: int, now_s: float) -> bool:
        """Whether to look now; `end`: what there is to read, any number that changes with it."""
        if end != self._end:
            self._end, self._last_s = end, now_s
            self._first_s = now_s if self._first_s is None else self._first_s
        if self._first_s is None:
            due = now_s - self._looked_s >= _AT_REST_S
        else:
            settled = now_s - self._last_s >= _SETTLED_S
            due = settled or now_s - self._first_s >= LONGEST_WAIT_S
        if due:
            self._first_s, self._looked_s = None, now_s
        return due


class Relay:
    """One stack's metrics and alarms; what was read so far is kept in `state`."""

    def __init__(self, to: Account, stack: str, journal: Journal, state: Path) -> None:
        self._to = to
        self._stack = stack
        self._journal = journal
        self._state = state
        self._cloudwatch = to.client("cloudwatch")
        self._queues = self._queue_names()

    def step(self) -> list[Datum]:
        """Read what is new, measure, store, judge; returns what was stored."""
        invocations, read_to = self._journal.read(read_object(self._state).get("read_to", 0))
        data = [*self._emitted(invocations), *self._measured(time.time())]
        # Noted before it is stored: after a crash between the two a line is lost, never doubled.
        write_whole(self._state, json.dumps({"read_to": read_to}))
        self._put(data)
        self._judge()
        return data

    # --- reading --------------------------------------------------------------------------

    def _emitted(self, invocations: Iterable[Invocation]) -> Iterator[Datum]:
        for invocation in invocations:
            if not invocation.group.startswith(f"/aws/lambda/{self._stack}-"):
                continue
            function = invocation.group.rpartition("/")[2]
            failed = any(_CRASHED in line for _, line in invocation.lines)
            for at_ms, line in invocation.lines:
                report = _REPORT.match(line)
                if report:
                    yield from _invocation(function, at_ms, float(report[1]), failed)
                    continue
                for datum in data_of(line):
                    yield datum
                    if datum.name == "StreamLag" and len(datum.dimensions) > 1:
                        yield _iterator_age(datum, function)

    # --- measuring ------------------------------------------------------------------------

    def _measured(self, now_s: float) -> Iterator[Datum]:
        for name, messages in self._messages().items():
            if name not in self._queues:
                continue
            sent = [message["SentTimestamp"] for message in messages]
            hidden = [message for message in messages if not message["IsVisible"]]
            # As the emulator's own attributes tell them apart.
            delayed = sum(message["ReceiveCount"] == 0 for message in hidden)
            values = (
                ("ApproximateNumberOfMessagesVisible", "Count", len(messages) - len(hidden)),
                ("ApproximateNumberOfMessagesNotVisible", "Count", len(hidden) - delayed),
                ("ApproximateNumberOfMessagesDelayed", "Count", delayed),
                (
                    "ApproximateAgeOfOldestMessage",
                    "Seconds",
                    max(0.0, now_s - min(sent, default=now_s)),
                ),
            )
            dimensions = (("QueueName", name),)
            for metric, unit, value in values:
                at_ms = int(now_s * 1000)
                yield Datum("AWS/SQS", metric, dimensions, unit, at_ms, (float(value),))

    def _messages(self) -> dict[str, list[dict[str, Any]]]:
        """Name of a queue -> its messages: the emulator's view of all of them in one answer, which
        receives nothing by looking."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self._to.endpoint_url}/_ministack/sqs/messages") as answer:
            accounts = json.load(answer)["messages"]
        return {
            url.rpartition("/")[2]: messages
            for regions in accounts.values()
            for queues in regions.values()
            for url, messages in queues.items()
        }

    # --- storing and judging --------------------------------------------------------------

    def _put(self, data: list[Datum]) -> None:
        for namespace, found in by_minute(data).items():
            for start in range(0, len(found), _MOST_DATA):
                part = found[start : start + _MOST_DATA]
                self._cloudwatch.put_metric_data(Namespace=namespace, MetricData=part)

    def _judge(self) -> None:
        shown = self._cloudwatch.describe_alarms(AlarmNamePrefix=f"{self._stack}-")
        alarms = shown["MetricAlarms"]
        judged = evaluate(self._cloudwatch, alarms, time.time())
        for alarm in alarms:
            name = alarm["AlarmName"]
            state, reason = judged[name]
            if state != alarm["StateValue"]:
                self._cloudwatch.set_alarm_state(
                    AlarmName=name, StateValue=state, StateReason=reason
                )

    def _queue_names(self) -> set[str]:
        found = self._to.client("cloudformation").describe_stack_resources(StackName=self._stack)
        return {
            resource["PhysicalResourceId"].rpartition("/")[2]
            for resource in found["StackResources"]
            if resource["ResourceType"] == "AWS::SQS::Queue"
        }


def lacking(namespace: str, metric: str, dimensions: Iterable[tuple[str, str]]) -> str | None:
    """Why the embedded cloud cannot tell a metric; None where it can."""
    for (spaces, names, values), why in EMULATOR_LACKS.items():
        here = any(fnmatchcase(value, values) for _, value in dimensions)
        if here and namespace == spaces and fnmatchcase(metric, names):
            return why
    return None


def _invocation(function: str, at_ms: int, took_ms: float, failed: bool) -> Iterator[Datum]:
    dimensions = (("FunctionName", function),)
    values = (
        ("Invocations", "Count", 1.0),
        ("Duration", "Milliseconds", took_ms),
        ("Errors", "Count", float(failed)),
        # It ran, so it was not throttled. Those that were, the emulator counts itself.
        ("Throttles", "Count", 0.0),
    )
    for name, unit, value in values:
        yield Datum("AWS/Lambda", name, dimensions, unit, at_ms, (value,))


def _iterator_age(datum: Datum, function: str) -> Datum:
    # The same thing measured by the function: the age of a batch's last record when it arrives.
    dimensions = (("FunctionName", function),)
    return datum._replace(namespace="AWS/Lambda", name="IteratorAge", dimensions=dimensions)


def main() -> int:
    parser = argparse.ArgumentParser(description="Keep the embedded cloud's metrics and alarms.")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--stack", required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--journal", type=Path, required=True, help="what the functions log")
    given = parser.parse_args()
    relay, journal, pace = None, Journal(given.journal), Pace()
    while True:
        try:
            if pace.is_due(journal.end(), time.monotonic()):
                relay = relay or Relay(Account(given.endpoint), given.stack, journal, given.state)
                relay.step()
        except (BotoCoreError, ClientError, OSError) as error:
            # The cloud may be restarting; what was missed is read when it is back.
            print(f"not now: {error}", file=sys.stderr, flush=True)
        time.sleep(_STAT_S)


if __name__ == "__main__":
    sys.exit(main())
