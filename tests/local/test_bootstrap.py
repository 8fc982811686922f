"""The virtual environment is made by one command at a time, and not twice."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local.layout import ROOT
from tests.local.waiting import until

_COPIED = ("requirements.txt", "requirements-local.txt", "pyproject.toml")
_COPIED += ("chalicelib/core/version.py", "local/bootstrap.sh", "local/install.py")
#: A Python that installs nothing, and waits meanwhile for a file.
PYTHON = """#!/bin/sh
case "$*" in
    "-m local.install"*) echo begin >> log; until [ -e go ]; do sleep 0.05; done; echo end >> log ;;
    *) exec "{python}" "$@" ;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in _COPIED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    return tmp_path


def bootstrap(folder: Path) -> subprocess.Popen[str]:
    command = ["sh", "local/bootstrap.sh", "local", sys.executable]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def test_a_second_one_waits_and_finds_it_made(folder: Path) -> None:
    first = bootstrap(folder)
    until((folder / "log").exists)
    second = bootstrap(folder)
    assert second.stdout is not None
    assert second.stdout.readline() == "Waiting for another installation into .venv\n"
    (folder / "go").touch()
    assert [first.wait(), second.wait()] == [0, 0]
    assert (folder / "log").read_text() == "begin\nend\n"
    for process in (first, second):
        process.communicate()


def test_one_that_was_killed_locks_nobody_out(folder: Path) -> None:
    first = bootstrap(folder)
    until((folder / "log").exists)
    first.kill()
    (folder / "go").touch()
    second = bootstrap(folder)
    second.communicate()
    first.communicate()
    assert second.returncode == 0
    assert (folder / "log").read_text() == "begin\nend\nbegin\nend\n"
