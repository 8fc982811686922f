"""HTTP whose answers a function gives."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from chalicelib.core.connection import BrokenAnswer
from chalicelib.core.errors import NoAnswer
from chalicelib.core.http import MOST_CONTENT, Http, HttpAnswer, Streamed

#: Gives an answer, or raises an error of httpx's where there is none.
Answers = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]


class ScriptedHttp(Http):
    def __init__(self, answers: Answers) -> None:
        super().__init__(1, 1)
        self._answers = answers

    async def get(
        self,
        url: str,
        query: Mapping[str, Any],
        headers: Mapping[str, str],
        most: int = MOST_CONTENT,
    ) -> HttpAnswer:
        answer = await self._answer(httpx.Request("GET", url, params=query, headers=headers))
        if len(answer.content) > most:
            raise BrokenAnswer("too much", answer.status_code, dict(answer.headers))
        return HttpAnswer(answer.status_code, dict(answer.headers), answer.content)

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Streamed]:
        answer = await self._answer(httpx.Request("GET", url, headers=headers))

        yield Streamed(answer.status_code, dict(answer.headers), answer.aiter_bytes())

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        try:
            answer = self._answers(request)
            return await answer if inspect.isawaitable(answer) else answer
        except httpx.HTTPError as problem:
            raise NoAnswer(repr(problem)) from problem
