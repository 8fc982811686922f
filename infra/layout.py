"""JSON files that people look at, and whose changes they read."""

from __future__ import annotations

import json


def laid_out(value: object, levels: int, margin: str = "") -> str:
    """A value as JSON: lists and objects have a line for each part down to so many levels, and what
    lies deeper stands on one."""
    if not levels or not value or not isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    inner = f"{margin}  "
    if isinstance(value, dict):
        marks = "{}"
        parts = [
            f"{json.dumps(name)}: {laid_out(part, levels - 1, inner)}"
            for name, part in value.items()
        ]
    else:
        marks = "[]"
        parts = [laid_out(part, levels - 1, inner) for part in value]
    lines = f",\n{inner}".join(parts)
    return f"{marks[0]}\n{inner}{lines}\n{margin}{marks[1]}"
