"""GET /docs and GET /openapi.json, which need no key and nothing from elsewhere."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from chalicelib.api import web
from infra.package import ROOT
from tests.handlers.conftest import Http

SPEC: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8"))
#: Elements without an end.
VOID = {"meta", "link", "br"}


class Reader(HTMLParser):
    """Fails where elements are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _docs(http: Http, headers: dict[str, str] | None = None) -> str:
    answer = http.page("/docs", headers)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    return str(answer.body.decode())


def test_the_contract_is_served_as_it_is(http: Http) -> None:
    answer = http.page("/openapi.json")
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(answer.body) == SPEC


def test_the_page_has_the_consoles_policy_and_nothing_that_it_forbids(http: Http) -> None:
    policy = http.page("/docs").headers["Content-Security-Policy"]
    assert policy == http.page("/").headers["Content-Security-Policy"]
    text = _docs(http)
    reader = Reader(text)
    assert "<script" not in text
    assert "<style" not in text
    assert not [name for name, _ in reader.attributes if name == "style" or name.startswith("on")]


def test_every_file_and_anchor_that_the_page_names_is_there(http: Http) -> None:
    reader = Reader(_docs(http))
    anchors = [value for name, value in reader.attributes if name == "id"]
    assert len(anchors) == len(set(anchors))
    for target in (value for name, value in reader.attributes if name == "href"):
        if target.startswith("#"):
            assert target.removeprefix("#") in anchors
        elif "/console/" in target:
            assert http.page(target).status_code == 200, target
        else:
            assert target in ("openapi.json", "./")


@pytest.mark.parametrize(
    ("path", "method"),
    [(path, method) for path, item in SPEC["paths"].items() for method in item],
)
def test_every_route_is_there_with_its_scope_parameters_answers_and_a_command(
    http: Http, path: str, method: str
) -> None:
    operation = SPEC["paths"][path][method]
    text = _docs(http)
    _, _, part = text.partition(f'<h3 id="{operation["operationId"]}">')
    part = re.split("<h[23]", part)[0]
    below = path.removeprefix(web.PREFIX)
    assert part.startswith(f"<code>{method.upper()} {below}</code>")
    scopes = " or ".join(f"<code>{scope}</code>" for scope in web.SCOPES[method.upper(), below])
    assert f"Scope: {scopes}<" in part
    for parameter in operation.get("parameters", ()):
        if "name" in parameter:
            assert f"<td><code>{parameter['name']}</code></td>" in part
    for status in operation["responses"]:
        assert f"<td>{status}</td>" in part
    fixed = path.split("{")[0]
    assert re.search(rf"<code>curl .*http://[^ ]*{re.escape(fixed)}", part)
    assert "{" not in re.findall(r"curl [^ ]*(?: -X \w+)? (?:&#x27;)?(\S+)", part)[0]


def test_every_schema_has_its_fields(http: Http) -> None:
    text = _docs(http)
    for name, schema in SPEC["components"]["schemas"].items():
        _, _, part = text.partition(f'<h3 id="schema-{name}">')
        part = part.split("<h3")[0]
        for field in schema.get("properties", {}):
            assert f"<td><code>{field}</code></td>" in part, (name, field)


def test_commands_go_to_where_the_page_was_asked_for(http: Http) -> None:
    asked = {"Host": "abc.execute-api.eu-west-1.amazonaws.com", "X-Forwarded-Proto": "https"}
    assert f"https://{asked['Host']}/api/v1/data-collector/status" in _docs(http, asked)
    behind = {"Host": "127.0.0.1:4566", "X-Forwarded-Host": "localhost:8000"}
    assert "http://localhost:8000/api/v1/data-collector/status" in _docs(http, behind)
    odd = _docs(http, {"Host": "a'; rm -rf <b>"})
    assert "rm -rf" not in odd
    assert "http://127.0.0.1:8000/api/v1/data-collector/status" in odd


def test_it_is_not_sent_again_to_who_has_it(http: Http) -> None:
    tag = http.page("/docs").headers["ETag"]
    assert http.page("/docs", {"If-None-Match": tag}).status_code == 304
