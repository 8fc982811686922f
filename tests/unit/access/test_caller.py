"""Who calls, by what AUTHENTICATION says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.access.caller import NOBODY_ASKED, Caller, identify
from chalicelib.access.scopes import SCOPES
from chalicelib.core.errors import Forbidden, Unauthenticated

ROLE = "arn:aws:sts::123456789012:assumed-role/collector-clients"
Run = Callable[..., Any]


def told(backend: Any, authentication: str, **more: Any) -> Any:
    chosen = dataclasses.replace(backend.settings, authentication=authentication, **more)
    return dataclasses.replace(backend, settings=chosen)


@pytest.mark.parametrize(
    ("arn", "owner"),
    [
        (f"{ROLE}/botocore-session-1764165000", ROLE),
        (f"{ROLE}/someone@example.com", ROLE),
        (ROLE.replace("aws", "aws-cn") + "/s", ROLE.replace("aws", "aws-cn")),
        ("arn:aws:iam::123456789012:user/team/me", "arn:aws:iam::123456789012:user/team/me"),
        ("arn:aws:iam::123456789012:root", "arn:aws:iam::123456789012:root"),
    ],
)
def test_a_signed_requests_owner_is_the_role_and_not_its_session(
    run: Run, backend: Any, arn: str, owner: str
) -> None:
    caller = run(identify(told(backend, "iam"), "", {"userArn": arn}))
    assert caller.owner == owner
    assert not caller.is_admin
    assert caller.sees == owner


USER = "arn:aws:iam::123456789012:user/team/me"
IAM_ROLE = "arn:aws:iam::123456789012:role/{}collector-clients"


@pytest.mark.parametrize(
    ("named", "arn", "is_admin"),
    [
        ((), f"{ROLE}/s", False),
        ((ROLE,), f"{ROLE}/s", True),
        ((IAM_ROLE.format(""),), f"{ROLE}/s", True),
        ((IAM_ROLE.format("a/path/"),), f"{ROLE}/any@session", True),
        ((IAM_ROLE.format(""), USER), USER, True),
        ((USER,), f"{ROLE}/s", False),
        ((USER,), USER + "2", False),
        ((USER,), USER.replace("team/", ""), False),
        ((ROLE,), f"{ROLE}2/s", False),
        ((ROLE,), f"{ROLE[:-1]}/s/{ROLE}", False),
        ((ROLE,), f"{ROLE.replace('12:', '13:')}/s", False),
        ((ROLE,), f"{ROLE.replace(':aws:', ':aws-cn:')}/s", False),
        ((ROLE,), IAM_ROLE.format("").replace("role/", "user/"), False),
        ((ROLE,), f"{ROLE.upper()}/s", False),
    ],
)
def test_who_signs_is_an_admin_where_the_setting_names_the_role_or_user(
    run: Run, backend: Any, named: tuple[str, ...], arn: str, is_admin: bool
) -> None:
    signed = told(backend, "iam", admin_roles=named)
    caller = run(identify(signed, "", {"userArn": arn}))
    assert caller.is_admin == is_admin
    caller.require("read")
    caller.require("collect")
    if is_admin:
        caller.require("admin")
        return
    with pytest.raises(Forbidden, match="ADMIN_ROLES"):
        caller.require("admin")


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.text(), st.text("aws:/-123role", max_size=40))
def test_no_other_arn_makes_an_admin(run: Run, backend: Any, session: str, arn: str) -> None:
    signed = told(backend, "iam", admin_roles=(ROLE, USER))
    if arn:
        assert not run(identify(signed, "", {"userArn": arn + session})).is_admin
    assert run(identify(signed, "", {"userArn": f"{ROLE}/{session}"})).is_admin == (
        "\n" not in session
    )


@pytest.mark.parametrize("identity", [{}, {"userArn": None}, {"userArn": ""}, {"userArn": 5}])
def test_a_request_that_nobody_signed_is_refused(run: Run, backend: Any, identity: Any) -> None:
    with pytest.raises(Unauthenticated) as refused:
        run(identify(told(backend, "iam"), "Bearer x", {**identity, "apiKeyId": "shared"}))
    assert (refused.value.status, refused.value.reason) == (401, "NOT_SIGNED")


def test_where_nobody_is_asked_everybody_may_do_everything(run: Run, backend: Any) -> None:
    caller = run(identify(told(backend, "none"), "Bearer x", {"userArn": ROLE + "/s"}))
    assert caller == NOBODY_ASKED
    assert caller.scopes == set(SCOPES)


def test_any_one_of_the_scopes_will_do() -> None:
    caller = Caller("me", frozenset({"read"}))
    caller.require("observe", "read")
    with pytest.raises(Forbidden, match="observe or admin") as refused:
        caller.require("observe", "admin")
    assert refused.value.scopes == ("observe", "admin")


def test_a_caller_is_stored_and_comes_back() -> None:
    for caller in (Caller("me", frozenset({"read", "collect"}), "0123"), NOBODY_ASKED):
        assert Caller.of_row({**caller.row, "ttl": 5}) == caller
