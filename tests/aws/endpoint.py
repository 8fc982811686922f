"""An AWS endpoint that these tests call, with what it lacks.

By itself `pytest` runs them on moto, which has all that they need. `python -m tests.aws` runs
them on any endpoint and finds out first what that one lacks. A test that then calls for it is not
run, and counted under what it needs. Which tests those are is seen from their calls, not declared.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, NoReturn

import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from chalicelib.aws.calls import run
from chalicelib.aws.pooled_calls import PooledCalls
from chalicelib.aws.signed_calls import SignedCalls
from chalicelib.core.backend import Call
from chalicelib.core.errors import ConditionFailed
from infra import storage

#: Service -> an operation that shows whether it is there, and what is in every answer to it: some
#: servers answer 200 to whatever they are asked.
SERVICES = {
    "cloudformation": ("list_stacks", "StackSummaries"),
    "dynamodb": ("list_tables", "TableNames"),
    "events": ("list_event_buses", "EventBuses"),
    "s3": ("list_buckets", "Owner"),
    "scheduler": ("list_schedule_groups", "ScheduleGroups"),
    "sqs": ("create_queue", "QueueUrl"),
}
TRANSACTIONS = "transactions"
#: ReturnValuesOnConditionCheckFailure.
OLD_ITEMS = "the old item of a refused condition"
_OLD_ITEMS_ASKED = "ReturnValuesOnConditionCheckFailure"
_TRANSACTIONS = ("TransactGetItems", "TransactWriteItems")
#: A dialog with the endpoint while it is found out what it lacks must not take minutes.
_ONCE = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=60)
_KEY_ATTRIBUTES = ("pk", "sk")


class _Calls:
    """`call` of an implementation, which ends a test that calls for what is lacking."""

    def __init__(self, call: Call, lacking: frozenset[str]) -> None:
        self._call = call
        self._lacking = lacking
        #: Service -> how often it was called.
        self.counts: Counter[str] = Counter()

    async def __call__(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        for need in (service, TRANSACTIONS if operation in _TRANSACTIONS else ""):
            if need in self._lacking:
                not_run(need)
        self.counts[service] += 1
        try:
            return await self._call(service, operation, **parameters)
        except ConditionFailed as failed:
            if failed.item is None and OLD_ITEMS in self._lacking and await self._had(parameters):
                not_run(OLD_ITEMS)
            raise

    async def _had(self, parameters: dict[str, Any]) -> bool:
        """Whether a refused write asked for the item that it found, and did find one."""
        if _OLD_ITEMS_ASKED not in parameters:
            return False
        item = parameters.get("Key") or parameters["Item"]
        key, table = {name: item[name] for name in _KEY_ATTRIBUTES}, parameters["TableName"]
        return "Item" in await self._call("dynamodb", "GetItem", TableName=table, Key=key)


def not_run(need: str) -> NoReturn:
    pytest.skip(f"needs {need}")


@dataclass
class Endpoint:
    """Calls the way the functions do: `signed` for the API's, `pooled` for the workers'.

    Each `new_...` makes a resource of its own, with a client of `session`. All of them are deleted
    when `made` closes.
    """

    session: Any
    runner: asyncio.Runner
    lacking: frozenset[str] = frozenset()
    #: What it is known to let pass though AWS refuses it.
    lenient: frozenset[str] = frozenset()
    made: ExitStack = field(default_factory=ExitStack)
    clients: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        signed, pooled = SignedCalls(), PooledCalls()
        self.signed = _Calls(signed, self.lacking)
        self.pooled = _Calls(pooled, self.lacking)
        self.made.callback(lambda: self.runner.run(pooled.aclose()))
        self.made.callback(close, signed)

    def __call__(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        if operation == "PutObject":  # of those who have no SDK, nobody writes objects
            return self.by_pool(service, operation, **parameters)
        return run(self.signed(service, operation, **parameters))

    def by_pool(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        return self.runner.run(self.pooled(service, operation, **parameters))

    def without_old_items(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """The parameters of a call that is compared with another one, without asking for the old
        item of a refused condition where the endpoint has none."""
        if OLD_ITEMS not in self.lacking:
            return parameters
        return {name: each for name, each in parameters.items() if name != _OLD_ITEMS_ASKED}

    def refuses(self, what: str, does: bool) -> None:
        """To be called with whether it refused what AWS refuses: ends the test where it did not."""
        assert not (does and what in self.lenient), "it is said to let that pass"
        if not does and what not in self.lenient:
            not_run(f"a refusal of {what}")

    def client(self, service: str) -> Any:
        """botocore's client of a service, for what no gateway of ours does."""
        if service in self.lacking:
            not_run(service)
        if service not in self.clients:
            self.clients[service] = self.session.client(service)
            self.made.callback(self.clients[service].close)
        return self.clients[service]

    def new_table(self, shape: str = "TasksTable") -> str:
        """A table of the template's shape."""
        client, name = self.client("dynamodb"), _name(shape)
        known = ("KeySchema", "AttributeDefinitions", "BillingMode", "GlobalSecondaryIndexes")
        properties = storage.tables()[shape]["Properties"]
        chosen = {each: properties[each] for each in known if each in properties}
        client.create_table(TableName=name, **chosen)
        self.made.callback(client.delete_table, TableName=name)
        client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
        return name

    def new_queue(self, **attributes: str) -> str:
        client = self.client("sqs")
        name = _name("queue") + (".fifo" if "FifoQueue" in attributes else "")
        url = str(client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])
        self.made.callback(client.delete_queue, QueueUrl=url)
        return url

    def new_bus(self) -> str:
        client, name = self.client("events"), _name("bus")
        client.create_event_bus(Name=name)
        self.made.callback(client.delete_event_bus, Name=name)
        return name

    def new_bucket(self) -> str:
        client, name = self.client("s3"), _name("bucket")
        client.create_bucket(Bucket=name)
        self.made.callback(client.delete_bucket, Bucket=name)
        self.made.callback(_empty, client, name)
        return name

    def new_schedule_group(self) -> str:
        client, name = self.client("scheduler"), _name("group")
        client.create_schedule_group(Name=name)
        self.made.callback(client.delete_schedule_group, Name=name)
        return name


def close(calls: SignedCalls) -> None:
    """Close the connections that this thread keeps."""
    for connection in vars(calls._kept).values():
        connection.close()


def _name(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex}"


def _empty(client: Any, bucket: str) -> None:
    for each in client.list_objects_v2(Bucket=bucket).get("Contents", ()):
        client.delete_object(Bucket=bucket, Key=each["Key"])


def lacking(session: Any) -> frozenset[str]:
    """What the endpoint lacks of all that these tests need, as its answers show."""
    found = set()
    for service, (operation, member) in SERVICES.items():
        with closing(session.client(service, config=_ONCE)) as client:
            named = {"QueueName": _name("queue")} if service == "sqs" else {}
            answer = _answer(getattr(client, operation), **named)
            if member not in answer:
                found.add(service)
            elif service == "sqs":
                client.delete_queue(QueueUrl=answer["QueueUrl"])
            elif service == "dynamodb":
                found |= _lacking_of_a_table(client)
    return frozenset(found)


def _answer(ask: Callable[..., dict[str, Any]], **parameters: Any) -> dict[str, Any]:
    """The answer; without anything in it where the endpoint does not know the operation."""
    try:
        return ask(**parameters)
    except (BotoCoreError, ClientError, ResponseParserError):
        return {}


def _lacking_of_a_table(client: Any) -> set[str]:
    name, key = _name("Table"), {"pk": {"S": "a"}}
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    found = set()
    try:
        client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
        client.put_item(TableName=name, Item=key)
        part = {"Put": {"TableName": name, "Item": {"pk": {"S": "b"}}}}
        if not _answer(client.transact_write_items, TransactItems=[part]):
            found.add(TRANSACTIONS)
        try:
            client.put_item(
                TableName=name,
                Item=key,
                ConditionExpression="attribute_not_exists(pk)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as refused:
            if "Item" not in refused.response:
                found.add(OLD_ITEMS)
    finally:
        client.delete_table(TableName=name)
    return found
