"""A loopback server that answers GetItem and SendMessage like AWS, in a thread of this process.

Not an emulator: an emulator's own time would blur the difference between two clients.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer: dict[str, Any] = {}
        if self.headers["x-amz-target"].endswith(".SendMessage"):
            # The SDK compares this digest with its own.
            digest = hashlib.md5(request["MessageBody"].encode(), usedforsecurity=False)
            answer = {"MessageId": "1", "MD5OfMessageBody": digest.hexdigest()}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/x-amz-json-1.0")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        return


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The root URL, while the server runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
