"""Names that CloudFormation makes: each function may write the logs of its own name."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.errors import SettingsInvalid
from infra.functions import FUNCTIONS, role
from infra.names import require_fit, stack_name
from infra.package import package
from infra.policies import roles

STAGES = st.from_regex(r"[a-zA-Z][a-zA-Z0-9-]{0,30}", fullmatch=True)


def physical_name(stack: str, resource: str) -> str:
    """As CloudFormation makes it: what is too long is cut at the stack's name."""
    rest = f"-{resource}-abcdefghijk1"
    return stack[: 64 - len(rest)] + rest


def may_log(stack: str, resource: str) -> bool:
    """Whether the function's role lets it write to the log group of its name."""
    group = f"/aws/lambda/{physical_name(stack, resource)}:log-stream:x"
    return any(
        fnmatchcase(group, _group(pattern["Fn::Sub"]).replace("${AWS::StackName}", stack))
        for statement in _statements(resource)
        if "logs:PutLogEvents" in statement["Action"]
        for pattern in statement["Resource"]
    )


def _group(arn: str) -> str:
    return arn.partition(":log-group:")[2]


def _statements(resource: str) -> list[dict[str, Any]]:
    [policy] = roles()[role(resource)]["Properties"]["Policies"]
    found: list[dict[str, Any]] = policy["PolicyDocument"]["Statement"]
    return found


def is_refused(stage: str) -> bool:
    try:
        require_fit(stage)
    except SettingsInvalid:
        return True
    return False


@pytest.mark.parametrize("resource", sorted(FUNCTIONS.values()))
@settings(deadline=None)
@given(stage=STAGES)
def test_in_a_stage_that_is_taken_every_function_writes_its_logs(resource: str, stage: str) -> None:
    assert is_refused(stage) or may_log(stack_name(stage), resource)


@settings(deadline=None)
@given(stage=STAGES)
def test_a_stage_is_refused_only_where_a_function_could_not(stage: str) -> None:
    silent = [name for name in FUNCTIONS.values() if not may_log(stack_name(stage), name)]
    assert is_refused(stage) == bool(silent)


def test_packaging_refuses_such_a_stage_with_a_sentence_and_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"'production' has 10 characters, and at most 9"):
        package("production", tmp_path / "package", {})
    assert list(tmp_path.iterdir()) == []
