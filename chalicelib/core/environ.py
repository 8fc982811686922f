"""Settings from the environment of a function, or of whoever packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from chalicelib.core.errors import SettingsInvalid
from chalicelib.core.settings import Settings


def from_environ(environ: Mapping[str, str]) -> Settings:
    """Settings from environment variables (upper-case names; lists are comma-separated).

    Raises SettingsInvalid with one sentence that names the variable.
    """
    given: dict[str, Any] = {}
    for setting in fields(Settings):
        text = environ.get(setting.name.upper())
        if text is None:
            continue
        given[setting.name] = _parse(setting.name, text, setting.default)
    return Settings(**given)


def _parse(name: str, text: str, default: object) -> object:
    text = text.strip()
    if isinstance(default, bool):  # before int, of which it is one
        if text.lower() not in ("true", "false"):
            raise SettingsInvalid(f"{name.upper()} is {text!r}; it must be true or false")
        return text.lower() == "true"
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            raise SettingsInvalid(f"{name.upper()} is {text!r}; it must be an integer") from None
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text
