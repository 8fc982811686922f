"""One command at a time per folder, whoever dies while holding the lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.layout import ROOT
from local.lock import DOWN, RUN

HOLD = """
import pathlib, sys, time
from local.lock import acquire
acquire(pathlib.Path(sys.argv[1]), sys.argv[2], lambda line: print(line, flush=True))
print("holds", flush=True)
time.sleep(float(sys.argv[3]))
"""
Command = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def command(lock: Path) -> Iterator[Command]:
    """Start a process that acquires the lock as `doing`, and holds it for `seconds`."""
    started: list[subprocess.Popen[str]] = []

    def command(doing: str, seconds: float = 600) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", HOLD, str(lock), doing, str(seconds)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)
        started.append(process)
        return process

    yield command
    for process in started:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_second_run_is_refused_and_the_first_goes_on(command: Command) -> None:
    first = command(RUN)
    assert line(first) == "holds"
    second = command(RUN)
    _, errors = second.communicate()
    assert f"Another `make run` is at work in this folder (process {first.pid})" in errors
    assert first.poll() is None


@pytest.mark.parametrize("halted", [False, True])
def test_down_ends_a_run_that_is_at_work(command: Command, halted: bool) -> None:
    run = command(RUN)
    assert line(run) == "holds"
    if halted:
        os.kill(run.pid, signal.SIGSTOP)
    down = command(DOWN)
    assert line(down) == f"ending `make run` ({run.pid})"
    assert line(down) == "holds"
    assert run.wait() == -signal.SIGTERM


@pytest.mark.parametrize("doing", [RUN, DOWN])
def test_a_down_that_is_at_work_is_waited_for(command: Command, doing: str) -> None:
    down = command(DOWN)
    assert line(down) == "holds"
    second = command(doing)
    assert line(second) == f"waiting for `make down` ({down.pid})"
    assert down.poll() is None
    down.kill()
    assert line(second) == "holds"


@given(content=st.binary(max_size=60))
@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_lock_that_nobody_holds_is_free_whatever_is_in_it(
    command: Command, lock: Path, content: bytes
) -> None:
    lock.write_bytes(content)
    process = command(RUN, 0)
    assert line(process) == "holds"
    process.communicate()


def test_the_lock_of_a_killed_process_is_free(command: Command) -> None:
    first = command(RUN)
    assert line(first) == "holds"
    first.kill()
    assert line(command(RUN)) == "holds"
