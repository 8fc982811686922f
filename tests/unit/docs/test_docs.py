"""What the documents name is there: settings, routes, make targets, files, headings."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

import pytest

from app import app
from infra.package import ROOT
from infra.settings_doc import document

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def _prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)


def _headings(page: Path) -> set[str]:
    """Anchors as GitHub makes them: lower case, spaces to hyphens, punctuation gone."""
    titles = re.findall(r"^#+ +(.*)$", _prose(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_settings_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "SETTINGS.md").read_text(encoding="utf-8")
    assert page == document(), "run: python -m infra.settings_doc > docs/SETTINGS.md"


def test_the_readme_calls_every_route_by_curl_and_no_other() -> None:
    shown = set()
    for line in re.findall(r"^curl .*localhost:8000.*$", README, flags=re.M):
        path = re.search(r"localhost:8000(/[^\s'?]*)", line)
        assert path, line
        method = re.search(r"-X (\w+)", line)
        name = "{schedule_id}" if "/schedules/" in path[1] else "{task_id}"
        shown.add((_UUID.sub(name, path[1]), method[1] if method else "GET"))
    assert shown == {
        ("/api" + path, method) for path, methods in app.routes.items() for method in methods
    }


@every_page
def test_every_make_target_named_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.M))
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^)make ([a-z]+)", text, flags=re.M))
    assert named <= targets


@every_page
def test_every_link_to_a_file_or_heading_resolves(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), target
        assert not anchor or anchor in _headings(file), target


@pytest.mark.parametrize(
    "page",
    [*PAGES, ROOT / "docs" / "openapi.json", *sorted((ROOT / "docs" / "images").glob("*.svg"))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_no_page_names_a_path_of_somebodys_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.}])/(home|Users|root|tmp|work|opt|var|mnt)/", text)


@every_page
def test_every_python_example_compiles(page: Path) -> None:
    for code in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), flags=re.S | re.M):
        ast.parse(textwrap.dedent(code))
