"""The stack's name, and the names that CloudFormation makes of it.

A function is called <stack>-<logical id>-<twelve characters>. Where that is too long for Lambda,
CloudFormation cuts the stack's name, too. The log groups, which are named after the functions, then
no longer match the policies that let them write, which name the stack (policies.py).

Sources: CloudFormation User Guide, "Name type"; Lambda API Reference, CreateFunction.
"""

from __future__ import annotations

from chalicelib.core.errors import SettingsInvalid
from infra.functions import FUNCTIONS

APP = "market-data-collector"
#: Lambda's limit.
_LONGEST_FUNCTION = 64
_SUFFIX = 12


def stack_name(stage: str) -> str:
    return f"{APP}-{stage}"


def require_fit(stage: str) -> None:
    """Raises SettingsInvalid where a function's name would be cut."""
    longest = max(FUNCTIONS.values(), key=len)
    spare = _LONGEST_FUNCTION - len(f"{stack_name(stage)}-{longest}-") - _SUFFIX
    if spare < 0:
        raise SettingsInvalid(
            f"the stage's name {stage!r} has {len(stage)} characters, and at most "
            f"{len(stage) + spare} leave room for the names of functions on AWS: shorten it"
        )
