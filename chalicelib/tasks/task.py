"""A task as the Tasks table holds it: its META item, and its row in index `active`.

Fields have the names of the item's attributes. An attribute that the item does not have is a field
at its default, and the other way round: nothing is written for it. Times are in epoch milliseconds,
except `ttl`.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

from chalicelib.core.errors import ItemUnreadable
from chalicelib.core.task_keys import META, listed_as, task_pk
from chalicelib.tasks import states
from chalicelib.tasks.state_counts import place_of


class Counts(TypedDict):
    """What has been counted of a task. Its end stores it as `result`, and it goes out as JSON.

    `units`: all of the task, counted or not; `candles`: stored; `revised_candles`: how many of
    these replaced other values; `rejected_candles`: sent by the exchange and not valid;
    `from_store`: units for which nothing was asked, as all was stored or explained. `symbols`
    (known now) and `new` (of them) are a symbol refresh's; then the candles are missing, unless it
    was stopped.
    """

    units: int
    succeeded: int
    failed: int
    candles: NotRequired[int]
    revised_candles: NotRequired[int]
    rejected_candles: NotRequired[int]
    from_store: NotRequired[int]
    symbols: NotRequired[int]
    new: NotRequired[int]


# A named tuple, because so large a dataclass would cost the API's cold start a millisecond.
class Task(NamedTuple):
    """A task's META item."""

    #: UUID; of a schedule's run it follows from the schedule and the time.
    task_id: str
    #: One of states.TASK_TYPES.
    task_type: str
    #: One of states.STATES; moves along states.MOVES alone.
    state: str
    #: From 1; each retry raises it.
    attempt: int
    #: What is asked for, without its webhook: CollectionRequest.unpack reads it.
    request: bytes
    #: One of work.priorities.
    priority: str
    #: Whose task it is; states.SHARED_OWNER where nothing authenticates.
    owner: str
    #: What made it: states.BY_REQUEST, BY_SCHEDULE, BY_FRESHNESS or BY_DELISTING.
    source: str
    #: The HTTP request, or invocation, that made it.
    request_id: str | None
    created_at: int
    #: When its plan message was sent last because it waited to be planned.
    plan_sent_at: int
    #: When the attempt fails, if it has not ended by then.
    deadline_at: int
    #: For people: what it waits for, or what came of it.
    message: str = ""
    #: What people are told of its range: listed later than it begins. None: nothing.
    notice: str | None = None
    #: Receiver of its events. None: it has no webhook.
    webhook_host: str | None = None
    #: None where no schedule made it.
    schedule_id: str | None = None

    #: Its plan, which its UNITS items belong to; kept by a retry. None until it was planned, and
    #: for a symbol refresh.
    plan_id: str | None = None
    #: How many symbols the request has selected; None until it was planned.
    symbols_count: int | None = None
    #: Units of the plan; 0 until it was planned.
    total_units: int = 0
    #: PROG items of the plan; their numbers are 0 to progs_total - 1. 0 until it was planned.
    progs_total: int = 0
    #: Units that older attempts had collected when this attempt began.
    kept_units: int = 0
    #: When its last attempt that was planned was planned; None where none was.
    started_at: int | None = None
    #: Files of the archive that were not used for it, and why (tasks/passed_over.py).
    passed_over: Set[str] = frozenset()
    #: When it last let tasks of higher priority go first; None where it need not.
    yielded_at: int | None = None

    #: When it came to its end state; None while it is active.
    completed_at: int | None = None
    #: When its PROG items were shut because it was stopped half way; None where it was not.
    stopped_at: int | None = None
    #: None while it is active, and until a stopped task is shut.
    result: Counts | None = None
    #: Why it failed; None where it did not.
    error: str | None = None
    #: Epoch seconds from which nobody sees it any more; None while it is active, and until a
    #: stopped task is shut.
    ttl: int | None = None

    #: When its next attempt opens by itself; None where none does. Until then it does not expire.
    next_attempt_at: int | None = None
    #: How many more attempts may open by themselves.
    retries_left: int = 0

    #: Who cancelled or retried it last, or else ran the schedule that it is of; None where nobody
    #: did.
    moved_by: str | None = None
    #: The HTTP request by which they did it; None where there was none.
    moved_request_id: str | None = None
    #: Marks its last retry, so that a repeated write knows its own; None where it was not retried.
    retry_id: str | None = None

    @property
    def created_key(self) -> str:
        """Its place in the indexes: by time, then id."""
        return f"{self.created_at:013d}#{self.task_id}"

    @property
    def is_active(self) -> bool:
        return self.state in states.ACTIVE

    def is_expired(self, now_ms: int) -> bool:
        """Whether it is to be treated as gone, deleted by DynamoDB or not."""
        return is_expired(self.ttl, now_ms)


class ActiveTask(NamedTuple):
    """A row of index `active`. It may lag behind the task; `ttl` and the rest are as in Task."""

    task_id: str
    task_type: str
    state: str
    attempt: int
    created_at: int
    priority: str
    ttl: int | None = None

    @property
    def is_active(self) -> bool:
        return self.state in states.ACTIVE

    def is_expired(self, now_ms: int) -> bool:
        return is_expired(self.ttl, now_ms)


class TaskValues(TypedDict, total=False):
    """What is set on a stored task, besides its state; `active` is the key of index `active`."""

    active: str
    attempt: int
    completed_at: int
    deadline_at: int
    error: str
    kept_units: int
    message: str
    moved_by: str
    moved_request_id: str | None
    next_attempt_at: int
    notice: str
    plan_id: str
    plan_sent_at: int
    progs_total: int
    result: Counts
    retries_left: int
    retry_id: str
    started_at: int
    stopped_at: int
    symbols_count: int
    total_units: int
    ttl: int


#: What is removed from a stored task.
Removed = Literal[
    "active",
    "completed_at",
    "error",
    "kept_units",
    "next_attempt_at",
    "result",
    "stopped_at",
    "ttl",
    "yielded_at",
]
#: The value of `active`, where there is one.
LOOKED_AFTER = "1"

_FIELDS = frozenset(Task._fields)
#: What each row of index `active` has.
_ROW_TYPES = {
    "task_id": str,
    "task_type": str,
    "state": str,
    "attempt": int,
    "created_at": int,
    "priority": str,
}
#: What each META item has, of whatever task.
_TYPES = {
    **_ROW_TYPES,
    "request": bytes,
    "owner": str,
    "source": str,
    "plan_sent_at": int,
    "deadline_at": int,
}


def is_expired(ttl: int | None, now_ms: int) -> bool:
    """Whether a ttl (epoch seconds) has passed; None never does."""
    return ttl is not None and ttl <= now_ms // 1000


def task_from(item: dict[str, Any]) -> Task:
    """The task of a META item.

    Raises ItemUnreadable where what every task has is missing or of another type, and where its
    state is not known.
    """
    held = {name: value for name, value in item.items() if name in _FIELDS}
    odd = [name for name, kind in _TYPES.items() if not isinstance(held.get(name), kind)]
    if odd or held["state"] not in states.STATES:
        raise ItemUnreadable(f"{item.get('pk')} has an odd {', '.join(odd) or 'state'}")
    return Task(**{"request_id": None, **held})


def active_in(items: Iterable[dict[str, Any]]) -> list[ActiveTask]:
    """The rows of index `active` that can be read. Sweep reports the others, every minute."""
    return [
        ActiveTask(**{name: item[name] for name in ActiveTask._fields if name in item})
        for item in items
        if all(isinstance(item.get(name), kind) for name, kind in _ROW_TYPES.items())
        and isinstance(item.get("ttl"), int | None)
        and item["state"] in states.STATES
    ]


def item_of(task: Task) -> dict[str, Any]:
    """The META item of a new task."""
    defaults = Task._field_defaults
    held = {
        name: value
        for name, value in task._asdict().items()
        if name not in defaults or value != defaults[name]
    }
    return {
        "pk": task_pk(task.task_id),
        "sk": META,
        **held,
        "created_key": task.created_key,
        "active": LOOKED_AFTER,
        "listed_as": listed_as(task.owner, task.task_type, task.state),
        "counted": place_of(task.task_id, task.state, task.ttl),
    }
