"""Processes in the background: started, recognised again later, and ended.

A process is known by its pid and its start time together. A pid alone may belong to somebody else's
program by now, which must be neither reused nor killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    pid: int
    #: Start time as the system tells it, and the boot it belongs to; only ever compared.
    started: str
    command: list[str]

    def is_running(self) -> bool:
        return _started(self.pid) == self.started


class Registry:
    """What was started, by name, in a file; so that a later command can end it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def get(self, name: str) -> Process | None:
        """The process of that name if it still runs."""
        found = self._read().get(name)
        return found if found is not None and found.is_running() else None

    def names(self) -> list[str]:
        return list(self._read())

    def put(self, name: str, process: Process) -> None:
        self._write({**self._read(), name: process})

    def remove(self, name: str) -> None:
        self._write({key: value for key, value in self._read().items() if key != name})

    def _read(self) -> dict[str, Process]:
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            return {name: Process(**process) for name, process in content.items()}
        except (FileNotFoundError, ValueError, TypeError):
            return {}

    def _write(self, processes: dict[str, Process]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._file.with_suffix(".part")
        content = {name: asdict(process) for name, process in processes.items()}
        scratch.write_text(json.dumps(content, indent=2), encoding="utf-8")
        scratch.replace(self._file)


def start(command: list[str], environ: Mapping[str, str], cwd: Path, log: Path) -> Process:
    """Start `command` in a session of its own, so that closing the terminal does not end it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # A child that has ended already is a zombie until it is waited for, and then has no start time.
    process = Process(child.pid, _started(child.pid) or "ended", command)
    # Not waiting for it is the point; without this, Python warns of a child left running.
    child.returncode = 0
    return process


def stop(process: Process, patience_s: float = 20.0) -> None:
    """End the process and what it started; nothing happens where it has ended already."""
    if not process.is_running():
        return
    # The group is recorded before, while the leader's pid is certainly ours.
    group = [(pid, _started(pid)) for pid in _group(process.pid)]
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + patience_s
    while process.is_running() and time.monotonic() < deadline:
        _reap(process.pid)
        time.sleep(0.05)
    for pid, started in group:
        if started is not None and _started(pid) == started:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    _reap(process.pid)


def _reap(pid: int) -> None:
    # Only a child of this very process can be waited for; elsewhere init does it.
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _started(pid: int) -> str | None:
    """When the process started; None where there is none, or only its zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self/stat").exists() else _started_by_ps(pid)
    # The command's name, in brackets, may hold anything; what follows the last one does not.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def _started_by_ps(pid: int) -> str | None:
    """The same where there is no /proc (macOS)."""
    asked = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    shown = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    state, _, started = shown.partition(" ")
    return None if not shown or state.startswith("Z") else " ".join(started.split())


def _group(leader: int) -> list[int]:
    """The pids of the process group of `leader`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):
            fields = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[2]) == leader:
                found.append(int(entry.parent.name))
    if found:
        return found
    shown = subprocess.run(
        ["ps", "-A", "-o", "pid=,pgid="], capture_output=True, text=True, check=False
    ).stdout
    pairs = [line.split() for line in shown.splitlines()]
    return [int(pair[0]) for pair in pairs if len(pair) == 2 and int(pair[1]) == leader]
