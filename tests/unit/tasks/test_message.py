"""What a task says of itself while it runs, and why it ran out of time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.candles.summary import Summary
from chalicelib.core.times import DAY, FOREVER_MS, iso
from chalicelib.exchange.ledger_state import LedgerState
from chalicelib.tasks import states
from chalicelib.tasks.deadline import MOST_HELD_MS
from chalicelib.tasks.message import closing, message_of, notice_of, out_of_time
from chalicelib.tasks.part import Tally, totals
from chalicelib.tasks.progress import CLOSED, OPEN, Progress, Trouble
from chalicelib.work.request import CollectionRequest
from chalicelib.work.window import TURN_LOST_MS
from tests.doubles.clock import NOW
from tests.doubles.tasks import task_of

UNITS = 6


def prog_of(**fields: Any) -> Progress:
    return Progress(**{"number": 0, "attempt": 2, "state": OPEN, "unit_count": UNITS, **fields})


def said(*progs: Progress, pause: LedgerState | None = None, **fields: Any) -> str:
    fields = {"state": states.RUNNING, "attempt": 2, "message": "Planned", **fields}
    task = task_of(total_units=UNITS * len(progs), **fields)
    counts = totals(task.attempt, task.total_units, Tally((), progs))
    return message_of(task, Tally((), progs), counts, NOW, pause)


@st.composite
def progress(draw: st.DrawFn, number: int = 0) -> Progress:
    """Any PROG item, with troubles that name their unit, and some that are over."""
    some = st.sets(st.integers(0, UNITS - 1))
    done, at = draw(some), st.integers(NOW - 50, NOW)
    return Progress(
        number=number,
        attempt=draw(st.integers(1, 2)),
        state=draw(st.sampled_from([OPEN, CLOSED])),
        unit_count=UNITS,
        done=done,
        troubles={unit: Trouble(draw(at), f"{number}-{unit}") for unit in draw(some)},
        last_label="AUSDT 1h" if done else None,
        last_at=draw(at) if done else None,
        last_reason=draw(st.sampled_from([None, "WHY"])) if done else None,
    )


@given(st.tuples(progress(0), progress(1)))
def test_it_retries_only_what_still_waits_for_another_try(progs: tuple[Progress, ...]) -> None:
    message = said(*progs)
    waiting = {
        f"{prog.number}-{unit}": why.at
        for prog in progs
        if prog.attempt == 2 and prog.state == OPEN
        for unit, why in prog.troubles.items()
        if unit not in prog.done
    }
    if message.startswith("Retrying "):
        named = message.split()[1]
        assert waiting[named] == max(waiting.values())
    else:
        counted = [prog.last_at for prog in progs if prog.attempt == 2 and prog.last_at]
        assert max(waiting.values(), default=0) < max(counted, default=1)


def test_the_newest_of_trouble_and_what_was_counted_is_shown() -> None:
    troubles = {1: Trouble(NOW - 20, "AUSDT 1h: HTTP 502"), 2: Trouble(NOW - 30, "AUSDT 1d: late")}
    collected = {"done": {0}, "last_label": "BUSDT 1h"}
    assert (
        said(prog_of(troubles=troubles, last_at=NOW - 25, **collected))
        == "Retrying AUSDT 1h: HTTP 502 (1/6)"
    )
    assert (
        said(prog_of(troubles=troubles, last_at=NOW - 10, **collected))
        == "Collected data for BUSDT 1h (1/6)"
    )


def test_an_older_trouble_is_shown_where_nothing_else_is_left() -> None:
    prog = prog_of(
        done={0, 2, 3, 4, 5},
        troubles={1: Trouble(NOW - 20, "AUSDT 1h: HTTP 502")},
        last_label="BUSDT 1h",
        last_at=NOW,
    )
    assert said(prog) == "Retrying AUSDT 1h: HTTP 502 (5/6)"


def test_a_task_that_gave_way_waits_until_its_turn_is_lost() -> None:
    waits = said(prog_of(), yielded_at=NOW - TURN_LOST_MS + 1)
    assert waits == "Waiting for tasks of higher priority (0/6)"
    assert said(prog_of(), yielded_at=NOW - TURN_LOST_MS) == "Planned"


def test_what_failed_last_is_not_called_collected() -> None:
    prog = prog_of(done={0}, last_label="NOPE 1h", last_at=NOW, last_reason="INVALID_SYMBOL")
    assert said(prog) == "Failed NOPE 1h: INVALID_SYMBOL (1/6)"


@pytest.mark.parametrize("state", [states.PENDING, states.RUNNING])
def test_a_pause_that_outlasts_the_task_says_so_at_once(state: str) -> None:
    pause = LedgerState(paused_until=NOW + 2000, pause_reason="HTTP 418: banned")
    fails = said(prog_of(), state=state, pause=pause, deadline_at=NOW + 1000)
    assert fails == (
        f"Waiting for the exchange until {iso(NOW + 2000)}, which is too late: unless the exchange "
        f"answers before, the task fails at {iso(NOW + 1000)}. Retry it after {iso(NOW + 2000)}, "
        "or start it again with a longer timeout_seconds"
    )
    waits = said(prog_of(), state=state, pause=pause, deadline_at=NOW + 2001)
    assert waits == f"Waiting for the exchange until {iso(NOW + 2000)}"
    assert "which is too late" in said(prog_of(), state=state, pause=pause, deadline_at=NOW + 2000)
    past = LedgerState(paused_until=NOW, pause_reason="HTTP 418: banned")
    assert said(prog_of(), state=state, pause=past) == "Planned"
    over = said(prog_of(), state=states.FAILED, message="Failed", pause=pause, deadline_at=NOW)
    assert over == "Failed"


@pytest.mark.parametrize("state", [states.PENDING, states.RUNNING])
def test_a_persons_pause_is_named_with_who_since_when_and_until_when_the_task_can_wait(
    state: str,
) -> None:
    endless = LedgerState(
        paused_until=NOW + 9000,
        holds=((NOW - 5000, FOREVER_MS),),
        held_by="anna",
        hold_reason="why",
    )
    last = iso(NOW + 1000 + MOST_HELD_MS)
    assert said(prog_of(), state=state, pause=endless, deadline_at=NOW + 1000) == (
        f"Paused by anna since {iso(NOW - 5000)} (why); the task can wait until {last}"
    )
    short = endless._replace(holds=((NOW - 5000, NOW + 1),), hold_reason="")
    assert said(prog_of(), state=state, pause=short, deadline_at=NOW + 1000) == (
        f"Paused by anna since {iso(NOW - 5000)} until {iso(NOW + 1)}"
    )
    for until_ms, waits in [(MOST_HELD_MS + 999, False), (MOST_HELD_MS + 1000, True)]:
        long = endless._replace(holds=((NOW - 5000, NOW + until_ms),))
        message = said(prog_of(), state=state, pause=long, deadline_at=NOW + 1000)
        assert message.endswith(f"; the task can wait until {last}") is waits
    over = endless._replace(paused_until=0, holds=((NOW - 5000, NOW),))
    assert "Paused" not in said(prog_of(), state=state, pause=over, deadline_at=NOW + 1000)


def test_a_task_that_ran_out_of_time_though_it_was_paused_names_the_pause() -> None:
    task = task_of(state=states.RUNNING, attempt=2, deadline_at=NOW - 2 * MOST_HELD_MS)
    pause = LedgerState(holds=((NOW - 3 * MOST_HELD_MS, FOREVER_MS),), held_by="anna")
    detail = out_of_time(task, [prog_of()], pause, NOW)
    since = iso(NOW - 3 * MOST_HELD_MS)
    assert detail == f"the task's time ran out; it was paused by anna since {since}"


@pytest.mark.parametrize(
    ("until_ms", "troubles", "why"),
    [
        (NOW - 1, {}, ""),
        (NOW - 1, {1: Trouble(NOW - 9, "AUSDT 1h: HTTP 502")}, "; the last trouble was AUSDT 1h: "),
        (NOW, {}, f"; it waited for the exchange until {iso(NOW)} (HTTP 418: banned)"),
        (
            NOW + 60_000,
            {1: Trouble(NOW - 9, "AUSDT 1h: HTTP 502")},
            f"; it waited for the exchange until {iso(NOW + 60_000)} (HTTP 418: banned); "
            "the last trouble was AUSDT 1h: HTTP 502",
        ),
        # Counted since: it was not what held the task up.
        (NOW - 1, {0: Trouble(NOW - 9, "AUSDT 1h: HTTP 502")}, ""),
    ],
)
def test_a_task_out_of_time_names_what_held_it_up(
    until_ms: int, troubles: dict[int, Trouble], why: str
) -> None:
    task = task_of(state=states.RUNNING, attempt=2, deadline_at=NOW)
    pause = LedgerState(paused_until=until_ms, pause_reason="HTTP 418: banned")
    detail = out_of_time(task, [prog_of(done={0}, troubles=troubles)], pause, NOW)
    assert detail.startswith(f"the task's time ran out{why}")
    assert ("; " in detail) == bool(why)


def test_a_notice_names_the_earliest_listings_and_counts_the_others() -> None:
    request = CollectionRequest(symbols=None, timeframes=("1h", "1d"), start_ms=DAY)
    assert notice_of(request, {}) is None
    stored = {
        f"S{at}USDT": {"1h": Summary(listed=at * DAY), "1d": Summary(listed=9 * DAY)}
        for at in range(9, 0, -1)
    }
    # S1USDT's hours were listed in time; its days were not.
    said = notice_of(request, stored)
    assert said is not None
    assert said.startswith("the exchange has no candles of S2USDT before 1970-01-03T00:00:00.000Z")
    assert said.endswith("S6USDT before 1970-01-07T00:00:00.000Z, and of 4 more")
    few = notice_of(request, {name: stored[name] for name in sorted(stored)[1:6]})
    assert few is not None
    assert few.endswith("S6USDT before 1970-01-07T00:00:00.000Z")
    assert notice_of(replace(request, start_ms=None), stored) is None
    assert notice_of(replace(request, timeframes=("1m",)), stored) is None


@pytest.mark.parametrize(
    ("from_store", "said_of_it"),
    [(0, ""), (1, "; 1 unit was stored already"), (5, "; 5 units were stored already")],
)
def test_at_its_end_a_task_says_what_it_found_stored(from_store: int, said_of_it: str) -> None:
    counts = {"units": 6, "succeeded": 6, "failed": 0, "candles": 9, "from_store": from_store}
    result: Any = counts | {"revised_candles": 0, "rejected_candles": 0}
    assert closing(result, None) == f"Collected 6 of 6 units, 9 candles{said_of_it}"
