"""Every command and every example of docs/tutorials, in order, on a running stack.

`make test-extra` runs this file. The stack asks for keys, which are an admin's unless a page says
otherwise.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.package import ROOT
from tests.e2e.shell import shell
from tests.e2e.stack import Cloud
from tests.e2e.waiting import until
from tests.unit.docs.pages import blocks, commands, text_of

PAGES = sorted(path.stem for path in (ROOT / "docs" / "tutorials").glob("*.md"))
#: What no test can run: it would change the checkout's own stack, or an AWS account.
NOT_RUN = re.compile(r"make (run|deploy STAGE=dev|check-stack STAGE=dev|destroy STAGE=dev)$")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KEY = re.compile(r"mdc_([0-9a-f]{16})_[\w-]+")
_PLACE_OF_KEY = re.compile(r"mdc_(?:[0-9a-f]{16}_)?…")
_PLACE_OF_ID = re.compile(r"\b[0-9a-f]{16}\b")
#: Page -> what its commands print, somewhere, in this order.
PRINTED = {
    "deploying": ("Collector", "Completed", "hourly"),
    "first-collection": ("Completed: 6 of 6", "100.0%", "open_time", '"symbol": "LTCUSDT"'),
    "five-years": (
        "Units         60",
        "Nothing was started",
        "Completed: 60 of 60 units",
        "100.0% of 2,629,440 candles: 2,629,440 held",
        "not_collected",
        "Completed: ",
    ),
    "fresh-schedule": ("hourly", "Completed", "promised: at most 2:00:00", "disabled"),
    "keys": (
        "Scopes   collect",
        '"tasks": []',
        "Completed",
        "research",
        "key.created",
        "key.rotated",
        "key.revoked",
    ),
    "reading": ("Completed",),
}


@pytest.fixture
def folder(cloud: Cloud, tmp_path: Path) -> Path:
    """A folder in which the examples find the stack's candles."""
    (tmp_path / ".local").mkdir()
    where = json.dumps({"candles_dir": str(cloud.candles_dir)})
    (tmp_path / ".local" / "endpoints.json").write_text(where, encoding="utf-8")
    return tmp_path


Run = Callable[[str], str]


@pytest.fixture
def run(cloud: Cloud, admin: str, folder: Path) -> Run:
    """Runs one line; ids and keys in it are those that an earlier line printed first."""
    environ = {"DATA_COLLECTOR_KEY": admin}
    found: dict[str, str] = {}

    def filled(line: str) -> str:
        line = _PLACE_OF_KEY.sub(found.get("key", admin), line)
        if "key" in found:
            line = _PLACE_OF_ID.sub(found["key_id"], line)
        return _UUID.sub(found.get("uuid", ""), line)

    def run(line: str) -> str:
        if line.startswith("export DATA_COLLECTOR_URL="):
            return ""
        if line.startswith("export DATA_COLLECTOR_KEY="):
            environ["DATA_COLLECTOR_KEY"] = filled(line).partition("=")[2]
            return ""
        if line == "unset DATA_COLLECTOR_KEY":
            environ["DATA_COLLECTOR_KEY"] = admin
            return ""
        line = line if "Authorization" in line else line.replace("curl ", f"curl {header} ")
        printed = shell(filled(line), cloud, environ, folder)
        if uuid := _UUID.search(printed):
            found.setdefault("uuid", uuid[0])
        if key := _KEY.search(printed):
            found.setdefault("key", key[0])
            found.setdefault("key_id", key[1])
        return printed

    header = '-H "Authorization: Bearer $DATA_COLLECTOR_KEY"'
    return run


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_tutorial_does_what_the_page_says(
    page: str, run: Run, folder: Path
) -> None:
    text = text_of(f"docs/tutorials/{page}.md")
    lines = [line for block in blocks(text, "sh") for line in commands(block)]
    printed = ""
    for line in lines:
        if NOT_RUN.search(line):
            continue
        if " audit " in line:  # it is some seconds behind
            printed += until(lambda line=line: run(line), lambda seen: PRINTED[page][-1] in seen)
        else:
            printed += run(line)
    at = 0
    for expected in PRINTED[page]:
        assert expected in printed[at:], (expected, printed)
        at = printed.index(expected, at)
    for code in blocks(text, "python"):
        python = ROOT / ".venv-extra/bin/python" if "polars" in code else sys.executable
        done = subprocess.run(
            [python, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert re.search(r"BTCUSDT|2026|shape: \(3, 3\)", done.stdout)


def test_each_tutorial_has_something_that_it_must_print() -> None:
    assert set(PRINTED) == set(PAGES)
