"""The types of answers are made from docs/openapi.json, and fit what the API answers."""

from __future__ import annotations

from infra import answers_module


def test_the_types_are_those_of_the_contract() -> None:
    text = answers_module.PLACE.read_text(encoding="utf-8")
    assert text == answers_module.module(), "run python -m infra.answers_module"
