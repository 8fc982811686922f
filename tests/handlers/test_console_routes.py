"""The console's page and files, as API Gateway hands them out."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from chalicelib import wiring
from chalicelib.api import console
from chalicelib.core.backend import Backend
from tests.handlers.conftest import Http

SOCKETS = "https://socket123.execute-api.eu-west-1.amazonaws.com/api"


@pytest.fixture
def settle(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Answer with other settings from now on."""

    def settle(**settings: Any) -> None:
        changed = dataclasses.replace(backend.settings, **settings)
        made = dataclasses.replace(backend, settings=changed)
        monkeypatch.setattr(wiring, "backend", lambda: made)

    return settle


def _page(http: Http) -> str:
    answer = http.page("/")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    return str(answer.body.decode())


def _policy(http: Http) -> dict[str, str]:
    text = http.page("/").headers["Content-Security-Policy"]
    return dict(part.split(" ", 1) for part in text.split("; "))


def test_every_file_that_the_page_names_is_there_and_kept_for_good(http: Http) -> None:
    named = re.findall(r'(?:src|href)="([^"]+)"', _page(http))
    assert len(named) >= 5
    for path in named:
        answer = http.page(path)
        assert answer.status_code == 200, path
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_every_file_is_served_with_its_type(http: Http) -> None:
    root = f"/console/{console.version()}"
    for name in console.files():
        if name != "index.html":
            kind = http.page(f"{root}/{name}").headers["Content-Type"]
            assert (
                kind.split(";")[0]
                in {
                    "js": ("text/javascript",),
                    "css": ("text/css",),
                    "svg": ("image/svg+xml",),
                    "txt": ("text/plain",),
                }[name.rsplit(".", 1)[1]]
            )
    assert {"main.js", "vendor/preact.js", "views/overview.js"} <= set(console.files())


@pytest.mark.parametrize(
    "path",
    [
        *("0000000000000000/main.js", "{v}/nope.js", "{v}/vendor/README.md", "{v}/index.html"),
        *("{v}/..%2Fapp.py", "{v}/views/..", "{v}/%2Fetc/passwd"),
    ],
)
def test_what_the_console_does_not_consist_of_is_not_served(http: Http, path: str) -> None:
    answer = http.page(f"/console/{path.replace('{v}', console.version())}")
    assert answer.status_code == 404
    assert answer.json_body["reason"] == "PAGE_NOT_FOUND"


def test_a_page_that_has_not_changed_is_not_sent_again(http: Http) -> None:
    etag = http.page("/").headers["ETag"]
    again = http.page("/", {"If-None-Match": etag})
    assert (again.status_code, again.body) == (304, b"")
    assert http.page("/", {"If-None-Match": '"other"'}).status_code == 200


def test_the_page_allows_nothing_from_elsewhere_and_nothing_inline(http: Http) -> None:
    policy = _policy(http)
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert not re.search(r"<script(?![^>]* src=)|style=|<style|\son\w+=", _page(http))


def test_the_page_may_connect_to_its_own_websocket_api_and_nothing_else(
    http: Http, settle: Any
) -> None:
    settle(ws_endpoint=SOCKETS)
    assert _policy(http)["connect-src"] == (
        "'self' wss://socket123.execute-api.eu-west-1.amazonaws.com"
    )
    settle(ws_endpoint="http://127.0.0.1:4566/_aws/execute-api/socket123/api")
    assert _policy(http)["connect-src"] == "'self' ws://127.0.0.1:4566"
    settle(ws_endpoint="")
    assert _policy(http)["connect-src"] == "'self'"


@pytest.mark.parametrize("authentication", ["none", "keys", "iam"])
def test_the_page_knows_how_requests_show_who_sent_them(
    http: Http, settle: Any, authentication: str
) -> None:
    settle(authentication=authentication)
    assert f'data-authentication="{authentication}"' in _page(http)
