"""Mutants that no test can or need kill, with the reason: explained.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

FILE = Path(__file__).with_name("explained.toml")


def explanations() -> dict[tuple[str, str], str]:
    """(place, text) of a mutant -> why it survives."""
    entries = tomllib.loads(FILE.read_text()).get("mutant", [])
    return {(entry["place"], entry["text"]): entry["reason"] for entry in entries}
