"""Installing: what is shown meanwhile, what is said when it fails, and what is not done twice."""

from __future__ import annotations

import io
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from local import install as installing
from local.install import InstallFailed, Progress, install

ROOT = Path(__file__).parents[3]

SAID = """Looking in indexes: https://index.example/simple
Collecting aiobotocore==3.10.0 (from -r requirements.txt (line 3))
  Downloading aiobotocore-3.10.0-py3-none-any.whl (102 kB)
Requirement already satisfied: six in ./lib (1.17.0)
Processing ./files/python_dateutil-2.9.0.post0-py2.py3-none-any.whl (from a (line 1))
Collecting moto[server]==5.2.5 (from -r requirements-dev.txt (line 3))
Collecting arro3-io==0.9.1 (from -r requirements.txt (line 10))
Installing collected packages: aiobotocore, python-dateutil, moto, arro3-io
Successfully installed aiobotocore-3.10.0
"""
FAILED = """Collecting nothing==1.0
ERROR: Could not find a version that satisfies the requirement nothing==1.0
ERROR: No matching distribution found for nothing==1.0
"""
UNREACHABLE = "WARNING: Retrying (Retry(total=4)) after connection broken by 'OSError'\n"

#: A Python that makes environments of itself and notes what it was to install.
STUB = """#!/bin/sh
case "$1 $2" in
    "--version ") echo "Python VERSION.0" ;;
    "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m local.install") echo "$3" >>installed && [ ! -f broken ] ;;
    "-c "*sys.exit*) [ VERSION != 3.10 ] ;;
    "-c "*print*) echo VERSION ;;
esac
"""


@pytest.fixture
def pip(tmp_path: Path) -> Callable[[str, int], Path]:
    """The interpreter of an environment whose pip says this and ends so."""

    def made(said: str, code: int) -> Path:
        python = tmp_path / "an environment" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\ncat <<'END'\n{said}END\nexit {code}\n")
        python.chmod(0o755)
        return python

    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout, as far as bootstrap.sh reads it, in a folder with a blank in its name."""
    checkout = tmp_path / "a checkout"
    for name in (
        *("requirements-local.txt", "requirements-dashboard.txt", "requirements-dev.txt"),
        *("pyproject.toml", "chalicelib/core/version.py"),
        *("local/bootstrap.sh", "local/install.py"),
    ):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    _stub(checkout / "stub", "3.11")
    return checkout


def _stub(file: Path, version: str) -> None:
    file.write_text(STUB.replace("VERSION", version))
    file.chmod(0o755)


def _bootstrap(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "local/bootstrap.sh", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


def _installed(folder: Path) -> list[str]:
    file = folder / "installed"
    return file.read_text().split() if file.exists() else []


def test_each_package_that_pip_finds_is_counted(
    pip: Callable[[str, int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installing, "PAUSE_S", 0)
    shown: list[str] = []
    python = pip(SAID, 0)
    install(python, ["-r", "requirements.txt"], Progress(shown.append))
    assert [line for line in shown if line.startswith("collecting")] == [
        "collecting 1: aiobotocore",
        "collecting 2: python_dateutil",
        "collecting 3: moto",
        "collecting 4: arro3-io",
    ]
    assert (python.parent.parent / "pip.log").read_text() == SAID


def test_what_pip_called_an_error_is_said_with_what_to_do(
    pip: Callable[[str, int], Path],
) -> None:
    with pytest.raises(InstallFailed) as failed:
        install(pip(UNREACHABLE + FAILED, 1), ["nothing==1.0"], Progress(lambda line: None))
    text = str(failed.value)
    assert "is the package index reachable?" in text
    assert "ERROR: No matching distribution found for nothing==1.0" in text
    assert "pip.log" in text
    assert "Run the same command again" in text


def test_a_package_without_a_wheel_for_this_python_is_named_with_what_to_do(
    pip: Callable[[str, int], Path],
) -> None:
    with pytest.raises(InstallFailed) as failed:
        install(pip(FAILED, 1), ["nothing==1.0"], Progress(lambda line: None))
    text = str(failed.value)
    assert f"nothing 1.0 has no wheel for Python {platform.python_version()}" in text
    assert "make run PYTHON=python3.13" in text
    assert "pip.log" in text


def test_nothing_is_fetched_that_no_hash_was_given_for(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(installing, "install", lambda python, given, progress: calls.append(given))
    assert installing.main(["requirements-local.txt"]) == 0
    first, own = calls
    assert first == ["--require-hashes", "-r", "requirements-local.txt"]
    assert {"--no-index", "--no-deps", "--no-build-isolation"} <= set(own)


def test_where_no_terminal_is_lines_come_seldom_and_plain() -> None:
    stream = io.StringIO()
    progress = Progress.on(stream)
    for number in range(100):
        progress.show(f"collecting {number}")
    progress.keep("100 packages")
    assert stream.getvalue() == "    collecting 0\n    100 packages\n"


def test_on_a_terminal_one_line_is_written_over_and_the_last_one_stays() -> None:
    written: list[str] = []
    progress = Progress(written.append, terminal=True)
    progress.show("collecting 1: six")
    progress.show("collecting 2: " + "x" * 500)
    progress.keep("2 packages")
    first, second, last = written
    assert first == "\r\x1b[K    collecting 1: six"
    assert len(second) < shutil.get_terminal_size().columns + 5
    assert last == "\r\x1b[K    2 packages\n"


def test_what_is_installed_is_not_installed_again(folder: Path) -> None:
    first = _bootstrap(folder, "local", "./stub")
    assert first.returncode == 0, first.stderr
    assert "Making .venv with Python 3.11.0" in first.stdout
    again = _bootstrap(folder, "local", "./stub")
    assert (again.returncode, again.stdout) == (0, "")
    assert _installed(folder) == ["requirements-local.txt"]


def test_the_same_environment_grows_when_more_is_asked_for(folder: Path) -> None:
    for kind in ("local", "dev", "local", "dashboard", "dev"):
        assert _bootstrap(folder, kind, "./stub").returncode == 0
    assert _installed(folder) == ["requirements-local.txt", "requirements-dev.txt"]


def test_a_changed_pin_is_installed(folder: Path) -> None:
    _bootstrap(folder, "dev", "./stub")
    with (folder / "requirements-dev.txt").open("a") as file:
        file.write("# changed\n")
    _bootstrap(folder, "local", "./stub")
    _bootstrap(folder, "dev", "./stub")
    assert _installed(folder) == ["requirements-dev.txt"] * 2


def test_what_failed_is_tried_again(folder: Path) -> None:
    (folder / "broken").touch()
    assert _bootstrap(folder, "local", "./stub").returncode != 0
    (folder / "broken").unlink()
    assert _bootstrap(folder, "local", "./stub").returncode == 0
    assert len(_installed(folder)) == 2


def test_an_unknown_kind_of_environment_is_refused(folder: Path) -> None:
    refused = _bootstrap(folder, "./stub")
    assert refused.returncode == 2
    assert "local, dashboard and dev" in refused.stderr


@pytest.mark.parametrize("version", ["3.11", "3.14"])
def test_a_python_that_was_tried_is_taken_without_a_word(folder: Path, version: str) -> None:
    _stub(folder / "tried", version)
    done = _bootstrap(folder, "local", "./tried")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("version", ["3.15", "3.20", "4.0"])
def test_a_newer_python_is_taken_with_a_warning(folder: Path, version: str) -> None:
    _stub(folder / "newer", version)
    done = _bootstrap(folder, "local", "./newer")
    assert done.returncode == 0
    assert f"Making .venv with Python {version}.0" in done.stdout
    assert "newer than what this was tried with, 3.11 to 3.14" in done.stderr


def test_an_older_python_is_refused(folder: Path) -> None:
    _stub(folder / "older", "3.10")
    refused = _bootstrap(folder, "local", "./older")
    assert refused.returncode == 1
    assert "Python 3.11 or newer (with venv) is needed and ./older is not it" in refused.stderr
    assert _installed(folder) == []


def test_another_python_that_is_named_replaces_the_one_that_is_there(folder: Path) -> None:
    _bootstrap(folder, "local", "./stub")
    _stub(folder / "other one", "3.13")
    replaced = _bootstrap(folder, "local", "./other one")
    assert "Making .venv with Python 3.13.0" in replaced.stdout
    # The same version by another name, or none named, leaves it.
    _stub(folder / "same", "3.13")
    for named in (["./same"], []):
        assert _bootstrap(folder, "local", *named).stdout == ""
    assert len(_installed(folder)) == 2


def test_a_python_that_is_none_is_named(folder: Path) -> None:
    refused = _bootstrap(folder, "local", "./nothing")
    assert refused.returncode == 1
    assert "./nothing is not it" in refused.stderr
