"""What docs/RELIABILITY.md names is there: tests, kinds of fault, mutants, commands."""

from __future__ import annotations

import ast
import re

import pytest

from infra.package import ROOT
from tests.simulation.faults import KINDS
from tests.simulation.mutants import MUTANTS

PAGE = (ROOT / "docs" / "RELIABILITY.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("file", "function"), NAMED, ids=["::".join(pair) for pair in NAMED])
def test_every_test_named_exists(file: str, function: str) -> None:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert function in functions


def test_the_page_names_tests_of_many_files() -> None:
    assert len(NAMED) > 40
    assert len({file for file, _ in NAMED}) > 10


def test_every_simulated_fault_named_exists() -> None:
    named: set[str] = set()
    for kinds in re.findall(r"simulated ((?:`\w+`(?:, )?)+)", PAGE):
        named |= set(re.findall(r"`(\w+)`", kinds))
    assert len(named) > 10
    assert named <= set(KINDS)


def test_every_mutant_named_exists() -> None:
    named = set()
    for mutants in re.findall(r'mutants? ("[^"]+"(?: and "[^"]+")*)', PAGE):
        named |= set(re.findall(r'"([^"]+)"', mutants))
    assert named
    assert named <= {mutant.name for mutant in MUTANTS}


def test_every_promise_and_every_fault_names_what_shows_it() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "shown by" not in line]
    shown = [row for row in rows if "::" in row or "simulated `" in row]
    tables = PAGE.split("## For callers")[0]
    assert len(shown) == sum(line in tables for line in rows)


def test_every_command_named_can_be_run() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.M))
    assert set(re.findall(r"`make ([a-z]+)", PAGE)) <= targets
    for module in re.findall(r"python -m (tests[\w.]+)", PAGE):
        assert (ROOT / module.replace(".", "/") / "__main__.py").exists()
