"""Problems of a request: each names what is wrong, and where by its JSON pointer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from chalicelib.core.errors import InvalidRequest

_MOST_ERRORS = 50

Errors = list[dict[str, str]]


def invalid(errors: Errors) -> InvalidRequest:
    """The error that names all problems of a request, the first one in its detail."""
    shown = errors[:_MOST_ERRORS]
    first = f"{shown[0]['pointer']}: {shown[0]['detail']}".removeprefix(": ")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return InvalidRequest(first + more, shown)


def problem(detail: str, pointer: str) -> dict[str, str]:
    """`pointer`: a JSON pointer into the body, or "/" and the name of a query parameter."""
    return {"detail": detail, "pointer": pointer}


def unknown_fields(body: Mapping[str, object], allowed: Collection[str]) -> Errors:
    """A problem for each field of a body that nobody reads."""
    known = f"allowed {'are' if len(allowed) > 1 else 'is'} {', '.join(allowed)}"
    return [
        problem(f"unknown field; {known}", f"/{pointer_token(name)}")
        for name in body
        if name not in allowed
    ]


def pointer_token(name: str) -> str:
    """A field's name as a token of a JSON pointer (RFC 6901), cut to 100 characters."""
    return name[:100].replace("~", "~0").replace("/", "~1")


def whole(
    body: dict[str, Any],
    name: str,
    default: int,
    bounds: tuple[int, int],
    errors: Errors,
    unit: str = "",
) -> int:
    """A field of a body that is an integer within bounds, or its default where it is absent.

    Anything else is noted in `errors`. `unit`: said behind the bounds, like " (seconds)".
    """
    value, (least, most) = body.get(name, default), bounds
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        errors.append(problem(f"must be an integer from {least} to {most}{unit}", f"/{name}"))
        return default
    return value
