"""What docs/ARCHITECTURE.md names is there: modules, functions, tests, packages, keys of items."""

from __future__ import annotations

import re

import pytest

from infra import functions
from infra.package import ROOT
from tests.unit.docs.pages import named_tests, names_in, prose, text_of
from tests.unit.test_imports import MAY_IMPORT

PAGE = text_of("docs/ARCHITECTURE.md")
PACKAGES = PAGE.split("<!-- packages: begin -->")[1].split("<!-- packages: end -->")[0]
TABLES = PAGE.split("<!-- tables: begin -->")[1].split("<!-- tables: end -->")[0]
#: Of chalicelib where the path begins with one of its packages, else of the repository.
MODULES = sorted(set(re.findall(r"`([a-z_]+(?:/[a-z_]+)+\.py)`", PAGE)))
FUNCTIONS = sorted(set(re.findall(r"`([a-z_]+/[a-z_]+)\.(?!py`)([a-z_]+)`", PAGE)))
TESTS = named_tests(PAGE)


def _places(module: str) -> list[bool]:
    return [(ROOT / "chalicelib" / module).exists(), (ROOT / module).exists()]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_named_exists(module: str) -> None:
    assert any(_places(module))


@pytest.mark.parametrize(("module", "function"), FUNCTIONS, ids=map(".".join, FUNCTIONS))
def test_every_function_named_exists(module: str, function: str) -> None:
    assert function in names_in(ROOT / "chalicelib" / f"{module}.py")


@pytest.mark.parametrize(("file", "function"), TESTS, ids=map("::".join, TESTS))
def test_every_test_named_exists(file: str, function: str) -> None:
    assert function in names_in(ROOT / "tests" / file)


def test_the_page_names_much() -> None:
    assert len(MODULES) > 30
    assert len(FUNCTIONS) > 50
    assert len(TESTS) > 15


def test_every_invariant_names_its_test() -> None:
    listed = PAGE.split("\n## Invariants\n")[1]
    invariants = re.split(r"^\d+\. ", listed, flags=re.M)[1:]
    assert len(invariants) == 12
    assert all(named_tests(invariant) for invariant in invariants)


def test_the_walks_are_numbered_and_name_functions() -> None:
    lives = re.findall(r"^## The life of (.*?)\n(.*?)(?=^## )", PAGE, flags=re.S | re.M)
    assert [name for name, _ in lives] == ["a task", "a unit", "an update", "a schedule's firing"]
    for _, walk in lives:
        assert len(re.findall(r"^\d+\. \*\*", walk, flags=re.M)) >= 5
        assert len(re.findall(r"`[a-z_]+/[a-z_]+\.[a-z_]+`", walk)) >= 5


def test_the_packages_are_those_of_the_imports_test_and_may_import_what_it_says() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .+? \|([^|]*)\|$", PACKAGES, flags=re.M)
    written = {name: set(re.findall(r"\w+", arrows)) for name, arrows in rows}
    assert list(written) == list(MAY_IMPORT)
    assert written == MAY_IMPORT


def test_every_prefix_of_a_key_in_the_code_is_in_the_tables_and_no_other() -> None:
    code = "".join(
        path.read_text(encoding="utf-8") for path in sorted((ROOT / "chalicelib").rglob("*.py"))
    )
    used = set(re.findall(r"[\"']([A-Z]{3,})#", code))
    # Built of a kind and a name: schedules/table.py, exchange/catalogue_table.py.
    built = {"LAG", "WEBHOOK", "SCHED", "SCHEDULES"}
    built |= {"PRICES", "CATALOGUE", "REFUSED", "REFRESH"}
    assert set(re.findall(r"`([A-Z]+)#", TABLES)) == used | built


def test_every_item_has_an_owner_that_exists() -> None:
    rows = [row for row in TABLES.splitlines() if row.startswith("| `")]
    assert len(rows) > 20
    for row in rows:
        [owner] = re.findall(r"`([a-z_]+/[a-z_]+\.py)` \|$", row)
        assert (ROOT / "chalicelib" / owner).exists(), owner


def test_the_number_of_functions_is_that_of_the_template() -> None:
    assert f"There are {len(functions.FUNCTIONS)} Lambda functions" in prose(PAGE)
