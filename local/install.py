"""pip, with its progress shown: `python -m local.install requirements-local.txt`.

It shows a counter on a terminal, and elsewhere a line every few seconds. It needs nothing but
Python, because it runs before anything else is installed.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import TextIO

#: Where the progress is no terminal's, this long lies between two of its lines.
PAUSE_S = 5.0
_POLL_S = 0.5
_FOUND = re.compile(r"(?:Collecting|Processing) (?:\S*/)?([A-Za-z0-9][\w.]*(?:-[A-Za-z]\w*)*)")
_UNPACKED = "Installing collected packages: "
_NO_WHEEL = re.compile(r"ERROR: No matching distribution found for ([\w.-]+)==(\S+)")


class InstallFailed(Exception):
    """The message says what pip said, and what to do."""


class Progress:
    """Lines that replace each other on a terminal, and come seldom elsewhere."""

    def __init__(self, write: Callable[[str], None], terminal: bool = False) -> None:
        self._write, self._terminal = write, terminal
        self._next_s = 0.0

    @classmethod
    def on(cls, stream: TextIO) -> Progress:
        def write(text: str) -> None:
            stream.write(text)
            stream.flush()

        if stream.isatty() and os.environ.get("TERM") != "dumb":
            return cls(write, terminal=True)
        return cls(lambda line: write(f"    {line}\n"))

    def show(self, line: str) -> None:
        """A step that is over soon."""
        now_s = time.monotonic()
        if self._terminal:
            room = shutil.get_terminal_size().columns - 5
            self._write(f"\r\x1b[K    {line[:room]}")
        elif now_s >= self._next_s:
            self._write(line)
            self._next_s = now_s + PAUSE_S

    def keep(self, line: str) -> None:
        """A line that stays."""
        self._write(f"\r\x1b[K    {line}\n" if self._terminal else line)


def install(python: Path, arguments: Sequence[str], progress: Progress) -> None:
    """Run `pip install` with `arguments` in the environment of `python`.

    All that pip says is in pip.log of that environment. Raises InstallFailed.
    """
    environment = python.parent.parent
    log, began = environment / "pip.log", time.time()
    command = [str(python), "-m", "pip", "install", "--progress-bar", "off", "--no-input"]
    command += ["--disable-pip-version-check", *arguments]
    count = 0
    unpacked = Event()
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as pip,
    ):
        assert pip.stdout is not None
        try:
            for line in pip.stdout:
                file.write(line)
                if found := _FOUND.match(line):
                    count += 1
                    progress.show(f"collecting {count}: {found[1]}")
                elif line.startswith("WARNING: Retrying"):
                    progress.show("the package index does not answer; trying again")
                elif line.startswith(_UNPACKED):
                    total = line.count(",") + 1
                    watch = (environment, total, began, progress, unpacked)
                    Thread(target=_watch_unpacking, args=watch, daemon=True).start()
        except BaseException:
            pip.kill()  # else it would go on in the background, in what the next run makes anew
            raise
        finally:
            unpacked.set()
    if pip.returncode != 0:
        raise InstallFailed(_what_pip_said(log))


def _watch_unpacking(
    environment: Path, total: int, began: float, progress: Progress, done: Event
) -> None:
    """pip says nothing while it unpacks; the packages that are there can be counted."""
    while not done.wait(_POLL_S):
        records = environment.glob("lib/python*/site-packages/*.dist-info/RECORD")
        count = sum(record.stat().st_mtime >= began for record in records)
        progress.show(f"unpacking {min(count + 1, total)} of {total}")


def _what_pip_said(log: Path) -> str:
    text = log.read_text(encoding="utf-8")
    lines = text.splitlines()
    missing = _NO_WHEEL.search(text)
    if missing and not any(line.startswith("WARNING: Retrying") for line in lines):
        return (
            f"{missing[1]} {missing[2]} has no wheel for Python {platform.python_version()} on "
            f"{sysconfig.get_platform()} in the package index. Python 3.11 to 3.14 have all "
            "wheels on common machines: name one of those, as in `make run PYTHON=python3.13`. "
            f"All that pip said is in {log}."
        )
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    return "\n".join(
        [
            "The packages cannot be installed; is the package index reachable? pip said:",
            *(f"    {line}" for line in errors[-2:]),
            f"All that it said is in {log}. Run the same command again when that is mended.",
        ]
    )


def main(arguments: Sequence[str]) -> int:
    progress, began = Progress.on(sys.stdout), time.monotonic()
    python = Path(sys.executable)
    try:
        for requirements in arguments:
            install(python, ["--require-hashes", "-r", requirements], progress)
        # Our own package only adds the data-collector command. All that it needs is there: nothing
        # is fetched that no hash was given for.
        own = ["--no-index", "--no-deps", "--no-build-isolation", "-e", "."]
        install(python, own, progress)
    except InstallFailed as failed:
        progress.keep("failed")
        print(failed, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.keep("interrupted; the same command goes on")
        return 130
    count = len([*python.parent.parent.glob("lib/python*/site-packages/*.dist-info")])
    progress.keep(f"{count} packages, {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
