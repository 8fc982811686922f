"""A message carries the trace that it was sent in, whichever way it goes to AWS."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib.aws.calls import run
from chalicelib.aws.pooled_calls import PooledCalls
from chalicelib.aws.signed_calls import SignedCalls
from chalicelib.aws.tracing import outgoing
from chalicelib.core import metrics
from tests.aws.endpoint import Endpoint

TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
WAYS = ["signed", "pooled"]


@pytest.fixture(params=WAYS)
def call(request: pytest.FixtureRequest, endpoint: Endpoint) -> Callable[..., dict[str, Any]]:
    return endpoint if request.param == "signed" else endpoint.by_pool


def received(endpoint: Endpoint, url: str) -> list[dict[str, Any]]:
    answer = endpoint(
        "sqs",
        "ReceiveMessage",
        QueueUrl=url,
        AttributeNames=["AWSTraceHeader"],
        MaxNumberOfMessages=10,
    )
    return list(answer.get("Messages", []))


def test_a_message_carries_the_trace_to_its_receiver(endpoint, call, monkeypatch) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", TRACE)
    url = endpoint.new_queue()
    call("sqs", "SendMessage", QueueUrl=url, MessageBody="one")
    [message] = received(endpoint, url)
    assert message["Attributes"]["AWSTraceHeader"] == TRACE


@pytest.fixture
def recorder(endpoint, monkeypatch) -> Iterator[list[dict[str, Any]]]:
    """A server that keeps what it is sent: no emulator keeps a batch's system attributes."""
    bodies: list[dict[str, Any]] = []

    class Recorder(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer = b'{"Successful": [], "Failed": [], "FailedEntryCount": 0, "Entries": []}'
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield bodies
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("way", WAYS)
def test_each_message_of_a_batch_carries_the_trace(endpoint, recorder, monkeypatch, way) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", TRACE)
    entries = [{"Id": str(at), "MessageBody": "b", "DelaySeconds": at} for at in range(3)]
    asked = {"QueueUrl": "http://127.0.0.1/0/queue", "Entries": entries}
    if way == "signed":
        run(SignedCalls()("sqs", "SendMessageBatch", **asked))
    else:
        endpoint.runner.run(pooled_once("sqs", "SendMessageBatch", **asked))
    [body] = recorder
    header = {"DataType": "String", "StringValue": TRACE}
    assert body["Entries"] == [
        {**entry, "MessageSystemAttributes": {"AWSTraceHeader": header}} for entry in entries
    ]


async def pooled_once(service: str, operation: str, **parameters: Any) -> None:
    calls = PooledCalls()
    await calls(service, operation, **parameters)
    await calls.aclose()


def test_an_event_on_the_bus_carries_the_trace(monkeypatch) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", TRACE)
    sent = outgoing("events", "PutEvents", {"Entries": [{"Source": "s"}]})
    assert sent == {"Entries": [{"Source": "s", "TraceHeader": TRACE}]}


def test_without_a_trace_none_is_made_up(endpoint, call, monkeypatch) -> None:
    monkeypatch.delenv("_X_AMZN_TRACE_ID", raising=False)
    url = endpoint.new_queue()
    call("sqs", "SendMessage", QueueUrl=url, MessageBody="one")
    [message] = received(endpoint, url)
    assert "AWSTraceHeader" not in message.get("Attributes", {})


def test_calls_and_what_they_consume_are_counted(endpoint, call, monkeypatch, capsys) -> None:
    table = endpoint.new_table()
    metrics.flush()
    capsys.readouterr()
    key = {"pk": {"S": "a"}, "sk": {"S": "b"}}
    call("dynamodb", "PutItem", TableName=table, Item=key)
    call("dynamodb", "GetItem", TableName=table, Key=key)
    metrics.flush()
    counted: dict[str, float] = {}
    for line in capsys.readouterr().err.splitlines():
        counted |= {
            name: value
            for name, value in json.loads(line).items()
            if isinstance(value, int | float)
        }
    assert counted["AwsCalls"] == 2
    assert counted["ConsumedWriteUnits"] > 0
    assert counted["ConsumedReadUnits"] > 0
