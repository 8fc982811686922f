"""Every documented error at every place that calls AWS, one at a time.

The table is generated: stories that together are a task's whole life are played on the doubles and
every call site is recorded, by the trigger it runs under and the functions that lead to it. Then
each story is played again and again, with one error at one site, and must come to the same end.
"""

from __future__ import annotations

import ast

import pytest

from infra.package import ROOT
from tests.doubles.error_codes import (
    TROUBLES,
    CallSite,
)
from tests.unit.error_table.sites import SILENT, cases, table, wrong_at

#: Fewer call sites or cases than this would mean that the table no longer finds them.
LEAST_SITES, LEAST_CASES = 120, 1_700


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "site" in metafunc.fixturenames:
        metafunc.parametrize("site", sorted(table()), ids=str)


@pytest.mark.timeout(1500)
def test_any_one_error_at_this_call_leaves_every_unit_counted_once(site: CallSite) -> None:
    wrong = wrong_at(site)
    assert not wrong, "\n".join(wrong)


def test_the_table_covers_every_operation_and_says_how_large_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sites = table()
    count = sum(len(list(cases(site, times))) for site, (_, times) in sites.items())
    codes = len({trouble for troubles in TROUBLES.values() for trouble in troubles})
    with capsys.disabled():
        print(f"\n{len(sites)} call sites × {codes} codes = {count} cases")
    assert {site.name for site in sites} == set(TROUBLES)
    assert len(sites) >= LEAST_SITES
    assert count >= LEAST_CASES


def test_every_gateway_function_that_calls_aws_is_in_the_table() -> None:
    calling = set()
    for file in (ROOT / "chalicelib").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ClassDef):
                continue
            for function in node.body:
                if "self._call(" in ast.unparse(function):
                    name = getattr(function, "name", "")
                    calling.add(f"{file.stem}.{node.name}.{name}")
    assert calling
    assert calling - {site.functions[-1] for site in table()} == set()


def test_what_is_kept_silent_is_still_there() -> None:
    there = {(site.functions[-1], site.name) for site in table()}
    assert set(SILENT) <= there
