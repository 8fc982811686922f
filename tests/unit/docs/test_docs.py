"""What the documents name is there: settings, routes, make targets, files, headings."""

from __future__ import annotations

import ast
import importlib
import re
import textwrap
from pathlib import Path

import pytest

from app import app
from chalicelib.api import web
from infra import tables_doc
from infra.configuration import environment
from infra.package import ROOT
from infra.settings_doc import document
from tests.unit.docs.pages import PAGES, blocks, prose, text_of

_KEY_ID = re.compile(r"(?<=/keys/)[0-9a-f]{16}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def _prose(page: Path) -> str:
    return prose(page.read_text(encoding="utf-8"))


def _headings(page: Path) -> set[str]:
    """Anchors as GitHub makes them: lower case, spaces to hyphens, punctuation gone."""
    titles = re.findall(r"^#+ +(.*)$", _prose(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_settings_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "SETTINGS.md").read_text(encoding="utf-8")
    assert page == document(), "run: python -m infra.settings_doc > docs/SETTINGS.md"


@pytest.mark.parametrize("page", tables_doc.TABLES)
def test_the_tables_that_are_made_from_the_code_are_up_to_date(page: str) -> None:
    text = text_of(f"docs/{page}")
    assert text == tables_doc.with_tables(page, text), "run: python -m infra.tables_doc"


def test_a_page_without_a_place_for_its_table_is_told() -> None:
    with pytest.raises(ValueError, match="scopes"):
        tables_doc.with_tables("KEYS.md", "<!-- scopes: begin -->\n")


def test_the_limits_named_are_those_of_a_deployed_stage() -> None:
    page, values = text_of("docs/LIMITS.md"), environment("prod", {})
    rows = dict(re.findall(r"^\| `(OWNER_\w+)` \| ([\d,]+) \|", page, flags=re.M))
    assert rows == {
        name: f"{int(value):,}" for name, value in values.items() if name.startswith("OWNER_")
    }
    for name in ("API_REQUESTS_PER_SECOND", "WS_MESSAGES_PER_SECOND"):
        assert f"`{name}`" in page
        assert values[name] == "200"


ROUTES = {("/api" + path, method) for path, methods in app.routes.items() for method in methods}


def _routes_called(page: str) -> set[tuple[str, str]]:
    """(path, method) of every curl of a page."""
    called = set()
    for line in re.findall(r"^curl .*localhost:8000.*$", text_of(page), flags=re.M):
        path = re.search(r"localhost:8000(/[^\s'?]*)", line)
        assert path, line
        method = re.search(r"-X (\w+)", line)
        name = "{schedule_id}" if "/schedules/" in path[1] else "{task_id}"
        route = _KEY_ID.sub("{key_id}", _UUID.sub(name, path[1]))
        called.add((route, method[1] if method else "GET"))
    return called


def test_the_page_of_the_api_calls_every_route_by_curl_and_no_other() -> None:
    api = {(path, method) for path, method in ROUTES if path.startswith(web.PREFIX)}
    assert _routes_called("docs/API.md") == api


def test_the_readme_is_short_and_calls_only_routes_that_exist() -> None:
    assert len(text_of("README.md").splitlines()) <= 200
    assert _routes_called("README.md") <= ROUTES


def test_the_index_links_every_page() -> None:
    index = text_of("docs/README.md")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index


def test_the_license_is_the_apache_license() -> None:
    text = text_of("LICENSE")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert text.rstrip().endswith("limitations under the License.")


@every_page
def test_every_make_target_named_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.M))
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text, flags=re.M))
    assert named <= targets


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/ARCHITECTURE.md"])
def test_every_file_named_at_the_front_exists(page: str) -> None:
    """By its path in the repository, in chalicelib or in tests; `.local/` is made by `make run`."""
    spans = re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|md|json|toml|svg))(?:::\w+)?`", text_of(page))
    for name in {span for span in spans if not span.startswith(".local/")}:
        assert any((ROOT / folder / name).exists() for folder in ("", "chalicelib", "tests")), name


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
    for code in blocks(page.read_text("utf-8"), "python"):
        ast.parse(textwrap.dedent(code))


@every_page
def test_every_python_example_imports_only_what_is_there(page: Path) -> None:
    for code in blocks(page.read_text("utf-8"), "python"):
        for node in ast.walk(ast.parse(textwrap.dedent(code))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("chalicelib"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    found = hasattr(module, alias.name)
                    assert found or importlib.import_module(f"{node.module}.{alias.name}")
