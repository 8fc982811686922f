"""A connection to the API: what is sent again, what is not, and what is no answer of this API."""

import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NamedTuple, Self

import httpx

from market_data_collector.cli import problems
from market_data_collector.cli.locate import (
    KEY_VARIABLE,
    UnusableKey,
    UnusableUrl,
    is_loopback,
    with_prefix,
)

# Seconds. The read timeout is just above API Gateway's own limit of 29 s.
TIMEOUT = httpx.Timeout(30, connect=5)
BACKOFF = (0.2, 0.5)
# A 429 that asks for no more than this is waited out, so often; others are told at once.
SHORT_RETRY_AFTER, QUOTA_TRIES = 5.0, 2


class Answer(NamedTuple):
    body: dict[str, Any]
    retry_after: float | None  # seconds


class Connection:
    """A connection to the API at `url`, with or without its prefix.

    `key`: the API key to send; None: $DATA_COLLECTOR_KEY, if it is set. `auth` takes its place.
    Raises UnusableUrl for a URL, and UnusableKey for a key, that cannot be one. Usable as a context
    manager.
    """

    def __init__(
        self,
        url: str,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        auth: httpx.Auth | None = None,
        key: str | None = None,
    ):
        self._base = with_prefix(url)
        self._sleep = sleep
        try:
            parsed = httpx.URL(self._base)
        except httpx.InvalidURL as error:
            raise UnusableUrl(f"{url!r} is not an http(s) URL.") from error
        # What is shown to people never holds a password.
        self.url = str(parsed.copy_with(userinfo=b""))
        self._client = httpx.Client(
            transport=transport,
            auth=auth,
            timeout=TIMEOUT,
            trust_env=not is_loopback(parsed.host),
            headers={
                "Accept": "application/json, application/problem+json",
                **(_bearer(key) if auth is None else {}),
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def _call(self, method: str, path: str, **request: Any) -> Answer:
        response = self._answered(method, path, **request)
        try:
            body = problems.parse(response.content)
        except ValueError as error:
            raise problems.not_this_api(self.url, "the answer is not JSON") from error
        if not isinstance(body, dict):
            raise problems.not_this_api(self.url, "the answer is not a JSON object")
        return Answer(body, _seconds(response.headers.get("Retry-After")))

    def _answered(self, method: str, path: str, **request: Any) -> httpx.Response:
        """The answer, where it is a good one."""
        for waits_left in range(QUOTA_TRIES, -1, -1):
            response = self._send(method, self._base + path, **request)
            retry_after = _seconds(response.headers.get("Retry-After"))
            # Nothing was done, so it may be sent again, whatever it is.
            refused = response.status_code == HTTPStatus.TOO_MANY_REQUESTS
            if not (refused and waits_left and 0 < (retry_after or 0) <= SHORT_RETRY_AFTER):
                break
            self._sleep(retry_after or 0)
        if response.is_error:
            raise problems.of_answer(self.url, response, retry_after)
        if not response.is_success:
            raise problems.not_this_api(self.url, f"it answered {response.status_code}")
        return response

    def _send(self, method: str, url: str, **request: Any) -> httpx.Response:
        # A connection can be lost after the server acted, so only what may happen twice is resent.
        repeatable = method == "GET" or "Idempotency-Key" in request.get("headers", {})
        for pause in BACKOFF if repeatable else ():
            try:
                return self._client.request(method, url, **request)
            except httpx.TransportError:
                self._sleep(pause)
        try:
            return self._client.request(method, url, **request)
        except httpx.RequestError as error:
            raise problems.no_answer(self.url, error) from error

    def _every_page(self, path: str, name: str, **asked: str) -> dict[str, Any]:
        """Every page as one: what they list under `name`."""
        listed = (page.get(name) for page in self._pages(path, **asked))
        found = [each for part in listed if isinstance(part, list) for each in part]
        return {name: found, "next_page_token": None}

    def _pages(self, path: str, **asked: str) -> Iterator[dict[str, Any]]:
        """Each page; each page token is followed once."""
        followed: set[str] = set()
        token: dict[str, str] = {}
        while True:
            page = self._call("GET", path, params={**asked, **token}).body
            yield page
            following = page.get("next_page_token")
            if not isinstance(following, str) or following in followed | {""}:
                return
            followed.add(following)
            token = {"page_token": following}


def _bearer(key: str | None) -> dict[str, str]:
    text = (key or os.environ.get(KEY_VARIABLE, "")).strip()
    if not text:
        return {}
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise UnusableKey("The API key has characters that no key has.")
    return {"Authorization": f"Bearer {text}"}


def _seconds(retry_after: str | None) -> float | None:
    """Seconds from a Retry-After header, which may also be a date; None when unreadable."""
    if retry_after is None:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d+)?", retry_after.strip(), re.ASCII):
        return float(retry_after)
    try:
        until = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max((until - datetime.now(UTC)).total_seconds(), 0.0)
