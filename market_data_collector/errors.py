"""What can go wrong when talking to the API.

    ApiError
    ├── Unreachable   no answer came, or it was a 5xx
    ├── NotThisApi    something answered, but not with this API's JSON
    └── Rejected      a 4xx; `errors` lists what is wrong, each with its JSON pointer
        └── Expired   410: the task's record has been removed

Each carries `problem`, an RFC 9457 document, the server's own where it sent one, and `hint`: what
to do about it. `Unusable` (locate.py) is raised before anything is sent, `Unheard` (effects.py)
where there is no WebSocket.
"""

import json
import math
from http import HTTPStatus
from typing import Any, cast

import httpx

from market_data_collector.answers import ProblemError
from market_data_collector.locate import KEY_VARIABLE, is_loopback

# Seconds. What takes longer is not a matter of waiting, and the sentence says what to do.
LONG_WAIT = 600


class ApiError(Exception):
    """str() is a sentence or two for a person, the hint with it; `problem` is the document for a
    machine. `retry_after`: seconds, where the API names them."""

    def __init__(
        self,
        sentence: str,
        problem: dict[str, Any],
        *,
        hint: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{sentence.rstrip('.')}. {hint}." if hint else sentence)
        self.problem = problem
        self.hint = hint
        self.retry_after = retry_after

    @property
    def status(self) -> int | None:
        """The HTTP status; None where no answer came."""
        return self.problem.get("status")

    @property
    def reason(self) -> str | None:
        """What went wrong, for programs, such as TASK_NOT_FOUND."""
        return self.problem.get("reason")

    @property
    def passing(self) -> bool:
        """Whether the same request may well succeed a little later."""
        return False

    @property
    def errors(self) -> list[ProblemError]:
        """What is wrong with a body: each has `detail` and, where known, `pointer`."""
        return cast("list[ProblemError]", self.problem.get("errors", []))


class Unreachable(ApiError):
    @property
    def passing(self) -> bool:
        return True


class NotThisApi(ApiError):
    pass


class Rejected(ApiError):
    @property
    def passing(self) -> bool:
        return self.status == HTTPStatus.TOO_MANY_REQUESTS


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
    sentence = f"The API at {url} cannot be reached ({why})"
    problem = _local("The API cannot be reached", sentence, "UNREACHABLE")
    hint = _started(url, "Start it with `make run`", "Check the URL, and the way there")
    return Unreachable(sentence, problem, hint=hint)


def not_this_api(url: str, why: str) -> NotThisApi:
    sentence = f"What answers at {url} is not the data collector ({why})"
    hint = _started(url, "Check the URL, or start the collector with `make run`", "Check the URL")
    return NotThisApi(
        sentence, _local("Not the data collector", sentence, "NOT_THIS_API"), hint=hint
    )


def of_answer(url: str, response: httpx.Response, retry_after: float | None) -> ApiError:
    """The error of a 4xx or 5xx answer, whatever its body looks like."""
    problem = _problem(response)
    status, title, detail = problem["status"], problem["title"], problem["detail"]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        sentence = f"The API at {url} answered {status} {title}" + (f": {detail}" if detail else "")
        again = _started(url, "start it again with `make run`", "look at the functions' logs")
        hint = f"If it does not recover, {again}"
        return Unreachable(sentence, problem, hint=hint, retry_after=retry_after)
    kind = Expired if status == HTTPStatus.GONE else Rejected
    sentence = f"{title} ({status})" + (f": {detail}" if detail else "")
    return kind(
        sentence, problem, hint=_hint(response, status, retry_after), retry_after=retry_after
    )


def _hint(response: httpx.Response, status: int, retry_after: float | None) -> str:
    if status == HTTPStatus.TOO_MANY_REQUESTS and retry_after and retry_after < LONG_WAIT:
        return f"Try again in {math.ceil(retry_after)} s"
    if _unsigned(response):
        return "Where requests must be signed, add --sign"
    if status == HTTPStatus.UNAUTHORIZED:
        return (
            f"Give an API key by ${KEY_VARIABLE} or --key; "
            "an admin makes one with `data-collector keys create`"
        )
    return ""


def _started(url: str, here: str, there: str) -> str:
    """What to do about an API on this machine, and about one elsewhere."""
    return here if is_loopback(httpx.URL(url).host) else there


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
