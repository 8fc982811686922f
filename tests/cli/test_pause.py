"""`data-collector pause`, `resume`, and what `status` says of a pause."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.fake_api import PAUSE, STATUS, FakeApi
from tests.cli.running import run

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@given(st.integers(1, 999), st.sampled_from(sorted(SECONDS)))
def test_a_pause_is_ordered_for_the_time_that_is_given(number: int, unit: str) -> None:
    ran = run("pause", "--for", f"{number}{unit}", "--reason", "maintenance")
    assert ran.code == 0
    assert ran.body() == {"duration_seconds": number * SECONDS[unit], "reason": "maintenance"}


@pytest.mark.parametrize("wrong", ["", "2", "h", "0h", "-1h", "1.5h", "2 weeks", "2h30m", "٢h"])
def test_a_time_that_cannot_be_read_orders_nothing(wrong: str) -> None:
    ran = run("pause", "--for", wrong)
    assert (ran.code, ran.api.requests) == (2, [])


def test_without_a_time_it_lasts_until_somebody_resumes() -> None:
    ran = run("pause")
    assert ran.body() == {}
    assert ran.out == (
        "Paused by anna since 2026-11-23 12:00:00 UTC: maintenance. The time of tasks stands "
        "still, up to 2026-11-29 12:00:00 UTC\n"
    )
    assert run("resume").out == "Resumed\n"


def test_the_status_names_who_has_paused_and_since_when() -> None:
    paused = {**STATUS, "status": "paused", "pause": {**PAUSE, "until": "2026-11-23T14:00:00Z"}}
    out = run("status", api=FakeApi({"GET /status": [paused]})).out
    assert "Collector        paused\n" in out
    until = "since 2026-11-23 12:00:00 UTC until 2026-11-23 14:00:00 UTC: maintenance"
    assert f"Paused           by anna {until}\n" in out
    assert "Paused" not in run("status").out
