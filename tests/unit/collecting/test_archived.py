"""What the archive brings: proven by checksum and sample, and nothing where a file is doubtful."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chalicelib.candles.intervals import Interval
from chalicelib.candles.store import CandleStore
from chalicelib.collecting.archived import STALE, Archived, from_archive
from chalicelib.core import timeframes
from chalicelib.core.errors import ExchangeThrottled
from chalicelib.core.times import DAY, MINUTE, parse_time
from chalicelib.exchange.archive import MISSING, UNAVAILABLE
from chalicelib.exchange.archive_rows import DAMAGED
from chalicelib.exchange.binance import Page
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.view import view_task
from tests.doubles.archive import Archive
from tests.doubles.aws import Aws
from tests.doubles.fleet import Fleet

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

    def archived(*stretches: Interval) -> Archived:
        return run(from_archive(worker, "BTCUSDT", "1m", stretches or (MARCH,), free))

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


def test_a_file_is_fetched_once_for_all_stretches_in_it(archived, archive, exchange) -> None:
    parts = [
        Interval(MARCH.start_ms + day * DAY, MARCH.start_ms + (day + 5) * DAY) for day in (1, 9)
    ]
    archive.lost = {parts[1].start_ms - MINUTE}
    found = archived(*parts)
    assert (archive.asked, len(exchange.asked)) == ([NAME], 1)
    assert found.proven == parts
    assert list(found.candles.open_times) == [at for part in parts for at in range(*part, MINUTE)]


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


def test_rows_of_rests_that_cannot_be_read_are_not_compared(archived, exchange) -> None:
    honest = exchange.klines

    async def klines(*asked: Any) -> Page:
        page = await honest(*asked)
        unusable = tuple(row[0] for row in page.rows[::100])
        return replace(
            page, rows=[row for row in page.rows if row[0] not in unusable], unusable=unusable
        )

    exchange.klines = klines
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
    found = run(from_archive(worker, "BTCUSDT", "1m", [MARCH], free))
    assert (len(found.candles), found.proven, exchange.asked) == (0, (), [])


# Collecting with it, from a request to the stored objects.

SPAN = Interval(parse_time("2026-01-01"), parse_time("2026-02-01"))
FILE = "BTCUSDT-1m-2026-01.zip"
BODY = {"symbols": ["BTCUSDT"], "timeframes": ["1m"], "start": "2026-01-01", "end": "2026-02-01"}
NIGHT = {*range(SPAN.start_ms + 2 * DAY, SPAN.start_ms + 2 * DAY + 90 * MINUTE, MINUTE)}


class Collector:
    """Collects into an empty account of its own, with an archive or without."""

    def __init__(self, run: Any, worker: Any, archive: Archive | None) -> None:
        self.run, self.clock = run, worker.now_ms
        self.aws = Aws.for_settings(self.clock, worker.settings)
        self.worker = replace(worker, call=self.aws, archive=archive)

    def collect(self, **changes: Any) -> dict[str, Any]:
        task_id = self.run(submit_collection(self.worker, BODY | changes, "me", "r"))
        self.run(Fleet(self.aws, self.worker).settle())
        return self.run(view_task(self.worker, task_id))

    def held(self) -> tuple[list[Any], list[Any]]:
        """What is stored of the month: each candle's values, and where the gaps are, and why."""
        candles: list[Any] = []
        gaps: list[Any] = []
        for start_ms, _ in timeframes.object_cuts("1m", *SPAN):
            stored = self.run(CandleStore(self.worker).read("BTCUSDT", "1m", start_ms))
            candles += [stored.candles.values_at(at)[1:] for at in range(len(stored.candles))]
            gaps += [gap[:3] for gap in stored.coverage.gaps]
        return candles, gaps


@pytest.fixture
def collector(run, worker, archive) -> Collector:
    return Collector(run, worker, archive)


def test_months_take_a_file_and_a_page_each(collector, archive, exchange) -> None:
    view = collector.collect(start="2025-11-01")
    assert (view["status"], view["candles"]) == ("completed", 92 * 1440)
    months = ("2025-11", "2025-12", "2026-01")
    assert sorted(archive.asked) == [f"BTCUSDT-1m-{month}.zip" for month in months]
    # The first candle ever is looked up once.
    assert len(exchange.asked) <= len(months) + 1


@pytest.mark.parametrize(
    "trouble", ["none", "outage", "broken", "lost", "differing", "missing", "throttled"]
)
def test_the_same_is_stored_with_an_archive_as_without(
    run, worker, collector, archive, exchange, clock, trouble
) -> None:
    if trouble in ("outage", "broken"):
        setattr(exchange, trouble, NIGHT)
    elif trouble == "lost":
        archive.lost = NIGHT
    elif trouble == "differing":
        archive.differing = {*range(*SPAN, 500 * MINUTE)}
    elif trouble == "missing":
        archive.unusable[FILE] = MISSING
    elif trouble == "throttled":
        exchange.throttled_until = clock() + 30_000
    view = collector.collect()
    assert view["status"] == "completed"
    is_used = trouble not in ("differing", "missing")
    assert (len(exchange.asked) < 10) == is_used
    reasons = {"differing": STALE, "missing": MISSING}
    assert [each["reason"] for each in view["passed_over"]] == (
        [] if is_used else [reasons[trouble]]
    )
    plain = Collector(run, worker, None)
    assert plain.collect()["status"] == "completed"
    assert collector.held() == plain.held()


def test_what_the_exchange_answered_after_the_file_stays(
    collector, archive, exchange, run, worker
) -> None:
    """A revision that no page of the sample shows."""
    collector.worker = replace(collector.worker, archive=None)
    revised = dict.fromkeys(NIGHT, SPAN.end_ms + 10 * DAY)
    exchange.revised_at = revised
    collector.collect()
    before = collector.held()
    collector.worker = replace(collector.worker, archive=archive)
    assert collector.collect(fill="all")["status"] == "completed"
    assert set(archive.asked) == {FILE}
    assert collector.held() == before


def test_after_a_cancels_receipt_only_the_file_in_flight_is_read(
    collector, archive, exchange, run
) -> None:
    task_id = run(submit_collection(collector.worker, BODY | {"start": "2025-11-01"}, "me", "r"))
    fleet = Fleet(collector.aws, collector.worker)
    run(fleet.plan())
    asked = len(exchange.asked)

    async def cancel() -> None:
        await cancel_task(collector.worker, task_id, "me")

    archive.on_request = cancel
    run(fleet.settle())
    assert len(archive.asked) == 1
    assert len(exchange.asked) == asked
