"""Our side of the worker's benchmark: `python -m benchmarks.worker_ours WAY JOBS`.

The function `collect` as Lambda runs it, with the batches that the queue would give it, some passes
in one container. Prints JSON: the CPU ms per page of the least pass behind the first, candles,
objects, the largest memory.
WAY: aws, with every AWS call over TLS; alone: calls are answered in this process by what AWS
answered the first time; parts: as aws, with the time by part (worker_parts.py) in ms per page.
"""

from __future__ import annotations

import asyncio
import json
import resource
import ssl
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.side import PASSES
from benchmarks.worker_parts import AWS, EXCHANGE, Parts
from chalicelib import wiring
from chalicelib.core.errors import CallFailed
from chalicelib.exchange.binance import Binance
from chalicelib.functions import triggers

_CONTROL = "/_local/task"


class Clock:
    """The exchange's clock stands still; ours starts there with each pass."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._started = time.monotonic()

    def restart(self) -> None:
        self._started = time.monotonic()

    def __call__(self) -> int:
        return self._now_ms + int((time.monotonic() - self._started) * 1000)


class Recorded:
    """Calls that reach AWS and are noted; from `replay` on, the same answers are given again, in
    the order in which the same question got them. The last one stays."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._answers: dict[Any, list[Any]] = defaultdict(list)
        self._left: dict[Any, deque[Any]] = {}
        self.puts = 0

    def replay(self) -> None:
        self._left = {asked: deque(answers) for asked, answers in self._answers.items()}
        self.puts = 0

    async def __call__(self, service: str, operation: str, **parameters: Any) -> Any:
        asked = (operation, str(parameters.get("Key")), parameters.get("UpdateExpression"))
        if not self._left:
            return await self._note(asked, service, operation, parameters)
        # As with a call over the network, other tasks go on meanwhile.
        await asyncio.sleep(0)
        self.puts += operation == "PutObject"
        answers = self._left[asked]
        answer = answers.popleft() if len(answers) > 1 else answers[0]
        if isinstance(answer, CallFailed):
            raise answer
        return answer

    async def _note(self, asked: Any, service: str, operation: str, parameters: Any) -> Any:
        try:
            answer = await self._call(service, operation, **parameters)
        except CallFailed as failed:
            self._answers[asked].append(failed)
            raise
        self._answers[asked].append(answer)
        return answer


class Context:
    """Lambda's, as far as it is read."""

    aws_request_id = "benchmark"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


class Container:
    """One container of the function `collect`; all it asks goes where `jobs` says."""

    def __init__(self, jobs: dict[str, Any], way: str) -> None:
        self._jobs = jobs
        self._tls = ssl.create_default_context()
        self.clock = Clock(jobs["now_ms"])
        self.parts = Parts() if way == "parts" else None
        self.recorded: Recorded | None = None
        self._calls: Any = None
        if self.parts:
            ports = {"exchange_url": EXCHANGE, "aws_url": AWS}
            self.parts.install({urlsplit(jobs[url]).port or 0: at for url, at in ports.items()})
        made = wiring.worker

        @lru_cache(maxsize=1)
        def worker() -> Any:
            real = made()
            self._calls = call = real.call
            if way == "alone":
                call = self.recorded = Recorded(call)
            if self.parts:
                call = self.parts.measured_steps(call, AWS)
            exchange = Binance(real.settings.exchange_url, now_ms=self.clock)
            return replace(real, call=call, now_ms=self.clock, exchange=exchange)

        wiring.worker = worker

    def plan(self) -> Any:
        """A new task on an AWS that holds nothing else: its batches."""
        return self._ask(json.dumps(self._jobs["body"]).encode())

    def outcome(self) -> Any:
        return self._ask(None)

    def collect(self, batches: list[Any]) -> float:
        """CPU seconds of the whole process."""
        self.clock.restart()
        triggers._budget.cache_clear()  # each pass takes its weight from the ledger
        if self.parts:
            self.parts.reset()
        started = time.process_time()
        for batch in batches:
            answer = triggers.collect(batch, Context())
            if answer["batchItemFailures"]:
                raise RuntimeError(f"messages failed: {answer}")
        return time.process_time() - started

    def close(self) -> None:
        runner = triggers._loop()
        runner.run(wiring.worker().exchange.aclose())
        runner.run(self._calls.aclose())

    def _ask(self, body: bytes | None) -> Any:
        request = urllib.request.Request(self._jobs["aws_url"] + _CONTROL, body)
        with urllib.request.urlopen(request, context=self._tls) as answer:
            return json.load(answer)


@contextmanager
def logged() -> Iterator[None]:
    """Lambda takes what is written; here a file does, whose end is shown where this fails."""
    with tempfile.TemporaryFile("w+") as file:
        try:
            with redirect_stdout(file), redirect_stderr(file):
                yield
        except BaseException:
            file.seek(0)
            print(file.read()[-4000:], file=sys.stderr)
            raise


def measured(way: str, jobs: dict[str, Any]) -> dict[str, Any]:
    container = Container(jobs, way)
    with logged():
        # A first pass: imports, TLS handshakes and the memory's growth belong to the start.
        batches = container.plan()
        container.collect(batches)
        taken = []
        for _ in range(PASSES):
            if container.recorded:
                container.recorded.replay()
            else:
                batches = container.plan()
            taken.append(container.collect(batches))
        spent = container.parts.spent() if container.parts else {}
        outcome = container.outcome()
        container.close()
    if container.recorded and container.recorded.puts != outcome["objects"]:
        raise RuntimeError(f"{container.recorded.puts} objects were written the last time")
    result = outcome["result"] or {}
    if not result.get("succeeded") or result["succeeded"] != result["units"]:
        raise RuntimeError(f"not all was collected: {outcome}")
    pages = len(jobs["pages"])
    return {
        "ms": min(taken) * 1000 / pages,
        "candles": result["candles"],
        "files": outcome["objects"],
        "bytes": outcome["bytes"],
        "calls": outcome["calls"],
        "parts": {part: each * 1000 / pages for part, each in spent.items()},
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))))
