"""The one tree of errors, and what each says over HTTP."""

from __future__ import annotations

import inspect
import re

from chalicelib.core import errors

TREE = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, errors.CollectorError)
]


def test_every_error_is_drawn_in_the_tree() -> None:
    assert errors.__doc__
    for error in TREE:
        assert re.search(rf"\b{error.__name__}\b", errors.__doc__), error


def test_every_reason_reads_as_a_constant() -> None:
    for error in TREE:
        assert re.fullmatch(r"[A-Z][A-Z_]+", error.reason)


def test_what_the_caller_must_change_is_a_4xx_and_nothing_else_is() -> None:
    for error in TREE:
        rejected = issubclass(error, errors.RequestRejected)
        assert (400 <= error.status < 500) == rejected, error


def test_a_reason_given_to_one_error_is_that_errors_alone() -> None:
    assert errors.Conflict("x", reason="TASK_ACTIVE").reason == "TASK_ACTIVE"
    assert errors.Conflict("x").reason == "CONFLICT"
