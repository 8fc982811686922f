"""`python -m benchmarks [name ...]`: run the named benchmarks, or all quick ones; print tables."""

from __future__ import annotations

import argparse
import importlib
import sys
import time

from benchmarks.report import machine

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
    names = parser.parse_args().names or NAMES
    unknown = set(names) - set(NAMES) - set(WHEN_NAMED)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(NAMES + WHEN_NAMED)}")
    print(f"{machine()}\n")
    for name in names:
        started = time.monotonic()
        report = importlib.import_module(f"benchmarks.{name}").measure()
        print(f"{report}\n({name}: {time.monotonic() - started:.0f} s)\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
