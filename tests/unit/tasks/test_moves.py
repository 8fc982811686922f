"""A move of a task: its condition in DynamoDB and `may_follow` say the same of every item."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.aws.wire import item_to_wire
from chalicelib.tasks import states
from chalicelib.tasks.moves import Move
from tests.doubles.evaluation import holds
from tests.doubles.expressions import Placeholders, condition

NEEDED = "next_attempt_at"
ITEMS = st.builds(
    lambda attempt, state, more: {
        "task_id": "t",
        "owner": "me",
        "task_type": states.DATA_COLLECTION,
        "attempt": attempt,
        "state": state,
        **more,
    },
    st.integers(1, 2),
    st.sampled_from(states.STATES),
    st.fixed_dictionaries({}, optional={NEEDED: st.just(7), "counted": st.sampled_from("ab")}),
)
MOVES = st.builds(
    Move,
    st.integers(1, 2),
    st.none() | st.sampled_from(states.STATES),
    st.just({"message": "x"}),
    needs=st.sampled_from(["", NEEDED]),
)


def allowed(move: Move, item: dict[str, Any], seen: dict[str, Any] | None) -> bool:
    update = move.update(seen)
    given_ = Placeholders(update["ExpressionAttributeNames"], update["ExpressionAttributeValues"])
    return holds(condition(update["ConditionExpression"], given_), item_to_wire(item))


@given(MOVES, ITEMS)
def test_a_write_holds_where_the_move_may_follow(move: Move, item: dict[str, Any]) -> None:
    may = (
        item["attempt"] == move.attempt
        and (move.to is None or item["state"] in states.MOVES[move.to])
        and (not move.needs or NEEDED in item)
    )
    assert allowed(move, item, None) == allowed(move, item, item) == move.may_follow(item) == may


@given(MOVES, ITEMS, ITEMS)
def test_a_write_that_counts_holds_only_where_the_task_is_counted_as_it_was(
    move: Move, item: dict[str, Any], seen: dict[str, Any]
) -> None:
    is_same = item.get("counted") == seen.get("counted")
    assert allowed(move, item, seen) == (is_same and move.may_follow(item))


@given(MOVES, st.booleans(), st.booleans())
def test_a_move_may_change_the_counts_by_its_state_or_its_expiry(
    move: Move, sets: bool, removes: bool
) -> None:
    move = move._replace(values={"ttl": 9} if sets else {}, remove=("ttl",) if removes else ())
    assert move.is_counted == (move.to is not None or sets or removes)
