"""What the laptop's stack takes at rest: the one that `make run` has left running here.

The embedded cloud is looked at with and without the processes beside it: in every other stretch the
relay of metrics and the gateway are halted, so that what they make the cloud do falls away. The
exchange stays, because the functions ask it. Nobody should use the stack meanwhile.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.processes import trees
from benchmarks.report import Report, verdict
from local.layout import CLOUD, EXCHANGE, GATEWAY, HOME, METRICS
from local.processes import parts

PAIRS = 4
#: Whole minutes: what the cloud runs every minute is then in each stretch as often.
STRETCH_S = 120
#: Of a core, above what the embedded cloud takes alone.
BUDGET = 0.01
_HALTED = (METRICS, GATEWAY)
_BESIDE = (METRICS, GATEWAY, EXCHANGE)


def measure() -> Report:
    pids = {part.name: part.process.pid for part in parts(HOME)}
    missing = {CLOUD, *_BESIDE} - set(pids)
    if missing:
        raise SystemExit(f"Not running here: {', '.join(sorted(missing))}. `make run` starts it.")
    stretches: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    for _ in range(PAIRS):
        for beside in (True, False):
            stretches[beside].append(_stretch(pids, beside))

    def share(name: str, beside: bool) -> float:
        return statistics.median(each[name] / STRETCH_S for each in stretches[beside])

    alone = share(CLOUD, False)
    caused = statistics.median(
        (one[CLOUD] - other[CLOUD]) / STRETCH_S
        for one, other in zip(stretches[True], stretches[False], strict=True)
    )
    extra = caused + sum(share(name, True) for name in _BESIDE)
    report = Report(
        "idle: the laptop's stack at rest",
        ("what", "CPU s a minute", "of a core", "budget", "verdict"),
    )
    report.add("the embedded cloud alone", *_cells(alone), "", "")
    for name in _BESIDE:
        report.add(name, *_cells(share(name, True)), "", "")
    report.add("what they make the cloud do", *_cells(caused), "", "")
    report.add("above the cloud alone", *_cells(extra), f"<= {BUDGET:.0%}", verdict(extra, BUDGET))
    with_all, without = (
        [each[CLOUD] / STRETCH_S for each in stretches[at]] for at in (True, False)
    )
    report.remarks += [
        f"medians of {PAIRS} stretches of {STRETCH_S} s with the relay and the gateway, and of as "
        "many without (halted), by turns; the cloud with its functions and its saves",
        f"the cloud with them {_range(with_all)} of a core, without them {_range(without)}",
    ]
    return report


def _cells(share: float) -> tuple[str, str]:
    return f"{share * 60:.2f}", f"{share:.2%}"


def _range(shares: list[float]) -> str:
    return f"{min(shares):.2%} to {max(shares):.2%}"


def _stretch(pids: dict[str, int], beside: bool) -> dict[str, float]:
    """CPU seconds of each part in one stretch, its children included."""
    with _halted([] if beside else [pids[name] for name in _HALTED]):
        before = trees(pids)
        time.sleep(STRETCH_S)
        after = trees(pids)
    return {name: sum(after[name]) - sum(before[name]) for name in pids}


@contextmanager
def _halted(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
