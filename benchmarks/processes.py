"""CPU time of processes and of all below them, as the system counts it."""

from __future__ import annotations

import os
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Spent(NamedTuple):
    """CPU seconds of a process; `ended`: of its children that have ended."""

    parent: int
    own: float
    ended: float


class Tree(NamedTuple):
    """CPU seconds of a process itself, and of all below it."""

    own: float
    below: float

    def less(self, before: Tree) -> Tree:
        return Tree(self.own - before.own, self.below - before.below)


def trees(pids: dict[str, int]) -> dict[str, Tree]:
    """What each of the named processes has spent so far."""
    spent = dict(_from_proc() if Path("/proc/self/stat").exists() else _from_ps())
    children: dict[int, list[int]] = defaultdict(list)
    for pid, each in spent.items():
        children[each.parent].append(pid)

    def below(pid: int) -> float:
        return spent[pid].ended + sum(spent[each].own + below(each) for each in children[pid])

    return {name: Tree(spent[pid].own, below(pid)) for name, pid in pids.items()}


def _from_proc() -> Iterator[tuple[int, Spent]]:
    tick = os.sysconf("SC_CLK_TCK")
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        # The command's name, in brackets, may hold anything; what follows the last one does not.
        fields = stat.rpartition(")")[2].split()
        user, system, ended_user, ended_system = (int(each) / tick for each in fields[11:15])
        yield int(entry.name), Spent(int(fields[1]), user + system, ended_user + ended_system)


def _from_ps() -> Iterator[tuple[int, Spent]]:
    """macOS: without the children that have ended, which no command there tells."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,time="], capture_output=True, text=True, check=True
    ).stdout
    for line in listed.splitlines():
        pid, parent, clock = line.split()
        seconds = 0.0
        for part in clock.replace("-", ":").split(":"):
            seconds = seconds * 60 + float(part)
        yield int(pid), Spent(int(parent), seconds, 0.0)
