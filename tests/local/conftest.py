"""Folders of stacks, and small processes that stand for their parts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.processes import Process, marked, parts, start, stop, stop_strays
from tests.local.waiting import until

Begin = Callable[..., Process]

#: Says that it runs, and then does nothing.
_IDLE = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The folder of a stack, whose parts are ended with the test."""
    folder = tmp_path / "a stack" / ".local"
    folder.mkdir(parents=True)
    yield folder
    stop(*(part.process for part in parts(folder)), patience_s=0.1)
    stop_strays(folder)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start a part of the stack in a folder, which runs `code` and is ready when it has made the
    file that is its first argument."""
    started: list[Process] = []

    def begin(folder: Path, name: str = "exchange", code: str = _IDLE, *more: str) -> Process:
        ready = tmp_path / f"ready-{len(started)}"
        command = [sys.executable, *marked(name, folder), "-c", code, str(ready), *more]
        process = start(command, os.environ, tmp_path, tmp_path / "log")
        started.append(process)
        until(ready.exists)
        return process

    yield begin
    stop(*started, patience_s=0.1)
