"""Reads that go together: each gets its own item, in as few calls as there are moments."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.aws.pooled_calls import GatheredReads
from chalicelib.core.errors import CallFailed

TABLES = ("tasks", "market")
KEYS = [{"pk": {"S": f"p{at}"}, "sk": {"S": "s"}} for at in range(6)]
Read = tuple[str, int]


class Store:
    """Items by table and key. `leaves`: how many keys of each batch it leaves unread."""

    def __init__(self, there: set[Read], leaves: int = 0) -> None:
        self.items = {
            (table, KEYS[at]["pk"]["S"]): {**KEYS[at], "of": {"S": table}} for table, at in there
        }
        self.leaves = leaves
        self.asked: list[str] = []
        self.trouble: list[BaseException] = []
        self.seconds = 0.0

    async def __call__(self, service: str, operation: str, **given: Any) -> dict[str, Any]:
        self.asked.append(operation)
        await asyncio.sleep(self.seconds)
        if self.trouble:
            raise self.trouble.pop(0)
        if operation == "GetItem":
            assert given["ConsistentRead"] is True
            item = self.items.get((given["TableName"], given["Key"]["pk"]["S"]))
            return {"Item": item} if item else {}
        answer: dict[str, Any] = {"Responses": {}, "UnprocessedKeys": {}}
        left = self.leaves
        for table, asked in given["RequestItems"].items():
            assert asked["ConsistentRead"] is True
            keys = [key["pk"]["S"] for key in asked["Keys"]]
            assert len(keys) == len(set(keys))  # DynamoDB refuses a key that comes twice
            unread, keys = asked["Keys"][:left], keys[left:]
            left -= len(unread)
            found = [self.items[table, key] for key in keys if (table, key) in self.items]
            # In no order that was asked for.
            answer["Responses"][table] = found[::-1]
            if unread:
                answer["UnprocessedKeys"][table] = {"Keys": unread}
        return answer


def expected(store: Store, read: Read) -> dict[str, Any]:
    item = store.items.get((read[0], KEYS[read[1]]["pk"]["S"]))
    return {"Item": item} if item else {}


READS = st.tuples(st.sampled_from(TABLES), st.integers(0, len(KEYS) - 1))


@given(
    st.sets(READS),
    st.lists(st.tuples(READS, st.integers(0, 3)), min_size=1, max_size=20),
    st.integers(0, 3),
)
def test_each_gets_its_own_item_whoever_asks_beside_it(
    there: set[Read], asked: list[tuple[Read, int]], leaves: int
) -> None:
    store = Store(there, leaves)
    reads = GatheredReads(store)

    async def one(read: Read, turns: int) -> dict[str, Any]:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await reads.read(read[0], KEYS[read[1]])

    async def work() -> list[dict[str, Any]]:
        return await asyncio.gather(*(one(*each) for each in asked))

    assert asyncio.run(work()) == [expected(store, read) for read, _ in asked]
    # One for each turn in which somebody asked, and what was left unread by itself.
    moments = len({turns for _, turns in asked})
    assert len(store.asked) <= moments * (1 + leaves)
    assert store.asked.count("BatchGetItem") <= moments


def test_what_is_asked_for_at_once_takes_one_call() -> None:
    store = Store({("tasks", 0), ("market", 1)})
    reads = GatheredReads(store)

    async def work() -> None:
        await asyncio.gather(*(reads.read(table, key) for table in TABLES for key in KEYS))
        await reads.read("tasks", KEYS[0])

    asyncio.run(work())
    assert store.asked == ["BatchGetItem", "GetItem"]


def test_more_than_a_batch_holds_takes_several() -> None:
    store = Store(set())
    reads = GatheredReads(store)
    keys = [{"pk": {"S": str(at)}, "sk": {"S": "s"}} for at in range(201)]

    async def work() -> list[Any]:
        return await asyncio.gather(*(reads.read("tasks", key) for key in keys))

    assert asyncio.run(work()) == [{}] * 201
    assert store.asked == ["BatchGetItem", "BatchGetItem", "GetItem"]


def test_a_failure_is_everybodys_and_each_has_an_error_of_its_own() -> None:
    store = Store(set())
    store.trouble = [CallFailed("dynamodb", "BatchGetItem", "Throttling", "slow down")]
    reads = GatheredReads(store)

    async def work() -> list[Any]:
        asking = (reads.read("tasks", key) for key in KEYS)
        return await asyncio.gather(*asking, return_exceptions=True)

    errors = asyncio.run(work())
    assert {str(error) for error in errors} == {
        "dynamodb.BatchGetItem failed: Throttling: slow down"
    }
    assert {type(error) for error in errors} == {CallFailed}
    assert len(set(map(id, errors))) == len(KEYS)
    assert {error.code for error in errors} == {"Throttling"}


@pytest.mark.parametrize("stops", [0, 1, 5])
def test_whoever_stops_asking_costs_nobody_an_answer(stops: int) -> None:
    """Whether it is the one that asks for all or another one."""

    async def work(turns: int) -> None:
        store = Store({("tasks", at) for at in range(len(KEYS))})
        reads = GatheredReads(store)
        tasks = [asyncio.create_task(reads.read("tasks", key)) for key in KEYS]
        for _ in range(turns):
            await asyncio.sleep(0)
        tasks[stops].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        was_late = turns >= 3
        assert isinstance(answers.pop(stops), asyncio.CancelledError) or was_late
        wanted = [expected(store, ("tasks", at)) for at in range(len(KEYS))]
        del wanted[stops]
        assert answers == wanted
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1  # nothing goes on

    for turns in range(6):
        asyncio.run(work(turns))


@pytest.mark.parametrize(
    ("operation", "more", "taken"),
    [
        ("GetItem", {"ConsistentRead": True}, True),
        ("GetItem", {"ConsistentRead": False}, False),
        ("GetItem", {}, False),
        ("GetItem", {"ConsistentRead": True, "ProjectionExpression": "a"}, False),
        ("PutItem", {"ConsistentRead": True}, False),
    ],
)
def test_only_reads_of_whole_items_that_are_consistent_go_together(
    operation: str, more: dict[str, Any], taken: bool
) -> None:
    given_ = {"TableName": "tasks", "Key": KEYS[0], **more}
    assert GatheredReads.takes("dynamodb", operation, given_) is taken
