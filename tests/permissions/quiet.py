"""A deployed stack in which nothing runs by itself: every invocation is one that a story makes.

Event sources and clocks are off. What they would hand to a function is handed to it here, in the
form in which Lambda gets it. So a story takes a second or two, and a permission that is missing
fails the very step that needed it. Who calls needs a key, and every owner has limits, because both
need permissions of their own.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import httpx

from chalicelib.access import key as keys
from chalicelib.access.scopes import ADMIN
from chalicelib.aws.wire import item_from_wire, item_to_wire
from infra.functions import FUNCTIONS, role
from infra.names import stack_name
from tests.doubles.receiver import Receiver
from tests.e2e.exchange_control import ExchangeControl
from tests.e2e.stack import Cloud
from tests.e2e.test_main_job import lift_pause

PREFIX = "/api/v1/data-collector"
OWNER = "stories"
#: Of each thing that is limited, an owner may have so many; no story but those of limits needs all.
MOST = 20
#: Settings of the functions.
LIMITED = {
    "AUTHENTICATION": "keys",
    "OWNER_ACTIVE_TASKS": str(MOST),
    "OWNER_UNITS_PER_DAY": "100000",
    "OWNER_SCHEDULES": str(MOST),
    "OWNER_CONNECTIONS": str(MOST),
    "OWNER_WEBHOOKS_PER_MINUTE": str(MOST),
}
#: A busy machine takes its time to start a function; only a story that fails waits for so long.
WAIT_S = 25
HOUR_MS = 3_600_000
#: The first of the days that stories collect, each another one, because what is stored already
#: would not be written again. 2024-01-01.
_FIRST_MS = 1_704_067_200_000
#: Which records of a stream reach its function (infra/functions.py).
_SEEN = {
    "TasksTable": ("sk", ("META", "PROG#", "SCHED#", "HOOK#")),
    "MarketTable": ("pk", ("CATALOGUE#", "REFUSED#", "PAUSE#", "PRICES#", "COVER#")),
}
Message = dict[str, Any]
Found = TypeVar("Found")


class _Gone(NamedTuple):
    """A permission that is taken away."""

    function: str
    action: str
    since_ms: int


class Quiet:
    def __init__(self, cloud: Cloud, receiver: Receiver) -> None:
        self.cloud, self.receiver = cloud, receiver
        self._clients: dict[str, Any] = {}
        self.exchange = ExchangeControl(cloud.exchange_url)
        self.http = httpx.Client(base_url=cloud.api_url + PREFIX, timeout=40, trust_env=False)
        self._sqs, self._dynamodb = self.client("sqs"), self.client("dynamodb")
        self._streams = self.client("dynamodbstreams")
        self._iterators: dict[str, list[str]] = {}
        self._days = 0
        self._gone: _Gone | None = None
        self.names = {
            found["LogicalResourceId"]: found["PhysicalResourceId"]
            for found in self.client("cloudformation").describe_stack_resources(
                StackName=stack_name("local")
            )["StackResources"]
            # It bears the stack's name, as the event bus does, and no policy names it.
            if found["ResourceType"] != "AWS::CloudWatch::Dashboard"
        }
        self._silence()
        assert self.invoke("RefreshPrices", {})["prices"] > 0
        self._known = [*self.of_market("CATALOGUE#"), *self.of_market("PRICES#")]

    def client(self, service: str) -> Any:
        """A client of the stack, made once: to make one takes longer than most calls."""
        if service not in self._clients:
            self._clients[service] = self.cloud.client(service)
        return self._clients[service]

    def _silence(self) -> None:
        functions, events = self.client("lambda"), self.client("events")
        for source in functions.list_event_source_mappings()["EventSourceMappings"]:
            functions.update_event_source_mapping(UUID=source["UUID"], Enabled=False)
        for rule in events.list_rules()["Rules"]:
            events.disable_rule(Name=rule["Name"])

    def reset(self) -> None:
        """Nothing waits, and nothing is left over of the story before."""
        self.exchange.reset()
        self.receiver.answers.clear()
        self.receiver.seen.clear()
        lift_pause(self.cloud)
        self.forget("REFRESH#")  # who asked for unknown symbols within this minute
        for item in self._known:
            self.put("MarketTable", item)
        for table in ("TasksTable", "ConnectionsTable", "KeysTable"):
            for row in self.items(table):
                self.delete(table, row)
        # Another key for each story: what a container has read of a key, it does not read again.
        key, text = keys.made(OWNER, (ADMIN,), int(time.time() * 1000), "nobody")
        self.put("KeysTable", keys.item_of(key))
        self.http.headers["Authorization"] = f"Bearer {text}"
        for name, url in self.cloud.outputs.items():
            if name.endswith("Queue"):
                self._sqs.purge_queue(QueueUrl=url)
        for table in _SEEN:
            self.changes(table)

    # --- HTTP -----------------------------------------------------------------------------------

    def ask(
        self, method: str, path: str, status: int, body: object = None, key: str | None = None
    ) -> Any:
        """The body of the answer, whose status must be `status`."""
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = self.http.request(method, path, json=body, headers=headers)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        is_json = "json" in answer.headers.get("content-type", "")
        return answer.json() if is_json and answer.content else answer.text

    def day(self) -> dict[str, Any]:
        """A request for one symbol's candles of a day that nobody has asked for."""
        self._days += 1
        start_ms = _FIRST_MS + self._days * 24 * HOUR_MS
        return {
            "symbols": ["BTCUSDT"],
            "timeframes": ["1h"],
            "start": start_ms,
            "end": start_ms + 24 * HOUR_MS,
        }

    def start(self, **more: Any) -> str:
        return str(self.ask("POST", "/start", 202, {**self.day(), **more})["task_id"])

    def ended(self, task_id: str, status: str) -> Any:
        task = self.ask("GET", f"/task/{task_id}", 200)
        assert task["status"] == status, task
        return task

    # --- what triggers do -----------------------------------------------------------------------

    def invoke(self, function: str, event: dict[str, Any]) -> Any:
        invoked = self.client("lambda").invoke(
            FunctionName=self.names[function], Payload=json.dumps(event).encode()
        )
        answer = json.loads(invoked["Payload"].read())
        assert "FunctionError" not in invoked, answer
        return answer

    def take(self, queue: str) -> list[dict[str, Any]]:
        """Messages as Lambda hands them to a function."""
        found = self._sqs.receive_message(
            QueueUrl=self.cloud.outputs[queue],
            MaxNumberOfMessages=10,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message.get("Attributes", {}),
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": self.cloud.outputs[f"{queue}Arn"],
                "awsRegion": "us-east-1",
            }
            for message in found.get("Messages", [])
        ]

    def deliver(self, queue: str, function: str, failing: bool = False) -> int:
        """Hand on what is in a queue; how many messages that were. They fail where `failing`."""
        records = self.take(queue)
        if records:
            answer = self.invoke(function, {"Records": records})
            failed = {one["itemIdentifier"] for one in answer["batchItemFailures"]}
            wanted = {record["messageId"] for record in records} if failing else set()
            assert failed == wanted, f"{function} failed {len(failed)}: {self.said(function)}"
            for record in records:
                if record["messageId"] not in failed:
                    self._sqs.delete_message(
                        QueueUrl=self.cloud.outputs[queue], ReceiptHandle=record["receiptHandle"]
                    )
        return len(records)

    def said(self, function: str) -> str:
        """The last error that a function logged."""
        found = self.client("logs").filter_log_events(
            logGroupName=f"/aws/lambda/{self.names[function]}", limit=10_000
        )["events"]
        errors = [
            line["message"]
            for line in found
            if '"level":"error"' in line["message"].replace(" ", "")
        ]
        return errors[-1] if errors else "nothing"

    def was_refused(self) -> bool:
        """Whether a function says that it was refused the permission that is taken away."""
        if self._gone is None:
            return False
        found = self.client("logs").filter_log_events(
            logGroupName=f"/aws/lambda/{self.names[FUNCTIONS[self._gone.function]]}",
            startTime=self._gone.since_ms,
        )["events"]
        refusal = f"not authorized to perform: {self._gone.action}"
        return any(refusal in line["message"] for line in found)

    def wait_for(
        self, poll: Callable[[], Found | None], what: str, seconds: float = WAIT_S
    ) -> Found:
        """What `poll` finds at last. Fails where that takes too long, and as soon as a function was
        refused what is taken away: waiting would not help then."""
        deadline = time.monotonic() + seconds
        while (found := poll()) is None:
            assert not self.was_refused(), f"{what}: refused"
            assert time.monotonic() < deadline, what
            time.sleep(0.1)
        return found

    def must_deliver(self, queue: str, function: str) -> None:
        assert self.deliver(queue, function), f"nothing is in {queue}"

    def send(self, queue: str, body: str) -> None:
        self._sqs.send_message(QueueUrl=self.cloud.outputs[queue], MessageBody=body)

    def waiting(self, queue: str) -> int:
        """Messages in a queue, be they delayed or not; without those that somebody holds."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed"]
        found = self._sqs.get_queue_attributes(
            QueueUrl=self.cloud.outputs[queue], AttributeNames=names
        )["Attributes"]
        return sum(int(found[name]) for name in names)

    def comes_back(self, queue: str, seconds: float = 12) -> None:
        """Fails where what is held stays hidden for longer than a put-off takes."""
        self.wait_for(
            lambda: self.waiting(queue) or None,
            f"what was put off does not come back to {queue}",
            seconds,
        )

    def changes(self, table: str) -> list[dict[str, Any]]:
        """The new records of a table's stream that reach its function."""
        if table not in self._iterators:
            arn = self._dynamodb.describe_table(TableName=self.cloud.outputs[table])["Table"][
                "LatestStreamArn"
            ]
            shards = self._streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
            self._iterators[table] = [
                self._streams.get_shard_iterator(
                    StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
                )["ShardIterator"]
                for shard in shards
            ]
        key, prefixes = _SEEN[table]
        found = []
        for at, iterator in enumerate(self._iterators[table]):
            while True:
                answer = self._streams.get_records(ShardIterator=iterator)
                iterator = answer["NextShardIterator"]
                found += answer["Records"]
                if not answer["Records"]:
                    break
            self._iterators[table][at] = iterator
        arn = self.cloud.outputs[table]
        return [
            _as_json({**record, "eventSourceARN": f"arn:aws:dynamodb:us-east-1:1:table/{arn}"})
            for record in found
            if record["dynamodb"]["Keys"][key]["S"].startswith(prefixes)
        ]

    def hand_on(self, table: str, function: str) -> list[dict[str, Any]]:
        """Hand a table's changes to the function behind its stream; there must be some."""
        records = self.changes(table)
        assert records, f"nothing has changed in {table}"
        self.invoke(function, {"Records": records})
        return records

    # --- behind the stack -----------------------------------------------------------------------

    def items(self, table: str) -> list[dict[str, Any]]:
        pages = self._dynamodb.get_paginator("scan").paginate(TableName=self.cloud.outputs[table])
        return [item_from_wire(item) for page in pages for item in page["Items"]]

    def put(self, table: str, item: dict[str, Any]) -> None:
        self._dynamodb.put_item(TableName=self.cloud.outputs[table], Item=item_to_wire(item))

    def delete(self, table: str, item: dict[str, Any]) -> None:
        key = item_to_wire({"pk": item["pk"], "sk": item["sk"]})
        self._dynamodb.delete_item(TableName=self.cloud.outputs[table], Key=key)

    def change(self, table: str, pk: str, sk: str, **fields: Any) -> None:
        names = {f"#{at}": name for at, name in enumerate(fields)}
        values = item_to_wire({f":{at}": value for at, value in enumerate(fields.values())})
        self._dynamodb.update_item(
            TableName=self.cloud.outputs[table],
            Key=item_to_wire({"pk": pk, "sk": sk}),
            UpdateExpression="SET " + ", ".join(f"#{at} = :{at}" for at in range(len(fields))),
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=values,
        )

    def prog(self, task_id: str) -> dict[str, Any]:
        """The first PROG item of a task."""
        [first, *_] = [
            item
            for item in self.items("TasksTable")
            if item["pk"] == f"TASK#{task_id}" and item["sk"].startswith("PROG#")
        ]
        return first

    def of_market(self, prefix: str, name: str = "") -> list[dict[str, Any]]:
        return [
            item
            for item in self.items("MarketTable")
            if item["pk"].startswith(prefix) and name in item["pk"]
        ]

    def forget(self, prefix: str, name: str = "") -> None:
        """Delete what the Market table holds of a kind: CATALOGUE#, COVER#."""
        for item in self.of_market(prefix, name):
            self.delete("MarketTable", item)

    def catalogue(self) -> list[dict[str, Any]]:
        return self.of_market("CATALOGUE#")

    def lose(self, folder: str) -> None:
        """Delete every file of the bucket's folder, as somebody may have done by hand."""
        storage, bucket = self.client("s3"), self.cloud.bucket
        for found in storage.list_objects_v2(Bucket=bucket, Prefix=folder).get("Contents", ()):
            storage.delete_object(Bucket=bucket, Key=found["Key"])

    def connections(self) -> int:
        return len([row for row in self.items("ConnectionsTable") if row["sk"] == "CONN"])

    # --- policies -------------------------------------------------------------------------------

    def policy(self, function: str) -> tuple[str, str, dict[str, Any]]:
        """Physical role, policy name and document of a function (a handler's name)."""
        iam, name = self.client("iam"), self.names[role(FUNCTIONS[function])]
        [policy] = iam.list_role_policies(RoleName=name)["PolicyNames"]
        document = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
        return name, policy, document if isinstance(document, dict) else json.loads(document)

    @contextmanager
    def without(self, function: str, action: str, resource: str) -> Iterator[None]:
        """The stack with one action on one resource taken out of a function's policy."""
        name, policy, document = self.policy(function)
        # MiniStack's own action, and its own resource (local/deploy.py).
        same = {action, f"{action}Batch"}
        everywhere = action.startswith("scheduler:")
        left = [
            {**statement, "Action": actions, "Resource": [each]}
            for statement in document["Statement"]
            for each in _listed(statement["Resource"])
            if (
                actions := [
                    one
                    for one in _listed(statement["Action"])
                    if not (each == resource or everywhere) or one not in same
                ]
            )
        ]
        iam = self.client("iam")

        def put(statements: list[dict[str, Any]]) -> None:
            text = json.dumps({**document, "Statement": statements})
            iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=text)

        before = self._gone
        self._gone = _Gone(function, action, int(time.time() * 1000))
        put(left)
        try:
            yield
        finally:
            put(document["Statement"])
            self._gone = before

    def policy_resource(self, function: str, label: str) -> str:
        """The resource of a function's policy that `label` calls so."""
        _, _, document = self.policy(function)
        [found] = {
            resource
            for statement in document["Statement"]
            for resource in _listed(statement["Resource"])
            if self.label(resource) == label
        }
        return str(found)

    def label(self, resource: str) -> str:
        """A resource of a policy in the names of the template."""
        tokens = {
            physical.rpartition("/")[2].rpartition(":")[2]: logical
            for logical, physical in self.names.items()
        }
        stack = stack_name("local")
        if ":log-group:" in resource:
            return resource.partition(":log-group:")[2].replace(stack, "${AWS::StackName}")
        found = max((token for token in tokens if token in resource), key=len, default="")
        if not found:
            return resource
        # A stream is named by the time at which it was made.
        return tokens[found] + re.sub(r"/stream/\d.*", "/stream", resource.partition(found)[2])


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _as_json(record: dict[str, Any]) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        return base64.b64encode(value).decode() if isinstance(value, bytes) else value.timestamp()

    found: dict[str, Any] = json.loads(json.dumps(record, default=plain))
    return found
