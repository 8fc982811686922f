"""The functions' processes below the embedded cloud: found in /proc, and killed."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: How often each is chosen among those at work. Those that work seldom are chosen when they do.
FUNCTIONS = {"Collect": 12, "OnTaskChange": 12, "Plan": 6, "Bury": 24, "Sweep": 24}
#: The embedded cloud runs each worker from a folder named after its function.
_COMMAND = re.compile(rf"-local-({'|'.join(FUNCTIONS)})-")


@dataclass(frozen=True)
class Worker:
    pid: int
    function: str
    #: Processor time used so far, in clock ticks.
    ticks: int


def running(cloud_pid: int) -> list[Worker]:
    """The functions' processes that the embedded cloud of this pid has started and that live."""
    return [worker for pid in _pids() if (worker := _read(pid, cloud_pid)) is not None]


def kill(worker: Worker, cloud_pid: int) -> bool:
    """SIGKILL; False where the process has ended meanwhile."""
    # A descriptor names the process itself, not a number that may be another's by now.
    try:
        descriptor = os.pidfd_open(worker.pid)
    except ProcessLookupError:
        return False
    try:
        if _read(worker.pid, cloud_pid) is None:
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdecimal())


def _read(pid: int, parent: int) -> Worker | None:
    folder = Path("/proc") / str(pid)
    try:
        # What follows the command's name, which stands in brackets and may hold anything.
        fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        if int(fields[1]) != parent or fields[0] in "ZX":
            return None
        named = _COMMAND.search((folder / "cmdline").read_text(errors="replace"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Worker(pid, named[1], int(fields[11]) + int(fields[12])) if named else None
