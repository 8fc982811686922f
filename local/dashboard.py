"""`make dashboard`: the deployed dashboard's own definition, drawn from what CloudWatch has.

`--demo` makes something happen first: tasks, a symbol that fails, a 429, a poisonous message.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from local.aws import Account
from local.board import load
from local.demo import play
from local.drawing import draw
from local.endpoints import endpoints
from local.journal import Journal
from local.layout import HOME, METRICS, METRICS_JOURNAL, METRICS_STATE
from local.metrics import LONGEST_WAIT_S, Relay
from local.processes import parts


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw the deployed dashboard as a PNG.")
    parser.add_argument("--out", type=Path, default=HOME / "dashboard.png")
    parser.add_argument("--minutes", type=float, default=30.0, help="how far it looks back")
    parser.add_argument("--demo", type=float, metavar="MINUTES", help="make something happen first")
    given = parser.parse_args()
    found = endpoints()
    to, stack = Account(found["aws_endpoint_url"]), found["stack_name"]
    if given.demo:
        play(found, given.demo, print)
    if all(part.name != METRICS for part in parts(HOME)):
        Relay(to, stack, Journal(METRICS_JOURNAL), METRICS_STATE).step()
    else:
        time.sleep(LONGEST_WAIT_S + 2)  # the relay's next look
    end_s = time.time()
    board = load(to, stack, end_s - given.minutes * 60, end_s)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    draw(board, given.out)
    print(given.out)
    return 0
