"""What a task looks like in its tables and queues, past the API."""

from __future__ import annotations

from typing import Any

from chalicelib.audit.table import event_of
from chalicelib.aws.calls import run
from chalicelib.aws.signed_calls import SignedCalls
from chalicelib.candles.coverage_table import Coverages, CoverageTable
from chalicelib.core.roots import LOCAL
from chalicelib.tasks.part import Tally
from chalicelib.tasks.progress import Progress
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.task import Task
from chalicelib.work.messages import CollectMessage, PlanMessage
from chalicelib.work.queue import WorkQueue
from chalicelib.work.units import PlannedUnit
from tests.doubles.settings import backend_of
from tests.e2e.stack import Cloud

Item = dict[str, Any]
_COUNTS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


class Backstage:
    """One per thread: its connections are not shared."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        outputs = cloud.outputs
        call = SignedCalls({"dynamodb": cloud.endpoint_url, "sqs": cloud.endpoint_url})
        backend = backend_of(
            call,
            exchange=LOCAL,
            tasks_table=outputs["TasksTable"],
            market_table=outputs["MarketTable"],
            plan_queue_url=outputs["PlanQueue"],
            urgent_queue_url=outputs["UrgentQueue"],
            work_queue_url=outputs["WorkQueue"],
            dead_letter_queue_url=outputs["DeadLetterQueue"],
        )
        self._tasks = TaskTable(backend)
        self._queue = WorkQueue(backend)
        self._coverage = CoverageTable(backend)

    def task(self, task_id: str) -> tuple[Task, list[Progress]]:
        """The task and its PROG items."""
        task = run(self._tasks.read(task_id))
        assert task is not None, "the task is not there"
        return task, run(self._tasks.read_progs(task_id, range(task.progs_total)))

    def finished(self, task: Task) -> frozenset[int]:
        """The PROG items that the task's parts know as finished."""
        return Tally(run(self._tasks.read_with_parts(task.task_id))[1]).finished(task.attempt)

    def plan(self, task: Task) -> dict[int, list[PlannedUnit]]:
        """The planned units of every PROG item; {} before there is a plan."""
        if task.plan_id is None:
            return {}
        return {
            number: run(self._tasks.read_units(task, number)) for number in range(task.progs_total)
        }

    def send(self, messages: list[CollectMessage]) -> None:
        unsent = run(self._queue.send_collect(messages))
        assert not unsent, "the embedded cloud did not take a message"

    def send_plan(self, message: PlanMessage) -> None:
        run(self._queue.send_plan(message))

    def waiting(self) -> dict[str, dict[str, int]]:
        """Messages by queue: visible, hidden (received, neither deleted nor back), delayed."""
        client = self._cloud.client("sqs")
        found = {}
        for name, url in self._cloud.outputs.items():
            if not name.endswith("Queue"):
                continue
            counts = client.get_queue_attributes(QueueUrl=url, AttributeNames=list(_COUNTS))
            visible, hidden, delayed = (int(counts["Attributes"][count]) for count in _COUNTS)
            found[name] = {"visible": visible, "hidden": hidden, "delayed": delayed}
        return found

    def audit(self, task_id: str) -> list[Item]:
        """The task's events as they are numbered."""
        found = self._cloud.client("dynamodb").query(
            TableName=self._cloud.outputs["AuditTable"],
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": f"TASK#{task_id}"}},
        )
        return [event_of(item) for item in found["Items"]]

    def summaries(self, symbols: list[str]) -> dict[str, Coverages]:
        """Symbol -> timeframe -> what the Market table knows of it."""
        return run(self._coverage.coverage_of(symbols))

    def objects(self) -> set[str]:
        """Keys of the candles bucket, as S3 lists them."""
        pages = self._cloud.client("s3").get_paginator("list_objects_v2")
        return {
            entry["Key"]
            for page in pages.paginate(Bucket=self._cloud.bucket)
            for entry in page.get("Contents", ())
        }
