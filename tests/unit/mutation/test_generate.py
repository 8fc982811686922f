"""Which guards are removed from a module, and what is left of it then."""

from __future__ import annotations

from typing import Any

import pytest

from tests.doubles.evaluation import holds
from tests.doubles.expressions import Placeholders, condition
from tests.mutation.explained import explanations
from tests.mutation.generate import CHALICELIB, PACKAGES, Mutant, mutants_in, mutants_of

SOURCE = '''
class Table:
    def check(self, number, known):
        """The text of a function is no guard."""
        assert number >= 0
        for _ in range(1):
            if number < 3 and (not known or number == 1):
                continue
            return "passed"
        return "kept out" or None

    def write(self, name):
        condition = f"held <= :{name}"
        condition += " AND attribute_exists(held)"
        return self._set("SET held = :n", condition)

    def _set(self, update, condition):
        parts = [condition, "(attribute_not_exists(seen_at) OR seen_at = :n)"]
        parts.append("NOT contains(done, :n)")
        return {"ConditionExpression": " AND ".join(parts), "UpdateExpression": update}
'''


def made(kind: str = "") -> dict[str, Mutant]:
    found = mutants_in(SOURCE, CHALICELIB / "tasks" / "sample.py")
    return {mutant.text: mutant for mutant in found if mutant.text.startswith(kind)}


def checked(mutant: Mutant, number: int, known: bool) -> str:
    namespace: dict[str, Any] = {}
    exec(mutant.code(), namespace)
    answer: str = namespace["Table"]().check(number, known)
    return answer


def test_each_kind_of_guard_is_removed_once_and_nothing_else_is_touched() -> None:
    decision = "number < 3 and (not known or number == 1)"
    assert sorted(made()) == sorted(
        [
            f"no guard: if {decision}: continue",
            f"without number < 3: {decision}",
            f"without not known or number == 1: {decision}",
            "without not known: not known or number == 1",
            "without number == 1: not known or number == 1",
            "<= for <: number < 3",
            "condition without held <= :{name}",
            "condition with < for <=: held <= :{name}",
            "condition without attribute_exists(held)",
            "condition without (attribute_not_exists(seen_at) OR seen_at = :n)",
            "condition without attribute_not_exists(seen_at)",
            "condition without seen_at = :n",
            "condition without NOT contains(done, :n)",
        ]
    )


@pytest.mark.parametrize(
    ("text", "number", "known", "answer"),
    [
        ("no guard", 1, True, "passed"),
        ("without number < 3", 4, False, "kept out"),
        ("without not known or number == 1", 2, True, "kept out"),
        ("without not known:", 2, False, "passed"),
        ("without number == 1", 1, True, "passed"),
        ("<= for <", 3, False, "kept out"),
    ],
)
def test_a_mutant_misses_its_guard_alone(text: str, number: int, known: bool, answer: str) -> None:
    (mutant,) = made(text).values()
    namespace: dict[str, Any] = {}
    exec(SOURCE, namespace)
    assert checked(mutant, number, known) == answer != namespace["Table"]().check(number, known)


def test_a_mutant_leaves_the_others_as_they_are() -> None:
    first, second = made("<= for <").values(), made("no guard").values()
    before = [checked(mutant, 3, False) for mutant in second]
    assert [checked(mutant, 3, False) for mutant in first] == ["kept out"]
    assert [checked(mutant, 3, False) for mutant in second] == before


@pytest.mark.parametrize(
    ("text", "item", "held"),
    [
        ("held <= :{name}", {"held": "6"}, True),
        ("attribute_exists(held)", {"held": "6"}, False),
        ("NOT contains(done, :n)", {"held": "4", "done": "5"}, True),
        ("(attribute_not_exists(seen_at) OR seen_at = :n)", {"held": "4", "seen_at": "4"}, True),
        ("attribute_not_exists(seen_at)", {"held": "4"}, False),
        ("seen_at = :n", {"held": "4", "seen_at": "5"}, False),
    ],
)
def test_a_condition_misses_one_part_and_keeps_its_placeholders(
    text: str, item: dict[str, str], held: bool
) -> None:
    namespace: dict[str, Any] = {}
    exec(made()[f"condition without {text}"].code(), namespace)
    placeholders = Placeholders(None, {":n": {"N": "5"}})
    tree = condition(namespace["Table"]().write("n")["ConditionExpression"], placeholders)
    wire = {name: {"NS": [it]} if name == "done" else {"N": it} for name, it in item.items()}
    assert holds(tree, wire) is held
    assert placeholders.used == {":n"}


def test_every_explanation_is_of_a_mutant_that_exists() -> None:
    there = {
        (mutant.place, mutant.text)
        for package in PACKAGES
        for path in (CHALICELIB / package).glob("*.py")
        for mutant in mutants_of(path)
    }
    assert explanations().keys() <= there
    assert all(explanations().values())
