"""The life of a task as its table of moves has it, and what progress means."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.tasks import states

counts = st.integers(0, 20_000)


def test_only_a_retry_leaves_an_end_state() -> None:
    for target, sources in states.MOVES.items():
        if target != states.PENDING:
            assert not set(sources) & set(states.TERMINAL)
    assert set(states.MOVES[states.PENDING]) == set(states.TERMINAL)


def test_every_state_is_active_or_an_end_and_can_be_reached() -> None:
    assert {*states.ACTIVE, *states.TERMINAL} == set(states.STATES) == set(states.MOVES)
    assert not set(states.ACTIVE) & set(states.TERMINAL)


@given(st.sampled_from(states.STATES), counts, counts)
def test_progress_is_a_hundred_exactly_when_completed(state: str, total: int, some: int) -> None:
    progress = states.progress(state, total, min(some, total))
    assert 0 <= progress <= 100
    assert (progress == 100) == (state == states.COMPLETED)


@given(st.integers(1, 20_000), st.data())
def test_progress_never_falls_while_units_are_counted(total: int, data: st.DataObject) -> None:
    fewer = data.draw(st.integers(0, total))
    more = data.draw(st.integers(fewer, total))
    before = states.progress(states.RUNNING, total, fewer)
    assert before <= states.progress(states.RUNNING, total, more)


@given(st.integers(1, 20_000), st.data(), st.floats(0, 100))
def test_a_task_fails_where_nothing_landed_or_too_much_failed(
    total: int, data: st.DataObject, tolerated: float
) -> None:
    failed = data.draw(st.integers(0, total))
    state = states.end_state(total, failed, tolerated)
    too_many = failed * 100 > tolerated * total
    assert state == (states.FAILED if failed == total or too_many else states.COMPLETED)


def test_a_task_with_nothing_to_do_is_completed() -> None:
    assert states.end_state(0, 0, 0) == states.COMPLETED


def test_one_failure_among_ten_is_within_ten_percent_and_not_within_nine() -> None:
    assert states.end_state(10, 1, 10) == states.COMPLETED
    assert states.end_state(10, 1, 9.9) == states.FAILED
