"""The built documentation site, and the dashboard as Grafana's own models read it.

`make test-extra` runs this file, after `make docs`.
"""

from __future__ import annotations

import json
import os.path
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from infra.package import ROOT

SITE = ROOT / "build" / "site"
PAGES = sorted(SITE.rglob("*.html"))
PYTHON = ROOT / ".venv-docs" / "bin" / "python"
#: What Grafana's models, written out again, keep of a dashboard.
MODEL = """
import json, sys
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
register_default_plugins()
print(JSONEncoder().encode(Dashboard.from_json(json.load(open(sys.argv[1])))))
"""


class Page(HTMLParser):
    """What a page fetches, where its links lead, and which anchors it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif "src" in given:
            self.fetched.append(given["src"])
        elif tag == "link" and given.get("rel") not in ("canonical", "alternate"):
            self.fetched.append(given["href"])


READ = {path: Page(path) for path in PAGES}


def _named(path: Path) -> str:
    return str(path.relative_to(SITE))


def test_the_site_was_built() -> None:
    assert len(PAGES) > 50
    assert (SITE / "search.json").stat().st_size > 100_000


@pytest.mark.parametrize("path", PAGES, ids=_named)
def test_a_page_fetches_nothing_from_other_hosts_and_all_that_is_there(path: Path) -> None:
    for address in READ[path].fetched:
        assert not urlsplit(address).netloc, address
        if not address.startswith("data:"):
            assert _file(path, address).is_file(), address


@pytest.mark.parametrize("path", PAGES, ids=_named)
def test_every_link_of_a_page_leads_to_a_page_and_an_anchor_of_it(path: Path) -> None:
    for link in READ[path].links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        file = _file(path, parts.path) if parts.path else path
        assert file.is_file(), link
        if parts.fragment and file.suffix == ".html":
            assert unquote(parts.fragment) in {*READ[file].anchors, "__skip"}, link


def test_every_page_is_reached_from_the_first() -> None:
    reached, waiting = {SITE / "index.html"}, [SITE / "index.html"]
    while waiting:
        path = waiting.pop()
        for link in READ[path].links:
            parts = urlsplit(link)
            file = _file(path, parts.path) if parts.path and not parts.scheme else path
            if file in READ and file not in reached:
                reached.add(file)
                waiting.append(file)
    assert {path for path in PAGES if path.name != "404.html"} <= reached


def _file(page: Path, address: str) -> Path:
    """The file of the site that a page means. The page for what is not found may be anywhere."""
    address = unquote(urlsplit(address).path)
    if address.startswith("/"):
        return SITE / address.lstrip("/")
    file = Path(os.path.normpath(page.parent / address))
    return file / "index.html" if file.is_dir() else file


def test_grafanas_models_know_every_field_of_the_dashboard() -> None:
    file = ROOT / "docs" / "grafana.json"
    done = subprocess.run([PYTHON, "-c", MODEL, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ours = json.loads(file.read_text(encoding="utf-8"))
    assert list(_lost(ours, json.loads(done.stdout))) == []


def _lost(ours: object, theirs: object, at: str = "") -> Iterator[str]:
    """Where a value of ours is another one, or none, in what the models kept."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name, value in ours.items():
            yield from _lost(value, theirs.get(name), f"{at}/{name}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from _lost(one, other, f"{at}/{number}")
    elif ours != theirs:
        yield at
