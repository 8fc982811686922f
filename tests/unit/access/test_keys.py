"""Keys: made, checked, rotated and revoked, alone and at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.access import keys
from chalicelib.access.key_table import KeyTable
from chalicelib.core.errors import Conflict, InvalidRequest, Unauthenticated
from tests.doubles.faults import Meanwhile

BODY = {"owner": "me", "scopes": ["read"]}
Run = Callable[..., Any]


@pytest.fixture
def backend(backend: Any) -> Any:
    """With AUTHENTICATION=keys."""
    return replace(backend, settings=replace(backend.settings, authentication="keys"))


def works(run: Run, backend: Any, text: str) -> bool:
    try:
        run(keys.verify(backend, f"Bearer {text}"))
    except Unauthenticated:
        return False
    return True


def test_of_two_rotations_at_once_one_key_is_left_that_works(
    run: Run, backend: Any, aws: Any
) -> None:
    made = run(keys.create_key(backend, BODY, "boss"))
    won: list[str] = []

    async def rotate() -> None:
        won.append((await keys.rotate_key(backend, made["key_id"], "other"))["key"])

    aws.hooks.append(Meanwhile(lambda called: called.operation == "UpdateItem", rotate))
    with pytest.raises(Conflict):
        run(keys.rotate_key(backend, made["key_id"], "boss"))
    assert len(won) == 1
    assert works(run, backend, won[0])
    assert not works(run, backend, made["key"])


def test_a_key_that_is_revoked_while_it_is_rotated_stays_revoked(
    run: Run, backend: Any, aws: Any
) -> None:
    made = run(keys.create_key(backend, BODY, "boss"))

    async def revoke() -> None:
        await keys.revoke_key(backend, made["key_id"], "other")

    aws.hooks.append(Meanwhile(lambda called: called.operation == "UpdateItem", revoke))
    with pytest.raises(Conflict):
        run(keys.rotate_key(backend, made["key_id"], "boss"))
    assert not works(run, backend, made["key"])


def test_an_ended_key_is_not_rotated(run: Run, backend: Any, clock: Any) -> None:
    revoked = run(keys.create_key(backend, BODY, "boss"))["key_id"]
    run(keys.revoke_key(backend, revoked, "boss"))
    expired = run(keys.create_key(backend, {**BODY, "expires_at": clock() + 1}, "boss"))["key_id"]
    clock.advance(1)
    for key_id in (revoked, expired):
        with pytest.raises(Conflict):
            run(keys.rotate_key(backend, key_id, "boss"))


def test_why_a_key_ended_is_known_within_a_minute(run: Run, backend: Any, clock: Any) -> None:
    made = run(keys.create_key(backend, BODY, "boss"))
    assert run(keys.why_ended(backend, made["key_id"])) is None
    run(KeyTable(backend).revoke(made["key_id"], clock(), "boss"))
    clock.advance(keys.CACHED_MS)
    assert run(keys.why_ended(backend, made["key_id"])) == "was revoked"
    assert run(keys.why_ended(backend, "0" * 16)) == "is gone"


def test_the_first_to_revoke_is_named(run: Run, backend: Any, clock: Any) -> None:
    made = run(keys.create_key(backend, BODY, "boss"))
    first = run(keys.revoke_key(backend, made["key_id"], "one"))
    clock.advance(1000)
    assert run(keys.revoke_key(backend, made["key_id"], "two")) == first
    assert first["revoked_by"] == "one"


def test_the_cache_does_not_grow_without_end(run: Run, backend: Any) -> None:
    async def many() -> None:
        made = [await keys.create_key(backend, BODY, "boss") for _ in range(1100)]
        for key in made:
            await keys.why_ended(backend, key["key_id"])

    run(many())
    assert len(keys._cache_of(backend)) <= 1000


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    body=st.dictionaries(
        st.sampled_from(["owner", "scopes", "expires_at", "a/b~"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=80)
        | st.lists(
            st.sampled_from(["read", "collect", "root"]) | st.integers() | st.lists(st.none())
        ),
    )
    | st.lists(st.integers(), max_size=2)
    | st.none()
    | st.text(max_size=5)
)
def test_a_body_is_taken_as_it_is_or_refused(run: Run, backend: Any, body: Any) -> None:
    with suppress(InvalidRequest):
        made = asyncio.run(keys.create_key(backend, body, "boss"))
        assert made["owner"] == body["owner"]
        assert "#" not in made["owner"]
        assert made["scopes"] == sorted(set(body["scopes"]))
        assert made["status"] == "live"


@pytest.mark.parametrize(
    "owner", ["", "a#b", "a b", "-a", "a" * 65, "a/b", "a\nb", "a:b", "ä", None, 5, ["a"]]
)
def test_an_owner_holds_nothing_that_separates_keys_of_items(
    run: Run, backend: Any, owner: Any
) -> None:
    with pytest.raises(InvalidRequest):
        run(keys.create_key(backend, {**BODY, "owner": owner}, "boss"))
