"""`python -m benchmarks [name ...]`: run the named benchmarks, or all quick ones.

Prints their tables and writes them into docs/benchmarks and docs/BENCHMARKS.md.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time

from benchmarks import records
from benchmarks.report import Report, machine

NAMES = (
    "cold_start",
    "start_calls",
    "writes_per_unit",
    "objects",
    "audit_calls",
    "zip_size",
    "waiting_behind",
    "watching",
    "pushes",
    "quote",
)
#: These take long, and some start a cloud of their own or need an environment of their own, so they
#: run only when named.
WHEN_NAMED = (
    "archive",
    "ceiling",
    "console",
    "fairness",
    "flat",
    "growth",
    "history",
    "idle",
    "push_clients",
    "stack",
    "worker",
)


def main() -> int:
    """0 whether or not a budget is met: this is a report, and `make check` is the gate."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure what the design promises in numbers, each against its budget.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"of {', '.join(NAMES + WHEN_NAMED)}"
    )
    parser.add_argument("--print", action="store_true", help="write nothing")
    given = parser.parse_args()
    names = given.names or NAMES
    unknown = set(names) - set(NAMES) - set(WHEN_NAMED)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(NAMES + WHEN_NAMED)}")
    print(f"{machine()}\n")
    for name in names:
        load, started = os.getloadavg()[0], time.monotonic()
        found = importlib.import_module(f"benchmarks.{name}").measure()
        seconds = time.monotonic() - started
        reports = [found] if isinstance(found, Report) else found
        tables = "\n\n".join(map(str, reports))
        print(f"{tables}\n({name}: {seconds:.0f} s; load at its start {load:.2f})\n", flush=True)
        if not given.print:
            records.write(name, reports, seconds, load)
    return 0


if __name__ == "__main__":
    sys.exit(main())
