"""Settings of a stage: settings.toml, then the environment, checked before anything is built."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path

from chalicelib.core.environ import from_environ
from chalicelib.core.errors import SettingsInvalid
from chalicelib.core.problems import Errors
from chalicelib.core.settings import Settings
from chalicelib.work import selector

ROOT = Path(__file__).resolve().parent.parent
#: Lambda allows 4 KB of environment; queue URLs, ARNs and names of the stack need up to 2.4 KB of
#: it (tests/unit/infra/test_packaging.py).
LARGEST_ENVIRONMENT = 1700


def environment(stage: str, environ: Mapping[str, str], file: Path | None = None) -> dict[str, str]:
    """Environment variables of the functions of `stage`, all settings written out.

    Raises SettingsInvalid with one sentence that says what to change.
    """
    given = {**_from_file(file or ROOT / "settings.toml", stage), **_from_environ(environ)}
    settings = from_environ(given)
    _require_selectors(settings.default_symbols)
    require_private(settings.authentication, settings.allow_public, stage != "local")
    variables = {name: as_text(getattr(settings, name.lower())) for name, _, _ in user_settings()}
    size = sum(len(name) + len(value.encode()) for name, value in variables.items())
    if size > LARGEST_ENVIRONMENT:
        longest = max(variables, key=lambda name: len(variables[name]))
        raise SettingsInvalid(
            f"the settings take {size} bytes, and Lambda's environment has room for "
            f"{LARGEST_ENVIRONMENT}: shorten {longest}"
        )
    return variables


def _require_selectors(entries: tuple[str, ...]) -> None:
    errors: Errors = []
    selector.parse(((entry, entry) for entry in entries), None, errors)
    for error in errors:
        raise SettingsInvalid(f"DEFAULT_SYMBOLS names {error['pointer']!r}: {error['detail']}")


def require_private(authentication: str, allow_public: str, reachable: bool) -> None:
    """Raises SettingsInvalid where an API that others can reach would ask nobody who they are, and
    the operator did not say that this is meant."""
    if reachable and authentication == "none" and allow_public != "yes":
        raise SettingsInvalid(
            "AUTHENTICATION is none, and that opens the API to whoever knows its address: leave it "
            "out for keys, or set ALLOW_PUBLIC=yes, too"
        )


def _from_file(file: Path, stage: str) -> dict[str, str]:
    try:
        sections = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsInvalid(f"{file.name} cannot be read: {error}") from error
    if stage not in sections:
        raise SettingsInvalid(
            f"the stage {stage!r} has no section in {file.name}; there are "
            + ", ".join(sorted(set(sections) - {"default"}))
        )
    known = {name.lower() for name, _, _ in user_settings()}
    merged = {**sections.get("default", {}), **sections[stage]}
    unknown = sorted(set(merged) - known)
    if unknown:
        raise SettingsInvalid(f"{file.name} sets {unknown[0]!r}, which is no setting")
    return {name.upper(): as_text(value) for name, value in merged.items()}


def _from_environ(environ: Mapping[str, str]) -> dict[str, str]:
    # Resource names are the template's business, whatever the shell has.
    return {name: environ[name] for name, _, _ in user_settings() if name in environ}


def user_settings() -> list[tuple[str, object, str]]:
    """(environment variable, default, meaning) of every setting a person may change."""
    return [
        (setting.name.upper(), setting.default, setting.metadata["about"])
        for setting in fields(Settings)
        if setting.metadata and setting.default is not MISSING
    ]


def as_text(value: object) -> str:
    """A setting's value as the text of its environment variable."""
    if isinstance(value, (tuple, list)):
        return ",".join(str(part) for part in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
