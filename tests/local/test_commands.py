"""`make run` and `make down` as a person meets them: interrupted, twice, on taken ports, without a
disk. Each in a checkout of its own, with the real embedded cloud."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from local import cloud
from local.layout import ROOT
from local.ports import free_port
from local.processes import parts, stop, stop_strays
from tests.local.conftest import Begin
from tests.local.waiting import until

_COPIED = ("app.py", "settings.toml", "chalicelib", "console", "docs", "infra", "local")
_COPIED += ("market_data_collector", ".chalice", "requirements.txt", "requirements-cloud.txt")


class Checkout:
    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / ".local"
        self.port = free_port()

    def start(self, command: str, terminal: int | None = None) -> subprocess.Popen[str]:
        """`make run` or `make down`, without what make does before."""
        out = subprocess.PIPE if terminal is None else terminal
        return subprocess.Popen(
            [sys.executable, "-m", "local", *command.split()],
            cwd=self.folder,
            env={**os.environ, "PORT": str(self.port), "RUN_SYMBOLS": "ZENUSDT"},
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=out,
            stderr=out if terminal is not None else subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def say(self, command: str) -> tuple[int, str]:
        """The exit code and what was said."""
        process = self.start(command)
        said, _ = process.communicate()
        assert "Traceback" not in said
        return process.returncode, said

    def names(self) -> list[str]:
        return sorted(part.name for part in parts(self.home))


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in _COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, folder / name)
    cloud.ensure_environment()
    (folder / ".venv-cloud").symlink_to(cloud.ENVIRONMENT)
    (folder / "build").mkdir()
    (ROOT / "build" / "cache").mkdir(parents=True, exist_ok=True)
    (folder / "build" / "cache").symlink_to(ROOT / "build" / "cache")
    checkout = Checkout(folder)
    yield checkout
    stop(*(part.process for part in parts(checkout.home)))
    stop_strays(checkout.home)


Interrupt = Callable[["subprocess.Popen[str]", int], None]


def _close_terminal(process: subprocess.Popen[str], terminal: int) -> None:
    os.close(terminal)
    # The kernel does so to the foreground processes of a terminal that is closed.
    os.kill(process.pid, signal.SIGHUP)


def _kill(process: subprocess.Popen[str], terminal: int) -> None:
    process.kill()
    os.close(terminal)


def _press_twice(process: subprocess.Popen[str], terminal: int) -> None:
    for _ in range(2):
        os.kill(process.pid, signal.SIGINT)
    process.wait()
    os.close(terminal)


@pytest.mark.parametrize("interrupt", [_close_terminal, _kill, _press_twice])
def test_a_run_that_ends_while_the_cloud_starts_leaves_nothing_unknown(
    checkout: Checkout, interrupt: Interrupt
) -> None:
    ours, theirs = pty.openpty()
    run = checkout.start("run", theirs)
    until(lambda: checkout.names() == ["cloud"])
    interrupt(run, ours)
    os.close(theirs)
    run.wait()
    [part] = parts(checkout.home)
    code, said = checkout.say("down")
    assert (code, said) == (0, "Ended: cloud.\n")
    assert not part.process.is_running()
    assert checkout.say("down") == (0, "Nothing was running.\n")


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_said_in_a_sentence(checkout: Checkout, ending: signal.Signals) -> None:
    run = checkout.start("run")
    until(lambda: checkout.names() == ["cloud"])
    os.kill(run.pid, ending)
    said, _ = run.communicate()
    last = said.splitlines()[-1]
    assert last == "✗ Interrupted; `make down` ends what is running, `make run` goes on."
    assert "Traceback" not in said
    assert run.returncode == 130


def test_down_in_the_middle_of_a_run_ends_both(checkout: Checkout) -> None:
    run = checkout.start("run")
    until(lambda: checkout.names() == ["cloud"])
    code, said = checkout.say("down")
    assert code == 0
    assert f"ending `make run` ({run.pid})" in said
    assert "Interrupted" in run.communicate()[0]
    assert checkout.names() == []


def test_down_ends_what_runs_though_its_folder_was_deleted(
    checkout: Checkout, begin: Begin
) -> None:
    checkout.home.mkdir()
    begin(checkout.home, "gateway")
    checkout.home.rmdir()
    assert checkout.say("down") == (0, "Ended: gateway.\n")
    assert checkout.names() == []


def test_a_run_on_a_taken_port_is_refused_and_leaves_the_stack(
    checkout: Checkout, begin: Begin
) -> None:
    checkout.home.mkdir()
    for name in ("cloud", "gateway"):
        begin(checkout.home, name)
    with socket.create_server(("127.0.0.1", checkout.port)):
        code, said = checkout.say("run")
    assert code == 1
    assert f"Port {checkout.port} is taken by another program" in said
    assert checkout.names() == ["cloud", "gateway"]


def test_logs_of_a_stack_that_does_not_run_are_a_sentence(checkout: Checkout) -> None:
    checkout.home.mkdir()
    where = {"aws_endpoint_url": "http://127.0.0.1:9", "candles_dir": "x", "stack_name": "x"}
    for content in ("{", json.dumps(where)):
        (checkout.home / "endpoints.json").write_text(content)
        assert checkout.say("logs 01a") == (1, "✗ Nothing is running here; `make run` starts it.\n")


def test_a_reader_that_has_seen_enough_is_no_error(checkout: Checkout) -> None:
    process = checkout.start("down")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait() == 141


def test_a_disk_that_is_full_is_said_in_a_sentence(checkout: Checkout) -> None:
    checkout.home.mkdir()
    (checkout.home / "ports.json.part").symlink_to("/dev/full")
    code, said = checkout.say("run")
    assert code == 1
    assert "✗ The disk is full" in said


def test_a_folder_that_cannot_be_made_is_said_in_a_sentence(checkout: Checkout) -> None:
    checkout.home.touch()
    for command in ("run", "down"):
        code, said = checkout.say(command)
        assert code == 1
        assert said.startswith("✗ ")
        assert str(checkout.home) in said


def test_after_a_kill_of_the_cloud_a_run_goes_on_with_all_that_it_said(checkout: Checkout) -> None:
    code, said = checkout.say("run")
    assert code == 0, said
    saved = checkout.home / "saved.json"
    at = saved.read_text()
    [part] = [part for part in parts(checkout.home) if part.name == "cloud"]
    cloud.save(part.process)
    until(lambda: saved.read_text() != at)
    os.kill(part.process.pid, signal.SIGKILL)

    code, said = checkout.say("run")
    assert code == 0, said
    assert "did not end in order" in said
    assert checkout.names() == ["cloud", "exchange", "gateway", "metrics"]
    tasks = f"http://127.0.0.1:{checkout.port}/api/v1/data-collector/tasks/stats"
    assert httpx.get(tasks, timeout=60).json()["task_counts"]["completed"] == 4
    assert checkout.say("down") == (0, "Ended: cloud, exchange, gateway, metrics.\n")
