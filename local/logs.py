"""`make logs TASK=<id>`: what every function logged of one task, in order of time."""

from __future__ import annotations

import argparse
import json
import sys
import time

from local.aws import Account
from local.endpoints import endpoints
from local.insights import Answer, ask
from local.log_events import log_groups

#: Shown in columns of their own; the rest of a line follows as name=value.
_FIRST = ("time", "function", "level", "event")
_LEFT_OUT = ("task_id", "request_id", "message_id", "trace")


def follow(to: Account, stack: str, task_id: str, hours: float = 24.0) -> Answer:
    """Every line of a task, from all functions of the stack."""
    end_ms = int(time.time() * 1000)
    query = f'fields @timestamp, @message | filter task_id = "{task_id}" | sort time asc'
    return ask(to, query, log_groups(to, stack), end_ms - int(hours * 3_600_000), end_ms)


def main() -> int:
    parser = argparse.ArgumentParser(description="What the functions logged of one task.")
    parser.add_argument("task_id")
    parser.add_argument("--hours", type=float, default=24.0, help="how far it looks back")
    given = parser.parse_args()
    found = endpoints()
    to = Account(found["aws_endpoint_url"])
    answer = follow(to, found["stack_name"], given.task_id, given.hours)
    for _, message in answer.rows:
        fields = json.loads(message)
        rest = [
            f"{name}={value}"
            for name, value in fields.items()
            if name not in (*_FIRST, *_LEFT_OUT) and value is not None
        ]
        first = [str(fields.get(name, "")) for name in _FIRST]
        print(f"{first[0]}  {first[1]:<15} {first[2]:<8} {first[3]:<18} {' '.join(rest)}")
    if not answer.rows:
        print("No function logged anything of this task.", file=sys.stderr)
    return 0 if answer.rows else 1
