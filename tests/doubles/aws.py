"""An AWS in memory that implements `call(service, operation, **parameters)` of aws/calls.py.

It knows the operations and parameters that our gateways use and refuses all others. Time is its
clock's; it makes no random choice; all its state is in the object. Hooks are called before and
after every call, so that a test can crash there, lose an answer, or let another task run.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from chalicelib.core.errors import CallFailed
from chalicelib.core.settings import Settings
from infra import storage
from tests.doubles.clock import Clock
from tests.doubles.dynamodb import DynamoDB
from tests.doubles.events import Events
from tests.doubles.s3 import S3, Bucket
from tests.doubles.scheduler import Scheduler
from tests.doubles.sqs import Queue, Sqs
from tests.doubles.tables import Table

_MOST_FRAME_BYTES = 128 * 1024


@dataclass
class Called:
    """One call: what was asked, and afterwards what was answered or which error was raised."""

    number: int
    service: str
    operation: str
    parameters: dict[str, Any]
    answer: dict[str, Any] | None = None
    error: CallFailed | None = None

    @property
    def name(self) -> str:
        return f"{self.service}.{self.operation}"


class Hook:
    """Override what is needed. What `before` raises keeps the call from being applied; what
    `after` raises stands in for an answer that was lost."""

    async def before(self, called: Called) -> None:
        return

    async def after(self, called: Called) -> None:
        return


@dataclass
class Sockets:
    """WebSocket connections: `gone` ones answer 410; `sent` holds (connection, text).

    `hung_up`: those that were closed from our side; they are gone, too.
    """

    gone: set[str] = field(default_factory=set)
    hung_up: list[str] = field(default_factory=list)
    sent: list[tuple[str, str]] = field(default_factory=list)

    def apply(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        service = "apigatewaymanagementapi"
        taken = {"PostToConnection": {"ConnectionId", "Data"}, "DeleteConnection": {"ConnectionId"}}
        if set(parameters) != taken.get(operation):
            raise NotImplementedError(operation)
        connection_id = parameters["ConnectionId"]
        if connection_id in self.gone:
            raise CallFailed(service, operation, "GoneException", "")
        if operation == "DeleteConnection":
            self.hung_up.append(connection_id)
            self.gone.add(connection_id)
            return {}
        data = parameters["Data"]
        if len(data) > _MOST_FRAME_BYTES:
            raise CallFailed(service, operation, "PayloadTooLargeException", "")
        self.sent.append((connection_id, data.decode()))
        return {}


class Aws:
    """`calls` lists every call; `counts` counts them by "service.Operation"."""

    def __init__(
        self,
        clock: Clock,
        tables: dict[str, Table] | None = None,
        queues: dict[str, Queue] | None = None,
        buckets: dict[str, Bucket] | None = None,
    ) -> None:
        self.clock = clock
        self.dynamodb = DynamoDB(clock, tables or {})
        self.sqs = Sqs(clock, queues or {})
        self.s3 = S3(buckets or {})
        self.sockets = Sockets()
        self.events = Events()
        self.scheduler = Scheduler()
        self.hooks: list[Hook] = []
        self.calls: list[Called] = []
        self.counts: Counter[str] = Counter()

    @classmethod
    def for_settings(cls, clock: Clock, settings: Settings) -> Aws:
        """The tables, queues and bucket of the template, under the names in `settings`."""
        shapes = storage.tables()
        names = {
            settings.tasks_table: "TasksTable",
            settings.market_table: "MarketTable",
            settings.connections_table: "ConnectionsTable",
            settings.audit_table: "AuditTable",
            settings.keys_table: "KeysTable",
        }
        hidden = settings.collect_timeout_seconds * storage.VISIBILITY_FACTOR
        work = (settings.plan_queue_url, settings.urgent_queue_url, settings.work_queue_url)
        dead = settings.dead_letter_queue_url
        return cls(
            clock,
            {name: Table.from_template(shapes[shape]) for name, shape in names.items()},
            {
                **{url: Queue(hidden, storage.MAX_RECEIVES, dead) for url in work},
                dead: Queue(hidden),
                settings.stream_failure_queue_url: Queue(60),
                settings.unreadable_queue_url: Queue(60, consumed=False),
                settings.webhook_queue_url: Queue(
                    hidden, storage.WEBHOOK_RECEIVES, settings.webhook_dead_letter_queue_url
                ),
                settings.webhook_dead_letter_queue_url: Queue(60, consumed=False),
                settings.push_queue_url: Queue(90, fifo=True),
            },
            {settings.candles_bucket: Bucket()},
        )

    async def __call__(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        called = Called(len(self.calls), service, operation, parameters)
        self.calls.append(called)
        self.counts[called.name] += 1
        for hook in self.hooks:
            await hook.before(called)
        try:
            called.answer = self._service(service).apply(operation, parameters)
        except CallFailed as error:
            called.error = error
        for hook in self.hooks:
            await hook.after(called)
        if called.error is not None:
            raise called.error
        assert called.answer is not None
        return called.answer

    def items(self, table: str) -> list[dict[str, Any]]:
        """Every item of a table, in wire form."""
        return list(self.dynamodb.tables[table].items.values())

    def stream_event(self, table: str, start: int = 0, end: int | None = None) -> dict[str, Any]:
        """Changes of a table from the `start`th on, as Lambda's event."""
        return {"Records": self.dynamodb.tables[table].stream[start:end]}

    def _service(self, name: str) -> Any:
        return {
            "dynamodb": self.dynamodb,
            "sqs": self.sqs,
            "s3": self.s3,
            "apigatewaymanagementapi": self.sockets,
            "events": self.events,
            "scheduler": self.scheduler,
        }[name]
