"""What `pip install .` brings: one package, what it needs, one command, no other code of ours."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from importlib.metadata import Distribution, packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from chalicelib.core.version import VERSION

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "market_data_collector"
#: Files of the wheel that are somebody else's in git.
SHARED = {
    "market_data_collector/audit_chain.py": "chalicelib/audit/chain.py",
    "market_data_collector/version.py": "chalicelib/core/version.py",
}

#: What candles are handed to, where the caller has it.
OPTIONAL = {"pandas", "polars"}

#: The wheel and the libraries around it, without the path that an editable install adds.
ALONE = """
import importlib, pkgutil, sys
sys.path[:0] = sys.argv[1:]
# As if they were not installed.
sys.modules |= {"pandas": None, "polars": None}
import market_data_collector
for module in pkgutil.walk_packages(market_data_collector.__path__, "market_data_collector."):
    importlib.import_module(module.name)
assert not {name.split(".")[0] for name in sys.modules} & {"chalicelib", "cli", "local", "infra"}
"""
VERIFY = """
from market_data_collector.audit_chain import verify
[fault] = verify("task:1", [])
print(fault.kind)
"""
COMMAND = """
from market_data_collector.cli.__main__ import main
sys.exit(main({arguments}))
"""


def _wheel(source: Path, out: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-build-isolation", "--no-index", "-w", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    [wheel] = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def installed(unpacked: Path) -> Distribution:
    [record] = unpacked.glob("*.dist-info")
    return Distribution.at(record)


def _alone(unpacked: Path, code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    libraries = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", ALONE + code, str(unpacked), *libraries],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_holds_one_import_package(unpacked: Path) -> None:
    names = {entry.name for entry in unpacked.iterdir()}
    assert names == {
        "market_data_collector",
        f"market_data_collector-{VERSION}.dist-info",
    }


def test_the_wheel_is_the_package_in_git_with_what_it_shares(unpacked: Path) -> None:
    sources = {str(file.relative_to(ROOT)) for file in PACKAGE.rglob("*.py")}
    built = {str(file.relative_to(unpacked)) for file in unpacked.rglob("*.py")}
    assert built == sources
    assert (unpacked / "market_data_collector" / "py.typed").exists()
    for name in built:
        source = ROOT / SHARED.get(name, name)
        assert (unpacked / name).read_bytes() == source.read_bytes(), name


def test_the_client_takes_from_chalicelib_only_what_the_wheel_replaces() -> None:
    taken = {}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("chalicelib"):
                module = f"{str(node.module).replace('.', '/')}.py"
                taken[str(file.relative_to(ROOT))] = module
    assert taken == SHARED


def test_what_is_shared_needs_nothing_but_python() -> None:
    for name in SHARED.values():
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert {module.split(".")[0] for module in names} <= sys.stdlib_module_names


def test_every_library_that_the_client_imports_is_declared_and_no_other(
    installed: Distribution,
) -> None:
    imported = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module))
    ours = {"market_data_collector", "chalicelib"}
    modules = {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names}
    modules = {name for name in modules if name.split(".")[0] not in ours}
    owners = packages_distributions()
    needed = {
        # arro3 is a namespace that several distributions share.
        "arro3-io" if name == "arro3.io" else owners[name.split(".")[0]][0]
        for name in modules
    }
    declared = {Requirement(line).name for line in installed.requires or []}
    assert declared == {_normal(name) for name in needed} - OPTIONAL


def test_the_versions_that_are_tested_lie_in_the_ranges_that_are_declared(
    installed: Distribution,
) -> None:
    for line in installed.requires or []:
        requirement = Requirement(line)
        assert requirement.specifier.contains(version(requirement.name)), line
        # Beside other things: a range, open to what is newer.
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators == {">=", "<"}, line


def test_the_wheel_brings_the_command_and_the_version(installed: Distribution) -> None:
    [command] = installed.entry_points
    assert (command.group, command.name) == ("console_scripts", "data-collector")
    assert command.value == "market_data_collector.cli.__main__:main"
    assert installed.version == VERSION


def test_the_version_stands_in_one_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["dynamic"] == ["version"]
    assert "version" not in project


def test_the_wheel_works_alone_and_from_any_folder(unpacked: Path, tmp_path: Path) -> None:
    ran = _alone(unpacked, VERIFY + COMMAND.format(arguments='["--version"]'), tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == ["missing", f"data-collector, version {VERSION}"]


def test_the_wheel_verifies_exports_alone(unpacked: Path, tmp_path: Path) -> None:
    arguments = ["--api-url", "http://127.0.0.1:9", "audit", "verify", "--all", "--exports", "."]
    ran = _alone(unpacked, COMMAND.format(arguments=arguments), tmp_path)
    assert ran.returncode == 2
    assert "holds no exported day" in ran.stderr


def test_a_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    code = "import sys; from hatchling.build import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)
    [archive] = tmp_path.glob("*.tar.gz")
    folder = tmp_path / "another folder"
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    [source] = folder.iterdir()
    again = _wheel(source, tmp_path / "again")
    assert again.read_bytes() == wheel.read_bytes()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
