"""Cold starts as CPU time of the whole process, each beside what people would write instead.

Every sample is a new process: a function of the extracted package with its first event, as Lambda
hands it over, and all the AWS calls that this takes, over TLS. All samples of a round take turns,
so that a busy moment of the machine meets all of them. CPU and not wall: the servers' time, and
that of others on this machine, is nobody's cold start.
"""

from __future__ import annotations

import json
import os
import ssl
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks import certificate
from benchmarks.aws_server import aws_app, worker_settings
from benchmarks.exchange_server import NOW, exchange_app
from benchmarks.packaged import built
from benchmarks.report import Report, verdict
from benchmarks.tls_server import served
from chalicelib.live.updates import PROGRESS, Update
from chalicelib.webhooks.message import WebhookMessage
from infra import roots

RUNS = int(os.environ.get("COLD_START_RUNS", "15"))
#: The first processes read files that were not read yet.
WARMING = 2
_SYMBOL, _TIMEFRAME = "BTCUSDT", "1h"
_SECRET = "whsec_" + "AAAA" * 8

#: A route that makes as many calls as `POST /start`: plain Chalice and boto3.
_API_BASELINE = """
from chalice import Chalice
import boto3
app = Chalice(app_name="baseline")
table, queue = boto3.client("dynamodb"), boto3.client("sqs")

@app.route("/v1/data-collector/start", methods=["POST"])
def start():
    key = {"pk": {"S": "TASK#benchmark"}, "sk": {"S": "META"}}
    table.get_item(TableName="tasks", Key=key, ConsistentRead=True)
    table.put_item(TableName="tasks", Item=key)
    table.put_item(TableName="tasks", Item=key)
    queue.send_message(QueueUrl="https://queues.test/plan", MessageBody="{}")
    return {}

answer = app(event, None)
"""

#: What `collect` was written with before it had calls of its own: aiobotocore and httpx, and the
#: codecs. It reads a task, asks for a page, writes an object and counts it.
_COLLECT_BASELINE = """
import asyncio, os
from chalice import Chalice
from aiobotocore.session import get_session
from arro3.core import Array, DataType, Field, RecordBatch, Schema, Table
from arro3 import io
import httpx, msgspec
app = Chalice(app_name="baseline")

async def work():
    session = get_session()
    key = {"pk": {"S": "TASK#benchmark"}, "sk": {"S": "META"}}
    async with (
        httpx.AsyncClient() as exchange,
        session.create_client("dynamodb") as table,
        session.create_client("s3") as bucket,
        session.create_client("sqs"),
    ):
        await table.get_item(TableName="tasks", Key=key, ConsistentRead=True)
        asked = {"symbol": "BTCUSDT", "interval": "1h", "limit": 1000}
        page = await exchange.get(os.environ["EXCHANGE_URL"] + "/api/v3/klines", params=asked)
        rows = msgspec.json.decode(page.content)
        times = Array([row[0] for row in rows], DataType.int64())
        batch = RecordBatch.from_arrays([times], schema=Schema([Field("t", DataType.int64())]))
        io.write_parquet(Table.from_batches([batch]), "/dev/null")
        await bucket.put_object(Bucket="candles", Key="benchmark", Body=page.content)
        await table.put_item(TableName="tasks", Item=key)

@app.lambda_function(name="collect")
def collect(event, context):
    asyncio.run(work())

collect(event, None)
answer = {"batchItemFailures": []}
"""

#: The package's own function; its clock is the exchange's, which stands still.
_OURS = """
from chalicelib.core import backend
backend.wall_clock_ms = lambda: now_ms
import app

class Context:
    aws_request_id = "benchmark"
    def get_remaining_time_in_millis(self):
        return 60_000

answer = getattr(app, function)(event, Context())
"""

#: Around all of them. What a function logs is not kept, and what an interpreter does at its end is
#: no part of a start.
_PROGRAM = """
import json, os, sys
paths, function, now_ms, event = json.load(sys.stdin)
sys.path[:0] = paths
{code}
assert answer.get("statusCode", 200) < 300 and not answer.get("batchItemFailures"), answer
os._exit(0)
"""


@dataclass(frozen=True)
class Side:
    """`ours`: from the package; else from the libraries of this environment. `judged`: whether it
    has a budget, as a part of its baseline's time."""

    function: str
    event: Callable[[_Cloud], Any]
    code: str = _OURS
    baseline: str = ""
    budget: float | None = None


class _Cloud:
    """The servers in other processes: a new task for each sample."""

    def __init__(self, aws_url: str, bundle: Path) -> None:
        self._aws_url = aws_url
        self._tls = ssl.create_default_context(cafile=str(bundle))

    def batch(self) -> Any:
        return self._task("")[0]

    def planned(self) -> Any:
        return self._task("?submit")[1]

    def delivery(self) -> Any:
        task_id, batch = self._task("?submit")
        told = {"id": f"{task_id}:1", "action": "task.started", "at": "2026-03-04T05:06:07Z"}
        return _holding(batch, WebhookMessage(task_id, 1, told).encode())  # type: ignore[arg-type]

    def update(self) -> Any:
        task_id, batch = self._task("?submit")
        about = Update(f"task#{task_id}", PROGRESS, task_id, NOW, "1", {"attempt": 1})
        return _holding(batch, about.encode())

    def request(self) -> Any:
        self._task("?submit")  # the symbols are known, and nothing else has been asked for
        return {
            "httpMethod": "POST",
            "path": "/v1/data-collector/start",
            "headers": {"Content-Type": "application/json"},
            "multiValueQueryStringParameters": None,
            "pathParameters": {},
            "stageVariables": None,
            "isBase64Encoded": False,
            "body": json.dumps(self._body()),
            "requestContext": {
                "resourcePath": "/v1/data-collector/start",
                "path": "/v1/data-collector/start",
                "httpMethod": "POST",
                "requestId": "benchmark",
                "identity": {"sourceIp": "127.0.0.1"},
            },
        }

    def _body(self) -> dict[str, Any]:
        return {"symbols": [_SYMBOL], "timeframes": [_TIMEFRAME]}

    def _task(self, query: str) -> Any:
        hook = {"url": f"{self._aws_url}/_local/receiver", "secret": _SECRET}

        body = json.dumps(self._body() | {"webhook": hook}).encode()
        request = urllib.request.Request(f"{self._aws_url}/_local/task{query}", body)
        with urllib.request.urlopen(request, context=self._tls) as answer:
            return json.load(answer)


def _holding(batch: Any, body: str) -> Any:
    """The batch with this body in its first message."""
    return {"Records": [{**batch["Records"][0], "body": body}]}


_API, _WORKER = "chalice + boto3", "chalice + aiobotocore + httpx + msgspec + arro3"
SIDES = {
    "bare python": Side("", lambda cloud: {}, "answer = {}"),
    _API: Side("", _Cloud.request, _API_BASELINE),
    "api_handler: POST /start": Side("app", _Cloud.request, baseline=_API, budget=0.45),
    "push_updates": Side("push_updates", _Cloud.update, baseline=_API, budget=0.55),
    "deliver_webhook": Side("deliver_webhook", _Cloud.delivery, baseline=_API, budget=0.55),
    _WORKER: Side("", _Cloud.batch, _COLLECT_BASELINE),
    "plan": Side("plan", _Cloud.planned, baseline=_WORKER, budget=0.55),
    "collect": Side("collect", _Cloud.batch, baseline=_WORKER, budget=0.55),
}


def measure() -> Report:
    libraries = sysconfig.get_paths()["purelib"]
    packaged = built().folder
    taken: dict[str, list[float]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        home = Path(folder)
        certificate.server_context(home)
        # Among the package's roots, as the others have it among theirs.
        pem = (home / "certificate.pem").read_text(encoding="ascii")
        name = roots.subject_hash(ssl.PEM_cert_to_DER_cert(pem))
        (packaged / "roots" / f"{name}.0").write_text(pem, encoding="ascii")
        with served(home, exchange_app) as exchange, served(home, aws_app, exchange) as aws:
            environment = _environment(aws, exchange)
            cloud = _Cloud(aws, certificate.bundle(home))
            for _ in range(WARMING + RUNS):
                for name, side in SIDES.items():
                    path = str(packaged) if side.code == _OURS else libraries
                    given = [[path], side.function, NOW, side.event(cloud)]
                    taken[name].append(_cpu_ms(side, given, environment, certificate.bundle(home)))
    return _report({name: statistics.median(all_ms[WARMING:]) for name, all_ms in taken.items()})


def _report(ms: dict[str, float]) -> Report:
    report = Report(
        f"cold_start: CPU ms of a process with its first event, median of {RUNS} interleaved runs",
        ("what", "CPU ms", "baseline", "ratio", "budget", "verdict"),
    )
    for name, side in SIDES.items():
        cells = [""] * 4
        if side.baseline:
            ratio = ms[name] / ms[side.baseline]
            cells[:2] = [side.baseline, f"{ratio:.2f}"]
            if side.budget:
                cells[2:] = [f"<= {side.budget}", verdict(ratio, side.budget)]
        report.add(name, f"{ms[name]:.0f}", *cells)
    report.remarks += [
        "over TLS: botocore and httpx read all the usual roots from one file, and ours those that "
        "it needs, from the package's folder of them",
        "ours from the package extracted; what it asks is answered by an exchange and an AWS in "
        "other processes",
        "baselines have all their modules compiled, which a plain `chalice package` does not ship",
    ]
    return report


def _environment(aws: str, exchange: str) -> dict[str, str]:
    settings = worker_settings(exchange)
    default = type(settings)()
    told = {
        setting.name.upper(): str(value)
        for setting in fields(settings)
        if (value := getattr(settings, setting.name)) != getattr(default, setting.name)
    }
    return {
        **told,
        "WEBHOOK_ALLOWED_HOSTS": aws.removeprefix("https://"),
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": aws,
        "LOG_LEVEL": "ERROR",
    }


def _cpu_ms(side: Side, given: list[Any], environment: dict[str, str], bundle: Path) -> float:
    # The interpreter behind the virtual environment, isolated and without `site`: what tools hook
    # into the start of every process of this machine is no part of a Lambda's.
    python = getattr(sys, "_base_executable", sys.executable)
    own = {"FUNCTION": "api_handler" if side.function == "app" else side.function}
    if side.code != _OURS:
        own = {"AWS_CA_BUNDLE": str(bundle), "SSL_CERT_FILE": str(bundle)}
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = subprocess.Popen(
        [python, "-I", "-S", "-c", _PROGRAM.replace("{code}", side.code)],
        env={**kept, **environment, **own},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    with process.stdin as stdin, process.stderr as stderr:
        json.dump(given, stdin)
        stdin.close()
        written = stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{side.function or 'a baseline'} failed: {written[-4000:]}")
    return (used.ru_utime + used.ru_stime) * 1000
