"""GET /docs and GET /openapi.json: the API's own description, which needs no key."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

from chalice.app import Response

from chalicelib.access.scopes import OPEN
from chalicelib.api import console, web

#: In the repository, and at the root of the zip (infra/package.py).
SPEC = Path(__file__).parents[2] / "docs" / "openapi.json"
_FRAME = """\
<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>API reference</title>
    <link rel="icon" href="{{files}}/icon.svg" type="image/svg+xml">
    <link rel="stylesheet" href="{{files}}/style.css">
    <link rel="stylesheet" href="{{files}}/docs.css">
  </head>
  <body class="reference">
    <main>
      <h1>API reference</h1>
      <p><a href="openapi.json">openapi.json</a> is the contract. <a href="./">Console</a></p>
      BLOCKS
    </main>
  </body>
</html>
"""


@web.route("GET", "/docs", scope=OPEN, root="")
def docs() -> Response:
    root = web.path().removesuffix("/").removesuffix("/docs")
    return console.html(_FRAME.replace("BLOCKS", _blocks(_server())), root)


@web.route("GET", "/openapi.json", scope=OPEN, root="")
def openapi() -> Response:
    web.query()
    headers: dict[str, str | list[str]] = {
        "Content-Type": "application/json",
        "Cache-Control": "no-cache",
    }
    return Response(_text(), headers, 200)


def _server() -> str:
    """Where this API is, as the request names it; else as `make run` has it."""
    host = web.header("x-forwarded-host") or web.header("host")
    scheme = web.header("x-forwarded-proto") or "http"
    if re.fullmatch(r"[\w.-]+(:\d+)?", host) and scheme in ("http", "https"):
        return f"{scheme}://{host}"
    return str(json.loads(_text())["servers"][0]["url"])


def _blocks(server: str) -> str:
    # Here, not above: no other route needs it.
    from chalicelib.api.reference import reference

    return "\n".join(reference(json.loads(_text()), web.SCOPES, web.PREFIX, server))


@cache
def _text() -> str:
    return SPEC.read_text(encoding="utf-8")
