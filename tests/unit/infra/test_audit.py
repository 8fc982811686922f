"""Findings of checkov, cfn-lint and bandit: which are explained, and by what that still holds."""

from __future__ import annotations

import pytest

from infra.audit import SKIPS, Finding, Skip, stale, unexplained

FOUND = [
    Finding("checkov", "CKV_1", "AWS::SQS::Queue.PlanQueue", "about"),
    Finding("checkov", "CKV_1", "AWS::SNS::Topic.AlarmTopic", "about"),
    Finding("bandit", "B1", "local/run.py", "about"),
]


@pytest.mark.parametrize(
    ("skip", "left"),
    [
        (Skip("checkov", "CKV_1", "AWS::SQS::Queue.*", "why"), FOUND[1:]),
        (Skip("checkov", "CKV_1", "*", "why"), FOUND[2:]),
        (Skip("bandit", "B1", "local/*.py", "why"), FOUND[:2]),
    ],
)
def test_a_skip_explains_its_own_check_where_it_says_so(skip: Skip, left: list[Finding]) -> None:
    assert unexplained(FOUND, [skip]) == left
    assert stale(FOUND, [skip]) == []


@pytest.mark.parametrize(
    "skip",
    [
        Skip("checkov", "CKV_2", "*", "why"),
        Skip("bandit", "CKV_1", "*", "why"),
        Skip("bandit", "B1", "infra/*", "why"),
    ],
)
def test_a_skip_that_explains_nothing_is_stale(skip: Skip) -> None:
    assert unexplained(FOUND, [skip]) == FOUND
    assert stale(FOUND, [skip]) == [skip]


def test_every_skip_says_why_and_stands_once() -> None:
    assert all(len(skip.why) > 20 for skip in SKIPS)
    assert len({skip[:3] for skip in SKIPS}) == len(SKIPS)
