"""What the deployed dashboard and alarms name is really there, and an alarm rings when it must."""

from __future__ import annotations

import ast
import fnmatch
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chalicelib.core.metrics import METRICS, NAMESPACE
from chalicelib.work.messages import PlanMessage
from infra.names import stack_name
from infra.package import ROOT
from local.board import Identity, load, named_metrics
from local.drawing import draw
from local.journal import Journal
from local.logs import follow
from local.metrics import EMULATOR_LACKS, Relay, lacking
from local.scratch import JOURNAL
from market_data_collector.client import Client
from tests.e2e import trouble
from tests.e2e.conftest import Cloud
from tests.e2e.waiting import ended, until

pytestmark = pytest.mark.timeout(900)
STACK = stack_name("local")

#: What AWS publishes, with the dimensions that we name. Sources: AWS Lambda Developer Guide, "Types
#: of metrics for Lambda functions"; SQS Developer Guide, "Available CloudWatch metrics for Amazon
#: SQS"; DynamoDB Developer Guide, "DynamoDB Metrics and dimensions".
DOCUMENTED = {
    "AWS/Lambda": (
        {"FunctionName"},
        {"Invocations", "Errors", "Throttles", "Duration", "IteratorAge"},
    ),
    "AWS/SQS": (
        {"QueueName"},
        {
            "ApproximateAgeOfOldestMessage",
            "ApproximateNumberOfMessagesVisible",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        },
    ),
    "AWS/DynamoDB": ({"TableName"}, {"ConsumedWriteCapacityUnits", "ConsumedReadCapacityUnits"}),
}

#: Metrics of what cannot be made to happen from outside -> the unit test that makes it happen.
RARE = {
    "CandlesRevised": "test_candles_that_a_later_answer_changed_are_counted",
    "StreamRecordsFailed": "test_a_record_that_breaks_our_code_is_counted",
    "SweepFailures": "test_items_that_a_sweep_cannot_read_are_counted",
    "UpdatesNotAnnounced": "test_updates_that_cannot_be_queued_are_counted",
    "WebhookDeliveries": "test_webhooks_are_counted_by_what_became_of_them",
}
RARE_TESTS = ROOT / "tests" / "unit" / "monitoring" / "test_gauges.py"


@dataclass(frozen=True)
class Run:
    """What was published by the end of it, and the tasks by what became of them."""

    published: set[Identity]
    tasks: dict[str, str]
    relay: Relay
    began_s: float


@pytest.fixture(scope="module")
def ran(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    began_s = time.time()
    state = tmp_path_factory.mktemp("relay") / "state.json"
    relay = Relay(cloud.account, STACK, Journal(cloud.log.parent / JOURNAL), state)
    with Client(cloud.api_url) as api:
        ended(api, api.refresh_symbols().task_id)
        tasks = trouble.cause(cloud, api)
        found = _relayed(cloud, relay)
        yield Run(found, tasks, relay, began_s)


def _relayed(cloud: Cloud, relay: Relay, seconds: float = 60) -> set[Identity]:
    """What is published once all that is named is, or after `seconds`: a function's lines reach
    their group when its invocation ends, which on a busy machine takes its time."""
    deadline = time.monotonic() + seconds
    while True:
        relay.step()
        found = set(published(cloud))
        left = [each for each in named(cloud) - found if not lacking(*each)]
        if not left or time.monotonic() > deadline:
            return found
        time.sleep(3)


def published(cloud: Cloud) -> Iterator[Identity]:
    """Everything that ListMetrics lists."""
    for page in cloud.client("cloudwatch").get_paginator("list_metrics").paginate():
        for metric in page["Metrics"]:
            pairs = sorted((each["Name"], each["Value"]) for each in metric["Dimensions"])
            yield metric["Namespace"], metric["MetricName"], tuple(pairs)


def alarms(cloud: Cloud) -> list[dict[str, Any]]:
    answer = cloud.client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{STACK}-")
    return list(answer["MetricAlarms"])


def named(cloud: Cloud) -> set[Identity]:
    """Every metric that the deployed dashboard and the deployed alarms name."""
    answer = cloud.client("cloudwatch").get_dashboard(DashboardName=STACK)
    found = set(named_metrics(json.loads(answer["DashboardBody"])["widgets"]))
    for alarm in alarms(cloud):
        pairs = sorted((each["Name"], each["Value"]) for each in alarm["Dimensions"])
        found.add((alarm["Namespace"], alarm["MetricName"], tuple(pairs)))
    return found


def test_every_metric_and_dimension_that_is_named_was_published(cloud: Cloud, ran: Run) -> None:
    missing = []
    print()
    for identity in sorted(named(cloud)):
        namespace, name, dimensions = identity
        shown = ", ".join(f"{key}={value.removeprefix(STACK + '-')}" for key, value in dimensions)
        if identity in ran.published:
            verdict = "published"
        elif lacking(namespace, name, dimensions):
            verdict = "not here"
        else:
            verdict = "MISSING"
            missing.append(identity)
        print(f"{verdict:<12} {namespace:<20} {name:<36} {shown}")
    assert missing == []


def test_what_the_embedded_cloud_is_said_to_lack_is_lacking(ran: Run) -> None:
    assert [identity for identity in ran.published if lacking(*identity)] == []


def test_what_is_named_of_aws_is_what_aws_documents(cloud: Cloud) -> None:
    for namespace, name, dimensions in named(cloud):
        if namespace == NAMESPACE:
            continue
        allowed, names = DOCUMENTED[namespace]
        assert name in names
        assert {key for key, _ in dimensions} == allowed
    for namespace, name, _ in EMULATOR_LACKS:
        names = set(METRICS) if namespace == NAMESPACE else DOCUMENTED[namespace][1]
        assert fnmatch.filter(names, name)


def test_every_metric_that_is_declared_is_published_or_its_unit_test_named(ran: Run) -> None:
    seen = {name for namespace, name, _ in ran.published if namespace == NAMESPACE}
    assert seen <= set(METRICS)
    assert set(METRICS) - seen <= set(RARE)


@pytest.mark.parametrize("name", sorted(RARE))
def test_a_rare_metric_has_the_unit_test_that_is_named(name: str) -> None:
    source = RARE_TESTS.read_text(encoding="utf-8")
    functions = {
        node.name: ast.get_source_segment(source, node) or ""
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
    }
    assert name in functions[RARE[name]]


def test_each_value_is_stored_once_however_often_the_relay_looks(cloud: Cloud, ran: Run) -> None:
    before = total(cloud, "CandlesStored", ran.began_s)
    assert before > 10_000
    ran.relay.step()
    again = total(cloud, "CandlesStored", ran.began_s)
    assert before <= again < before * 1.5  # a schedule may have collected meanwhile; never doubled


def total(cloud: Cloud, metric: str, since_s: float) -> float:
    answer = cloud.client("cloudwatch").get_metric_statistics(
        Namespace=NAMESPACE,
        MetricName=metric,
        Dimensions=[{"Name": "Stack", "Value": STACK}],
        StartTime=since_s - 60,
        EndTime=time.time() + 60,
        Period=60,
        Statistics=["Sum"],
    )
    return float(sum(point["Sum"] for point in answer["Datapoints"]))


def test_functions_and_the_stage_are_traced(cloud: Cloud) -> None:
    for function in cloud.client("lambda").list_functions()["Functions"]:
        assert function["TracingConfig"]["Mode"] == "Active", function["FunctionName"]
    apis = cloud.client("apigateway").get_rest_apis()["items"]
    stages = cloud.client("apigateway").get_stages(restApiId=apis[0]["id"])["item"]
    # The emulator's transform leaves a stage called Stage behind, as AWS's once did.
    traced = {stage["stageName"]: stage["tracingEnabled"] for stage in stages}
    assert traced["api"] is True


def test_one_look_by_task_id_follows_a_task_through_the_functions(cloud: Cloud, ran: Run) -> None:
    def look() -> list[dict[str, Any]]:
        answer = follow(cloud.account, STACK, ran.tasks["failed"])
        return [json.loads(message) for _, message in answer.rows]

    through = {"api_handler", "plan", "collect", "on_task_change"}
    lines = until(look, lambda seen: {line["function"] for line in seen} >= through)
    assert all(line["request_id"] for line in lines)
    failed = {line["timeframe"] for line in lines if line["event"] == "unit_failed"}
    assert failed == {"1h", "5m"}


def test_an_alarm_rings_for_a_dead_letter_tells_its_topic_and_ends(cloud: Cloud, ran: Run) -> None:
    sqs, name = cloud.client("sqs"), f"{STACK}-DeadLetters"
    url = sqs.create_queue(QueueName="heard")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    topic = cloud.outputs["AlarmTopic"]
    from_topic = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [from_topic]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    cloud.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    until(lambda: looked(cloud, ran, name), lambda state: state == "OK", 200)
    queue = cloud.outputs["DeadLetterQueue"]
    sqs.send_message(QueueUrl=queue, MessageBody=PlanMessage("nobody", 1).encode())
    until(lambda: looked(cloud, ran, name), lambda state: state == "ALARM", 60)
    heard = [json.loads(json.loads(each["Body"])["Message"]) for each in received(sqs, url)]
    mine = [each for each in heard if each["AlarmName"] == name]
    # Told of the end of an earlier one, if at all, then of this one: each change once.
    assert [each["NewStateValue"] for each in mine] in (["ALARM"], ["OK", "ALARM"])
    assert "docs/RUNBOOK.md#dead-letters" in mine[-1]["AlarmDescription"]
    # A message in another queue is no dead letter, though its metric has the same name.
    assert looked(cloud, ran, f"{STACK}-DeadLettersStuck") == "OK"


def looked(cloud: Cloud, ran: Run, name: str) -> str:
    ran.relay.step()
    answer = cloud.client("cloudwatch").describe_alarms(AlarmNames=[name])
    return str(answer["MetricAlarms"][0]["StateValue"])


def received(sqs: Any, url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        part = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        if not part:
            return found
        found += part


def test_the_dashboard_is_drawn_from_the_run_and_names_the_failing_symbol(
    cloud: Cloud, ran: Run, tmp_path: Path
) -> None:
    board = load(cloud.account, STACK, ran.began_s - 60, time.time())
    symbols = {row[0] for answer in board.answers.values() for row in answer.rows}
    assert "DOGEUSDT" in symbols
    drawn = [line for lines in board.lines.values() for line in lines if line.values]
    assert len(drawn) > 100
    draw(board, tmp_path / "dashboard.png")
    assert (tmp_path / "dashboard.png").stat().st_size > 100_000
