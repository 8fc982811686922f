"""Cross-origin requests: web pages of the origins in the setting CORS_ORIGINS may call the API.

An origin is compared as a whole, and answered with itself: never with `*`. No answer allows
credentials that a browser adds by itself (cookies), because the API takes none; a page sends its
key or signature in a header.

Source: Fetch Standard, "CORS protocol".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chalice.app import Chalice, Request, Response

from chalicelib.core.environ import from_environ

#: Headers that a page may send, besides those that it always may.
SENT = (
    *("Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "X-Api-Key"),
    *("X-Amz-Content-Sha256", "X-Amz-Date", "X-Amz-Security-Token", "traceparent"),
)
#: Headers of answers that a page may read, besides those that it always may.
READ = (
    *("ETag", "Idempotency-Key-Expires", "Idempotency-Replayed", "Link", "Location"),
    "Retry-After",
)
#: For how long a browser need not ask again.
MAX_AGE_S = 600


def origins_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The origins of CORS_ORIGINS. Raises SettingsInvalid."""
    return from_environ({"CORS_ORIGINS": environ.get("CORS_ORIGINS", "")}).cors_origins


def allow(app: Chalice, origins: tuple[str, ...]) -> None:
    """Answer preflights on every path of `app`, and let pages of `origins` read every answer."""
    for path, methods in list(app.routes.items()):
        preflight = _preflight(", ".join(sorted(methods)))
        app.route(path, methods=["OPTIONS"], content_types=[])(preflight)

    # Errors of views are answers by now (problems.guarded).
    @app.middleware("http")
    def name_the_origin(event: Request, get_response: Callable[[Request], Response]) -> Response:
        response = get_response(event)
        # For caches: what is answered to one origin is not to be shown to another.
        response.headers["Vary"] = "Origin"
        origin = event.headers.get("origin")
        if origin in origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = ", ".join(READ)
        return response


def _preflight(methods: str) -> Callable[..., Response]:
    def preflight(**arguments: str) -> Response:
        # Nothing to an origin that is not named in the answer: a browser looks at that first.
        headers: dict[str, str | list[str]] = {
            "Access-Control-Allow-Methods": methods,
            "Access-Control-Allow-Headers": ", ".join(SENT),
            "Access-Control-Max-Age": str(MAX_AGE_S),
        }
        return Response("", headers, 204)

    return preflight
