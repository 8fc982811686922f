"""What following symbols costs in requests: counts that may fall, and not grow unseen.

`make bench BENCH=writes_per_unit` counts the same for more symbols, against the budgets.
"""

from __future__ import annotations

import pytest

from chalicelib.core.times import DAY, HOUR
from tests.doubles.spending import (
    GETS,
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
    0: {WRITE_UNITS: 94, PUTS: 140, GETS: 0, SQS: 13},
    HOUR: {WRITE_UNITS: 94, PUTS: 80, GETS: 80, SQS: 13},
    DAY: {WRITE_UNITS: 96, PUTS: 120, GETS: 120, SQS: 13},
}


@pytest.fixture(scope="module")
def spent() -> dict[int, Spent]:
    following = Following(SYMBOLS)
    found = {pause_ms: following.run(pause_ms) for pause_ms in ALLOWED}
    following.close()
    return found


@pytest.mark.parametrize("what", [WRITE_UNITS, PUTS, GETS, SQS])
@pytest.mark.parametrize("pause_ms", ALLOWED)
def test_a_task_takes_no_more_requests_than_it_did(
    spent: dict[int, Spent], pause_ms: int, what: str
) -> None:
    assert spent[pause_ms].requests[what] <= ALLOWED[pause_ms][what]


def test_a_first_run_at_any_hour_writes_hardly_more_than_one_object_a_unit() -> None:
    written = [objects_of_first_run(now_ms) for now_ms in hours_of(2026)]
    assert sum(written) / len(written) <= 1.05
