"""The tests' AWS in memory behind HTTP: its answers are right, and it lives in another process.

Services of AWS JSON (DynamoDB, SQS) and S3's REST, as a worker asks them. Beside them:

    POST /_local/task      forget everything; submit and plan a collection (the body of POST
                           /start); the batches of a work queue that Lambda would hand to workers,
                           as JSON
    POST /_local/task?submit   only submit it; its id, and the batch of the plan queue
    GET  /_local/task      what came of it
    POST /_local/receiver  a receiver of webhooks: 204
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections import Counter
from dataclasses import replace
from typing import Any

from aiohttp import web

from benchmarks.exchange_server import ENDLESS, NOW
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed
from chalicelib.core.settings import Settings
from chalicelib.exchange.binance import Binance
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.worker import Worker
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.table import TaskTable
from chalicelib.work.units import BATCH_MESSAGES
from tests.doubles.aws import Aws
from tests.doubles.clock import Clock
from tests.doubles.fleet import Fleet
from tests.doubles.settings import doubled_settings

_SERVICES = {"DynamoDB_20120810": "dynamodb", "AmazonSQS": "sqs"}
_STATUS = {"NoSuchKey": 404, "NoSuchBucket": 404, "PreconditionFailed": 412}
_GIVEN = {
    "If-Match": "IfMatch",
    "If-None-Match": "IfNoneMatch",
    "Range": "Range",
    "x-amz-checksum-crc32": "ChecksumCRC32",
}
_MOST_BYTES = 64 * 1024 * 1024
_LOCAL, _RECEIVER = "/_local/task", "/_local/receiver"
_QUEUE_ARN = "arn:aws:sqs:us-east-1:123456789012:market-data-collector-dev-WorkQueue-A1B2C3"


def worker_settings(exchange_url: str) -> Settings:
    """The stack's settings: what is collected comes from the exchange, and not from an archive."""
    return doubled_settings(exchange_url=exchange_url, archive="never")


def aws_app(exchange_url: str) -> web.Application:
    os.environ["LOG_LEVEL"] = "error"
    server = _Server(worker_settings(exchange_url))
    app = web.Application(client_max_size=_MOST_BYTES)
    app.router.add_post(_LOCAL, server.plan)
    app.router.add_get(_LOCAL, server.show)
    app.router.add_post(_RECEIVER, server.receive)
    app.router.add_post("/", server.answer_json)
    app.router.add_route("*", "/{bucket}/{key:.+}", server.answer_s3)
    return app


class _Server:
    def __init__(self, given: Settings) -> None:
        self._settings = given
        self._clock = Clock(NOW)
        self._aws = Aws.for_settings(self._clock, given)
        self._task_id = ""
        self._planning = 0

    async def plan(self, request: web.Request) -> web.Response:
        body = await request.json()
        self._aws = Aws.for_settings(self._clock, self._settings)
        exchange = Binance(self._settings.exchange_url)  # planning asks when a symbol was listed
        settings = replace(self._settings, webhook_allowed_hosts=(request.host,))
        worker = Worker(self._aws, settings, self._clock, exchange)
        listed = dict.fromkeys(body["symbols"], "TRADING")
        await CatalogueTable(worker).write_catalogue(listed, ENDLESS, NOW)
        self._task_id = await submit_collection(worker, body, "benchmark", "benchmark")
        if "submit" in request.query:
            return web.json_response([self._task_id, self._batch(settings.plan_queue_url)])
        await Fleet(self._aws, worker).plan()
        await exchange.aclose()
        self._planning = len(self._aws.calls)
        batches = []
        while (batch := self._batch(settings.work_queue_url))["Records"]:
            batches.append(batch)
        return web.json_response(batches)

    def _batch(self, queue_url: str) -> dict[str, Any]:
        """What Lambda would hand to a function; the messages are in flight from then on."""
        arn = {"eventSourceARN": _QUEUE_ARN, "awsRegion": "us-east-1"}
        records = self._aws.sqs.receive(queue_url, BATCH_MESSAGES)
        return {"Records": [{**record, **arn} for record in records]}

    async def receive(self, request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=204)

    async def show(self, request: web.Request) -> web.Response:
        calls = self._aws.calls[self._planning :]
        backend = Backend(self._aws, self._settings, self._clock)
        task = await TaskTable(backend).read(self._task_id)
        result = task.result if task else None
        bucket = self._aws.s3.buckets[self._settings.candles_bucket]
        return web.json_response(
            {
                "result": result,
                "objects": len(bucket.objects),
                "bytes": sum(map(len, bucket.objects.values())),
                "calls": Counter(called.name for called in calls),
            }
        )

    async def answer_json(self, request: web.Request) -> web.Response:
        target, _, operation = request.headers["x-amz-target"].partition(".")
        parameters = json.loads(await request.read(), object_hook=_binary)
        asked = parameters.pop("ReturnConsumedCapacity", None)
        status = 200
        try:
            answer = dict(await self._aws(_SERVICES[target], operation, **parameters))
            if asked:
                consumed = {"TableName": self._settings.tasks_table, "CapacityUnits": 1.0}
                many = operation.startswith(("Batch", "Transact"))
                answer["ConsumedCapacity"] = [consumed] if many else consumed
        except CallFailed as failed:
            status, answer = 400, {"__type": f"com.amazonaws#{failed.code}", "message": str(failed)}
            if isinstance(failed, ConditionFailed) and failed.item is not None:
                answer["Item"] = failed.item
        body = json.dumps(answer, default=_text).encode()
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "x-amzn-RequestId": "BENCHMARK0000000000000000000000000000000000000000000",
            "x-amz-crc32": str(zlib.crc32(body)),
        }
        return web.Response(status=status, body=body, headers=headers)

    async def answer_s3(self, request: web.Request) -> web.Response:
        headers = {"x-amz-request-id": "BENCHMARK0000000", "x-amz-id-2": "B" * 76}
        given = {
            name: request.headers[key] for key, name in _GIVEN.items() if key in request.headers
        }
        place = {"Bucket": request.match_info["bucket"], "Key": request.match_info["key"]}
        try:
            if request.method == "PUT":
                body = await request.read()
                answer = await self._aws("s3", "PutObject", **place, Body=body, **given)
                return web.Response(headers={**headers, "ETag": answer["ETag"]})
            answer = await self._aws("s3", "GetObject", **place, **given)
        except CallFailed as failed:
            text = f"<Error><Code>{failed.code}</Code><Message>{failed}</Message></Error>"
            return web.Response(
                status=_STATUS[failed.code],
                text=text,
                content_type="application/xml",
                headers=headers,
            )
        headers |= {"ETag": answer["ETag"], "Content-Type": "application/vnd.apache.parquet"}
        return web.Response(
            status=206 if "Range" in given else 200, body=answer["Body"], headers=headers
        )


def _binary(members: dict[str, Any]) -> dict[str, Any]:
    if len(members) == 1 and isinstance(members.get("B"), str):
        return {"B": base64.b64decode(members["B"])}
    return members


def _text(value: object) -> str:
    """Bytes are base64 text in DynamoDB's JSON."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"no JSON form for {type(value).__name__}")
