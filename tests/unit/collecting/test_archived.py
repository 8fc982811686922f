"""What the archive brings: proven by checksum and sample, and nothing where a file is doubtful."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chalicelib.candles.intervals import Interval
from chalicelib.collecting.archived import STALE, Archived, from_archive
from chalicelib.core.errors import ExchangeThrottled
from chalicelib.core.times import DAY, MINUTE, parse_time
from chalicelib.exchange.archive import MISSING, UNAVAILABLE
from chalicelib.exchange.archive_rows import DAMAGED
from tests.doubles.archive import Archive

MARCH = Interval(parse_time("2025-03-01"), parse_time("2025-04-01"))
NAME = "BTCUSDT-1m-2025-03.zip"
DAYS = [*range(MARCH.start_ms, MARCH.end_ms, DAY)]


async def free(weight: int) -> None:
    return


@pytest.fixture
def archive(exchange: Any) -> Archive:
    return Archive(exchange)


@pytest.fixture
def archived(run: Any, worker: Any, archive: Archive) -> Any:
    worker = replace(worker, archive=archive)

    def archived(stretch: Interval = MARCH, timeframe: str = "1m") -> Archived:
        return run(from_archive(worker, "BTCUSDT", timeframe, stretch, free))

    return archived


def test_a_closed_month_takes_one_file_and_one_page(archived, archive, exchange) -> None:
    found = archived()
    assert found.used == [NAME]
    assert found.proven == [MARCH]
    assert list(found.candles.open_times) == [*range(*MARCH, MINUTE)]
    assert (archive.asked, len(exchange.asked)) == ([NAME], 1)


def test_a_part_of_a_month_is_proven_and_no_more(archived) -> None:
    part = Interval(MARCH.start_ms + 5 * DAY, MARCH.start_ms + 9 * DAY)
    found = archived(part)
    assert found.proven == [part]
    assert list(found.candles.open_times) == [*range(*part, MINUTE)]


def test_the_same_page_of_a_file_is_looked_at_each_time(archived, exchange) -> None:
    archived()
    archived(Interval(MARCH.start_ms + DAY, MARCH.end_ms))
    first, second = exchange.asked
    assert first == second
    assert (first[3] - first[2] - 1) // MINUTE == 999


@pytest.mark.parametrize("reason", [MISSING, DAMAGED, UNAVAILABLE])
def test_a_file_that_cannot_be_used_is_named_and_proves_nothing(archived, archive, reason) -> None:
    archive.unusable[NAME] = reason
    found = archived(Interval(MARCH.start_ms, MARCH.end_ms + 30 * DAY))
    assert [each[:2] for each in found.passed_over] == [(NAME, reason)]
    assert found.used == ["BTCUSDT-1m-2025-04.zip"]
    assert found.proven == [Interval(MARCH.end_ms, MARCH.end_ms + 30 * DAY)]
    assert found.candles.open_times[0] == MARCH.end_ms


def test_a_file_of_which_rest_says_otherwise_is_stale(archived, archive) -> None:
    archive.differing = {*range(MARCH.start_ms, MARCH.end_ms, 500 * MINUTE)}
    found = archived()
    assert [each[:2] for each in found.passed_over] == [(NAME, STALE)]
    assert not found.used
    assert not found.proven
    assert not len(found.candles)


@pytest.mark.parametrize("of_archive", [True, False])
def test_candles_that_only_one_of_them_has_make_a_file_stale(
    archived, archive, exchange, of_archive
) -> None:
    some = {*range(MARCH.start_ms, MARCH.end_ms, 500 * MINUTE)}
    if of_archive:
        exchange.unserved = dict.fromkeys(some, (0, exchange.clock() + DAY))
    else:
        archive.lost = some
    assert [each.reason for each in archived().passed_over] == [STALE]


def test_a_stretch_that_rest_does_not_know_at_all_is_stale(archived, exchange) -> None:
    exchange.unserved_since = MARCH.start_ms
    assert [each.reason for each in archived().passed_over] == [STALE]


def test_what_rest_sends_and_nobody_can_read_says_nothing_of_the_file(archived, exchange) -> None:
    exchange.null = {*range(MARCH.start_ms, MARCH.end_ms, 500 * MINUTE)}
    assert archived().used == [NAME]


def test_a_server_that_caps_its_pages_is_compared_as_far_as_it_goes(
    archived, archive, exchange
) -> None:
    whole = exchange.rows
    exchange.rows = lambda *asked: whole(*asked)[:200]
    assert archived().used == [NAME]
    archive.differing = {*range(MARCH.start_ms, MARCH.end_ms, 100 * MINUTE)}
    assert [each.reason for each in archived().passed_over] == [STALE]


def test_what_is_missing_in_a_file_is_left_to_rest_near_stretches_together(
    archived, archive, exchange
) -> None:
    """Outside the sampled page, where a missing candle would make the file stale."""
    archived()
    sampled = exchange.asked[0][2]
    at_ms = next(day for day in DAYS if not -3 * DAY < sampled - day < 3 * DAY)
    archive.lost = {at_ms + minute * MINUTE for minute in (60, 61, 500, 1059, 1060)}
    found = archived()
    assert found.proven == [
        Interval(MARCH.start_ms, at_ms + 60 * MINUTE),
        Interval(at_ms + 501 * MINUTE, at_ms + 1059 * MINUTE),
        Interval(at_ms + 1061 * MINUTE, MARCH.end_ms),
    ]
    assert not archive.lost & set(found.candles.open_times)


def test_an_outage_is_no_proof_of_the_archives_alone(archived, exchange) -> None:
    exchange.outage = {*range(MARCH.start_ms, MARCH.start_ms + 3 * DAY, MINUTE)}
    assert archived().proven == [Interval(MARCH.start_ms + 3 * DAY, MARCH.end_ms)]


def test_a_throttled_sample_is_for_the_caller_to_wait_for(archived, exchange) -> None:
    exchange.throttled_until = exchange.clock() + MINUTE
    with pytest.raises(ExchangeThrottled):
        archived()


def test_without_an_archive_nothing_is_asked(run, worker, exchange) -> None:
    found = run(from_archive(worker, "BTCUSDT", "1m", MARCH, free))
    assert (len(found.candles), found.proven, exchange.asked) == (0, [], [])
