"""The endpoint of a run: the one that `python -m tests.aws` was given, or moto in this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.aws.endpoint import Endpoint
from tests.aws.run import Run

VARIABLES = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}

#: What moto 5.2 lets pass, or does not answer as AWS does.
LENIENT = frozenset(
    {
        "an undefined name",
        "a half condition",
        "an open parenthesis",
        "a query of an unknown index",
        "a number for a key",
        "a sort key too long",
        "a filter on the key",
        "an index key of another type",
        "a text that is no Unicode",
        "an expression too long",
        "a schedule with a wrong expression",
        "a schedule with a wrong timezone",
    }
)


@pytest.fixture(scope="session")
def endpoint(pytestconfig: pytest.Config) -> Iterator[Endpoint]:
    plugins = pytestconfig.pluginmanager.get_plugins()
    given = next((each for each in plugins if isinstance(each, Run)), None)
    with pytest.MonkeyPatch.context() as environment, asyncio.Runner() as runner:
        for name, value in VARIABLES.items():
            environment.setenv(name, value)
        if given is not None:
            environment.setenv("AWS_ENDPOINT_URL", given.url)
            reached = Endpoint(given.session, runner, given.lacking)
            with reached.made:
                yield reached
            for way, calls in (("signed", reached.signed), ("pooled", reached.pooled)):
                given.calls.update({(way, service): n for service, n in calls.counts.items()})
            return
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line per call
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        reached = Endpoint(boto3.Session(), runner, lenient=LENIENT)
        with reached.made:
            yield reached
        server.stop()
