"""A moto server in the test's process, and the calls of aws/calls.py against it."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from chalicelib.aws.calls import AsyncCalls, run
from chalicelib.aws.signed_calls import SignedCalls
from infra import storage

_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
_NUMBERS = itertools.count()


@dataclass
class Moto:
    """Calls the way the functions do: `signed` for the API's, `pooled` for the workers'.

    Each `new_...` makes a resource of its own.
    """

    signed: SignedCalls
    pooled: AsyncCalls
    runner: asyncio.Runner

    def __call__(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        if service == "s3":  # the API never touches the bucket
            return self.by_pool(service, operation, **parameters)
        return run(self.signed(service, operation, **parameters))

    def by_pool(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        return self.runner.run(self.pooled(service, operation, **parameters))

    def new_table(self, shape: str = "TasksTable") -> str:
        """A table of the template's shape."""
        name = f"{shape}-{next(_NUMBERS)}"
        known = ("KeySchema", "AttributeDefinitions", "BillingMode", "GlobalSecondaryIndexes")
        properties = storage.tables()[shape]["Properties"]
        self(
            "dynamodb",
            "CreateTable",
            TableName=name,
            **{key: properties[key] for key in known if key in properties},
        )
        return name

    def new_queue(self) -> str:
        name = f"queue-{next(_NUMBERS)}"
        return str(self("sqs", "CreateQueue", QueueName=name)["QueueUrl"])

    def new_bus(self) -> str:
        name = f"bus-{next(_NUMBERS)}"
        self("events", "CreateEventBus", Name=name)
        return name

    def new_bucket(self) -> str:
        name = f"bucket-{next(_NUMBERS)}"
        self("s3", "CreateBucket", Bucket=name)
        return name


@pytest.fixture(scope="session")
def moto() -> Iterator[Moto]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line per call
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {**_VARIABLES, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            environment.setenv(name, value)
        with asyncio.Runner() as runner:
            pooled = AsyncCalls()
            yield Moto(SignedCalls(), pooled, runner)
            runner.run(pooled.aclose())
    server.stop()
