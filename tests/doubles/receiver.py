"""A webhook receiver on loopback that answers as it is told, and writes down what it got."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from tests.doubles.certificates import self_signed


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """`answers`: (status, headers) of the next requests; 204 where there are none left.

    `before_answer` is set for a receiver that never answers.
    """

    port: int = 0
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    seen: list[Request] = field(default_factory=list)
    before_answer: threading.Event | None = None
    content: bytes = b""


@contextmanager
def receiving(tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            sent = {name.lower(): value for name, value in self.headers.items()}
            receiver.seen.append(Request(self.path, sent, body))
            if receiver.before_answer is not None:
                receiver.before_answer.wait(30)
                return
            status, headers = receiver.answers.pop(0) if receiver.answers else (204, {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(receiver.content)))
            self.end_headers()
            self.wfile.write(receiver.content)

        def log_message(self, *_: object) -> None:
            return

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            return  # a client that hangs up, or refuses our certificate, is what tests look at

        def get_request(self):  # type: ignore[no-untyped-def]
            connection, address = super().get_request()
            if tls is None:
                return connection, address
            # The handshake belongs to the request's thread, or one client would stop the server.
            wrapped = tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            return wrapped, address

    with Server(("127.0.0.1", port), Handler) as server:
        receiver.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


def certificate_for(name: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(a server's context, a client's that trusts it) of a new self-signed certificate."""
    public, private = self_signed(name, x509.DNSName(name))
    file = folder / f"{name}.pem"
    file.write_bytes(private + public)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=public.decode())
