"""What can go wrong when talking to the API, and the exit code each failure ends with.

    ApiError
    ├── Unreachable   4  no answer came, or it was a 5xx
    ├── NotThisApi    4  something answered, but not with this API's JSON
    └── Rejected      2  a 4xx; `errors` lists what is wrong, each with its JSON pointer
        └── Expired   2  410: the task's record has been removed

Each carries `problem`, an RFC 9457 document: the server's own where it sent one.
"""

import json
import math
from http import HTTPStatus
from typing import Any

import httpx

from market_data_collector.cli.locate import KEY_VARIABLE

# Seconds. What takes longer is not a matter of waiting, and the sentence says what to do.
LONG_WAIT = 600


class ApiError(Exception):
    """str() is one sentence for a person; `problem` is the document for a machine."""

    exit_code = 4

    def __init__(self, sentence: str, problem: dict[str, Any], retry_after: float | None = None):
        super().__init__(sentence)
        self.problem = problem
        self.retry_after = retry_after

    @property
    def passing(self) -> bool:
        """Whether the same GET may well succeed a little later."""
        return False

    @property
    def errors(self) -> list[dict[str, str]]:
        """The entries of `errors`, each with `detail` and, where known, `pointer`."""
        errors: list[dict[str, str]] = self.problem.get("errors", [])
        return errors


class Unreachable(ApiError):
    @property
    def passing(self) -> bool:
        return True


class NotThisApi(ApiError):
    pass


class Rejected(ApiError):
    exit_code = 2

    @property
    def passing(self) -> bool:
        return bool(self.problem["status"] == HTTPStatus.TOO_MANY_REQUESTS)


class Expired(Rejected):
    pass


def parse(content: bytes) -> Any:
    """JSON as the standard has it: NaN and numbers beyond a double raise ValueError, since they
    could not be printed as JSON again."""

    def finite(text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"{text} is not a JSON number")
        return number

    try:
        return json.loads(content, parse_float=finite, parse_constant=finite)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def no_answer(url: str, error: httpx.RequestError) -> Unreachable:
    if isinstance(error, httpx.TimeoutException):
        why = "it did not answer in time"
    else:
        why = str(error).partition("] ")[2] or str(error) or type(error).__name__
    sentence = f"The API at {url} cannot be reached ({why}): start it with `make run`."
    return Unreachable(sentence, _local("The API cannot be reached", sentence, "UNREACHABLE"))


def not_this_api(url: str, why: str) -> NotThisApi:
    sentence = (
        f"What answers at {url} is not the data collector ({why}): "
        "check the URL, or start the collector with `make run`."
    )
    return NotThisApi(sentence, _local("Not the data collector", sentence, "NOT_THIS_API"))


def of_answer(url: str, response: httpx.Response, retry_after: float | None) -> ApiError:
    """The error of a 4xx or 5xx answer, whatever its body looks like."""
    problem = _problem(response)
    status, title, detail = problem["status"], problem["title"], problem["detail"]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        said = f": {detail.rstrip('.')}" if detail else ""
        sentence = (
            f"The API at {url} answered {status} {title}{said}; "
            "if it does not recover, start it again with `make run`."
        )
        return Unreachable(sentence, problem, retry_after)
    kind = Expired if status == HTTPStatus.GONE else Rejected
    sentence = f"{title} ({status}): {detail}" if detail else f"{title} ({status})"
    if status == HTTPStatus.TOO_MANY_REQUESTS and retry_after and retry_after < LONG_WAIT:
        sentence += f". Try again in {math.ceil(retry_after)} s"
    if _unsigned(response):
        sentence += ". Where requests must be signed, add --sign"
    if status == HTTPStatus.UNAUTHORIZED:
        sentence += (
            f". Give an API key by ${KEY_VARIABLE} or --key; "
            "an admin makes one with `data-collector keys create`"
        )
    return kind(sentence, problem, retry_after)


def _unsigned(response: httpx.Response) -> bool:
    """Whether API Gateway itself refused, before the API saw it, what was sent unsigned."""
    refused = response.status_code == HTTPStatus.FORBIDDEN
    itself = "x-amzn-errortype" in response.headers
    return refused and itself and "Authorization" not in response.request.headers


def _problem(response: httpx.Response) -> dict[str, Any]:
    """The body as a problem document; gateways and proxies answer with other shapes, or HTML."""
    try:
        body = parse(response.content)
    except ValueError:
        body = None
    body = body if isinstance(body, dict) else {}
    title = _text(body, "title") or response.reason_phrase or "Unknown error"
    problem = {
        "type": "about:blank",
        **body,
        "title": title,
        "status": response.status_code,
        "detail": _text(body, "detail", "message", "Message"),
    }
    if "errors" in body:
        entries = body["errors"] if isinstance(body["errors"], list) else [body["errors"]]
        problem["errors"] = [_entry(entry) for entry in entries if entry]
    return problem


def _entry(entry: Any) -> dict[str, str]:
    if not isinstance(entry, dict):
        return {"detail": str(entry)}
    detail, pointer = _text(entry, "detail", "message"), _text(entry, "pointer")
    return {"detail": detail or json.dumps(entry), **({"pointer": pointer} if pointer else {})}


def _text(body: dict[str, Any], *names: str) -> str:
    return next((body[n] for n in names if isinstance(body.get(n), str) and body[n]), "")


def _local(title: str, detail: str, reason: str) -> dict[str, Any]:
    return {"type": "about:blank", "title": title, "detail": detail, "reason": reason}
