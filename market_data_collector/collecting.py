"""Operations that submit tasks, and look at them."""

from typing import TypedDict, Unpack, cast

from market_data_collector import jobs
from market_data_collector.answers import (
    Cancelled,
    CollectionOptions,
    EndedTask,
    FillOptions,
    HistoryPage,
    ListedTask,
    Quote,
    Task,
    TaskPage,
    TaskState,
    TaskType,
    VerifyOptions,
)
from market_data_collector.calls import When, entries, get, post
from market_data_collector.described import Described, J, Names, collection
from market_data_collector.effects import Flow, Plan
from market_data_collector.operation import operation, stream


class TaskFilters(TypedDict, total=False):
    """`page_size` and `page_token`: how a list is cut, and where it goes on."""

    task_type: TaskType | None
    status: TaskState | None
    page_size: int | None
    page_token: str | None


class HistoryFilters(TaskFilters, total=False):
    """`since`, `until`: when the end was recorded."""

    since: When
    until: When


class Collecting(Described[J]):
    @operation
    def start(
        self,
        symbols: Names | None = None,
        timeframes: Names | None = None,
        start: When = None,
        end: When = None,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[CollectionOptions],
    ) -> Plan[J]:
        """Submits a collection, and returns its task.

        `symbols`: names and selectors; None: all that trade. Without `start` it goes on from the
        newest stored candle. It is sent again after a lost connection, under one key.

        >>> job = Client().start(["BTCUSDT", "ETHUSDT"], "1h", start="2026-11-22")
        >>> job.wait()["status"]
        'completed'
        """
        body = collection(symbols, timeframes, start, end, options)
        return self._submitted((yield from post(self._site, "/start", body, idempotency_key)))

    @operation
    def quote(
        self,
        symbols: Names | None = None,
        timeframes: Names | None = None,
        start: When = None,
        end: When = None,
        **options: Unpack[CollectionOptions],
    ) -> Plan[Quote]:
        """What a start would take: units, requests, seconds, dollars. Nothing is started.

        >>> Client().quote("BTCUSDT", "1h", "2026-11-22", "2026-11-23")["candles"]
        24
        """
        body = {**collection(symbols, timeframes, start, end, options), "dry_run": True}
        return cast(Quote, (yield from post(self._site, "/start", body)))

    @operation
    def fill(
        self,
        symbols: Names | None = None,
        timeframes: Names | None = None,
        start: When = None,
        end: When = None,
        **options: Unpack[FillOptions],
    ) -> Plan[J]:
        """Submits a collection of what is missing, and unexplained or never asked for."""
        body = collection(symbols, timeframes, start, end, options)
        return self._submitted((yield from post(self._site, "/coverage/fill", body)))

    @operation
    def verify(
        self,
        symbols: Names | None = None,
        timeframes: Names | None = None,
        start: When = None,
        end: When = None,
        **options: Unpack[VerifyOptions],
    ) -> Plan[J]:
        """Submits a verification of stored files; with `repair=True` they are mended."""
        body = collection(symbols, timeframes, start, end, options)
        return self._submitted((yield from post(self._site, "/coverage/verify", body)))

    @operation
    def refresh_symbols(self, accept_refused: bool = False) -> Plan[J]:
        """Has the exchange's list of symbols read again; `accept_refused`: the list that was
        refused last is right."""
        body = {"accept_refused": True} if accept_refused else {}
        return self._submitted((yield from post(self._site, "/refresh-symbols", body)))

    @operation
    def task(self, task_id: str) -> Plan[Task]:
        """Raises Expired for a task whose record is gone, Rejected (404) for an unknown one."""
        return cast(Task, (yield from jobs.task_answer(self._site, task_id)).body)

    @stream
    def tasks(self, **filters: Unpack[TaskFilters]) -> Flow[ListedTask]:
        """Every task that can be read, newest first.

        >>> next(Client().tasks(status="completed"))["progress"]
        100
        """
        return entries(self._site, "/tasks", "tasks", filters)

    @operation
    def tasks_page(self, **filters: Unpack[TaskFilters]) -> Plan[TaskPage]:
        """One page of them; `next_page_token` is None on the last."""
        return get(self._site, "/tasks", **filters)

    @stream
    def active(self, page_size: int | None = None) -> Flow[ListedTask]:
        """The tasks that have not ended, oldest first."""
        return entries(self._site, "/tasks/active", "tasks", {"page_size": page_size})

    @stream
    def history(self, **filters: Unpack[HistoryFilters]) -> Flow[EndedTask]:
        """How tasks ended, newest first: those that have expired, too."""
        return entries(self._site, "/history", "tasks", filters)

    @operation
    def history_page(self, **filters: Unpack[HistoryFilters]) -> Plan[HistoryPage]:
        """One page of it, which may be empty and have a `next_page_token`."""
        return get(self._site, "/history", **filters)

    @operation
    def cancel(self, task_id: str) -> Plan[Cancelled]:
        """Ends a task; what it has collected stays. Raises Rejected (409) where it has ended."""
        return post(self._site, jobs.path(task_id, "cancel"), {})

    @operation
    def retry(self, task_id: str) -> Plan[J]:
        """Has a task's failed and unfinished units run again. Raises Rejected (409) where there is
        none."""
        answer = yield from post(self._site, jobs.path(task_id, "retry"), {})
        return self._submitted({"task_id": task_id, **answer})
