"""`data-collector dead-letters` against the queues of a stack."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.aws.calls import run
from chalicelib.aws.set_aside import SetAsideQueue
from market_data_collector.cli import letters
from market_data_collector.cli.letters import QUEUES
from tests.aws.endpoint import Endpoint
from tests.cli.running import Ran
from tests.cli.running import run as run_client

RECORD = {
    "messageId": "m",
    "body": 'nonsense "币"',
    "attributes": {"ApproximateReceiveCount": "1", "MessageGroupId": "task"},
    "messageAttributes": {
        "Sender": {"stringValue": "somebody", "dataType": "String"},
        "Proof": {"binaryValue": "AAE=", "dataType": "Binary"},
    },
}


@pytest.fixture
def stack(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> dict[str, str]:
    """The stack's name, and its outputs: a stack of nothing but queues."""
    monkeypatch.chdir(tmp_path)  # no .local/endpoints.json
    monkeypatch.setattr(letters, "WAIT_SECONDS", 0)  # an emulator has one server
    names = (*QUEUES.values(), "UnreadableQueue")
    template = {
        "Resources": {name: {"Type": "AWS::SQS::Queue"} for name in names},
        "Outputs": {name: {"Value": {"Ref": name}} for name in names},
    }
    name = f"stack-{uuid.uuid4().hex}"
    cloudformation = endpoint.client("cloudformation")
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))
    endpoint.made.callback(cloudformation.delete_stack, StackName=name)
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName=name, WaiterConfig={"Delay": 1}
    )
    [described] = cloudformation.describe_stacks(StackName=name)["Stacks"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in described["Outputs"]}
    monkeypatch.setenv("DATA_COLLECTOR_STACK", name)
    return {"name": name, **outputs}


@pytest.fixture
def put(endpoint: Endpoint, stack: dict[str, str]) -> Callable[..., str]:
    """Set a record aside; returns its id, as the client lists it."""

    def put(source: str = "work", record: dict[str, Any] = RECORD) -> str:
        before = listed()
        run(SetAsideQueue(endpoint.signed, stack["UnreadableQueue"]).put(source, record, "why"))
        [new] = listed().keys() - before.keys()
        return new

    return put


def client(*args: str) -> Ran:
    return run_client("dead-letters", *args)


def listed() -> dict[str, dict[str, Any]]:
    found = client("list", "--json")
    assert found.code == 0, found.err
    return {each["id"]: each for each in found.json["messages"]}


def received(endpoint: Endpoint, url: str) -> list[dict[str, Any]]:
    answer = endpoint(
        "sqs",
        "ReceiveMessage",
        QueueUrl=url,
        MaxNumberOfMessages=10,
        MessageAttributeNames=["All"],
        VisibilityTimeout=0,
    )
    messages: list[dict[str, Any]] = answer.get("Messages", [])
    return messages


def test_what_was_set_aside_is_listed_as_often_as_one_asks(put) -> None:
    mine = [put() for _ in range(12)]
    assert list(listed()) == mine
    text = client("list")
    assert all(one in text.out for one in mine)
    assert "work" in text.out
    assert "why" in text.out


def test_a_message_is_shown_whole(put) -> None:
    shown = client("show", put()).json
    assert (shown["source"], shown["error"], shown["message"]) == ("work", "why", RECORD)


@pytest.mark.parametrize("source", QUEUES)
def test_a_message_goes_back_into_its_queue_as_it_was(endpoint, stack, put, source) -> None:
    kept, chosen = put(), put(source)
    assert client("replay", chosen, "--json").json == {"replayed": [chosen]}
    assert list(listed()) == [kept]
    [back] = received(endpoint, stack[QUEUES[source]])
    assert back["Body"] == RECORD["body"]
    assert back["MessageAttributes"] == {
        "Sender": {"StringValue": "somebody", "DataType": "String"},
        "Proof": {"BinaryValue": "AAE=", "DataType": "Binary"},
    }


def test_what_is_dropped_is_gone(endpoint, stack, put) -> None:
    kept, *dropped = put(), put(), put()
    assert "2 dropped" in client("drop", *dropped).out
    assert list(listed()) == [kept]
    assert client("drop", "--all").code == 0
    assert "No messages" in client("list").out
    assert received(endpoint, stack["WorkQueue"]) == []


@pytest.mark.parametrize("command", ["show", "replay", "drop"])
def test_an_id_that_is_not_there_changes_nothing(put, command) -> None:
    kept = put()
    answer = client(command, *([] if command == "show" else [kept]), "no-such-id")
    assert answer.code == 2
    assert "no-such-id" in answer.err
    assert list(listed()) == [kept]


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"v": 1, "record": 7}', "[" * 5000])
def test_what_somebody_else_put_there_is_shown_and_dropped_but_never_replayed(
    endpoint, stack, body
) -> None:
    body = body or " "
    endpoint("sqs", "SendMessage", QueueUrl=stack["UnreadableQueue"], MessageBody=body)
    [only] = listed()
    assert listed()[only]["message"] == {"body": body}
    assert client("replay", only).code == 2
    assert client("drop", only).code == 0
    assert not listed()


@pytest.mark.parametrize("args", [[], ["--all", "some-id"]])
@pytest.mark.parametrize("command", ["replay", "drop"])
def test_which_messages_are_meant_must_be_said(stack, command, args) -> None:
    assert client(command, *args).code == 2


def test_a_stack_that_is_not_there_ends_in_a_sentence(stack) -> None:
    answer = client("list", "--stack", "nowhere")
    assert answer.code == 2
    assert "nowhere" in answer.err
    assert "Traceback" not in answer.err


def test_without_a_stack_the_client_says_how_to_name_one(stack, monkeypatch) -> None:
    monkeypatch.delenv("DATA_COLLECTOR_STACK")
    answer = client("list")
    assert answer.code == 2
    assert "--stack" in answer.err


def test_the_local_stack_is_found_by_itself(stack, put, monkeypatch, tmp_path) -> None:
    mine = put()
    endpoints = {
        "api_url": "http://127.0.0.1:1",
        "aws_endpoint_url": os.environ["AWS_ENDPOINT_URL"],
        "region": "us-east-1",
        "stack_name": stack["name"],
    }
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "endpoints.json").write_text(json.dumps(endpoints))
    for name in ("DATA_COLLECTOR_STACK", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name)
    assert list(listed()) == [mine]
