"""Calls over aiobotocore, against a server that answers what AWS never would."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chalicelib.aws.sdk_calls import SdkCalls


class Damaged(BaseHTTPRequestHandler):
    """An object whose bytes are not those that its checksum was made of."""

    def do_GET(self) -> None:
        self.send_response(200)
        for name, value in (("ETag", '"1"'), ("x-amz-checksum-crc32", "AAAAAA==")):
            self.send_header(name, value)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"abc")

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Damaged)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield
    server.shutdown()
    server.server_close()


def test_a_damaged_object_is_read_with_its_version_so_that_it_can_be_mended(
    endpoint: None,
) -> None:
    async def read() -> tuple[bytes, str]:
        calls = SdkCalls()
        try:
            answer = await calls("s3", "GetObject", Bucket="bucket", Key="key")
        finally:
            await calls.aclose()
        return answer["Body"], answer["ETag"]

    assert asyncio.run(read()) == (b"abc", '"1"')
