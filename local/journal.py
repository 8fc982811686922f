"""What the functions of the embedded cloud log, read as it comes.

local/emulator.py writes it: files named by the offset at which each begins in one endless text, of
which the newest two stay. So one number says what was read, also of a folder that was moved or
copied, and to ask whether there is more costs as much after a year as on the first day.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Invocation(NamedTuple):
    """What one invocation logged; each line with its time, epoch ms."""

    group: str
    lines: list[tuple[int, str]]


class Journal:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def end(self) -> int:
        """The offset behind what is there."""
        return max((offset + size for offset, size, _ in self._files()), default=0)

    def read(self, since: int) -> tuple[list[Invocation], int]:
        """What is there from the offset `since` on, and the offset from which to read next time.

        What is no longer there is passed over. From the beginning, where `since` lies behind the
        end: then it is another text.
        """
        files = sorted(self._files())
        if since > max((offset + size for offset, size, _ in files), default=0):
            since = 0
        found: list[Invocation] = []
        for offset, size, path in files:
            if offset + size <= since:
                continue
            with suppress(FileNotFoundError), path.open("rb") as file:
                file.seek(max(since - offset, 0))
                text = file.read()
                whole = text.rfind(b"\n") + 1  # the last line may be on its way
                found += _parsed(text[:whole])
                since = max(since, offset) + whole
        return found, since

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        for path in self._folder.glob("*.jsonl"):
            with suppress(FileNotFoundError):
                yield int(path.stem), path.stat().st_size, path


def _parsed(text: bytes) -> Iterator[Invocation]:
    for line in text.split(b"\n"):
        # A line that a kill has cut is none.
        with suppress(ValueError):
            entry = json.loads(line)
            yield Invocation(entry["group"], [(at_ms, text) for at_ms, text in entry["lines"]])
