"""The ledger's one item, whoever else writes it at the same moment."""

from __future__ import annotations

import pytest

from chalicelib.core.errors import ExchangeRootChanged, ExchangeThrottled
from chalicelib.exchange.ledger import Ledger, Wanted
from chalicelib.exchange.ledger_state import MINUTE_MS, LedgerState
from chalicelib.exchange.server_clock import ServerClock
from chalicelib.exchange.share import Allowance, Spent, WeightLimits
from tests.doubles.clock import NOW
from tests.doubles.faults import Meanwhile, is_update_of
from tests.doubles.ledger import limited, take_weight
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
    assert run(take_weight(ledger, 5, 100, asked_ms)) == 0
    run(ledger.pause(until_ms, "HTTP 429"))
    assert run(take_weight(ledger, 5, 100, NOW)) == answer


def test_a_pause_that_lasts_as_long_keeps_its_reason(run, ledger, state) -> None:
    run(ledger.pause(NOW, "first"))
    run(ledger.pause(NOW, "second"))
    assert state() == LedgerState(paused_until=NOW, pause_reason="first")
    run(ledger.pause(NOW + 1, "third"))
    assert (state().paused_until, state().pause_reason) == (NOW + 1, "third")


def test_the_last_weight_of_a_minute_is_granted_and_no_more(run, ledger, state) -> None:
    assert [run(take_weight(ledger, 50, 100, NOW)) for _ in range(3)] == [0, 0, NEXT]
    assert state().used == 100


@pytest.mark.parametrize(
    ("minute", "used", "kept"),
    [(MINUTE, 21, 21), (MINUTE, 20, 20), (MINUTE, 19, 20), (MINUTE - 1, 90, 20)],
)
def test_the_exchanges_count_stands_in_its_minute_where_it_is_higher(
    run, ledger, state, minute, used, kept
) -> None:
    run(take_weight(ledger, 20, 100, NOW))
    seen = run(ledger.observe_weight(used, minute * MINUTE_MS + 4_000))
    assert seen == state()
    assert (seen.used, seen.counted) == (20, kept)
    assert seen.ahead_ms == (4_000 if kept == 21 else 0)
    assert seen.spent.seen is (kept == 21)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("what", ["starts it", "starts the next", "pauses", "names a root"])
def test_whoever_is_quicker_when_a_minute_begins_is_seen(
    run, backend, aws, ledger, state, new, what
) -> None:
    """Between the refusal that says that the minute is over and the write that begins the next."""
    if not new:
        run(take_weight(ledger, 30, 100, NOW - MINUTE_MS))
    other = Ledger(at_another_root(backend) if what == "names a root" and new else backend)

    async def act() -> None:
        if what == "pauses":
            await other.pause(NOW + 700, "HTTP 429")
        else:
            later_ms = MINUTE_MS if what == "starts the next" else 0
            await take_weight(other, 40, 100, NOW + later_ms)

    aws.hooks.append(Meanwhile(is_update_of("LIMIT"), act, number=2))
    if what == "names a root" and new:
        with pytest.raises(ExchangeRootChanged):
            run(take_weight(ledger, 5, 100, NOW))
        assert (state().root, state().used) == (other._root, 40)
        return
    answer = run(take_weight(ledger, 5, 100, NOW))
    if what == "pauses":
        assert (answer, state().window_minute) == (NOW + 700, 0 if new else MINUTE - 1)
    elif what == "starts the next":
        assert (answer, state().used, state().window_minute) == (NEXT, 40, MINUTE + 1)
    else:
        assert (answer, state().used, state().window_minute) == (0, 45, MINUTE)


def test_weight_is_never_taken_under_the_name_of_another_root(run, backend, ledger, state) -> None:
    run(take_weight(ledger, 30, 100, NOW))
    before = state()
    for later_ms in (0, MINUTE_MS):
        with pytest.raises(ExchangeRootChanged):
            run(take_weight(Ledger(at_another_root(backend)), 5, 100, NOW + later_ms))
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
    for used, left in ((99, 1), (100, 0), (101, 0)):
        assert Allowance(Spent(100, 0, used, used), limited(100)).left == left
    state = LedgerState(window_minute=MINUTE, fleet_share=100, used=7, counted=7)
    assert (state.used_at(NOW), state.used_at(NOW + MINUTE_MS)) == (7, 0)
    assert state.spent_at(NOW, limited(100)) == state.spent
    assert state.spent_at(NOW + MINUTE_MS, limited(100)) == Spent(100)


BINANCE = WeightLimits(6000, 5880)


def test_the_share_of_a_minute_is_kept_for_the_whole_fleet(run, ledger, state) -> None:
    """What one worker begins a minute with, another one finds, whatever it takes for granted."""
    for minute, share in enumerate((4800, 5400, 5880)):
        now = NOW + minute * MINUTE_MS
        taken = run(ledger.take_weight(Wanted(100, high=True), BINANCE, now))
        assert (taken.weight, taken.state.fleet_share) == (100, share)
        rest = Wanted(share - 100, high=True, has_seen=True)
        assert run(ledger.take_weight(rest, BINANCE, now, seen=LedgerState())).weight == share - 100
        refused = run(ledger.take_weight(Wanted(1, high=True), BINANCE, now, seen=taken.state))
        assert (refused.weight, refused.until_ms) == (0, NEXT + minute * MINUTE_MS)
        assert state().used == share


@pytest.mark.parametrize("high", [True, False])
def test_what_is_kept_for_high_is_granted_to_high_alone(run, ledger, high: bool) -> None:
    assert run(ledger.take_weight(Wanted(4680), BINANCE, NOW)).weight == 4680
    taken = run(ledger.take_weight(Wanted(120, high=high), BINANCE, NOW))
    assert (taken.weight, taken.until_ms) == ((120, 0) if high else (0, NEXT))


def test_as_much_of_a_block_is_granted_as_there_is_room_for(run, ledger) -> None:
    run(ledger.take_weight(Wanted(4650), BINANCE, NOW))
    assert run(ledger.take_weight(Wanted(10, most=60), BINANCE, NOW)).weight == 30
    run(ledger.take_weight(Wanted(5, most=60), BINANCE, NOW + MINUTE_MS))
    assert run(ledger.read()).used == 60


def test_a_ceiling_that_was_lowered_holds_within_the_minute(run, ledger, state) -> None:
    run(ledger.take_weight(Wanted(1000), BINANCE, NOW))
    lower = WeightLimits(6000, 1200)
    assert run(ledger.take_weight(Wanted(200, most=900, high=True), lower, NOW)).weight == 200
    assert run(ledger.take_weight(Wanted(1, high=True), lower, NOW)).until_ms == NEXT


def test_strangers_leave_less_in_this_minute_and_the_next(run, ledger, state) -> None:
    run(ledger.take_weight(Wanted(100), BINANCE, NOW))
    run(ledger.observe_weight(5000, MINUTE * MINUTE_MS + 30_000))
    for weight, granted in ((701, 0), (700, 700)):  # 5880 less 5000 and 180
        assert run(ledger.take_weight(Wanted(weight, high=True), BINANCE, NOW)).weight == granted
    run(ledger.take_weight(Wanted(1), BINANCE, NOW + MINUTE_MS))
    assert state().fleet_share == 600


def test_strangers_that_a_worker_has_not_seen_yet_leave_nothing_either(run, ledger) -> None:
    taken = run(ledger.take_weight(Wanted(100), BINANCE, NOW))
    run(ledger.observe_weight(5_880, MINUTE * MINUTE_MS + 30_000))
    refused = run(ledger.take_weight(Wanted(1, high=True), BINANCE, NOW, seen=taken.state))
    assert (refused.weight, refused.until_ms) == (0, NEXT)


@pytest.mark.parametrize("later", [0, 1])
def test_the_share_is_halved_where_the_exchange_has_throttled_us(run, ledger, state, later) -> None:
    run(ledger.take_weight(Wanted(100), BINANCE, NOW))
    error = ExchangeThrottled("HTTP 429: " + "x" * 300, NOW + 2_000)
    run(ledger.throttle(error, NOW + later * MINUTE_MS))
    assert (len(state().pause_reason), state().throttled_minute) == (200, MINUTE + later)
    run(ledger.take_weight(Wanted(1), BINANCE, NOW + 2 * MINUTE_MS))
    assert state().fleet_share == 2400
    run(ledger.take_weight(Wanted(1, has_seen=True), BINANCE, NOW + 2 * MINUTE_MS))
    run(ledger.take_weight(Wanted(1), BINANCE, NOW + 3 * MINUTE_MS))
    assert state().fleet_share == 3000


def test_an_exchange_that_throttles_again_and_again_is_asked_ever_less_often(
    run, ledger, state
) -> None:
    """Whatever it names: a time that is over, as where its clock is behind."""
    now_ms, waits = NOW, []
    for named_ms in (0, -5_000, 0, 1_000, 0, 0, 0, 0):
        run(ledger.throttle(ExchangeThrottled("HTTP 429", now_ms + named_ms), now_ms))
        waits.append((state().paused_until - now_ms) // 1000)
        # Others that were under way say the same.
        run(ledger.throttle(ExchangeThrottled("HTTP 429", now_ms), now_ms + 100))
        assert state().paused_until == now_ms + waits[-1] * 1000
        now_ms = state().paused_until + 59_999
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    now_ms += 1
    run(ledger.throttle(ExchangeThrottled("HTTP 429", now_ms), now_ms))
    assert (state().paused_until - now_ms, state().strikes) == (1_000, 0)


def test_old_strikes_are_forgotten_whatever_paused_since(run, ledger, state) -> None:
    now_ms = NOW
    for _ in range(4):
        now_ms = run(ledger.throttle(ExchangeThrottled("HTTP 429", now_ms), now_ms)) + 1
    assert state().strikes == 3
    now_ms += 86_400_000
    run(ledger.pause(now_ms + 15_000, "the exchange does not answer"))
    assert (
        run(ledger.throttle(ExchangeThrottled("HTTP 429", 0), now_ms + 16_000)) == now_ms + 17_000
    )
    assert state().strikes == 0


def test_where_the_exchange_is_overloaded_our_share_stays(run, ledger, state) -> None:
    run(ledger.take_weight(Wanted(100), BINANCE, NOW))
    error = ExchangeThrottled("HTTP 503: overloaded", NOW + 60_000, by_us=False)
    assert run(ledger.throttle(error, NOW)) == NOW + 60_000
    assert (state().paused_until, state().strikes) == (NOW + 60_000, 0)
    run(ledger.take_weight(Wanted(1), BINANCE, NOW + MINUTE_MS))
    assert state().fleet_share == 4800


def test_a_longer_time_that_it_names_stands(run, ledger, state) -> None:
    run(ledger.throttle(ExchangeThrottled("HTTP 429", NOW), NOW))
    run(ledger.throttle(ExchangeThrottled("HTTP 418", NOW + 3_600_000), NOW + 500))
    assert state().paused_until == NOW + 3_600_000


def test_a_pause_for_another_reason_halves_nothing(run, ledger, state) -> None:
    run(ledger.take_weight(Wanted(100), BINANCE, NOW))
    run(ledger.pause(NOW + 2_000, "the exchange does not answer"))
    run(ledger.take_weight(Wanted(1), BINANCE, NOW + MINUTE_MS))
    assert state().fleet_share == 4800


@pytest.mark.parametrize(("ahead", "waits_ms"), [(1, NEXT - NOW), (600, 60_000)])
def test_nobody_waits_longer_than_a_minute_for_a_clock_that_is_ahead(
    run, ledger, ahead: int, waits_ms: int
) -> None:
    run(ledger.take_weight(Wanted(1), BINANCE, NOW + ahead * MINUTE_MS))
    assert run(ledger.take_weight(Wanted(1), BINANCE, NOW)).until_ms == NOW + waits_ms


def test_a_minute_is_the_exchanges(run, ledger, state) -> None:
    behind = ServerClock(-8_000, -7_900)  # it is a minute earlier there
    run(ledger.take_weight(Wanted(100, clock=behind), BINANCE, NOW))
    assert state().window_minute == MINUTE - 1
    refused = run(ledger.take_weight(Wanted(4800, clock=behind), BINANCE, NOW))
    assert refused.until_ms == MINUTE * MINUTE_MS + 7_950
