"""Errors as Binance answers them: a status and `{"code": ..., "msg": ...}`.

Codes and messages: https://developers.binance.com/docs/binance-spot-api-docs/errors
"""

import json


class ApiError(Exception):
    """A refusal. `retry_after` is in seconds."""

    def __init__(
        self, code: int, msg: str, status: int = 400, retry_after: int | None = None
    ) -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.status = status
        self.retry_after = retry_after

    def body(self) -> str:
        """The reply's JSON."""
        return json.dumps({"code": self.code, "msg": self.msg}, separators=(",", ":"))


def unread(read: int, sent: int) -> ApiError:
    """More parameters were sent than the endpoint knows."""
    msg = "Not all sent parameters were read; read '{}' parameter(s) but was sent '{}'."
    return ApiError(-1104, msg.format(read, sent))


def missing(name: str) -> ApiError:
    """A mandatory parameter was not sent."""
    msg = f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
    return ApiError(-1102, msg)


def illegal(name: str, legal: str) -> ApiError:
    """A parameter holds characters outside its legal range, a regular expression."""
    msg = f"Illegal characters found in parameter '{name}'; legal range is '{legal}'."
    return ApiError(-1100, msg)


def invalid_symbol() -> ApiError:
    """No such symbol, or not any more."""
    return ApiError(-1121, "Invalid symbol.")
