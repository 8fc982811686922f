"""The engine under simulated schedules, and the simulation under mutants of the engine."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS, Mutant, nothing_goes_wrong
from tests.simulation.running import Found, play, playing
from tests.simulation.world import acknowledged

#: `make simulate SEEDS=n` plays more.
SCHEDULES = 5_000
#: Seeds that broke an earlier state of the engine, or of the simulation's own rules.
FOUND = (14, 31, 43, 215, 320, 1214, 6285, 12776, 21305, 106662)


@pytest.mark.timeout(1500)
def test_no_schedule_breaks_an_invariant() -> None:
    total = Found()
    with playing(0, SCHEDULES) as played:
        for found in played:
            total.add(found)
    replay = [f"python -m tests.simulation --seed {seed}: {w}" for seed, w in total.broken.items()]
    assert not total.broken, "\n".join(replay[:10])
    assert total.schedules == SCHEDULES
    # Nearly all schedules are troubled ones, and every kind of trouble came.
    assert total.faulty > 0.9 * SCHEDULES
    missing = [kind for kind, count in total.faults.items() if not count]
    assert len(total.faults) >= 20, total.faults
    assert not missing


@pytest.mark.parametrize("seed", FOUND)
def test_a_seed_that_once_broke_the_engine_no_longer_does(seed: int) -> None:
    assert not play([seed]).broken


def test_a_seed_replays_to_the_same_calls() -> None:
    first, again = play([4711]), play([4711])
    assert first.calls == again.calls
    assert first.faults == again.faults


def test_where_nothing_goes_wrong_no_sweep_is_needed() -> None:
    assert not play(range(300), nothing_goes_wrong).broken


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_every_mutant_is_killed(mutant: Mutant) -> None:
    assert mutant.killed_by() is not None, f"{mutant.name} survived"


RECORDS = [{"messageId": "a"}, {"messageId": "b"}]


@pytest.mark.parametrize(
    ("answer", "deleted"),
    [
        (None, ["a", "b"]),
        ({}, ["a", "b"]),
        ({"batchItemFailures": []}, ["a", "b"]),
        ({"batchItemFailures": [{"itemIdentifier": "a"}]}, ["b"]),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, []),
        ({"batchItemFailures": [{"itemIdentifier": "c"}]}, []),
        ({"batchItemFailures": [{"itemIdentifier": None}]}, []),
        ({"batchItemFailures": [{"id": "a"}]}, []),
        ({"batchItemFailures": "a"}, []),
        ("text", []),
    ],
)
def test_the_simulated_queue_follows_lambdas_partial_batch_rules(
    answer: object, deleted: list[str]
) -> None:
    assert [record["messageId"] for record in acknowledged(answer, RECORDS)] == deleted
