"""AWS calls over a pool of connections, signed with Signature Version 4: for the functions that
plan and collect, which make many at a time.

The messages of a batch take the same steps at the same time. What they read of single items in the
same turn of the event loop is one BatchGetItem: it costs the units that their GetItems would, and
one request.

Source: Amazon DynamoDB API Reference, "BatchGetItem": up to 100 items of several tables, each read
consistently where that is asked for; what is left unread is named.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from chalicelib.aws.protocol import Calls, Request
from chalicelib.core.errors import CallFailed
from chalicelib.core.http import Http, HttpAnswer

_CONNECTIONS = 32
#: Short, and few tries: a queue repeats the whole message.
_TIMEOUT_SECONDS = 10.0
_MOST_READ = 100
#: What a GetItem names that can be read together with others.
_PLAIN = {"TableName", "Key", "ConsistentRead"}

Answer = dict[str, Any]


class PooledCalls(Calls):
    """As Calls, all on one event loop."""

    def __init__(
        self, endpoints: Mapping[str, str] | None = None, url_suffix: str = "amazonaws.com"
    ) -> None:
        super().__init__(endpoints, url_suffix)
        self._http = Http(_CONNECTIONS, _TIMEOUT_SECONDS)
        self._reads = GatheredReads(super().__call__)

    async def __call__(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        if self._reads.takes(service, operation, parameters):
            return await self._reads.read(parameters["TableName"], parameters["Key"])
        return await super().__call__(service, operation, **parameters)

    async def _send(self, request: Request, headers: dict[str, str]) -> HttpAnswer:
        return await self._http.request(request.method, request.url, headers, request.body)

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def aclose(self) -> None:
        await self._http.aclose()


class Name(NamedTuple):
    """An item's: `key` is in order of its parts."""

    table: str
    key: tuple[tuple[str, str], ...]


class _Abandoned(Exception):
    """Whoever asked for all of them was cancelled."""


class _Read(NamedTuple):
    name: Name
    key: Answer
    answer: asyncio.Future[Answer]


class GatheredReads:
    """`call`: what sends an AWS call; all on one event loop."""

    def __init__(self, call: Callable[..., Awaitable[Answer]]) -> None:
        self._ask = call
        self._gathering: list[_Read] | None = None

    @staticmethod
    def takes(service: str, operation: str, parameters: Mapping[str, Any]) -> bool:
        return (
            (service, operation) == ("dynamodb", "GetItem")
            and parameters.keys() == _PLAIN
            and bool(parameters["ConsistentRead"])
        )

    async def read(self, table: str, key: Answer) -> Answer:
        """As GetItem answers a consistent read, without what it has consumed. Raises CallFailed.

        The first to ask asks for all, so nobody else's call is left running where that one stops.
        """
        while True:
            if self._gathering is None:
                return await self._lead(table, key)
            followed = _read(table, key)
            self._gathering.append(followed)
            try:
                return await followed.answer
            except _Abandoned:
                continue

    async def _lead(self, table: str, key: Answer) -> Answer:
        mine = _read(table, key)
        reads = self._gathering = [mine]
        try:
            try:
                await asyncio.sleep(0)
            finally:
                self._gathering = None
            answers = await self._answers(reads)
        except BaseException as error:
            for read in reads:
                if read is not mine and not read.answer.done():
                    read.answer.set_exception(_of_another(error))
            raise
        for read in reads:
            if not read.answer.done():
                read.answer.set_result(dict(answers.get(read.name, {})))
        return mine.answer.result()

    async def _answers(self, reads: Sequence[_Read]) -> dict[Name, Answer]:
        keys = {read.name: read.key for read in reads}
        answers: dict[Name, Answer] = {}
        names = [*keys]
        for at in range(0, len(names), _MOST_READ):
            part = names[at : at + _MOST_READ]
            left = part if len(part) == 1 else await self._batch(part, keys, answers)
            for name in left:
                answers[name] = await self._ask(
                    "dynamodb",
                    "GetItem",
                    TableName=name.table,
                    Key=keys[name],
                    ConsistentRead=True,
                )
        return answers

    async def _batch(
        self, names: Sequence[Name], keys: Mapping[Name, Answer], answers: dict[Name, Answer]
    ) -> list[Name]:
        """Which of them are left unread."""
        asked: dict[str, dict[str, Any]] = {}
        for name in names:
            of_table = asked.setdefault(name.table, {"Keys": [], "ConsistentRead": True})
            of_table["Keys"].append(keys[name])
        answer = await self._ask("dynamodb", "BatchGetItem", RequestItems=asked)
        for table, items in answer["Responses"].items():
            parts = asked[table]["Keys"][0].keys()
            for item in items:
                answers[_name(table, {part: item[part] for part in parts})] = {"Item": item}
        unread = answer.get("UnprocessedKeys") or {}
        return [_name(table, key) for table, of in unread.items() for key in of["Keys"]]


def _of_another(error: BaseException) -> Exception:
    """What the others are told: an error of their own, because one knows the frames that it has
    passed through."""
    if isinstance(error, CallFailed):
        return CallFailed(error.service, error.operation, error.code, error.message)
    return _Abandoned()


def _read(table: str, key: Answer) -> _Read:
    return _Read(_name(table, key), key, asyncio.get_running_loop().create_future())


def _name(table: str, key: Answer) -> Name:
    return Name(table, tuple(sorted((part, repr(value)) for part, value in key.items())))
