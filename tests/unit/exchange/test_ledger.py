"""The ledger's one item, whoever else writes it at the same moment."""

from __future__ import annotations

import pytest

from chalicelib.core.errors import ExchangeRootChanged
from chalicelib.exchange.ledger import MINUTE_MS, Allowance, Ledger, LedgerState
from tests.doubles.clock import NOW
from tests.doubles.faults import Meanwhile, is_update_of
from tests.doubles.settings import at_another_root

MINUTE = NOW // MINUTE_MS
NEXT = (MINUTE + 1) * MINUTE_MS


@pytest.fixture
def ledger(backend) -> Ledger:
    return Ledger(backend)


@pytest.fixture
def state(run, ledger):
    return lambda: run(ledger.read())


@pytest.mark.parametrize("minute_before", [True, False])
@pytest.mark.parametrize(("until_ms", "answer"), [(NOW, 0), (NOW + 1, NOW + 1)])
def test_a_pause_ends_at_its_time(run, ledger, minute_before, until_ms, answer) -> None:
    asked_ms = NOW - MINUTE_MS if minute_before else NOW
    assert run(ledger.take_weight(5, 100, asked_ms)) == 0
    run(ledger.pause(until_ms, "HTTP 429"))
    assert run(ledger.take_weight(5, 100, NOW)) == answer


def test_a_pause_that_lasts_as_long_keeps_its_reason(run, ledger, state) -> None:
    run(ledger.pause(NOW, "first"))
    run(ledger.pause(NOW, "second"))
    assert state() == LedgerState(paused_until=NOW, pause_reason="first")
    run(ledger.pause(NOW + 1, "third"))
    assert (state().paused_until, state().pause_reason) == (NOW + 1, "third")


def test_the_last_weight_of_a_minute_is_granted_and_no_more(run, ledger, state) -> None:
    assert [run(ledger.take_weight(50, 100, NOW)) for _ in range(3)] == [0, 0, NEXT]
    assert state().used == 100


@pytest.mark.parametrize(
    ("minute", "used", "kept"), [(MINUTE, 21, 21), (MINUTE, 19, 20), (MINUTE - 1, 90, 20)]
)
def test_the_exchanges_count_stands_in_its_minute_where_it_is_higher(
    run, ledger, state, minute, used, kept
) -> None:
    run(ledger.take_weight(20, 100, NOW))
    run(ledger.observe_weight(used, minute * MINUTE_MS))
    assert state().used == kept


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("what", ["starts it", "starts the next", "pauses", "names a root"])
def test_whoever_is_quicker_when_a_minute_begins_is_seen(
    run, backend, aws, ledger, state, new, what
) -> None:
    """Between the refusal that says that the minute is over and the write that begins the next."""
    if not new:
        run(ledger.take_weight(30, 100, NOW - MINUTE_MS))
    other = Ledger(at_another_root(backend) if what == "names a root" and new else backend)

    async def act() -> None:
        if what == "pauses":
            await other.pause(NOW + 700, "HTTP 429")
        else:
            later_ms = MINUTE_MS if what == "starts the next" else 0
            await other.take_weight(40, 100, NOW + later_ms)

    aws.hooks.append(Meanwhile(is_update_of("LIMIT"), act, number=2))
    if what == "names a root" and new:
        with pytest.raises(ExchangeRootChanged):
            run(ledger.take_weight(5, 100, NOW))
        assert (state().root, state().used) == (other._root, 40)
        return
    answer = run(ledger.take_weight(5, 100, NOW))
    if what == "pauses":
        assert (answer, state().window_minute) == (NOW + 700, 0 if new else MINUTE - 1)
    else:
        assert (answer, state().used) == (0, 45)
        assert state().window_minute == MINUTE + (what == "starts the next")


def test_weight_is_never_taken_under_the_name_of_another_root(run, backend, ledger, state) -> None:
    run(ledger.take_weight(30, 100, NOW))
    before = state()
    for later_ms in (0, MINUTE_MS):
        with pytest.raises(ExchangeRootChanged):
            run(Ledger(at_another_root(backend)).take_weight(5, 100, NOW + later_ms))
    assert state() == before


def test_a_persons_pause_is_over_at_its_end_and_counts_up_to_it() -> None:
    state = LedgerState(holds=((NOW - 900, NOW - 500), (NOW - 100, NOW)))
    for now_ms, resumed_at, held_ms in [
        (NOW - 501, 0, 399),
        (NOW - 500, NOW - 500, 400),
        (NOW - 1, NOW - 500, 499),
        (NOW, NOW, 500),
        (NOW + 1, NOW, 500),
    ]:
        assert state.resumed_at(now_ms) == resumed_at
        assert state.held_ms(NOW - 1000, now_ms) == held_ms


def test_what_is_left_of_a_minute_is_never_less_than_nothing() -> None:
    assert [Allowance(100, used).left for used in (99, 100, 101)] == [1, 0, 0]
    state = LedgerState(window_minute=MINUTE, used=7)
    assert (state.used_at(NOW), state.used_at(NOW + MINUTE_MS)) == (7, 0)
