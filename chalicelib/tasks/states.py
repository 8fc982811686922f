"""The life of a task, in one place.

                       ┌───────────── retry (attempt + 1, keeps what is done) ───────────┐
                       v                                                                 │
    submit ──> pending ──plan──> running ──last unit──> completed (with failed units) ───┤
                  │  │              │ ├────────────────> failed ─────────────────────────┤
                  │  └─plan fails───┼─┘                                                  │
                  └────cancel───────┴─────────────────> cancelled ───────────────────────┘

Every write that moves a task builds its condition from `MOVES`, nowhere else.
"""

from __future__ import annotations

PENDING, RUNNING = "pending", "running"
COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"

STATES = (PENDING, RUNNING, COMPLETED, FAILED, CANCELLED)
ACTIVE = (PENDING, RUNNING)
TERMINAL = (COMPLETED, FAILED, CANCELLED)

DATA_COLLECTION, SYMBOL_REFRESH = "data_collection", "symbol_refresh"
TASK_TYPES = (DATA_COLLECTION, SYMBOL_REFRESH)

#: Whose a task is where nothing authenticates, and whose scheduled tasks are.
SHARED_OWNER = "anonymous"
#: What made a task: a request, the clock, candles that were later than promised, or symbols that
#: stopped trading.
BY_REQUEST, BY_SCHEDULE, BY_FRESHNESS = "request", "schedule", "freshness"
BY_DELISTING = "delisting"
#: Who does what nobody asked for.
BY_SYSTEM = "system"


#: Target state -> the states it may be reached from.
MOVES: dict[str, tuple[str, ...]] = {
    RUNNING: (PENDING,),
    COMPLETED: (RUNNING,),
    FAILED: (PENDING, RUNNING),
    CANCELLED: (PENDING, RUNNING),
    PENDING: TERMINAL,  # retry
}


def end_state(total: int, failed: int, tolerated_percentage: float) -> str:
    """The state of a task whose every unit has been counted.

    `failed` where nothing could be collected, or more than the tolerated percentage failed.
    A task without units (nothing to do) is completed.
    """
    if total == 0:
        return COMPLETED
    if failed == total or failed * 100 > tolerated_percentage * total:
        return FAILED
    return COMPLETED


def progress(state: str, total: int, counted: int) -> int:
    """Whole percent, 100 exactly when the task is completed."""
    if state == COMPLETED:
        return 100
    if total <= 0:
        return 0
    return min(99, counted * 100 // total)
