"""The embedded cloud's state: kept through a kill, an end and a new port; damage is noticed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.package import Package
from local import cloud
from local.aws import Account
from local.journal import Journal
from local.ports import free_port
from local.processes import Process, stop
from local.scratch import JOURNAL, tidy
from tests.local.waiting import until


class Clouds:
    """Embedded clouds in one folder, one after the other."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._python = cloud.ensure_environment()

    def start(self) -> tuple[Process, Account]:
        port = free_port()
        cloud.readdress(self.home, port)
        cloud.rewind_streams(self.home)
        process = cloud.launch(self.home, port, self._python, os.environ)
        return process, Account(cloud.endpoint_url(port))


@pytest.fixture
def clouds(home: Path) -> Clouds:
    return Clouds(home)


def queues(to: Account) -> list[str]:
    found: list[str] = to.client("sqs").list_queues().get("QueueUrls", [])
    return sorted(found)


def test_what_was_saved_survives_a_kill_and_a_new_port(clouds: Clouds) -> None:
    process, to = clouds.start()
    url = to.client("sqs").create_queue(QueueName="work")["QueueUrl"]
    to.client("sqs").send_message(QueueUrl=url, MessageBody="kept")
    cloud.save(process)
    until(lambda: (cloud.saved(clouds.home) or cloud.Saved(None, False)).at)
    to.client("sqs").create_queue(QueueName="later")
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: not process.is_running())
    left = cloud.saved(clouds.home)
    assert left is not None
    assert not left.in_order

    _, moved = clouds.start()
    assert queues(moved) == [f"{moved.endpoint_url}/000000000000/work"]
    [message] = moved.client("sqs").receive_message(QueueUrl=queues(moved)[0])["Messages"]
    assert message["Body"] == "kept"


def test_a_stream_that_was_read_before_an_end_is_read_after_it(
    clouds: Clouds, tmp_path: Path
) -> None:
    process, to = clouds.start()
    seen = tmp_path / "seen"
    seen.touch()
    _function(to, tmp_path, "f", f"open({str(seen)!r}, 'a').write('x' * len(event['Records']))")
    stream = _stream(to)
    to.client("lambda").create_event_source_mapping(
        FunctionName="f", EventSourceArn=stream, StartingPosition="TRIM_HORIZON"
    )
    for number in range(3):
        to.client("dynamodb").put_item(TableName="read", Item={"pk": {"S": str(number)}})
    until(lambda: len(seen.read_text()) == 3)
    stop(process)
    _, again = clouds.start()
    again.client("dynamodb").put_item(TableName="read", Item={"pk": {"S": "new"}})
    until(lambda: len(seen.read_text()) == 4)


def test_queues_are_looked_at_while_the_function_of_a_stream_works(
    clouds: Clouds, tmp_path: Path
) -> None:
    _, to = clouds.start()
    began, ended, go = (tmp_path / name for name in ("began", "ended", "go"))
    wait = f"open({str(began)!r}, 'w')\n  while not os.path.exists({str(go)!r}): time.sleep(0.05)"
    _function(to, tmp_path, "slow", f"{wait}\n  open({str(ended)!r}, 'w')")
    _function(to, tmp_path, "quick", f"open({str(go)!r}, 'w')")
    to.client("lambda").create_event_source_mapping(
        FunctionName="slow", EventSourceArn=_stream(to), StartingPosition="TRIM_HORIZON"
    )
    url = to.client("sqs").create_queue(QueueName="work")["QueueUrl"]
    queue = to.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    to.client("lambda").create_event_source_mapping(
        FunctionName="quick", EventSourceArn=queue["Attributes"]["QueueArn"]
    )
    to.client("dynamodb").put_item(TableName="read", Item={"pk": {"S": "1"}})
    until(began.exists)
    to.client("sqs").send_message(QueueUrl=url, MessageBody="go")
    until(ended.exists)


def _function(to: Account, scratch: Path, name: str, body: str) -> None:
    archive = scratch / f"{name}.zip"
    with zipfile.ZipFile(archive, "w") as code:
        code.writestr("main.py", f"import os, time\n\ndef on(event, _):\n  {body}\n")
    role = to.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]
    to.client("lambda").create_function(
        FunctionName=name,
        Runtime=f"python3.{sys.version_info.minor}",
        Role=role["Arn"],
        Handler="main.on",
        Timeout=600,
        Code={"ZipFile": archive.read_bytes()},
    )


def _stream(to: Account) -> str:
    """The stream of a new table `read`."""
    table = to.client("dynamodb").create_table(
        TableName="read",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
    )["TableDescription"]
    return str(table["LatestStreamArn"])


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_its_end_keeps_everything_though_somebody_is_connected(
    clouds: Clouds, ending: signal.Signals
) -> None:
    process, to = clouds.start()
    connection = http.client.HTTPConnection("127.0.0.1", process.port or 0)
    connection.request("GET", "/_ministack/health")
    connection.getresponse().read()
    to.client("sqs").create_queue(QueueName="last")
    os.kill(process.pid, ending)
    until(lambda: not process.is_running())
    connection.close()
    left = cloud.saved(clouds.home)
    assert left is not None
    assert left.in_order
    assert "last" in (clouds.home / cloud.STATE / "sqs.json").read_text()


def test_a_save_that_fails_is_not_called_one(clouds: Clouds) -> None:
    process, to = clouds.start()
    to.client("sqs").create_queue(QueueName="lost")
    # A disk that is full shows the same: what is to be replaced cannot be.
    (clouds.home / cloud.STATE / "sqs.json").mkdir(parents=True)
    stop(process)
    assert cloud.saved(clouds.home) == cloud.Saved(None, in_order=False)
    assert "failed to save sqs" in (clouds.home / "cloud.log").read_text()


def test_only_its_own_port_is_changed_in_the_state(home: Path) -> None:
    state = home / cloud.STATE
    state.mkdir()
    url = "http://127.0.0.1:4400/000000000000/work"
    (state / "sqs.json").write_text(json.dumps({"url": url}))
    other = {"exchange": "http://127.0.0.1:44001", "same": "http://127.0.0.1:4400"}
    (state / "lambda.json").write_text(json.dumps(other))
    cloud.readdress(home, 5500)
    assert json.loads((state / "sqs.json").read_text()) == {"url": url.replace("4400", "5500")}
    assert json.loads((state / "lambda.json").read_text()) == {
        "exchange": "http://127.0.0.1:44001",
        "same": "http://127.0.0.1:5500",
    }


PAYLOADS = st.dictionaries(st.text(), st.text() | st.integers())


def kept(payload: object) -> bytes:
    """A file of MiniStack's state."""
    return json.dumps({"__ministack_format__": 3, "payload": payload}).encode()


@given(payload=PAYLOADS, data=st.data())
@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_state_that_is_damaged_is_put_aside_whole(
    home: Path, payload: object, data: st.DataObject
) -> None:
    state = home / cloud.STATE
    state.mkdir(exist_ok=True)
    whole = kept(payload)
    (state / "sqs.json").write_bytes(whole)
    assert cloud.put_damaged_aside(home) is None
    cut = st.integers(0, len(whole) - 1).map(lambda end: whole[:end])
    damaged = data.draw(cut | st.binary() | PAYLOADS.map(json.dumps).map(str.encode))
    (state / "sqs.json").write_bytes(damaged)
    aside = cloud.put_damaged_aside(home)
    assert aside is not None
    assert (aside / "sqs.json").read_bytes() == damaged
    assert not state.exists()


def test_functions_run_from_one_unpacked_folder(home: Path, tmp_path: Path) -> None:
    built = Package(tmp_path / "package")
    built.folder.mkdir()
    built.template.write_text("{}")
    for version in ("old", "new"):
        with zipfile.ZipFile(built.archive, "w") as archive:
            archive.writestr("app.py", f"import where\nversion = {version!r}")
            archive.writestr("where.py", "place = __file__")
        short = cloud.unpacked(built, home)
    function = tmp_path / "function"
    with zipfile.ZipFile(short.archive) as archive:
        archive.extractall(function)
    code = "import sys; sys.path.insert(0, '.'); import app; print(app.version, app.where.place)"
    said = subprocess.check_output([sys.executable, "-I", "-c", code], cwd=function, text=True)
    version, _, place = said.strip().partition(" ")
    assert version == "new"
    tidy(home)
    assert [*(home / "code").iterdir()] == [Path(place).parent]


def test_what_is_logged_is_in_the_journal_once_also_after_a_kill(
    clouds: Clouds,
) -> None:
    process, to = clouds.start()
    journal = Journal(clouds.home / JOURNAL)
    logs = to.client("logs")
    logs.create_log_group(logGroupName="g")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    _log(logs, "one", "two")
    cloud.save(process)
    until(lambda: (cloud.saved(clouds.home) or cloud.Saved(None, False)).at)
    first, end = journal.read(0)
    assert [line for each in first for _, line in each.lines] == ["one", "two"]
    assert end == journal.end()
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: not process.is_running())

    _, to = clouds.start()
    _log(to.client("logs"), "three")
    later, _ = journal.read(end)
    assert [(each.group, line) for each in later for _, line in each.lines] == [("g", "three")]


def _log(logs: Any, *messages: str) -> None:
    events = [{"timestamp": int(time.time() * 1000), "message": text} for text in messages]
    logs.put_log_events(logGroupName="g", logStreamName="s", logEvents=events)


def test_the_journal_keeps_what_was_logged_last(clouds: Clouds) -> None:
    _, to = clouds.start()
    journal = Journal(clouds.home / JOURNAL)
    logs = to.client("logs")
    logs.create_log_group(logGroupName="g")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    end = 0
    for at in range(40):
        _log(logs, f"{at} " + "x" * 1_000_000)
        found, end = journal.read(end)
        assert [line.split()[0] for each in found for _, line in each.lines] == [str(at)]
    kept = sorted((clouds.home / JOURNAL).iterdir())
    assert len(kept) == 2
    assert sum(file.stat().st_size for file in kept) < 36_000_000


def test_metrics_are_kept_for_two_days(clouds: Clouds) -> None:
    _, to = clouds.start()
    cloudwatch = to.client("cloudwatch")
    now_s = time.time()
    for hours in (1, 47, 49):
        datum = {"MetricName": "M", "Value": float(hours), "Timestamp": now_s - hours * 3600}
        cloudwatch.put_metric_data(Namespace="N", MetricData=[datum])
    answer = cloudwatch.get_metric_statistics(
        Namespace="N",
        MetricName="M",
        StartTime=now_s - 90 * 3600,
        EndTime=now_s,
        Period=3600,
        Statistics=["Sum"],
    )
    assert sorted(point["Sum"] for point in answer["Datapoints"]) == [1, 47]


def test_the_embedded_cloud_judges_no_alarm_itself(clouds: Clouds) -> None:
    _, to = clouds.start()
    cloudwatch = to.client("cloudwatch")
    metric = {"Namespace": "N", "MetricName": "M"}
    put = {"MetricName": "M", "Value": 5.0}
    cloudwatch.put_metric_data(Namespace="N", MetricData=[put])
    cloudwatch.put_metric_alarm(
        AlarmName="a",
        **metric,
        Period=60,
        EvaluationPeriods=1,
        Statistic="Sum",
        Threshold=0,
        ComparisonOperator="GreaterThanThreshold",
    )
    cloudwatch.put_metric_data(Namespace="N", MetricData=[put])
    [alarm] = cloudwatch.describe_alarms()["MetricAlarms"]
    assert alarm["StateValue"] == "INSUFFICIENT_DATA"
