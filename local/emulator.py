"""MiniStack, which saves its state while it runs and not at its end alone.

It runs in MiniStack's own environment (local/cloud.py starts it) and imports nothing of ours.
MiniStack writes its state when its server shuts down in order, and offers no other moment. So the
server is run here, as its documentation runs it (`hypercorn ministack.app:app`), and its own saving
is called more often: every half minute or more, at SIGUSR1, and at the end. S3 objects need none of
that; they are files as soon as they are written.

Each save is made by a fork, as Redis does it: it sees everything at one moment, and nobody waits.

`<home>/saved.json` says when the state was saved last, and whether it was then ended in order.

Metrics and alarms are local/metrics.py's work. For it, what functions log is written into files as
well (`Journal`), because asking for what is new costs the more, the more is there. And MiniStack's
own judgement of alarms is switched off: it goes by a metric's name alone, at every datum, over
everything that is stored.

Two things are done faster, which a task of many units waits for: streams have a thread of their own
(`_hand_over_streams`), and a condition that was once found right is not parsed again.
"""

import argparse
import asyncio
import json
import logging
import os
import resource
import signal
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack import app as ministack
from ministack.core.concurrency import esm_wake
from ministack.core.persistence import save_all
from ministack.services import cloudwatch, cloudwatch_logs, dynamodb, lambda_svc

LEAST_PAUSE_S = 30.0
#: Saving may use this share of a core: after one that took a second comes a longer pause.
SHARE = 0.01
#: A fork that takes longer has met a lock which another thread held.
LONGEST_SAVE_S = 60.0
#: A stack that is saved while it is being deployed stays so for ever.
LONGEST_DEPLOY_S = 60
TRIES = 3
#: For so long metrics are kept: each request about them goes through all of them. MiniStack's own
#: two weeks would take a percent of a core at rest.
METRICS_S = 2 * 24 * 3600
#: Of a file of the journal; the newest two are kept.
JOURNAL_BYTES = 16 << 20


class Saves:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._wanted = asyncio.Event()
        #: Whether what was saved before has been read; to save earlier would be to lose it.
        self._loaded = False
        self._fork = 0

    def begin(self) -> None:
        """From now on what is on disk may be older than what is here."""
        self._loaded = True
        at = None
        with suppress(FileNotFoundError, ValueError, TypeError, KeyError):
            at = json.loads(self._file.read_text(encoding="utf-8"))["at"]
        self._note(at, in_order=False)

    def want(self) -> None:
        self._wanted.set()

    async def go_on(self) -> NoReturn:
        """Save again and again."""
        pause_s = LEAST_PAUSE_S
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), pause_s)
            self._wanted.clear()
            if not self._loaded or _is_deploying():
                continue
            at, began = _now(), time.monotonic()
            self._fork = _fork()
            while (succeeded := _ended(self._fork)) is None:
                if time.monotonic() - began > LONGEST_SAVE_S:
                    os.kill(self._fork, signal.SIGKILL)
                await asyncio.sleep(0.05)
            self._fork = 0
            if succeeded:
                self._note(at, in_order=False)
            pause_s = max(LEAST_PAUSE_S, (time.monotonic() - began) / SHARE)

    def finish(self) -> NoReturn:
        """Save a last time, while nothing is answered any more, and end."""
        if self._fork:  # it would write the same files, with less in them
            os.kill(self._fork, signal.SIGKILL)
            os.waitpid(self._fork, 0)
        for _ in range(TRIES if self._loaded else 0):
            at, fork = _now(), _fork()
            deadline = time.monotonic() + LONGEST_SAVE_S / TRIES
            while (succeeded := _ended(fork)) is None:
                if time.monotonic() > deadline:
                    os.kill(fork, signal.SIGKILL)
                time.sleep(0.02)
            if succeeded:
                self._note(at, in_order=True)
                break
        os._exit(0)

    def _note(self, at: str | None, in_order: bool) -> None:
        scratch = self._file.with_suffix(".part")
        scratch.write_text(json.dumps({"at": at, "in_order": in_order}), encoding="utf-8")
        scratch.replace(self._file)


class Journal:
    """What functions log, for local/journal.py: one endless text, in files that are named by the
    offset at which each begins. A line of it is what one invocation logged."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = threading.Lock()
        newest = max(self._offsets(), default=0)
        self._begin(newest)
        if self._file.tell():  # a kill may have cut the last line
            self._file.write(b"\n")

    def write(self, group: str, stream: str, events: list[dict[str, Any]]) -> None:
        lines = [[event["timestamp"], event["message"]] for event in events]
        line = json.dumps({"group": group, "stream": stream, "lines": lines})
        with self._lock:
            self._file.write(line.encode() + b"\n")
            if self._file.tell() >= JOURNAL_BYTES:
                end = self._offset + self._file.tell()
                self._file.close()
                self._begin(end)
                for offset in sorted(self._offsets())[:-2]:
                    self._path(offset).unlink(missing_ok=True)

    def _begin(self, offset: int) -> None:
        self._offset = offset
        self._file = self._path(offset).open("ab", buffering=0)

    def _offsets(self) -> list[int]:
        return [int(file.stem) for file in self._folder.glob("*.jsonl")]

    def _path(self, offset: int) -> Path:
        return self._folder / f"{offset:015}.jsonl"


def _hand_over(journal: Journal) -> None:
    """Leave metrics and alarms to local/metrics.py."""
    deliver = cloudwatch_logs._fanout_to_subscription_filters

    def noted(group: str, stream: str, events: list[dict[str, Any]]) -> None:
        journal.write(group, stream, events)
        deliver(group, stream, events)

    cloudwatch_logs._fanout_to_subscription_filters = noted
    cloudwatch._evaluate_alarm = lambda alarm: None
    cloudwatch.TWO_WEEKS_SECONDS = METRICS_S


def _hand_over_streams() -> None:
    """MiniStack's one thread for all event sources waits for the function of each stream's batch,
    and no queue is looked at meanwhile. So streams are looked at by another one."""
    poll_queues, poll_streams = lambda_svc._poll_loop, lambda_svc._poll_dynamodb_streams
    wake_queues, woken = esm_wake.set, threading.Event()

    def wake() -> None:
        wake_queues()
        woken.set()

    def poll() -> NoReturn:
        while True:
            woken.wait(1)
            woken.clear()
            try:
                while poll_streams():
                    pass
            except Exception:
                logging.getLogger("streams").exception("Streams: not polled")

    def poll_both() -> None:
        threading.Thread(target=poll, name="streams", daemon=True).start()
        poll_queues()

    esm_wake.set = wake
    lambda_svc._poll_dynamodb_streams = lambda: False
    lambda_svc._poll_loop = poll_both


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _is_deploying() -> bool:
    formation = sys.modules.get("ministack.services.cloudformation")
    stacks = formation._stacks._data.values() if formation else ()
    return any(stack["StackStatus"].endswith("_IN_PROGRESS") for stack in stacks)


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


def _fork() -> int:
    """Start a save of what is there at this moment; the pid of the process that does it."""
    pid = os.fork()
    if pid:
        return pid
    # MiniStack logs what it could not save, and goes on.
    errors = _Errors()
    logging.getLogger("persistence").addHandler(errors)
    try:
        save_all(ministack._build_persistence_save_dict())
    except BaseException:
        logging.getLogger("persistence").exception("Persistence: not saved")
    os._exit(1 if errors.count else 0)


def _ended(pid: int) -> bool | None:
    """Whether the save succeeded; None while it goes on."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return None if ended == 0 else status == 0


async def _serve(port: int, saves: Saves) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(name, ended.set)
    loop.add_signal_handler(signal.SIGUSR1, saves.want)
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.keep_alive_timeout = 75
    config.loglevel = "WARNING"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def watched(message: Any) -> None:
            if message["type"] == "lifespan.startup.complete":
                saves.begin()
            await send(message)

        await ministack.app(scope, receive, watched if scope["type"] == "lifespan" else send)

    # MiniStack's own end is not waited for: it waits for connections and functions.
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(app, config, shutdown_trigger=asyncio.Event().wait))
        tasks.create_task(saves.go_on())
        await ended.wait()
        for _ in range(LONGEST_DEPLOY_S * 10):
            if not _is_deploying():
                break
            await asyncio.sleep(0.1)
        saves.finish()


def main() -> int:
    parser = argparse.ArgumentParser(description="MiniStack, with its state saved as it runs.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--saved", type=Path, required=True, help="file that says what was saved")
    parser.add_argument("--journal", type=Path, required=True, help="folder of what functions log")
    given = parser.parse_args()
    _hand_over(Journal(given.journal))
    _hand_over_streams()
    dynamodb._condition_syntax_error = lru_cache(1000)(dynamodb._condition_syntax_error)
    with suppress(ValueError, OSError):  # macOS has a limit below its limit
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(_serve(given.port, Saves(given.saved)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
