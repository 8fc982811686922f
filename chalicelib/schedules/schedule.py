"""A schedule, its last measured lag, and their items in the Tasks table. Pure.

Only this file knows the attributes and the keys; table.py shows the layout. All other code uses
`Schedule` and `MeasuredLag`, whose fields are named like the attributes.

All times are epoch milliseconds. None means that there is no such value, or not yet.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar, get_origin, get_type_hints

from chalicelib.aws.wire import Wire, item_to_wire
from chalicelib.core.errors import ItemUnreadable

if TYPE_CHECKING:  # the API imports this module, and reads no stream
    from chalicelib.aws.stream import Change

#: The two ways to treat a run that is due while the last task has not ended.
SKIP, QUEUE = "skip", "queue"
_PREFIX = "SCHEDULES#"
_SCHEDULE, _LAG, _WEBHOOK = "SCHED#", "LAG#", "WEBHOOK#"
#: Stored as NULL where there is no value. Other fields are then left out of the item.
_STORED_AS_NULL = frozenset({"max_lag_seconds", "next_run_at", "webhook_host"})
#: A lag is stored for a day. The watch measures every minute, so an older one says nothing.
_LAG_SECONDS = 86_400
Of = TypeVar("Of")


@dataclass(frozen=True)
class Starting:
    """A run that was decided, and whose task may not be stored yet. `at`: when it was due.

    `last_task_id`, `last_run_at` and `last_run_by`: the schedule's before this run.
    """

    task_id: str
    at: int
    last_task_id: str | None = None
    last_run_at: int | None = None
    last_run_by: str | None = None


@dataclass(frozen=True)
class Schedule:
    """A schedule: what its owner chose, and where it stands.

    Chosen by the owner (schedules/definition.py reads it):
        name              at most 100 characters, may be empty
        expression        cron(...) or rate(...), as schedules/cron.py reads it
        timezone          the IANA name of the zone in which a cron expression runs
        request           what each run collects, packed: `CollectionRequest.unpack` reads it
        webhook_host      the host of the request's webhook. The webhook itself is stored apart,
                          because changes of schedules are streamed to others
        enabled           whether it fires
        overlap           SKIP or QUEUE: what happens to a run while the last task has not ended
        catch_up          whether missed runs are made up for, once for all of them
        max_lag_seconds   promised freshness: how far behind the stored candles may be

    History:
        created_at, updated_at      when its owner made it, and changed it last
        by                who changed it last
        request_id        the HTTP request of the last change, or of the last run by hand
        key_id            the API key of the last change; None where requests come without keys.
                          The schedule stops when that key does
        stopped_because   why it was disabled without being asked; None once it is enabled again
        removed           whether it is deleted; it stays until EventBridge has forgotten it

    EventBridge Scheduler:
        rev               raised with each change that EventBridge must be told
        synced_rev        the `rev` that EventBridge knows; 0: none, or it must be told anew
        sync_error        why EventBridge refused `synced_rev` for good

    Runs (schedules/firings.py decides them):
        accounted_until   every run up to this time has been decided: the fence
        next_run_at       the first run after `accounted_until`; None where no run is left
        starting          the run whose task is still to be stored
        queued_for        when the run was due that waits for the last task to end
        last_run_at, last_task_id, last_run_by      the last run that was started: when it was
                          due or was started by hand, its task, and `schedule` or who started it
        last_skipped_at   when the last skipped run was due
        last_refused_at, refusal    when the run was due that was refused last, and the reason
        runs, skipped, missed      how many runs were started, skipped, and never came or were
                          refused

    Freshness (schedules/promise.py):
        breached_since    since when the promise is broken
        breaches          how often it was broken
        repairs           repairs of the running breach
        last_repair_at, last_repair_task_id      the last repair of any breach

    The item:
        webhook_rev       raised whenever a webhook is given or taken away
        version           raised with every write; 0 before the first
    """

    owner: str
    schedule_id: str

    name: str
    expression: str
    timezone: str
    request: bytes
    enabled: bool
    overlap: str
    catch_up: bool
    max_lag_seconds: int | None

    created_at: int
    updated_at: int
    by: str
    request_id: str
    rev: int
    accounted_until: int
    next_run_at: int | None

    key_id: str | None = None
    stopped_because: str | None = None
    webhook_host: str | None = None
    removed: bool = False
    synced_rev: int = 0
    sync_error: str | None = None

    starting: Starting | None = None
    queued_for: int | None = None
    last_run_at: int | None = None
    last_task_id: str | None = None
    last_run_by: str | None = None
    last_skipped_at: int | None = None
    last_refused_at: int | None = None
    refusal: str | None = None
    runs: int = 0
    skipped: int = 0
    missed: int = 0

    breached_since: int | None = None
    breaches: int = 0
    repairs: int = 0
    last_repair_at: int | None = None
    last_repair_task_id: str | None = None

    webhook_rev: int = 0
    version: int = 0

    @property
    def is_watched(self) -> bool:
        """Whether the watch of every minute has anything to look after."""
        return self.enabled or self.rev != self.synced_rev or self.starting is not None


@dataclass(frozen=True)
class MeasuredLag:
    """How far behind a schedule's candles were when they were measured last.

    `timeframes`: timeframe -> seconds, of its worst symbol; `lag_seconds`: the worst of them;
    `behind`: how many pairs of symbol and timeframe are further behind than promised.
    """

    lag_seconds: int
    timeframes: dict[str, int]
    behind: int
    measured_at: int


# --- items --------------------------------------------------------------------------------------


def item_of(schedule: Schedule) -> dict[str, Any]:
    """The item to store; in index `active` while the watch has to look after the schedule."""
    item: dict[str, Any] = {
        "pk": _PREFIX + schedule.owner,
        "sk": _SCHEDULE + schedule.schedule_id,
        **{
            name: value
            for name, value in vars(schedule).items()
            if value is not None or name in _STORED_AS_NULL
        },
    }
    del item["owner"]  # index by_owner lists tasks
    if not schedule.removed:
        del item["removed"]
    if schedule.starting is not None:
        item["starting"] = dict(vars(schedule.starting))
    if schedule.is_watched:
        item["active"] = "schedule"
        item["created_key"] = f"{schedule.created_at:013d}#{schedule.schedule_id}"
    return item


def schedule_of(item: dict[str, Any]) -> Schedule:
    """The schedule that an item holds.

    Raises ItemUnreadable where what every schedule has is missing, or anything is of another type.
    """
    stored = {field.name: item[field.name] for field in fields(Schedule) if field.name in item}
    stored["owner"] = str(item["pk"]).removeprefix(_PREFIX)
    if isinstance(starting := stored.get("starting"), dict):
        stored["starting"] = _checked(Starting, starting, item)
    return _checked(Schedule, stored, item)


def _checked(kind: type[Of], held: dict[str, Any], item: dict[str, Any]) -> Of:
    """An instance of a data class with what is held. Raises ItemUnreadable."""
    types = get_type_hints(kind)
    types = {name: dict if get_origin(of) is dict else of for name, of in types.items()}
    odd = [name for name, value in held.items() if not isinstance(value, types.get(name, ()))]
    missing = [
        field.name
        for field in fields(kind)  # type: ignore[arg-type]
        if field.name not in held and field.default is MISSING
    ]
    if odd or missing:
        raise ItemUnreadable(f"{item['pk']} {item['sk']} has an odd {', '.join(odd + missing)}")
    return kind(**held)


def id_in(item: dict[str, Any]) -> str:
    """The id of the schedule in an item, which may not be readable otherwise."""
    return str(item["sk"]).removeprefix(_SCHEDULE)


def schedule_change(change: Change) -> tuple[Schedule | None, Schedule] | None:
    """A schedule before (None: there was none) and after a change of the Tasks table.

    None where another item changed, and where the schedule's item is gone.
    """
    if not change.new or not change.sk.startswith(_SCHEDULE):
        return None
    return schedule_of(change.old) if change.old else None, schedule_of(change.new)


def lag_item_of(owner: str, schedule_id: str, lag: MeasuredLag) -> dict[str, Any]:
    """The item to store. DynamoDB deletes it a day after the measurement."""
    return {
        "pk": _PREFIX + owner,
        "sk": _LAG + schedule_id,
        **vars(lag),
        "ttl": lag.measured_at // 1000 + _LAG_SECONDS,
    }


def measured_lag_of(item: dict[str, Any]) -> MeasuredLag:
    """The lag that an item holds. Raises ItemUnreadable."""
    held = {field.name: item[field.name] for field in fields(MeasuredLag) if field.name in item}
    return _checked(MeasuredLag, held, item)


# --- keys, in wire form -------------------------------------------------------------------------


def partition(owner: str) -> str:
    """The partition that holds an owner's schedules and what lies beside them."""
    return _PREFIX + owner


def sort_keys(after: str | None) -> tuple[str, str]:
    """The lowest and highest sort key of an owner's schedules, or of those after the id `after`."""
    # Ids are of one length, and ! sorts before their characters.
    return (f"{_SCHEDULE}{after}!" if after else _SCHEDULE), f"{_SCHEDULE}~"


def key(owner: str, schedule_id: str) -> Wire:
    return item_to_wire({"pk": _PREFIX + owner, "sk": _SCHEDULE + schedule_id})


def lag_key(owner: str, schedule_id: str) -> Wire:
    return item_to_wire({"pk": _PREFIX + owner, "sk": _LAG + schedule_id})


def webhook_key(owner: str, schedule_id: str) -> Wire:
    return item_to_wire({"pk": _PREFIX + owner, "sk": _WEBHOOK + schedule_id})


def made_key(owner: str) -> Wire:
    return item_to_wire({"pk": _PREFIX + owner, "sk": "MADE"})


def lag_key_beside(schedule_key: Wire) -> Wire:
    """The key of the lag beside the schedule that has this key."""
    schedule_id = str(schedule_key["sk"]["S"]).removeprefix(_SCHEDULE)
    return {"pk": schedule_key["pk"], "sk": {"S": _LAG + schedule_id}}
