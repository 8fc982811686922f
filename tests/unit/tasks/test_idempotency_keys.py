"""What is stored of an idempotency key, and who may work on its request."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed
from chalicelib.tasks.idempotency_keys import (
    ABANDONED_MS,
    ANSWERED,
    IN_FLIGHT,
    OPEN,
    Claim,
    IdempotencyKey,
    IdempotencyKeys,
)
from tests.doubles.aws import Aws
from tests.doubles.clock import NOW
from tests.doubles.faults import AppliedTwice, Meanwhile, named

Run = Callable[[Coroutine[Any, Any, Any]], Any]
TTL = NOW // 1000 + 60
FIRST = IdempotencyKey("hash", "task", IN_FLIGHT, NOW, TTL)


def claim(run: Run, backend: Backend, request_hash: str, task_id: str, now_ms: int) -> Claim:
    keys = IdempotencyKeys(backend)
    return run(keys.claim("me", "key", request_hash, task_id, now_ms, TTL))


def test_the_first_request_is_granted_and_stored(run: Run, backend: Backend, aws: Aws) -> None:
    assert claim(run, backend, "hash", "task", NOW) == Claim(FIRST, granted=True)
    assert aws.items(backend.settings.tasks_table) == [
        {
            "pk": {"S": "IDEM#me#key"},
            "sk": {"S": "IDEM"},
            "request_hash": {"S": "hash"},
            "task_id": {"S": "task"},
            "state": {"S": IN_FLIGHT},
            "claimed_at": {"N": str(NOW)},
            "ttl": {"N": str(TTL)},
        }
    ]


def test_a_request_in_flight_is_granted_to_no_other(run: Run, backend: Backend) -> None:
    claim(run, backend, "hash", "task", NOW)
    again = claim(run, backend, "hash", "other", NOW + ABANDONED_MS)
    assert again == Claim(FIRST, granted=False)


def test_an_abandoned_request_is_taken_over_with_its_task_id(run: Run, backend: Backend) -> None:
    claim(run, backend, "hash", "task", NOW)
    later = NOW + ABANDONED_MS + 1
    taken = claim(run, backend, "hash", "other", later)
    assert taken == Claim(IdempotencyKey("hash", "task", IN_FLIGHT, later, TTL), True, True)


def test_what_was_left_open_is_taken_over_by_the_same_request_only(
    run: Run, backend: Backend
) -> None:
    claim(run, backend, "hash", "task", NOW)
    run(IdempotencyKeys(backend).leave_open("me", "key"))
    other = claim(run, backend, "another", "other", NOW)
    assert (other.granted, other.key.state, other.key.request_hash) == (False, OPEN, "hash")
    again = claim(run, backend, "hash", "other", NOW)
    assert (again.granted, again.taken_over, again.key.claimed_at) == (True, True, NOW + 1)


def test_an_answer_is_kept(run: Run, backend: Backend) -> None:
    claim(run, backend, "hash", "task", NOW)
    run(IdempotencyKeys(backend).answer("me", "key", 202, '{"a": 1}'))
    again = claim(run, backend, "hash", "other", NOW)
    assert again == Claim(
        IdempotencyKey("hash", "task", ANSWERED, NOW, TTL, (202, '{"a": 1}')), granted=False
    )


def test_an_answer_stays_however_long_ago_its_request_was(run: Run, backend: Backend) -> None:
    claim(run, backend, "hash", "task", NOW)
    run(IdempotencyKeys(backend).answer("me", "key", 202, "{}"))
    again = claim(run, backend, "hash", "other", NOW + ABANDONED_MS + 1)
    assert (again.granted, again.key.state, again.key.answer) == (False, ANSWERED, (202, "{}"))
    with pytest.raises(ConditionFailed):
        run(IdempotencyKeys(backend).leave_open("me", "key"))
    assert claim(run, backend, "hash", "other", NOW).key.state == ANSWERED


@pytest.mark.parametrize(("second", "is_free"), [(TTL - 1, False), (TTL, True)])
def test_a_key_may_be_used_anew_once_it_has_expired(
    run: Run, backend: Backend, second: int, is_free: bool
) -> None:
    claim(run, backend, "hash", "task", NOW)
    run(IdempotencyKeys(backend).answer("me", "key", 202, "{}"))
    again = claim(run, backend, "another", "other", second * 1000)
    assert (again.granted, again.key.task_id) == (is_free, "other" if is_free else "task")


def test_a_key_is_replaced_where_it_is_the_one_that_was_read(run: Run, backend: Backend) -> None:
    keys, second = IdempotencyKeys(backend), FIRST._replace(task_id="second")
    assert run(keys.put("me", "key", FIRST)) is None
    assert run(keys.put("me", "key", second)) == FIRST
    assert run(keys.put("me", "key", second, old=second)) == FIRST
    assert run(keys.put("me", "key", second, old=FIRST)) is None


@pytest.mark.parametrize("answered", [False, True])
def test_of_two_that_take_over_one_wins_and_none_after_an_answer(
    run: Run, backend: Backend, answered: bool
) -> None:
    """Another one is quicker, after this one has read what it would take over."""
    claim(run, backend, "hash", "task", NOW)
    run(IdempotencyKeys(backend).leave_open("me", "key"))
    call, later = backend.call, NOW + 5

    async def overtaken(service: str, operation: str, **parameters: Any) -> Any:
        if operation == "UpdateItem":
            quicker = IdempotencyKeys(backend)
            if answered:
                await quicker.answer("me", "key", 202, "{}")
            else:
                await quicker.claim("me", "key", "hash", "third", later, TTL)
        return await call(service, operation, **parameters)

    slower = claim(run, replace(backend, call=overtaken), "hash", "other", later)
    assert (slower.granted, slower.key.state) == (False, IN_FLIGHT)
    state = ANSWERED if answered else IN_FLIGHT
    assert claim(run, backend, "hash", "other", later).key.state == state


def test_an_answer_is_kept_of_a_claim_alone(run: Run, backend: Backend, aws: Aws) -> None:
    with pytest.raises(ConditionFailed):
        run(IdempotencyKeys(backend).answer("me", "key", 202, "{}"))
    assert aws.items(backend.settings.tasks_table) == []


def test_a_refusal_that_does_not_say_by_what_is_an_error(run: Run, backend: Backend) -> None:
    async def silent(service: str, operation: str, **parameters: Any) -> Any:
        raise ConditionFailed(operation, None)

    with pytest.raises(CallFailed, match="no old item"):
        claim(run, replace(backend, call=silent), "hash", "task", NOW)


def test_a_claim_that_was_sent_again_is_ones_own(run: Run, backend: Backend, aws: Aws) -> None:
    """The first answer was lost: the key that it meets is its own."""
    aws.hooks.append(AppliedTwice(aws, lambda called: called.operation == "PutItem"))
    assert claim(run, backend, "hash", "task", NOW) == Claim(FIRST, granted=True)
    assert not claim(run, backend, "hash", "other", NOW).granted


@pytest.fixture
def later(run: Run, backend: Backend) -> int:
    """When a first claim is abandoned."""
    claim(run, backend, "hash", "task", NOW)
    return NOW + ABANDONED_MS + 1


def test_a_take_over_that_was_sent_again_is_ones_own_and_nobody_elses(
    run: Run, backend: Backend, aws: Aws, later: int
) -> None:
    aws.hooks.append(AppliedTwice(aws, lambda called: called.operation == "UpdateItem"))
    taken = claim(run, backend, "hash", "other", later)
    assert taken == Claim(IdempotencyKey("hash", "task", IN_FLIGHT, later, TTL), True, True)
    assert not claim(run, backend, "hash", "another", later).granted


def test_of_two_that_take_over_in_one_moment_one_is_granted(
    run: Run, backend: Backend, aws: Aws, later: int
) -> None:
    other = Meanwhile(
        named("dynamodb.UpdateItem", ""),
        lambda: IdempotencyKeys(backend).claim("me", "key", "hash", "b", later, TTL),
    )
    aws.hooks.append(other)
    assert not claim(run, backend, "hash", "a", later).granted
