"""What happened with a change of an item: happenings of every kind. Pure.

Each function in `OF_KIND` knows one kind of item. A change of any other item, or one that nobody
need know of, is no happening.

    task.submitted   data: what is asked for         task.cancelled   the decision
    task.planned     after: units and PROG items     task.stopped     data: the receipt, or what
    task.started                                                      a failed task had collected
    task.unit_failed data: the units, by name        task.retried     the attempt is the new one
    task.completed   data: the result                task.expired     DynamoDB's TTL removed it
    task.failed      data: the result, where one is  task.deleted     somebody else did
    schedule.created, changed, enabled, disabled, deleted    by whom; before and after
    schedule.fired   data: the task and the time     schedule.skipped, queued   data: the time
    schedule.missed  data: how many runs             schedule.breached          data: the repair
    webhook.delivered, failed   data: which event, after how many tries, and the last one's outcome
    symbols.changed  data: counts and names of what the exchange added, removed, halted or resumed
    symbols.refused  data: how many known symbols its list misses, and which; the old one stays
    exchange.paused, resumed    by whom, and until when all requests to it stop
    key.created, rotated, revoked    by whom; data: its scopes and when it expires
"""

from __future__ import annotations

from collections.abc import Callable

from chalicelib.aws.stream import Change
from chalicelib.events.happening import Happening
from chalicelib.events.key_happenings import of_key
from chalicelib.events.market_happenings import of_catalogue, of_pause, of_refused_list
from chalicelib.events.schedule_happenings import of_schedule
from chalicelib.events.task_happenings import of_task, of_units
from chalicelib.events.webhook_happenings import of_webhook

#: In the order in which the happenings of one change are recorded.
OF_KIND: tuple[Callable[[Change], list[Happening]], ...] = (
    of_task,
    of_units,
    of_catalogue,
    of_refused_list,
    of_pause,
    of_key,
    of_schedule,
    of_webhook,
)


def of_change(change: Change) -> list[Happening]:
    """All that happened with one change of an item, in order."""
    return [happening for kind in OF_KIND for happening in kind(change)]
