"""Running the client inside the test's process, on streams that say what they are."""

import contextlib
import io
import json
from typing import Any, NamedTuple
from unittest import mock

from market_data_collector.cli.__main__ import main
from market_data_collector.sockets import Opener, open_socket
from tests.cli.fake_api import FakeApi


class Stream(io.TextIOWrapper):
    def __init__(self, tty: bool = False):
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty

    def text(self) -> str:
        return self.buffer.getvalue().decode()


class Ran(NamedTuple):
    code: int
    out: str
    err: str
    api: FakeApi
    slept: list[float]

    @property
    def json(self) -> Any:
        """The one document on stdout; fails when there is anything besides."""
        return json.loads(self.out)

    def body(self, n: int = 0) -> Any:
        return json.loads(self.api.requests[n].content)


def run(
    *args: str,
    api: FakeApi | None = None,
    opener: Opener = open_socket,
    out_tty: bool = False,
    err_tty: bool = False,
    typed: str | None = None,
) -> Ran:
    """`typed`: what a person at a terminal types; None: nobody is there."""
    api = api or FakeApi()
    slept: list[float] = []
    out, err = Stream(out_tty), Stream(err_tty)
    keyboard = Stream(tty=typed is not None)
    keyboard.write(typed or "")
    keyboard.seek(0)
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch("sys.stdin", keyboard),
    ):
        code = main(args, transport=api, sleep=slept.append, opener=opener)
    return Ran(code, out.text(), err.text(), api, slept)
