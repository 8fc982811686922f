"""GET / and GET /console/...: the web console, static files that need no key.

The page names its files under a version, the hash of all of them: browsers keep the files for good
and ask for the page alone. What is served is text; API Gateway compresses it.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from chalice.app import Response

from chalicelib import wiring
from chalicelib.access.scopes import OPEN
from chalicelib.api import web
from chalicelib.api.problems import problem
from chalicelib.core.settings import Settings

#: In the repository, and at the root of the zip (infra/package.py).
FOLDER = Path(__file__).parents[2] / "console"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_PAGE = "index.html"


@web.route("GET", "/", scope=OPEN, root="")
def page() -> Response:
    settings = wiring.backend().settings
    text = files()[_PAGE].replace("{{authentication}}", settings.authentication)
    return html(text, web.path().rstrip("/"))


def html(text: str, root: str) -> Response:
    """A page under the content security policy; `{{files}}` in it is where its files are.

    `root`: the path of the console's own page, without a slash at its end.
    """
    settings = wiring.backend().settings
    text = text.replace("{{files}}", f"{root}/console/{version()}")
    headers: dict[str, str | list[str]] = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": _policy(settings),
        "Cache-Control": "no-cache",
        "ETag": _etag(text),
        **_SAFE,
    }
    if web.header("if-none-match") == headers["ETag"]:
        return Response("", headers, 304)
    return Response(text, headers, 200)


@web.route("GET", "/console/{version}/{name}", scope=OPEN, root="")
def file(version: str, name: str) -> Response:
    return _file(version, name)


# API Gateway takes one name of a variable at each level.
@web.route("GET", "/console/{version}/{name}/{inner}", scope=OPEN, root="")
def file_in_folder(version: str, name: str, inner: str) -> Response:
    return _file(version, f"{name}/{inner}")


def _file(asked: str, name: str) -> Response:
    kind = _TYPES.get(Path(name).suffix)
    if asked != version() or name not in files() or kind is None:
        detail = "the console has no such file in this version; load its page again"
        return problem(404, "Page not found", "PAGE_NOT_FOUND", detail, web.path())
    headers: dict[str, str | list[str]] = {
        "Content-Type": kind,
        "Cache-Control": "public, max-age=31536000, immutable",
        **_SAFE,
    }
    return Response(files()[name], headers, 200)


@cache
def files() -> dict[str, str]:
    """Path below the folder -> text, of all files that the console consists of."""
    found = (path for path in FOLDER.rglob("*") if path.suffix in (*_TYPES, ".html"))
    return {path.relative_to(FOLDER).as_posix(): path.read_text("utf-8") for path in found}


@cache
def version() -> str:
    """Changes with any of the files."""
    return _etag("".join(name + files()[name] for name in sorted(files()))).strip('"')


_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def _policy(settings: Settings) -> str:
    """Nothing from elsewhere and nothing inline; one connection besides: the WebSocket API's."""
    socket = urlsplit(settings.ws_endpoint.replace("http", "ws", 1))
    sockets = f" {socket.scheme}://{socket.netloc}" if socket.netloc else ""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            f"connect-src 'self'{sockets}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _etag(text: str) -> str:
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:16]}"'
