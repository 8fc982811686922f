"""The table: every place that calls AWS, the story that reaches it, and its errors played there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

from chalicelib.aws.wire import item_from_wire
from chalicelib.tasks import states
from tests.doubles.error_codes import (
    TROUBLES,
    CallSite,
    Moment,
    OneError,
    Recorder,
    Trouble,
)
from tests.simulation.checks import check_history
from tests.unit.error_table import (
    access_stories,
    event_stories,
    market_stories,
    schedule_stories,
    task_stories,
)
from tests.unit.error_table.life import PUSH, Life, a_life

#: What is kept silent on purpose: (last function, operation) -> why.
SILENT = {
    ("connections.ConnectionTable.send", PUSH): (
        "GoneException is the documented answer for a closed connection: its rows are deleted"
    ),
}

STORIES = (
    task_stories.a_collection_with_a_key,
    task_stories.an_urgent_collection_without_a_key,
    task_stories.a_collection_where_much_is_stored,
    task_stories.a_refused_symbol_and_a_retry,
    task_stories.too_many_failures,
    task_stories.a_cancel_and_a_retry,
    task_stories.a_cancel_before_the_plan,
    task_stories.half_a_cancel_and_a_sweep,
    task_stories.half_a_cancel_and_a_retry,
    task_stories.half_a_cancel_and_another,
    task_stories.a_plan_message_that_vanished,
    task_stories.work_messages_that_vanished,
    task_stories.a_plan_that_died_before_it_sent,
    task_stories.a_worker_that_died_before_it_told_the_task,
    task_stories.a_task_that_sweep_ends,
    task_stories.a_task_that_a_dead_letter_ends,
    task_stories.dead_letters_and_a_retry,
    task_stories.a_plan_that_always_dies_and_a_retry,
    task_stories.a_task_out_of_time_and_a_retry,
    market_stories.the_exchange_throttles_and_falls_silent,
    market_stories.a_person_pauses_and_resumes,
    market_stories.one_symbol_gets_no_answer_at_first,
    market_stories.what_was_collected_is_read,
    market_stories.gaps_are_explained_and_filled,
    market_stories.stored_objects_are_verified_and_mended,
    market_stories.the_first_day,
    market_stories.nothing_trades,
    market_stories.the_largest_symbols_are_collected,
    market_stories.the_list_of_symbols_changes,
    market_stories.a_refresh_while_the_exchange_is_down,
    schedule_stories.a_schedule_and_its_life,
    schedule_stories.a_schedule_whose_runs_never_came,
    schedule_stories.a_schedule_half_made,
    schedule_stories.a_schedule_whose_webhook_comes_and_goes,
    schedule_stories.a_promise_that_is_broken,
    event_stories.sockets,
    event_stories.a_market_that_nobody_listens_to_any_more,
    task_stories.keys_that_are_rejected_and_taken_over,
    event_stories.a_webhook_with_trouble,
    task_stories.a_low_task_that_lets_another_go_first,
    task_stories.a_large_task,
    task_stories.an_expired_task,
    event_stories.the_trail_is_read,
    event_stories.days_are_exported,
    event_stories.a_record_is_set_aside_and_replayed,
    task_stories.messages_that_cannot_be_read,
    access_stories.a_key_and_what_ends_with_it,
)
Story = Callable[[Life], None]


@cache
def table() -> dict[CallSite, tuple[Story, int]]:
    """Call site -> the story that reaches it first, and how often that does."""
    found: dict[CallSite, tuple[Story, int]] = {}
    for story in STORIES:
        with a_life() as life:
            recorder = Recorder(lambda life=life: life.edge)  # type: ignore[misc]
            life.aws.hooks.append(recorder)
            story(life)
        for site, times in Counter(recorder.sites).items():
            if site.edge != "nobody":
                found.setdefault(site, (story, times))
    return found


@cache
def ending(story: Story) -> frozenset[tuple[Any, ...]]:
    """How the tasks of a story end where nothing goes wrong."""
    with a_life() as life:
        story(life)
        return _ending(life)


def _ending(life: Life) -> frozenset[tuple[Any, ...]]:
    """What became of the tasks: type, state, units failed, the error's reason."""
    ends = {}
    for record in life.records():
        image = record["dynamodb"].get("NewImage", {})
        if image.get("sk") == {"S": "META"}:
            ends[image["pk"]["S"]] = item_from_wire(
                {name: value for name, value in image.items() if "B" not in value}
            )
    return frozenset(
        (
            meta["task_type"],
            meta["state"],
            meta.get("result", {}).get("failed"),
            meta.get("error", "").split(":")[0],
        )
        for meta in ends.values()
    )


def cases(site: CallSite, times: int) -> Iterator[tuple[Trouble, int]]:
    """(what goes wrong, at which call): each code at the first, each moment at the last too."""
    moments = set()
    for trouble in TROUBLES[site.name]:
        yield trouble, 1
        if times > 1 and trouble.moment not in moments:
            moments.add(trouble.moment)
            yield trouble, times


def play(story: Story, site: CallSite, trouble: Trouble, number: int) -> None:
    """Play a story with one error. Raises AssertionError where it does not end as it should."""
    with a_life() as life:
        life.error = OneError(life.aws, lambda: life.edge, site, trouble, number)
        life.aws.hooks.append(life.error)
        story(life)
        life.settle()
        assert life.error.struck is not None, "the call was never made"
        assert _ending(life) == ending(story), f"ended as {sorted(_ending(life), key=str)}"
        check_history(as_world(life))
        quiet = (site.functions[-1], site.name) in SILENT
        seen = life.surfaced or trouble.moment is Moment.REPEATED or quiet
        assert seen, "the error was swallowed"


def as_world(life: Life) -> Any:
    """A life, as far as the simulation's checks of a history look at a world.

    Those know collections only; a refresh has no units to count.
    """
    refreshes = {
        record["dynamodb"]["Keys"]["pk"]["S"]
        for record in life.records()
        if record["dynamodb"].get("NewImage", {}).get("task_type") == {"S": states.SYMBOL_REFRESH}
    }
    collections = [
        record
        for record in life.records()
        if record["dynamodb"]["Keys"]["pk"]["S"] not in refreshes
    ]
    return SimpleNamespace(
        faults=SimpleNamespace(seen=Counter()),
        spoiled=set(),
        holds=[],
        records=lambda: collections,
        exchange=life.exchange,
        aws=life.aws,
        people=[],
        receipts=life.receipts,
        settings=life.settings,
    )


def wrong_at(site: CallSite) -> list[str]:
    """What each error at a call site leads to that should not be."""
    story, times = table()[site]
    wrong = []
    for trouble, number in cases(site, times):
        try:
            play(story, site, trouble, number)
        except AssertionError as error:
            wrong.append(f"{story.__name__}: {trouble} at call {number}: {error}")
    return wrong
