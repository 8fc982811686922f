"""The API's cold start as process wall time, against plain Chalice and boto3.

Every sample is a new process: import, clients, the first GetItem, the first SendMessage, exit. The
variants take turns, so that a busy moment of the machine meets all of them.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import certificate
from benchmarks.aws_stub import serving
from benchmarks.packaged import built
from benchmarks.report import Report, verdict

RUNS = 15
BUDGET = 0.5

_OURS = """
import app
from chalicelib import wiring
from chalicelib.aws.calls import run
from chalicelib.tasks.table import TaskTable
from chalicelib.work.messages import PlanMessage
from chalicelib.work.queue import WorkQueue
backend = wiring.backend()
run(TaskTable(backend).read("benchmark"))
run(WorkQueue(backend).send_plan(PlanMessage("benchmark", 1)))
"""

_BASELINE = """
from chalice import Chalice
import boto3
app = Chalice(app_name="baseline")
table, queue = boto3.client("dynamodb"), boto3.client("sqs")
table.get_item(
    TableName="tasks", Key={"pk": {"S": "TASK#benchmark"}, "sk": {"S": "META"}}, ConsistentRead=True
)
queue.send_message(QueueUrl="https://sqs.test/plan", MessageBody="{}")
"""

_ROOT = Path(__file__).resolve().parent.parent
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "TASKS_TABLE": "tasks",
    "MARKET_TABLE": "market",
    "CONNECTIONS_TABLE": "connections",
    "AUDIT_TABLE": "audit",
    "CANDLES_BUCKET": "candles",
    "PLAN_QUEUE_URL": "https://sqs.test/plan",
    "URGENT_QUEUE_URL": "https://sqs.test/urgent",
    "WORK_QUEUE_URL": "https://sqs.test/work",
    "DEAD_LETTER_QUEUE_URL": "https://sqs.test/dead",
    "WS_ENDPOINT": "https://sockets.test",
}


def measure() -> Report:
    libraries = sysconfig.get_paths()["purelib"]
    packaged = str(built().folder)
    variants = {
        "bare python": ((), ""),
        "baseline: chalice + boto3": ((libraries,), _BASELINE),
        "ours, from source": ((str(_ROOT), libraries), _OURS),
        "ours, the package extracted": ((packaged,), _OURS),
    }
    report = Report(
        f"cold_start: process wall, median of {RUNS} interleaved runs",
        ("what", "http ms", "http ratio", "TLS ms", "TLS ratio", "budget", "verdict"),
    )
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        home = Path(folder)
        tls = certificate.server_context(home)
        with serving() as plain_url, serving(tls) as tls_url:
            environment = {**_ENVIRONMENT, "AWS_CA_BUNDLE": str(certificate.bundle(home))}
            http = _medians(variants, {**environment, "AWS_ENDPOINT_URL": plain_url})
            https = _medians(variants, {**environment, "AWS_ENDPOINT_URL": tls_url})
    _, baseline, *ours = variants
    for name in variants:
        ratios = [taken[name] / taken[baseline] for taken in (http, https)]
        judged = name in ours
        report.add(
            name,
            f"{http[name]:.0f}",
            f"{ratios[0]:.2f}",
            f"{https[name]:.0f}",
            f"{ratios[1]:.2f}",
            f"<= {BUDGET}" if judged else "",
            verdict(max(ratios), BUDGET) if judged else "",
        )
    report.remarks += [
        "import, clients, first GetItem and SendMessage on a loopback stub; TLS includes reading "
        "a bundle of all the usual roots and two handshakes",
        "the baseline has all its modules compiled, which a plain `chalice package` does not ship",
    ]
    return report


def _medians(
    variants: Mapping[str, tuple[Sequence[str], str]], environment: dict[str, str]
) -> dict[str, float]:
    """Median wall ms per variant; the first round only warms the page cache and is dropped."""
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(RUNS + 1):
        for name, (paths, code) in variants.items():
            taken[name].append(_wall_ms(paths, code, environment))
    return {name: statistics.median(walls[1:]) for name, walls in taken.items()}


def _wall_ms(paths: Sequence[str], code: str, environment: dict[str, str]) -> float:
    # The interpreter behind the virtual environment, isolated: what development tools hook into
    # the start of every process of the environment is no part of a Lambda's.
    python = getattr(sys, "_base_executable", sys.executable)
    program = f"import sys; sys.path[:0] = {list(paths)!r}\n{code}"
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    started = time.perf_counter()
    subprocess.run([python, "-I", "-c", program], env={**kept, **environment}, check=True)
    return (time.perf_counter() - started) * 1000
