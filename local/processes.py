"""Processes in the background: started, recognised again later, and ended.

What runs is read from the system's own list, never from a file: a file can be lost, damaged or
copied, and whoever would write it can be killed first. Each part of a stack bears a mark on its
command line, which names the part and its folder:

    python -X stack=gateway:2049-1835011:/home/me/collector/.local -m local.gateway --port 8000

The number (device and inode) stays when a folder is moved, and is another one in a copy, so a copy
never takes the original's processes for its own. Python ignores an unknown -X.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from local.failures import StartFailed

_MARK = re.compile(r" -X stack=([a-z]+):([0-9]+-[0-9]+):(\S+) ")
_PORT = re.compile(r" --port ([0-9]+)(?: |$)")
_POLL_S = 0.05


@dataclass(frozen=True)
class Process:
    pid: int
    #: Start time as the system tells it, and the boot it belongs to; only ever compared. A pid
    #: alone may belong to somebody else's program by now.
    started: str
    #: The command line, joined by spaces.
    command: str

    def is_running(self) -> bool:
        return _started(self.pid) == self.started

    @property
    def port(self) -> int | None:
        found = _PORT.search(self.command)
        return int(found[1]) if found else None

    def ends_with(self, arguments: Sequence[str]) -> bool:
        """Whether it was started with these arguments, as the last ones."""
        return self.command.endswith(" ".join(["", *arguments]))


@dataclass(frozen=True)
class Part:
    """A process of a stack."""

    name: str
    #: The folder's path and identity when the process was started.
    folder: str
    identity: str
    process: Process

    def belongs_to(self, home: Path) -> bool:
        return self.folder == str(home) or self.identity == _identity(home)

    def is_at_home(self, home: Path) -> bool:
        """Whether `home` was neither moved nor replaced since: the process's paths lead there."""
        return self.folder == str(home) and self.identity == _identity(home)


def marked(name: str, home: Path) -> list[str]:
    """Arguments for Python that make a process the part `name` of the stack in `home`."""
    return ["-X", f"stack={name}:{_identity(home)}:{quote(os.fsencode(home))}"]


def parts(home: Path) -> list[Part]:
    """The parts of the stack in `home` that run."""
    return [part for part in _all_parts() if part.belongs_to(home)]


def holder(port: int) -> Part | None:
    """The part with this port of whatever stack on this machine."""
    return next((part for part in _all_parts() if part.process.port == port), None)


def start(command: Sequence[str], environ: Mapping[str, str], cwd: Path, log: Path) -> Process:
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
    process = Process(child.pid, _started(child.pid) or "ended", " ".join(command))
    # Not waiting for it is the point; without this, Python warns of a child left running.
    child.returncode = 0
    return process


def stop(*processes: Process, patience_s: float = 20.0) -> None:
    """End the processes and what they started, all at the same time.

    Each is asked first, and killed after `patience_s`. What has ended already is left alone, with
    what may have its pid by now. Raises StartFailed for a process of another user.
    """
    running = [process for process in processes if process.is_running()]
    # Groups are recorded before, while the leaders' pids are certainly ours.
    leaders = {process.pid for process in running}
    members = [(pid, _started(pid)) for pid, group in _groups() if group in leaders]
    for process in running:
        _send(process.pid, signal.SIGTERM)
        # One that was halted (Ctrl-Z, SIGSTOP) takes no other signal.
        _send(process.pid, signal.SIGCONT)
    _wait(running, patience_s)
    for pid, started in members:
        if started is not None and _started(pid) == started:
            _send(pid, signal.SIGKILL)
    _wait(running, patience_s)


def stop_strays(home: Path) -> None:
    """End what a part of the stack in `home` left running when it was killed: the functions of the
    embedded cloud, and what it had forked. To be called when no part runs."""
    worker = re.compile(rf" {re.escape(str(home))}/tmp/[^/ ]+/_worker\.py$")
    for pid, command in _commands():
        mark = _MARK.search(command)
        forked = mark and _folder(mark) == str(home) and not _leads(pid)
        if forked or worker.search(command):
            _send(pid, signal.SIGKILL)


def myself() -> Process:
    pid = os.getpid()
    return Process(pid, _started(pid) or "", " ".join(sys.argv))


def _wait(processes: Iterable[Process], patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    for process in processes:
        while process.is_running() and time.monotonic() < deadline:
            _reap(process.pid)
            time.sleep(_POLL_S)
        _reap(process.pid)


def _send(pid: int, what: signal.Signals) -> None:
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        pass  # it has ended, which is what was wanted
    except PermissionError as error:
        raise StartFailed(f"Process {pid} is another user's, who must end it.") from error


def _reap(pid: int) -> None:
    # Only a child of this very process can be waited for; elsewhere init does it.
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _identity(folder: Path) -> str:
    try:
        status = folder.stat()
    except FileNotFoundError:
        return "0-0"
    return f"{status.st_dev}-{status.st_ino}"


def _all_parts() -> Iterator[Part]:
    for pid, command in _commands():
        mark = _MARK.search(command)
        started = _started(pid) if mark else None
        # A part leads its group. What it forks has the same command line, and ends with it.
        if mark and started is not None and _leads(pid):
            yield Part(mark[1], _folder(mark), mark[2], Process(pid, started, command))


def _folder(mark: re.Match[str]) -> str:
    return os.fsdecode(unquote_to_bytes(mark[3]))


def _leads(pid: int) -> bool:
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False


def _commands() -> Iterator[tuple[int, str]]:
    """Every process with its command line, joined by spaces."""
    if not _has_proc():
        for line in _ps("-A", "-ww", "-o", "pid=,command=").splitlines():
            pid, _, command = line.strip().partition(" ")
            yield int(pid), command
        return
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = os.fsdecode((entry / "cmdline").read_bytes())
            yield int(entry.name), line.rstrip("\0").replace("\0", " ")


def _started(pid: int) -> str | None:
    """When the process started; None where there is none, or only its zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None if _has_proc() else _started_by_ps(pid)
    # The command's name, in brackets, may hold anything; what follows the last one does not.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def _has_proc() -> bool:
    """macOS has none."""
    return Path("/proc/self/stat").exists()


def _started_by_ps(pid: int) -> str | None:
    state, _, started = _ps("-o", "stat=,lstart=", "-p", str(pid)).strip().partition(" ")
    return None if not state or state.startswith("Z") else " ".join(started.split())


def _groups() -> list[tuple[int, int]]:
    """Every process with its process group."""
    found = []
    for pid, _ in _commands():
        with suppress(ProcessLookupError, PermissionError):
            found.append((pid, os.getpgid(pid)))
    return found


def _ps(*arguments: str) -> str:
    asked = ["ps", *arguments]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout
