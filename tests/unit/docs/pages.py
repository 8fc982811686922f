"""The documents that the tests of this folder read."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from infra.package import ROOT

FRONT = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES = [*FRONT, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def text_of(name: str) -> str:
    """The text of a page, by its path below the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)


def blocks(text: str, kind: str) -> list[str]:
    """The blocks of code of one kind, such as `sh` or `python`."""
    return re.findall(rf"^```{kind}\n(.*?)^```", text, flags=re.S | re.M)


def names_in(file: Path) -> set[str]:
    """The functions and classes at a module's top, and the methods of its classes."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    top = [node for node in ast.parse(file.read_text("utf-8")).body if isinstance(node, kinds)]
    inner = [node for one in top if isinstance(one, ast.ClassDef) for node in one.body]
    return {node.name for node in (*top, *inner) if isinstance(node, kinds)}


def named_tests(text: str) -> list[tuple[str, str]]:
    """(file below tests/, function) of every test that a page names."""
    return sorted(set(re.findall(r"`(?:tests/)?([\w/]+\.py)::(\w+)`", text)))


def commands(block: str) -> list[str]:
    """The commands of a block of shell: one a line, without remarks."""
    found = [re.sub(r"\s+# .*$", "", line).strip() for line in block.splitlines()]
    return [line for line in found if line and not line.startswith("#")]
