"""Imports run one way: app, routes, use cases, wiring, gateways, pure rules, errors."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "app.py", *sorted((ROOT / "chalicelib").rglob("*.py"))]
#: What has no gateway, no clock and no environment: rules and the forms of data.
PURE = {
    "addresses",
    "arrivals",
    "attributes",
    "candles",
    "chaining",
    "changes",
    "coverage",
    "cron",
    "dispatch_rules",
    "firings",
    "freshness",
    "happening",
    "happenings",
    "logs",
    "messages",
    "metrics",
    "planning_rules",
    "requests",
    "schedule_happenings",
    "schedules",
    "settings",
    "tasks",
    "timeframes",
    "topics",
    "updates",
    "webhooks",
}
LAYERS = ("app", "routes", "use case", "wiring", "gateway", "pure", "errors")
WORKER_LIBRARIES = ("httpx", "aiohttp", "aiobotocore", "msgspec", "arro3", "asyncio")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(module: str) -> str:
    parts = module.split(".")
    if parts[0] == "app":
        return "app"
    if len(parts) == 1:
        return "errors"  # the package itself, which holds nothing
    if parts[1] in ("routes", "gateways"):
        return parts[1].removesuffix("s") if parts[1] == "gateways" else "routes"
    if parts[1] in ("wiring", "errors"):
        return parts[1]
    return "pure" if parts[1] in PURE else "use case"


def imports(path: Path) -> set[str]:
    """Every module a file imports, at its top or inside a function, for types or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}: write imports in full"
            for alias in node.names:
                inner = ROOT / Path(*node.module.split("."), alias.name)
                submodule = inner.with_suffix(".py").exists() or inner.is_dir()
                found.add(f"{node.module}.{alias.name}" if submodule else node.module)
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_module_imports_only_its_own_layer_and_those_below(path: Path) -> None:
    mine = LAYERS.index(layer(name_of(path)))
    upwards = {
        module
        for module in imports(path)
        if module.split(".")[0] in ("app", "chalicelib") and LAYERS.index(layer(module)) < mine
    }
    assert not upwards


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_app_and_the_routes_know_chalice(path: Path) -> None:
    knows = {module for module in imports(path) if module.split(".")[0] == "chalice"}
    assert not knows or layer(name_of(path)) in ("app", "routes")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_gateways_and_wiring_know_aws_clients(path: Path) -> None:
    clients = ("boto3", "botocore", "aiobotocore")
    knows = {module for module in imports(path) if module.split(".")[0] in clients}
    assert not knows or layer(name_of(path)) in ("gateway", "wiring")


def test_every_pure_module_is_there() -> None:
    assert {name_of(path).removeprefix("chalicelib.") for path in FILES} >= PURE


@pytest.mark.parametrize("module", ["chalicelib.routes.collector", "app"])
def test_the_apis_path_loads_nothing_of_the_workers_libraries(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in ran.stdout.split()}
    assert not loaded & set(WORKER_LIBRARIES)
