"""Every command of the front door is run by a test, or named here with the reason why not."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from chalicelib.candles.candles import Candles
from chalicelib.candles.codec import encode
from infra.package import ROOT
from tests.doubles.candles import append
from tests.unit.docs.pages import blocks, commands, names_in, prose, text_of

PAGES = ("README.md", "CONTRIBUTING.md", "docs/ARCHITECTURE.md")
_BEGINNINGS = ("make ", "python -m ", "pip install ", ".venv/bin/", "data-collector ", "curl ")
HOUR_MS = 3_600_000

README = "e2e/test_readme.py::test_every_line_of_the_readme_does_what_it_says"
#: Command, or its beginning where it ends in `...` -> the test that runs it.
RUN = {
    "curl -X POST http://localhost:8000/api/v1/data-collector/start ...": README,
    "curl http://localhost:8000/api/v1/data-collector/task/...": README,
    "curl -X POST http://localhost:8000/api/v1/data-collector/schedules ...": README,
    ".venv/bin/data-collector start LTCUSDT DOTUSDT -t 4h,1d --wait": README,
    ".venv/bin/data-collector status": README,
    ".venv/bin/data-collector schedules": README,
    "data-collector dead-letters": (
        "e2e/test_repairs.py::"
        "test_a_message_that_cannot_be_read_is_set_aside_whole_and_replayed_or_dropped"
    ),
    "make help": "unit/docs/test_commands.py::test_make_help_lists_every_target",
    ".venv/bin/python -m tests.unit.test_imports": (
        "unit/docs/test_commands.py::test_the_table_of_imports_is_printed"
    ),
    "python -m tests.unit.test_imports": (
        "unit/docs/test_commands.py::test_the_table_of_imports_is_printed"
    ),
    "python -m infra.settings_doc > docs/SETTINGS.md": (
        "unit/docs/test_docs.py::test_the_settings_page_is_up_to_date"
    ),
    "python -m infra.tables_doc": (
        "unit/docs/test_docs.py::test_the_tables_that_are_made_from_the_code_are_up_to_date"
    ),
}
_PARTS = "the tests bring up the same parts themselves (tests/e2e/stack.py), on other ports"
_SELF = "it runs the tests, so no test can"
#: Command -> why no test runs it. Those of make are resolved all the same, below.
NOT_RUN = {
    "make run": f"it leaves a stack running in the checkout; {_PARTS}",
    "make run EXCHANGE=live": "no test asks Binance",
    "make down": "it would end a stack that somebody is using in the checkout",
    "make test": _SELF,
    "make test-extra": "it takes minutes and installs Java and readers; .ci/run calls it",
    "make docs": "it installs another tool; `make test-extra` calls it",
    "make test-endpoint": _SELF,
    "make check": _SELF,
    "make audit-template": "it installs other tools; unit/infra/test_audit.py has its rules",
    "make simulate": "the tests play 5,000 schedules by tests/simulation themselves",
    "make mutants": "the tests hold each mutant against a seed that kills it",
    "make chaos": "it takes minutes, and its outcome is measured, not asserted",
    "make bench": "it measures; no test measures time",
    "make lock": "it needs the package index; unit/infra/test_requirements.py judges what it wrote",
    "make lock LOCK='--upgrade-package NAME'": "it changes what is locked",
    "make permissions": "it takes half an hour; a test holds its record against the policies",
    "make deploy": f"it needs an AWS account; {_PARTS}",
    "make deploy STAGE=dev": f"it needs an AWS account; {_PARTS}",
    "make destroy": "it needs an AWS account; e2e/test_deploy.py runs what it runs",
    "make destroy STAGE=dev": "it needs an AWS account; e2e/test_deploy.py runs what it runs",
    "pip install polars": "the example's library is not among ours",
    "pip install pandas pyarrow": "the example's libraries are not among ours",
    "pip install .": "a new environment with its downloads takes longer than a test may",
    ".venv/bin/python -m pytest tests/unit/tasks -q": _SELF,
    ".venv/bin/ruff check .": "a check of the code, no test of it: `make check` runs it",
    ".venv/bin/ruff format .": "it changes the checkout; `make check` runs it with --check",
    ".venv/bin/python -m tests.mutation --package tasks --only finish": _SELF,
    "python -m tests.mutation": _SELF,
    ".venv/bin/python -m mypy": "a check of the code, no test of it: `make check` runs it",
}


def _named() -> set[str]:
    """Commands in blocks of shell, and in running text by how they begin."""
    found = set()
    for page in PAGES:
        text = text_of(page)
        for block in blocks(text, "sh"):
            found.update(commands(block))
        spans = re.findall(r"`([^`\n]+)`", prose(text))
        found.update(span for span in spans if span.startswith(_BEGINNINGS))
    return found


NAMED = sorted(_named())


def _key(command: str) -> str | None:
    for known in (*RUN, *NOT_RUN):
        if command == known:
            return known
        if known.endswith("...") and command.startswith(known.removesuffix("...").rstrip()):
            return known
    return None


@pytest.mark.parametrize("command", NAMED)
def test_every_command_is_run_by_a_test_or_excused(command: str) -> None:
    assert _key(command), "have a test run it and name it in RUN, or give the reason in NOT_RUN"


def test_nothing_is_listed_that_no_page_names() -> None:
    assert {*RUN, *NOT_RUN} == {_key(command) for command in NAMED}
    assert not set(RUN) & set(NOT_RUN)


@pytest.mark.parametrize("named", sorted(set(RUN.values())))
def test_the_test_that_runs_it_exists(named: str) -> None:
    file, _, function = named.partition("::")
    assert function in names_in(ROOT / "tests" / file)


@pytest.mark.parametrize("command", [name for name in NAMED if name.startswith("make ")])
def test_make_knows_what_to_do(command: str) -> None:
    done = _make("--dry-run", *shlex.split(command)[1:])
    assert done.stdout.strip(), done.stderr


def test_make_help_lists_every_target() -> None:
    listed = re.findall(r"^  ([a-z-]+)", _make("help").stdout, flags=re.M)
    makefile = text_of("Makefile")
    assert set(listed) == set(re.findall(r"^([a-z-]+):.*##", makefile, flags=re.M))


def _make(*words: str) -> subprocess.CompletedProcess[str]:
    # As from a shell of one's own, though `make test` may have started the tests.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *words],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


def test_the_table_of_imports_is_printed() -> None:
    command = [sys.executable, "-m", "tests.unit.test_imports"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert "package" in done.stdout.splitlines()[0]
    assert "collecting" in done.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the README's examples find a running stack with some candles."""
    days = Candles()
    for day in range(3):
        at_ms = day * 24 * HOUR_MS
        append(days, (at_ms, 1, 4, 1, 3, 9, at_ms + 24 * HOUR_MS - 1, 9, 2, 4, 4), at_ms)
    for symbol in ("ADAUSDT", "BTCUSDT", "ETHUSDT"):
        place = tmp_path / "candles" / "exchange=local" / "timeframe=1d" / f"symbol={symbol}"
        place.mkdir(parents=True)
        (place / "all.parquet").write_bytes(encode(days, {}))
    (tmp_path / ".local").mkdir()
    where = json.dumps({"candles_dir": str(tmp_path)})
    (tmp_path / ".local" / "endpoints.json").write_text(where, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", ["README.md", "docs/CANDLES.md"])
def test_the_examples_with_duckdb_read_what_is_stored(
    page: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = [code for code in blocks(text_of(page), "python") if _is_ours(code)]
    names: dict[str, object] = {}
    for code in mine:
        exec(compile(code, page, "exec"), names)
    printed = capsys.readouterr().out
    for symbol in ("ADAUSDT", "BTCUSDT", "ETHUSDT"):
        assert re.search(rf"{symbol}\b.*\b3\b", printed)


def _is_ours(code: str) -> bool:
    """Whether an example needs nothing but what is installed and a folder of candles."""
    return not re.search(r"polars|pandas|boto3|chalicelib", code)
