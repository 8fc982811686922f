"""What following symbols costs: counts that may fall, and not grow unseen.

Beside them, each where what it counts is: AWS calls of routes in tests/handlers/test_flat.py and
test_owners.py, modules that a function loads in tests/unit/test_imports.py, bytes of the zip in
tests/unit/infra/test_packaging.py, and of coverage with gaps in tests/unit/candles/test_summary.py.

`make bench BENCH=writes_per_unit` counts the same for more symbols, against the budgets.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chalicelib.core.times import DAY, HOUR
from tests.doubles.spending import (
    GETS,
    PAGES,
    PUTS,
    SQS,
    WRITE_UNITS,
    Following,
    Spent,
    hours_of,
    objects_of_first_run,
)

SYMBOLS = 20
#: Time before a run -> what it may take for 20 symbols in 6 timeframes. At the simulated moment the
#: candles of a first run cross the end of a month of 5m, which makes one object more. Some fifty
#: write units are the task's own moves, which are transactions, however many units it has.
ALLOWED = {
    0: {WRITE_UNITS: 94, PUTS: 140, GETS: 0, SQS: 13, PAGES: 120},
    HOUR: {WRITE_UNITS: 94, PUTS: 80, GETS: 80, SQS: 13, PAGES: 80},
    DAY: {WRITE_UNITS: 96, PUTS: 120, GETS: 120, SQS: 13, PAGES: 140},
}
#: Kind of item -> bytes of the largest after these runs, as DynamoDB counts them. Each KB that
#: begins is a write unit more with every write.
MOST_BYTES = {
    "tasks META": 1000,
    "tasks UNITS": 500,
    "tasks PROG": 625,
    "tasks PART": 220,
    "tasks COUNT": 75,
    "tasks LAST": 260,
    "market COVER": 655,
    "market COUNTED": 80,
    "market TOTALS": 65,
    "market LIMIT": 140,
    "market CATALOGUE": 250,
    "audit": 1225,
}


@pytest.fixture(scope="module")
def following() -> Iterator[Following]:
    following = Following(SYMBOLS)
    yield following
    following.close()


@pytest.fixture(scope="module")
def spent(following: Following) -> dict[int, Spent]:
    return {pause_ms: following.run(pause_ms) for pause_ms in ALLOWED}


@pytest.mark.parametrize("what", [WRITE_UNITS, PUTS, GETS, SQS, PAGES])
@pytest.mark.parametrize("pause_ms", ALLOWED)
def test_a_task_takes_no_more_requests_than_it_did(
    spent: dict[int, Spent], pause_ms: int, what: str
) -> None:
    assert spent[pause_ms].requests[what] <= ALLOWED[pause_ms][what]


@pytest.mark.usefixtures("spent")
def test_no_item_is_larger_than_it_was(following: Following) -> None:
    largest = following.largest()
    assert largest.keys() == MOST_BYTES.keys()
    assert not {kind: size for kind, size in largest.items() if size > MOST_BYTES[kind]}


def test_a_first_run_at_any_hour_writes_hardly_more_than_one_object_a_unit() -> None:
    written = [objects_of_first_run(now_ms) for now_ms in hours_of(2026)]
    assert sum(written) / len(written) <= 1.05
