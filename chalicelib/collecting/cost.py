"""What a load takes in time, and of AWS. Pure; checked by `make bench BENCH=quote`."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from chalicelib.collecting.load import GROUP_MS, SLOT_MS, Load, progs_of
from chalicelib.exchange.ledger_state import MINUTE_MS, next_minute_ms
from chalicelib.exchange.share import Allowance
from chalicelib.exchange.weights import BLOCK_WEIGHT, IN_FLIGHT, KLINES_WEIGHT
from chalicelib.work.units import BATCH_MESSAGES

#: Two requests find when the first candle of a symbol and timeframe opened.
LOOKUP_REQUESTS = 2
#: From the request until the first message is with a worker.
_START_MS = 200
#: Memory of the functions in GB (.chalice/config.json), and ms of a short invocation.
_LARGE_GB, _SMALL_GB, _SHORT_MS = 1.0, 0.25, 50
_SENT_AT_ONCE = 10  # SQS's limit of a batch


class Ahead(NamedTuple):
    """What stands before a request. `weight`: of what active tasks have left; `waits_ms`: until
    requests may leave at all; `workers`: that collect its priority; `budget`: of this minute."""

    weight: int
    waits_ms: int
    workers: int
    budget: Allowance


def seconds_of(load: Load, weight: int, asked_first: int, ahead: Ahead, now_ms: int) -> float:
    """Seconds until the last unit is counted: what the workers need, or the exchange's budget.

    `weight`: of all its requests; `asked_first`: listings that its plan looks up.
    """
    begins_ms = ahead.waits_ms + _START_MS + _lookups_ms(asked_first)
    queued_ms = ahead.weight / KLINES_WEIGHT * SLOT_MS / (ahead.workers * IN_FLIGHT)
    works_ms = queued_ms + _works_ms(load, ahead.workers)
    # A minute's budget is spent as fast as the workers can; then all wait for the next minute.
    needed = weight + ahead.weight
    over = needed - (ahead.budget.left if ahead.waits_ms == 0 else ahead.budget.limit)
    if over > 0:
        at_ms = now_ms + int(begins_ms)
        in_the_last, throttled_ms = over, next_minute_ms(at_ms) - at_ms
        for limit in ahead.budget.coming():
            if in_the_last <= limit:
                break
            in_the_last, throttled_ms = in_the_last - limit, throttled_ms + MINUTE_MS
        works_ms = max(works_ms, throttled_ms + works_ms * in_the_last / needed)
    return round((begins_ms + works_ms) / 1000, 1)


def _lookups_ms(asked_first: int) -> float:
    in_flight = min(asked_first, IN_FLIGHT) or 1
    return asked_first * LOOKUP_REQUESTS * SLOT_MS / in_flight


def _works_ms(load: Load, workers: int) -> float:
    """How long so many workers collect: batch after batch, the messages of each at once."""
    messages = len(load.messages)
    if not messages:
        return 0
    turns = -(-messages // (BATCH_MESSAGES * workers))
    share = min(messages, BATCH_MESSAGES) / messages
    in_flight_ms = load.of_all("requests") * share * SLOT_MS / IN_FLIGHT + GROUP_MS
    return max(load.longest_ms, turns * max(load.busy_ms / messages, in_flight_ms))


def used_by(load: Load, asked_first: int) -> dict[str, float]:
    """What AWS charges for, by the names of aws/prices.py. Watching the task is not in it."""
    figures, messages = load.figures, len(load.messages)
    requests = load.of_all("requests") + asked_first * LOOKUP_REQUESTS
    progs = progs_of(load.messages)
    batches = -(-messages // BATCH_MESSAGES)
    dispatches = 2 * max(0, progs - 1)
    # Streams hand on each write of a task, and each of coverage; several of them at once.
    changes = -(-(figures["groups"] + figures["asking"]) // 2) + 2 * progs + 3
    large_ms = _works_ms(load, 1) + _lookups_ms(asked_first) + _SHORT_MS * (1 + dispatches)
    small_ms = _SHORT_MS * (1 + changes)
    return {
        "api_requests": 1,
        "lambda_requests": 2 + dispatches + batches + changes,
        "lambda_gb_seconds": round((_LARGE_GB * large_ms + _SMALL_GB * small_ms) / 1000, 3),
        "sqs_requests": 3 * (1 + dispatches)
        + -(-messages // _SENT_AT_ONCE)
        + progs // 2
        + 2 * batches,
        # Of the task, its trail and indexes: its moves are transactions with its owner's counts,
        # which cost twice; of units and their counts; coverage; the ledger.
        "dynamodb_write_units": 48
        + 4 * progs
        + figures["groups"]
        + figures["coverage"]
        + asked_first
        + -(-requests * KLINES_WEIGHT // BLOCK_WEIGHT),
        # A group reads its counts and coverage. Both counts and ledger are read before requests
        # leave, once for those that wait together.
        "dynamodb_read_units": ceil(15 + 2.5 * figures["groups"] + 1.25 * requests + asked_first),
        "s3_puts": figures["puts"],
        "s3_gets": figures["gets"],
    }
