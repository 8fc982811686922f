"""The AWS in memory under the settings that the tests use."""

from __future__ import annotations

from chalicelib.settings import Settings
from tests.doubles.aws import Aws
from tests.doubles.clock import Clock


def settings() -> Settings:
    return Settings(
        exchange_url="http://exchange.test",
        tasks_table="tasks",
        market_table="market",
        connections_table="connections",
        audit_table="audit",
        candles_bucket="candles",
        plan_queue_url="https://queues.test/plan",
        urgent_queue_url="https://queues.test/urgent",
        work_queue_url="https://queues.test/work",
        dead_letter_queue_url="https://queues.test/dead-letters",
        stream_failure_queue_url="https://queues.test/stream-failures",
        ws_endpoint="https://sockets.test",
    )


def new_aws(clock: Clock) -> Aws:
    aws = Aws.for_settings(clock, settings())
    aws.dynamodb.copies = False  # our gateways change neither what they send nor what they get
    return aws
