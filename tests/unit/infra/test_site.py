"""The pages of the documentation site: links that fit it, and a place in its navigation."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

from chalicelib.api import web
from infra import site, site_reference
from infra.package import ROOT
from market_data_collector.cli.commands import cli


@pytest.mark.parametrize(
    ("source", "before", "after"),
    [
        ("README.md", "[a](docs/API.md#start)", "[a](API.md#start)"),
        ("README.md", "![a](docs/images/overview.svg)", "![a](images/overview.svg)"),
        ("README.md", "[a](docs/README.md)", "[a](index.md)"),
        ("docs/API.md", "[a](../README.md)", "[a](index.md)"),
        ("docs/API.md", "[a](events) [b](#here)", "[a](events/index.md) [b](#here)"),
        ("docs/adr/0001-layers-and-imports.md", "[a](../API.md)", "[a](../API.md)"),
        ("docs/tutorials/keys.md", "[a](../../CHANGELOG.md)", "[a](../CHANGELOG.md)"),
        ("docs/API.md", "[a](https://example.com/x)", "[a](https://example.com/x)"),
        ("docs/API.md", "```\n[a](../nothing)\n```", "```\n[a](../nothing)\n```"),
    ],
)
def test_links_lead_to_where_things_are_on_the_site(source: str, before: str, after: str) -> None:
    assert site.linked(before, source) == after


def test_a_link_to_what_is_not_on_the_site_is_refused() -> None:
    with pytest.raises(ValueError, match=r"infra/site\.py is linked"):
        site.linked("[a](../infra/site.py)", "docs/API.md")


def _named(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    entries = nav.values() if isinstance(nav, dict) else nav
    return [name for entry in entries for name in _named(entry)]


def test_every_page_has_one_place_in_the_navigation(tmp_path: Path) -> None:
    site.write(tmp_path)
    pages = {
        path.relative_to(tmp_path / "pages").as_posix()
        for path in (tmp_path / "pages").rglob("*.md")
        # The decisions' own pages are reached from their list.
        if not re.match(r"\d", path.name)
    }
    nav = _named(tomllib.loads((tmp_path / "site.toml").read_text("utf-8"))["project"]["nav"])
    assert len(nav) == len(set(nav))
    assert set(nav) == pages


def test_the_reference_has_every_route_command_and_field_of_events() -> None:
    api, commands = site_reference.api(), site_reference.commands()
    known = json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8"))["paths"]
    for method, path in web.SCOPES:
        if web.PREFIX + path in known:
            assert re.search(rf"^### `{method} {re.escape(path)}` {{ #\w+ }}$", api, flags=re.M)

    def check(command: click.Command, name: str) -> None:
        assert f"\n## {name}\n" in commands
        for option in command.params:
            for flag in option.opts if isinstance(option, click.Option) else ():
                assert flag in commands
        for inner in command.commands.values() if isinstance(command, click.Group) else ():
            check(inner, f"{name} {inner.name}")

    check(cli, "data-collector")
    events = site_reference.events()
    assert "\n## key.created\n" in events
    assert "| `data.scopes` | array |" in events
    assert "| `seq` |" in events
