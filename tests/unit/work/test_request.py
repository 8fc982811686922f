"""Whatever a POST /start body holds, it is a request or every problem in it is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.errors import InvalidRequest, PlanTooLarge
from chalicelib.core.settings import Settings
from chalicelib.core.timeframes import LENGTH_MS
from chalicelib.work import priorities
from chalicelib.work.request import CollectionRequest, parse_start, unknown_in
from tests.doubles.clock import NOW

SETTINGS = Settings(max_symbols=6, max_units=50)
KNOWN = {"BTCUSDT": "TRADING", "ETHUSDT": "TRADING", "币安人生USDT": "TRADING"}
FIELDS = (
    "symbols",
    "timeframes",
    "start",
    "end",
    "priority",
    "tolerated_failure_percentage",
)

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400)])
    | st.floats()
    | st.text(st.characters(codec=None), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec=None), max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
times = st.sampled_from(["2026-03-01", "2026-03-03T12:00:00Z", "2099-01-01", NOW - 10**8, "soon"])
plausible = st.fixed_dictionaries(
    {},
    optional={
        "symbols": st.lists(st.sampled_from([*KNOWN, "btcusdt", "NOPE", "a b"]), max_size=8),
        "timeframes": st.lists(st.sampled_from([*LENGTH_MS, "2m"]), max_size=5),
        "start": times,
        "end": times,
        "priority": st.sampled_from(["high", "normal", "low", "urgent"]),
        "tolerated_failure_percentage": st.integers(-1, 101) | st.floats(),
    },
)
bodies = st.one_of(
    anything,
    plausible,
    st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), anything, max_size=4),
)


@given(bodies, st.sampled_from([None, KNOWN, {}]))
def test_any_body_is_a_valid_request_or_rejected_with_valid_pointers(
    body: object, known: dict[str, str] | None
) -> None:
    request, errors = _parsed(body, known)
    for problem in errors:
        _check_pointer(problem["pointer"], body)
        assert problem["detail"]
    if request is None:
        return
    assert isinstance(body, dict)
    assert request.timeframes
    assert all(frame in LENGTH_MS for frame in request.timeframes)
    assert request.priority in priorities.PRIORITIES
    assert 0 <= request.tolerated_failure_percentage <= 100
    assert request.symbols is None or 1 <= len(request.symbols) <= SETTINGS.max_symbols
    assert request.start_ms is None or request.start_ms < NOW
    if request.start_ms is not None and request.end_ms is not None:
        assert request.start_ms < request.end_ms
    assert CollectionRequest.unpack(request.pack()) == request


def _parsed(
    body: object, known: dict[str, str] | None
) -> tuple[CollectionRequest | None, list[dict[str, str]]]:
    """The request, or the problems; neither where it is too large."""
    try:
        return parse_start(body, known, SETTINGS, NOW), []
    except PlanTooLarge:
        return None, []
    except InvalidRequest as error:
        return None, error.errors or [{"detail": "", "pointer": "none was named"}]


def _check_pointer(pointer: str, body: object) -> None:
    """A JSON pointer (RFC 6901) to a value of the body; a long name may be cut."""
    if pointer == "":
        return
    assert pointer.startswith("/")
    found: Any = body
    assert isinstance(found, dict)
    for token in pointer[1:].split("/"):
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list):
            assert 0 <= int(name) < len(found)
            found = found[int(name)]
        else:
            assert isinstance(found, dict)
            assert name in found or len(name) >= 100
            found = found.get(name)


def problems(body: object, known: dict[str, str] | None = KNOWN) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as rejected:
        parse_start(body, known, SETTINGS, NOW)
    return {problem["pointer"]: problem["detail"] for problem in rejected.value.errors}


def test_every_problem_is_named_at_once() -> None:
    body = {
        "symbols": ["BTCUSDT", "NOPE", 7],
        "timeframes": ["1m", "2m"],
        "start": "soon",
        "priority": "urgent",
        "tolerated_failure_percentage": 101,
        "a/b~c": 1,
    }
    assert set(problems(body)) == {
        "/symbols/1",
        "/symbols/2",
        "/timeframes/1",
        "/start",
        "/priority",
        "/tolerated_failure_percentage",
        "/a~1b~0c",
    }


@settings(deadline=None)
@given(st.text(max_size=12), st.sets(st.sampled_from(["BTCUSDT", "ETHUSDT"])))
def test_exactly_a_well_formed_symbol_that_is_known_in_no_case_may_be_new(
    symbol: str, names: set[str]
) -> None:
    known = dict.fromkeys(names, "TRADING")
    body = {"symbols": [symbol], "timeframes": ["1d"]}
    try:
        parse_start(body, known, SETTINGS, NOW)
        said = ""
    except InvalidRequest as rejected:
        said = rejected.detail
    assert bool(unknown_in(body, known)) == ("try again in a minute" in said)
    assert not unknown_in(body, None)


def test_halted_symbols_do_not_count_towards_the_size_of_a_request_for_all() -> None:
    known = {f"S{at}USDT": "BREAK" for at in range(30_000)} | {"BTCUSDT": "TRADING"}
    assert parse_start({"timeframes": ["1d"]}, known, SETTINGS, NOW).symbols is None
    with pytest.raises(PlanTooLarge):
        parse_start({"timeframes": ["1d"]}, dict.fromkeys(known, "TRADING"), SETTINGS, NOW)


def test_a_symbol_in_lower_case_is_refused_with_the_right_one_named() -> None:
    assert "BTCUSDT?" in problems({"symbols": ["btcusdt"]})["/symbols/0"]


def test_without_a_catalogue_a_symbol_is_only_checked_for_its_form() -> None:
    request = parse_start({"symbols": ["NEWUSDT"], "timeframes": ["1d"]}, None, SETTINGS, NOW)
    assert request.symbols == ("NEWUSDT",)
    assert "/symbols/0" in problems({"symbols": ["NEW USDT"]}, None)


def test_symbols_and_timeframes_named_twice_are_collected_once() -> None:
    body = {"symbols": ["BTCUSDT"] * 3, "timeframes": ["1d", "1h", "1d"]}
    request = parse_start(body, KNOWN, SETTINGS, NOW)
    assert (request.symbols, request.timeframes) == (("BTCUSDT",), ("1d", "1h"))


def test_an_empty_body_means_everything_from_the_last_stored_candle() -> None:
    request = parse_start({}, KNOWN, Settings(), NOW)
    assert (request.symbols, request.start_ms, request.end_ms) == (None, None, None)
    assert request.timeframes == Settings().default_timeframes


def test_a_range_must_start_in_the_past_and_before_its_end() -> None:
    assert "/start" in problems({"start": NOW})
    assert "/start" in problems({"start": "2026-03-02", "end": "2026-03-02"})


def test_a_request_that_needs_too_many_units_is_refused_before_anything_is_stored() -> None:
    with pytest.raises(PlanTooLarge, match="at least"):
        parse_start({"symbols": ["BTCUSDT"], "start": 0}, KNOWN, SETTINGS, NOW)


def test_without_a_catalogue_everything_is_one_symbol_at_least() -> None:
    with pytest.raises(PlanTooLarge, match="at least"):
        parse_start({"timeframes": ["1s"], "start": 0}, None, Settings(max_units=20_000), NOW)


def test_a_number_too_large_for_a_float_is_a_problem_not_a_crash() -> None:
    body = {"tolerated_failure_percentage": 10**400}
    assert "/tolerated_failure_percentage" in problems(body)


def test_a_flood_of_problems_is_counted_but_not_all_listed() -> None:
    with pytest.raises(InvalidRequest, match="and 199 more") as rejected:
        parse_start({f"x{at}": 1 for at in range(200)}, KNOWN, SETTINGS, NOW)
    assert len(rejected.value.errors) == 50
