"""The audit trail's DynamoDB calls and write units for one ordinary task."""

from __future__ import annotations

from benchmarks.report import Report
from benchmarks.simulated import new_aws, settings
from chalicelib.aws.stream import change_of
from chalicelib.events.record import events_of
from chalicelib.events.trail import Trail
from chalicelib.exchange.worker import Worker
from chalicelib.tasks.submit import submit_collection
from tests.doubles.clock import Clock, SimulatedLoop
from tests.doubles.exchange import Exchange
from tests.doubles.fleet import Fleet
from tests.doubles.write_units import WriteUnits

BODY = {
    "symbols": ["BTCUSDT", "ETHUSDT"],
    "timeframes": ["1m", "5m", "15m", "1h", "4h", "1d"],
}


def measure() -> Report:
    report = Report(
        "audit_calls: what the audit trail of one task costs",
        ("task", "stream batches", "events", "reads", "writes", "write units", "of the index"),
    )
    for name, refused in (("all collected", ()), ("one symbol refused", ("ETHUSDT",))):
        for whole in (True, False):
            report.add(*_row(name, refused, whole))
    report.remarks.append(f"{len(BODY['symbols'])} symbols in {len(BODY['timeframes'])} timeframes")
    report.remarks.append("reads: one Query per batch, and two GetItem to name failed units")
    return report


def _row(name: str, refused: tuple[str, ...], whole: bool) -> tuple[str, ...]:
    clock = Clock()
    aws = new_aws(clock)
    exchange = Exchange(clock)
    exchange.refused.update(dict.fromkeys(refused, "INVALID_SYMBOL"))
    worker = Worker(aws, settings(), clock, exchange)  # type: ignore[arg-type]
    loop = SimulatedLoop(clock)
    loop.run_until_complete(submit_collection(worker, BODY, "me", "request"))
    loop.run_until_complete(Fleet(aws, worker).settle())
    records = [
        record
        for record in aws.stream_event("tasks")["Records"]
        if record["dynamodb"]["Keys"]["sk"]["S"].startswith(("META", "PROG#"))
    ]
    batches = [records] if whole else [[record] for record in records]
    counted = WriteUnits(aws)
    aws.hooks.append(counted)
    aws.counts.clear()
    events = 0
    for batch in batches:
        trail = Trail(worker)
        for record in batch:
            events += len(loop.run_until_complete(events_of(trail, change_of(record))))
    loop.close()
    figures = (
        len(batches),
        events,
        aws.counts["dynamodb.Query"] + aws.counts["dynamodb.GetItem"],
        aws.counts["dynamodb.PutItem"],
        sum(counted.items.values()),
        sum(counted.indexes.values()),
    )
    return name, *map(str, figures)
