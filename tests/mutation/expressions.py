"""Mutants of a condition that DynamoDB is given, as it is written down: a string, or an f-string.

DynamoDB refuses placeholders that nothing uses, so a part that is dropped stays, and decides
nothing: `X` becomes `(X OR NOT (X))`, which always holds.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

#: What stands for the values of an f-string while it is one text.
_VALUES = 0xE000
_BOUNDARY = re.compile(r"(?<= )(<=?|>=?)(?= )")
_NEIGHBOUR = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}


def weakened(node: ast.Constant | ast.JoinedStr) -> Iterator[tuple[str, str, Any]]:
    """What is changed, and the field of `node` with its other value."""
    values = [node] if isinstance(node, ast.Constant) else node.values
    text = "".join(
        str(each.value) if isinstance(each, ast.Constant) else chr(_VALUES + at)
        for at, each in enumerate(values)
    )
    for what, changed in _mutants(text):
        named = re.sub("[\ue000-\ue0ff]", lambda at: _source(values[ord(at[0]) - _VALUES]), what)
        if isinstance(node, ast.Constant):
            yield named, "value", changed
        else:
            pieces = re.split("([\ue000-\ue0ff])", changed)
            yield (
                named,
                "values",
                [
                    values[ord(piece) - _VALUES] if at % 2 else ast.Constant(piece)
                    for at, piece in enumerate(pieces)
                ],
            )


def _source(value: ast.expr) -> str:
    assert isinstance(value, ast.FormattedValue)
    return f"{{{ast.unparse(value.value)}}}"


def _mutants(text: str) -> Iterator[tuple[str, str]]:
    for start, end, holds in _parts(text, 0, len(text)):
        part = text[start:end]
        # DynamoDB refuses parentheses within parentheses.
        whole = part if _is_enclosed(part, 0, len(part)) else f"({part})"
        ignored = f"({part} OR NOT {whole})" if holds else f"({part} AND NOT {whole})"
        yield f"condition without {part}", text[:start] + ignored + text[end:]
    for found in _BOUNDARY.finditer(text):
        other = _NEIGHBOUR[found[0]]
        yield (
            f"condition with {other} for {found[0]}: {text.strip()}",
            text[: found.start()] + other + text[found.end() :],
        )


def _parts(text: str, start: int, end: int, holds: bool = True) -> Iterator[tuple[int, int, bool]]:
    """Where the parts of a condition are, and what each is to be for the others to decide alone."""
    conjuncts = _split(text, start, end, " AND ")  # before the spaces go: a text may begin with AND
    start += len(text[start:end]) - len(text[start:end].lstrip())
    end -= len(text[start:end]) - len(text[start:end].rstrip())
    if start < end and len(conjuncts) == 1:
        yield start, end, holds
    if _is_enclosed(text, start, end):
        start, end = start + 1, end - 1
        conjuncts = _split(text, start, end, " AND ")
    operands = _split(text, start, end, " OR ")
    if len(operands) > 1:
        for low, high in operands:
            yield from _parts(text, low, high, holds=False)
    elif len(conjuncts) > 1:
        for low, high in conjuncts:
            yield from _parts(text, low, high)


def _is_enclosed(text: str, start: int, end: int) -> bool:
    """Whether it begins with a parenthesis that its last character closes."""
    return text.startswith("(", start) and _split(text, start + 1, end, ")")[0] == (
        start + 1,
        end - 1,
    )


def _split(text: str, start: int, end: int, separator: str) -> list[tuple[int, int]]:
    """The stretches between separators that stand in no parentheses."""
    depth, found, at = 0, [], start
    for here in range(start, end):
        if depth == 0 and text.startswith(separator, here, end):
            found.append((at, here))
            at = here + len(separator)
        depth += {"(": 1, ")": -1}.get(text[here], 0)
    return [*found, (at, end)]
