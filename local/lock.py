"""One command at a time per folder: what `make run` and `make down` hold while they work.

The lock is the system's (flock), so it ends with its process, however that ends. The file names who
holds it, which is true only while the lock is held.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from local.failures import StartFailed
from local.processes import Process, myself

RUN, DOWN = "make run", "make down"
#: A `make down` in a hurry: what it ends may be writing its state.
_PATIENCE_S = 120.0
_POLL_S = 0.1
#: Descriptors of the locks that this process holds, until it ends.
_held: list[int] = []


def acquire(file: Path, doing: str, report: Callable[[str], None]) -> None:
    """Hold the lock of `file` until this process ends.

    `make down` ends a `make run` that holds it. `make run` waits for a `make down`, and raises
    StartFailed where another `make run` is at work.
    """
    writable = doing != DOWN or os.access(file.parent, os.W_OK)
    # What runs in a folder that has become read-only can be ended all the same.
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY, 0o600)
    deadline = time.monotonic() + _PATIENCE_S
    waiting: Process | None = None
    while not _locked(descriptor):
        what, process = _holder(file)
        if doing == RUN and what == RUN:
            raise StartFailed(
                f"Another `make run` is at work in this folder (process {process.pid}): wait until "
                "it is ready, or end it with `make down`."
            )
        if waiting != process:
            waiting = process
            report(f"{'ending' if what == RUN else 'waiting for'} `{what}` ({process.pid})")
            if what == RUN and process.is_running():
                os.kill(process.pid, signal.SIGTERM)
                os.kill(process.pid, signal.SIGCONT)
        if time.monotonic() > deadline:
            raise StartFailed(
                f"`{what}` (process {process.pid}) has been at work in this folder for "
                f"{_PATIENCE_S:.0f} s: end it with `kill -9 {process.pid}`, and try again."
            )
        time.sleep(_POLL_S)
    if writable:
        mine = myself()
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{doing}\n{mine.pid}\n{mine.started}\n".encode(), 0)
    _held.append(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: Path) -> tuple[str, Process]:
    """What the holder does, and its process; ("make", process 0) while it has not said so yet."""
    try:
        doing, pid, started = file.read_text(encoding="utf-8").splitlines()
        return doing, Process(int(pid), started, doing)
    except ValueError:
        return "make", Process(0, "", "")
