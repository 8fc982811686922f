"""tests/unit mirrors chalicelib: the tests of tasks/submit.py are in tasks/test_submit.py."""

from __future__ import annotations

from pathlib import Path

import pytest

UNIT = Path(__file__).parent
CHALICELIB = UNIT.parents[1] / "chalicelib"
PACKAGES = {init.parent.name for init in CHALICELIB.glob("*/__init__.py")}
#: Folders that test something else than a package of chalicelib.
OTHERS = {
    "docs": "what the pages in docs/ name and promise",
    "error_table": "every error at every call of AWS, in all packages at once",
    "infra": "the template, the package and the dashboard that infra/ builds",
    "mutation": "the guards that tests/mutation removes, one at a time",
    "local": "what stands in for AWS on this machine",
    "spending": "what whole tasks take in requests",
}
TESTS = sorted(UNIT.glob("*/test_*.py"))


def test_every_folder_is_named_after_what_it_tests() -> None:
    folders = {path.parent.name for path in TESTS}
    assert folders <= PACKAGES | set(OTHERS)
    assert set(OTHERS) <= folders - PACKAGES


@pytest.mark.parametrize(
    "path",
    [path for path in TESTS if path.parent.name in PACKAGES],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_every_file_is_named_after_the_module_it_tests(path: Path) -> None:
    module = path.name.removeprefix("test_")
    assert (CHALICELIB / path.parent.name / module).exists()
