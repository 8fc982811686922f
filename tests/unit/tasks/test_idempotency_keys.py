"""What is stored of an idempotency key, and who may work on its request."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from chalicelib.core.backend import Backend
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
