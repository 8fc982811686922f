"""Places: never more than there are, and none lost to whoever died or ended."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.aws.calls import run as blocking
from chalicelib.core.errors import CallFailed
from chalicelib.quotas.places import LEASE_MS, Place, Places
from infra.configuration import ROOT
from tests.doubles.aws import Aws
from tests.doubles.clock import Clock
from tests.doubles.faults import Meanwhile
from tests.doubles.settings import doubled_settings

#: The functions that take places: api_handler and those of schedules and sockets.
TAKERS = ("api_handler", "run_schedule", "watch_schedules", "websocket_connect")


class Things:
    """What places are for: `turns[holder]` is (its turn, whether that goes on)."""

    def __init__(self) -> None:
        self.turns: dict[str, tuple[int, bool]] = {}

    async def __call__(self, places: Iterable[Place]) -> dict[Place, bool]:
        return {
            place: self.turns[place.holder] == (place.turn, True)
            for place in places
            if self.turns.get(place.holder, (0, False))[0] >= place.turn
        }

    @property
    def going_on(self) -> int:
        return sum(goes_on for _, goes_on in self.turns.values())


@pytest.fixture
def places(aws: Aws) -> Places:
    return Places(aws, "tasks", "me")


def test_a_function_that_takes_places_is_gone_before_its_lease_ends() -> None:
    config = json.loads((ROOT / ".chalice" / "config.json").read_text("utf-8"))
    for name in TAKERS:
        seconds = config["lambda_functions"][name].get("lambda_timeout", config["lambda_timeout"])
        assert seconds * 1000 <= LEASE_MS - 30_000


def test_a_place_of_a_thing_that_was_never_stored_is_free_after_the_lease(
    run, places, clock
) -> None:
    things = Things()
    assert run(places.take(Place("died", 1, clock()), 1, things))
    assert not run(places.take(Place("next", 1, clock()), 1, things))
    clock.advance(LEASE_MS)
    assert run(places.take(Place("next", 1, clock()), 1, things))


def test_the_place_of_an_older_turn_is_free_and_that_of_the_running_one_is_not(
    run, places, clock
) -> None:
    things = Things()
    assert run(places.take(Place("a", 1, clock()), 1, things))
    things.turns["a"] = (1, False)
    assert run(places.take(Place("a", 2, clock()), 1, things))
    things.turns["a"] = (2, True)
    clock.advance(10 * LEASE_MS)
    assert not run(places.take(Place("b", 1, clock()), 1, things))


def test_who_asks_again_for_what_is_there_gets_it_though_all_is_taken(run, places, clock) -> None:
    things = Things()
    assert run(places.take(Place("a", 1, clock()), 1, things))
    things.turns["a"] = (1, True)
    assert run(places.take(Place("a", 1, clock() + 1), 1, things))
    things.turns["a"] = (1, False)
    assert run(places.take(Place("b", 1, clock()), 1, things))
    things.turns["b"] = (1, True)
    assert run(places.take(Place("a", 1, clock() + 2), 1, things)), "it ended: nothing is made"


def test_a_freed_place_that_another_takes_first_is_not_given_twice(run, aws, places, clock) -> None:
    things = Things()
    assert run(places.take(Place("old", 1, clock()), 1, things))
    things.turns["old"] = (1, False)

    async def another() -> None:
        assert await places.take(Place("quick", 1, clock()), 1, things)
        things.turns["quick"] = (1, True)

    def adds(called) -> bool:
        return str(called.parameters.get("UpdateExpression")).startswith("ADD")

    aws.hooks.append(Meanwhile(adds, another, number=2))
    assert not run(places.take(Place("slow", 1, clock()), 1, things))


def test_where_others_take_every_freed_place_the_caller_is_to_come_again(
    run, aws, places, clock
) -> None:
    things = Things()
    assert run(places.take(Place("0", 1, clock()), 1, things))
    things.turns["0"] = (1, False)
    real = places.drop

    async def dropped_and_taken(gone: Iterable[Place]) -> None:
        await real(gone)
        name = str(len(things.turns))
        await places._add(Place(name, 1, clock()), 1)
        things.turns[name] = (1, False)

    places.drop = dropped_and_taken
    with pytest.raises(CallFailed, match="Contention"):
        run(places.take(Place("slow", 1, clock()), 1, things))


@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(
            st.sampled_from(["begin", "die", "end", "again", "wait", "drop"]),
            st.integers(0, 5),
        ),
        max_size=40,
    ),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_never_more_go_on_than_there_are_places_and_room_is_found_where_there_is_some(
    most: int, steps: list[tuple[str, int]]
) -> None:
    clock = Clock()
    aws = Aws.for_settings(clock, doubled_settings())
    things, places = Things(), Places(aws, "tasks", "me")
    died_ms: list[int] = []
    for step, number in steps:
        clock.advance(1)
        name = f"thing {number}"
        turn, goes_on = things.turns.get(name, (0, False))
        if step in ("begin", "die", "again") and not goes_on:
            pending = sum(clock() - at < LEASE_MS for at in died_ms)
            room = things.going_on < most
            taken = blocking(places.take(Place(name, turn + 1, clock()), most, things))
            assert taken or things.going_on + pending >= most
            assert room or not taken
            if taken and step == "die":
                died_ms.append(clock())
            elif taken:
                things.turns[name] = (turn + 1, True)
        elif step == "end" and goes_on:
            things.turns[name] = (turn, False)
        elif step == "wait":
            clock.advance(LEASE_MS)
        assert things.going_on <= most
