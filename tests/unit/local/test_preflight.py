"""What is said before a deploy: who deploys where, and whether the account has room."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.settings import Settings
from local.failures import StartFailed
from local.preflight import preflight

STACK = "market-data-collector-dev"


class Account:
    """An account with so many executions unreserved; the stack's function has `own` reserved, -1:
    CloudFormation knows of it, Lambda does not; None: there is no stack."""

    region_name = "eu-west-1"

    def __init__(self, unreserved: int, own: int | None) -> None:
        self._unreserved = unreserved
        self._own = own
        self.asked: list[str] = []

    def client(self, service: str) -> Any:
        return self

    def get_caller_identity(self) -> dict[str, str]:
        return {"Arn": "arn:aws:iam::1:user/me"}

    def get_account_settings(self) -> dict[str, Any]:
        self.asked.append("settings")
        return {"AccountLimit": {"UnreservedConcurrentExecutions": self._unreserved}}

    def describe_stack_resource(self, **asked: str) -> dict[str, Any]:
        assert asked == {"StackName": STACK, "LogicalResourceId": "Collect"}
        if self._own is None:
            raise refused("ValidationError", f"Stack '{STACK}' does not exist")
        return {"StackResourceDetail": {"PhysicalResourceId": "collect"}}

    def get_function_concurrency(self, FunctionName: str) -> dict[str, int]:
        assert FunctionName == "collect"
        if self._own == -1:
            raise refused("ResourceNotFoundException", "Function not found")
        return {"ReservedConcurrentExecutions": self._own} if self._own else {}


def refused(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "")


def check(account: Any, **chosen: Any) -> str:
    return preflight(account, STACK, Settings(**chosen))


@given(
    unreserved=st.integers(0, 400),
    own=st.none() | st.integers(-1, 100),
    collectors=st.integers(4, 100),
)
def test_a_hundred_executions_must_stay_unreserved_and_the_stacks_own_count_as_free(
    unreserved: int, own: int | None, collectors: int
) -> None:
    account = Account(unreserved, own)
    if unreserved + max(0, own or 0) - collectors >= 100:
        assert check(account, collectors=collectors) == "arn:aws:iam::1:user/me in eu-west-1"
        return
    with pytest.raises(StartFailed, match=rf"RESERVE=no.*runs? {collectors} at most"):
        check(account, collectors=collectors)


def test_what_is_not_reserved_need_not_be_free() -> None:
    account = Account(0, None)
    assert check(account, reserve="no") == "arn:aws:iam::1:user/me in eu-west-1"
    assert not account.asked


@pytest.mark.parametrize("error", [NoCredentialsError(), refused("AccessDenied", "not allowed")])
def test_credentials_that_do_not_work_are_said_so(error: Exception) -> None:
    account = Account(1000, None)

    def refuse(**_: Any) -> Any:
        raise error

    account.get_function_concurrency = refuse  # type: ignore[method-assign]
    account.describe_stack_resource = refuse  # type: ignore[method-assign]
    with pytest.raises(StartFailed, match="credentials of this shell"):
        check(account)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("COLLECTORS", "3", "COLLECTORS is 3; it must lie between 4 and 100"),
        ("RESERVE", "maybe", "RESERVE is 'maybe'; it must be yes or no"),
        ("AWS_PROFILE", "nobody", "nobody"),
    ],
)
def test_what_cannot_work_ends_the_deploy_before_anything_is_built(
    name: str, value: str, said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "local.preflight", "--stage", "dev"],
        env={"PATH": os.environ["PATH"], "AWS_CONFIG_FILE": "/dev/null", name: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
