"""Who needs what: the functions, the laptop, the drawing and the tests each have their own file.

`requirements*.in` name what our code imports; `requirements*.txt` hold all of it, with hashes.
"""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from infra import pins

ROOT = Path(__file__).parents[3]
#: It runs in the embedded cloud's environment.
EMULATOR = ROOT / "local" / "emulator.py"
#: What `make run` needs, though no code of ours imports it.
NOT_IMPORTED = {
    "hatchling": "builds our own package",
    "tzdata": "the zones of zoneinfo",
}


def named_in(file: str) -> set[str]:
    """The names of a requirements file's own lines, not those of the files it includes."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    found = [re.match(r"([A-Za-z0-9][\w.-]*)(\[[\w-]+\])?==\S+$", line) for line in lines]
    wrong = [
        line
        for line, match in zip(lines, found, strict=True)
        if not match and not re.match(r"#|-r requirements[\w-]*\.in$", line)
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
            if file == EMULATOR:
                continue
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


SHIPPED, LOCAL = named_in("requirements.in"), named_in("requirements-local.in")
DASHBOARD, DEV = named_in("requirements-dashboard.in"), named_in("requirements-dev.in")
#: What the client hands candles to, where its user has it.
OPTIONAL = {"pandas", "polars"}


def test_make_run_installs_nothing_that_only_tests_need() -> None:
    used = imported_by("app.py", "chalicelib", "infra", "local", "market_data_collector")
    assert (SHIPPED | LOCAL) - used == set(NOT_IMPORTED)
    assert not (SHIPPED | LOCAL) & (DASHBOARD | DEV)
    assert {"pytest", "hypothesis", "moto", "ccxt", "mypy", "ruff", "schemathesis"} <= DEV


def test_make_run_and_the_client_find_all_that_they_import() -> None:
    assert imported_by("market_data_collector") - OPTIONAL <= SHIPPED | LOCAL
    assert imported_by("app.py", "chalicelib", "infra", "local") <= SHIPPED | LOCAL | DASHBOARD


def test_only_the_drawing_needs_what_the_dashboard_installs() -> None:
    rest = [str(file.relative_to(ROOT)) for file in (ROOT / "local").rglob("*.py")]
    rest.remove("local/drawing.py")
    assert imported_by(*rest) <= SHIPPED | LOCAL


def test_the_tests_environment_holds_all_others() -> None:
    text = (ROOT / "requirements-dev.in").read_text(encoding="utf-8")
    assert {"-r requirements-local.in", "-r requirements-dashboard.in"} <= set(text.splitlines())
    local = (ROOT / "requirements-local.in").read_text(encoding="utf-8")
    assert "-r requirements.in" in local.splitlines()


@pytest.mark.parametrize("target", ["run", "logs", "package", "deploy"])
def test_what_runs_and_deploys_asks_for_the_small_environment(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}: venv-local ##", makefile, flags=re.M)


# --- what is locked ---------------------------------------------------------------------------

INPUTS = sorted(ROOT.glob("requirements*.in"))


def asked_by(file: Path) -> dict[str, Requirement]:
    """Name -> requirement, of an input and of those that it includes."""
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            found |= asked_by(ROOT / line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            found[normal(Requirement(line).name)] = Requirement(line)
    return found


def asked_according_to(lock: Path) -> set[str]:
    """The names that a locked file says an input asked for."""
    asked, name = set(), ""
    for line in lock.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([A-Za-z0-9][\w.-]*)==", line):
            name = normal(match[1])
        elif re.search(r"#.* -r requirements[\w-]*\.in$", line):
            asked.add(name)
    return asked


def disagreements(file: Path) -> list[str]:
    """What an input asks for and its locked file does not hold, or the other way round."""
    lock = file.with_suffix(".txt")
    asked, locked = asked_by(file), pins.read(lock)
    by_name: dict[str, list[pins.Pin]] = {}
    for pin in locked:
        by_name.setdefault(pin.name, []).append(pin)
    wrong = [
        f"{lock.name} holds no {requirement}"
        for name, requirement in asked.items()
        if not by_name.get(name)
        or not all(requirement.specifier.contains(pin.version) for pin in by_name[name])
    ]
    wrong += [
        f"{file.name} asks for no {name}" for name in sorted(asked_according_to(lock) - set(asked))
    ]
    wrong += [
        f"{lock.name} has no hash of {pin.name}"
        for pin in locked
        if not pin.hashes or not all(re.fullmatch(r"sha256:[0-9a-f]{64}", h) for h in pin.hashes)
    ]
    return wrong


@pytest.mark.parametrize("file", INPUTS, ids=lambda file: file.name)
def test_what_is_locked_is_what_is_asked_for(file: Path) -> None:
    assert disagreements(file) == [], "make lock writes it anew"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("six==1.17.0\n", "six==1.16.0\n", "requirements-x.txt holds no six==1.16.0"),
        ("six==1.17.0\n", "six==1.17.0\nidna==3.18\n", "requirements-x.txt holds no idna==3.18"),
        ("six==1.17.0\n", "", "requirements-x.in asks for no six"),
    ],
)
def test_an_input_that_changed_alone_is_noticed(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    file, lock = tmp_path / "requirements-x.in", tmp_path / "requirements-x.txt"
    lock.write_text(
        f"six==1.17.0 ; python_version < '4' \\\n    --hash=sha256:{'0' * 64}\n"
        "    # via -r requirements-x.in\n"
    )
    file.write_text(before)
    assert disagreements(file) == []
    file.write_text(after)
    assert disagreements(file) == [said]


def test_a_pin_without_a_hash_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "requirements-x.in"
    file.write_text("six==1.17.0\n")
    file.with_suffix(".txt").write_text("six==1.17.0\n    # via -r requirements-x.in\n")
    assert disagreements(file) == ["requirements-x.txt has no hash of six"]


def test_what_ships_and_runs_is_the_version_that_is_tested() -> None:
    tested = {(pin.name, pin.version) for pin in pins.read(ROOT / "requirements-dev.txt")}
    for name in ("requirements", "requirements-local", "requirements-dashboard"):
        assert {(pin.name, pin.version) for pin in pins.read(ROOT / f"{name}.txt")} <= tested
