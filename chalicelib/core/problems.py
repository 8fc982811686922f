"""Problems of a request: each names what is wrong, and where by its JSON pointer."""

from __future__ import annotations

from chalicelib.core.errors import InvalidRequest

_MOST_ERRORS = 50

Errors = list[dict[str, str]]


def invalid(errors: Errors) -> InvalidRequest:
    shown = errors[:_MOST_ERRORS]
    first = f"{shown[0]['pointer']}: {shown[0]['detail']}".removeprefix(": ")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return InvalidRequest(first + more, shown)


def problem(detail: str, pointer: str) -> dict[str, str]:
    return {"detail": detail, "pointer": pointer}


def pointer_token(name: str) -> str:
    """A JSON pointer token (RFC 6901)."""
    return name[:100].replace("~", "~0").replace("/", "~1")
