"""Who needs what: the functions, the laptop, the drawing and the tests each have their own file."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
#: What `make run` needs, though no code of ours imports it.
NOT_IMPORTED = {
    "hatchling": "builds our own package",
    "tzdata": "the zones of zoneinfo",
}


def named_in(file: str) -> set[str]:
    """The names of a requirements file's own lines, not those of the files it includes."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    found = [re.match(r"([A-Za-z0-9][\w.-]*)(\[\w+\])?==\S+$", line) for line in lines]
    wrong = [
        line
        for line, match in zip(lines, found, strict=True)
        if not match and not re.match(r"#|-r requirements[\w-]*\.txt$", line)
    ]
    assert not wrong, "each requirement is pinned"
    return {normal(match[1]) for match in found if match}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported_by(*places: str) -> set[str]:
    """The distributions that the code there imports, at its top or inside a function."""
    modules: set[str] = set()
    for place in places:
        path = ROOT / place
        for file in path.rglob("*.py") if path.is_dir() else [path]:
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    modules |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    modules.add(str(node.module))
    owners, found = packages_distributions(), set()
    for module in modules:
        top = module.split(".")[0]
        if top in sys.stdlib_module_names or (ROOT / top).exists() or top == "app":
            continue
        # arro3 is a namespace that several distributions share.
        found.add("-".join(module.split(".")[:2]) if top == "arro3" else normal(owners[top][0]))
    return found


SHIPPED, LOCAL = named_in("requirements.txt"), named_in("requirements-local.txt")
DASHBOARD, DEV = named_in("requirements-dashboard.txt"), named_in("requirements-dev.txt")


def test_make_run_installs_nothing_that_only_tests_need() -> None:
    used = imported_by("app.py", "chalicelib", "infra", "local", "market_data_collector")
    assert (SHIPPED | LOCAL) - used == set(NOT_IMPORTED)
    assert not (SHIPPED | LOCAL) & (DASHBOARD | DEV)
    assert {"pytest", "hypothesis", "moto", "ccxt", "mypy", "ruff", "schemathesis"} <= DEV


def test_make_run_and_the_client_find_all_that_they_import() -> None:
    assert imported_by("market_data_collector") <= SHIPPED | LOCAL
    assert imported_by("app.py", "chalicelib", "infra", "local") <= SHIPPED | LOCAL | DASHBOARD


def test_only_the_drawing_needs_what_the_dashboard_installs() -> None:
    rest = [str(file.relative_to(ROOT)) for file in (ROOT / "local").rglob("*.py")]
    rest.remove("local/drawing.py")
    assert imported_by(*rest) <= SHIPPED | LOCAL


def test_the_tests_environment_holds_all_others() -> None:
    text = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
    assert {"-r requirements-local.txt", "-r requirements-dashboard.txt"} <= set(text.splitlines())
    local = (ROOT / "requirements-local.txt").read_text(encoding="utf-8")
    assert "-r requirements.txt" in local.splitlines()


@pytest.mark.parametrize("target", ["run", "logs", "package", "deploy"])
def test_what_runs_and_deploys_asks_for_the_small_environment(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}: venv-local ##", makefile, flags=re.M)
