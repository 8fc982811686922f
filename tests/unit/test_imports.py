"""Who may import whom: packages of chalicelib, downwards only and without circles.

`python -m tests.unit.test_imports` prints the table with each package's lines.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "app.py", *sorted((ROOT / "chalicelib").rglob("*.py"))]

#: Package -> the packages that it may import, from the ground up. `core` imports nothing; `core`
#: and `aws` are open to all above them.
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "aws": set(),
    "candles": set(),
    "exchange": {"candles"},
    "quotas": set(),
    "webhooks": {"quotas"},
    "audit": set(),
    "work": {"webhooks"},
    "tasks": {"audit", "candles", "exchange", "quotas", "webhooks", "work"},
    "access": {"tasks"},
    "schedules": {"access", "candles", "exchange", "quotas", "tasks", "webhooks", "work"},
    "live": {"access", "candles", "exchange", "quotas", "tasks"},
    "events": {
        *{"access", "audit", "candles", "exchange", "live"},
        *{"schedules", "tasks", "webhooks", "work"},
    },
    "monitoring": {"events", "exchange", "quotas", "schedules", "tasks", "webhooks", "work"},
    "wiring": {"candles", "exchange"},
    "collecting": {"candles", "exchange", "tasks", "wiring", "work"},
    "api": {
        *{"access", "audit", "candles", "collecting", "exchange", "live", "monitoring"},
        *{"quotas", "schedules", "tasks", "wiring"},
    },
    "functions": {
        *{"audit", "collecting", "events", "exchange", "live", "monitoring", "schedules"},
        *{"webhooks", "wiring", "work"},
    },
    "app": {"api", "functions"},
}
ALWAYS = {"app": set(), "core": set(), "aws": {"core"}}
#: No module of chalicelib may have more lines, but the one that lists all settings.
MOST_LINES, LISTS_SETTINGS = 300, ROOT / "chalicelib" / "core" / "settings.py"
#: No package may be larger than this share of chalicelib.
LARGEST_SHARE = 0.2
WORKER_LIBRARIES = ("httpx", "aiohttp", "httptools", "aiobotocore", "msgspec", "arro3", "asyncio")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(module: str) -> str:
    """The package of chalicelib that a module is in; app.py and wiring.py stand for themselves."""
    parts = module.split(".")
    return parts[0] if parts[0] == "app" or len(parts) == 1 else parts[1]


def imports(path: Path) -> set[str]:
    """Every module a file imports, at its top or inside a function, for types or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}: write imports in full"
            for alias in node.names:
                inner = ROOT / Path(*node.module.split("."), alias.name)
                submodule = inner.with_suffix(".py").exists() or inner.is_dir()
                found.add(f"{node.module}.{alias.name}" if submodule else node.module)
    return found


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] in ("app", "chalicelib")}


def lines_of_packages() -> dict[str, int]:
    lines = dict.fromkeys(MAY_IMPORT, 0)
    for path in FILES:
        lines[package_of(name_of(path))] = lines.get(package_of(name_of(path)), 0) + len(
            path.read_text("utf-8").splitlines()
        )
    return lines


def arrows_of_packages() -> dict[str, set[str]]:
    arrows: dict[str, set[str]] = {name: set() for name in MAY_IMPORT}
    for path in FILES:
        package = package_of(name_of(path))
        arrows.setdefault(package, set()).update(map(package_of, ours(path)))
        arrows[package].discard(package)
    return arrows


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_package_imports_only_what_the_table_allows(path: Path) -> None:
    package = package_of(name_of(path))
    if package == "chalicelib":  # its __init__, which holds nothing
        assert not imports(path)
        return
    allowed = {package} | MAY_IMPORT[package] | ALWAYS.get(package, {"core", "aws"})
    assert {package_of(module) for module in ours(path)} <= allowed


def test_the_table_names_no_arrow_that_nobody_takes() -> None:
    taken = arrows_of_packages()
    unused = {name: arrows - taken[name] for name, arrows in MAY_IMPORT.items()}
    assert not {name: arrows for name, arrows in unused.items() if arrows}


def test_neither_packages_nor_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter(arrows_of_packages()).prepare()
    TopologicalSorter({name_of(path): ours(path) for path in FILES}).prepare()


def test_no_package_is_larger_than_a_fifth() -> None:
    lines = {name: count for name, count in lines_of_packages().items() if name != "app"}
    whole = sum(lines.values())
    assert not {name for name, count in lines.items() if count > LARGEST_SHARE * whole}


def test_no_module_is_longer_than_one_can_read_at_once() -> None:
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in FILES}
    del lines[LISTS_SETTINGS]
    assert not {path: count for path, count in lines.items() if count > MOST_LINES}


def test_package_inits_are_empty() -> None:
    inits = (ROOT / "chalicelib").glob("*/__init__.py")
    assert not [path for path in inits if path.read_text("utf-8")]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_app_and_the_api_know_chalice(path: Path) -> None:
    knows = {module for module in imports(path) if module.split(".")[0] == "chalice"}
    assert not knows or package_of(name_of(path)) in ("app", "api")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_aws_knows_aws_clients(path: Path) -> None:
    clients = ("boto3", "botocore", "aiobotocore")
    knows = {module for module in imports(path) if module.split(".")[0] in clients}
    assert not knows or package_of(name_of(path)) == "aws"


@pytest.mark.parametrize("module", ["chalicelib.api.routes", "app"])
def test_the_apis_path_loads_nothing_of_the_workers_libraries(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in ran.stdout.split()}
    assert not loaded & set(WORKER_LIBRARIES)


_OF_WORKERS = (
    "chalicelib.functions.batches, chalicelib.exchange.archive, chalicelib.aws.pooled_calls"
)
#: What the first event of a function loads, beside app.py.
FIRST = {
    "collect": _OF_WORKERS,
    "plan": _OF_WORKERS,
    "push_updates": "chalicelib.live.push, chalicelib.aws.thread_pool",
    "deliver_webhook": "chalicelib.functions.webhooks, chalicelib.webhooks.sender",
}


@cache
def loaded_by(function: str) -> list[str]:
    """The modules that are not Python's own which a function loads up to its first event."""
    code = (
        f"import sys; before = set(sys.modules); import app, {FIRST.get(function, 'app')}; "
        "own = {*sys.builtin_module_names, *sys.stdlib_module_names}; "
        "print(*(name for name in {*sys.modules} - before if name.split('.')[0] not in own))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "FUNCTION": function},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.split()


@pytest.mark.parametrize("function", FIRST)
def test_a_function_loads_no_routes_and_no_sdk(function: str) -> None:
    loaded = loaded_by(function)
    assert not {name for name in loaded if name.startswith("chalicelib.api")}
    roots = {name.split(".")[0] for name in loaded}
    assert not roots & {"httpx", "aiohttp", "aiobotocore", "botocore", "boto3"}
    if function in ("push_updates", "deliver_webhook"):
        assert not roots & {"httptools", "arro3", "msgspec"}


#: Function -> how many modules that are not Python's own its first event loads, at the most.
MOST_MODULES = {
    "api_handler": 124,
    "push_updates": 102,
    "deliver_webhook": 49,
    "plan": 178,
    "collect": 178,
}


@pytest.mark.parametrize("function", MOST_MODULES)
def test_a_function_loads_no_more_modules_than_it_did(function: str) -> None:
    loaded = loaded_by(function)
    assert len(loaded) <= MOST_MODULES[function], sorted(loaded)


def test_the_api_has_its_routes_and_the_packaging_command_sees_them() -> None:
    code = "import app; print(len(app.app.routes))"
    counts = []
    for named in ({"FUNCTION": "api_handler"}, {}, {"FUNCTION": "collect"}):
        kept = {name: value for name, value in os.environ.items() if name != "FUNCTION"}
        ran = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**kept, **named},
            capture_output=True,
            text=True,
            check=True,
        )
        counts.append(int(ran.stdout))
    assert counts[0] == counts[1] > 20
    assert counts[2] == 0


def table() -> Iterator[str]:
    lines = lines_of_packages()
    whole = sum(count for name, count in lines.items() if name != "app")
    yield f"{'package':<12} {'lines':>6} {'share':>6}  may import (besides core and aws)"
    for name, allowed in MAY_IMPORT.items():
        share = "" if name == "app" else f"{lines[name] / whole:.0%}"
        yield f"{name:<12} {lines[name]:>6} {share:>6}  {', '.join(sorted(allowed)) or '-'}"


if __name__ == "__main__":
    print(*table(), sep="\n")
