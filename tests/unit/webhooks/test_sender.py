"""The sender of webhooks, against a real server with TLS."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chalicelib.webhooks import retry, signature
from chalicelib.webhooks import sender as webhook_sender
from chalicelib.webhooks.sender import WebhookSender
from tests.doubles.receiver import Receiver, certificate_for, receiving

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
NAME = "hooks.acme.com"


class Network:
    """Answers names as it is told, and connects every checked address to the one test server.

    Only the socket's other end is a test's; that the checked address was asked for is recorded.
    """

    def __init__(self, port: int, *answers: list[str]) -> None:
        self.port, self.answers = port, list(answers)
        self.asked: list[str] = []
        self.connected: list[str] = []

    def resolve(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self.answers.pop(0)

    def connect(self, address: str, port: int, seconds: float) -> socket.socket:
        self.connected.append(address)
        return socket.create_connection(("127.0.0.1", self.port), timeout=seconds)


@contextmanager
def tls_receiver(tmp_path: Path, name: str = NAME) -> Iterator[tuple[Receiver, ssl.SSLContext]]:
    server, client = certificate_for(name, tmp_path)
    with receiving(server) as receiver:
        yield receiver, client


PUBLIC = "93.184.215.14"


def test_a_delivery_goes_to_the_checked_address_under_its_own_name(tmp_path: Path) -> None:
    with tls_receiver(tmp_path) as (receiver, client):
        network = Network(receiver.port, [PUBLIC])
        sender = WebhookSender((), network.resolve, network.connect, client)
        headers = signature.headers(SECRET, "task:1:7", 1_700_000_000, b"{}")
        answer = sender.post(f"https://{NAME}:8443/in?a=b", headers, b"{}")
        [request] = receiver.seen
    assert answer.status == 204
    assert network.connected == [PUBLIC]
    assert request.path == "/in?a=b"
    assert request.headers["host"] == f"{NAME}:8443"
    assert request.headers["webhook-id"] == "task:1:7"
    assert request.headers["user-agent"] == signature.USER_AGENT
    assert request.body == b"{}"


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        [PUBLIC, "10.0.0.1"],
        ["10.0.0.1", PUBLIC],
        [PUBLIC, "fe80::1%eth0"],
        [PUBLIC, "::ffff:8.8.8.8"],
        ["169.254.169.254"],
        ["fd00:ec2::254"],
    ],
    ids=str,
)
def test_a_name_with_any_refused_address_is_never_connected_to(addresses: list[str]) -> None:
    network = Network(1, addresses)
    answer = WebhookSender((), network.resolve, network.connect).post(f"https://{NAME}/", {}, b"")
    assert answer.refused
    assert "resolves to a" in answer.problem
    assert network.connected == []


def test_a_name_that_resolves_to_a_private_address_a_moment_later_gains_nothing(
    tmp_path: Path,
) -> None:
    with tls_receiver(tmp_path) as (receiver, client):
        network = Network(receiver.port, [PUBLIC], ["127.0.0.1"])
        sender = WebhookSender((), network.resolve, network.connect, client)
        assert sender.post(f"https://{NAME}/", {}, b"").status == 204
        # One look, whose answer was checked, is what was connected to.
        assert (network.asked, network.connected) == ([NAME], [PUBLIC])
        assert sender.post(f"https://{NAME}/", {}, b"").refused
        assert network.connected == [PUBLIC]
        assert len(receiver.seen) == 1


def test_connecting_never_resolves_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    real = socket.getaddrinfo

    def note(host: object, *arguments: object, **named: object) -> object:
        looked.append(host)
        return real(host, *arguments, **named)  # type: ignore[arg-type]

    with receiving() as receiver:
        monkeypatch.setattr(socket, "getaddrinfo", note)
        with webhook_sender._connection_to("127.0.0.1", receiver.port, 5) as connection:
            assert connection.getpeername() == ("127.0.0.1", receiver.port)
    assert set(looked) <= {"127.0.0.1"}


def test_a_certificate_of_another_name_is_no_receiver(tmp_path: Path) -> None:
    with tls_receiver(tmp_path, "other.acme.com") as (receiver, client):
        network = Network(receiver.port, [PUBLIC])
        sender = WebhookSender((), network.resolve, network.connect, client)
        answer = sender.post(f"https://{NAME}/", {}, b"")
    assert (answer.status, answer.refused) == (0, False)
    assert "certificate" in answer.problem
    assert receiver.seen == []


def test_a_certificate_that_nobody_trusts_is_no_receiver(tmp_path: Path) -> None:
    with tls_receiver(tmp_path) as (receiver, _):
        network = Network(receiver.port, [PUBLIC])
        sender = WebhookSender((), network.resolve, network.connect)
        assert "certificate" in sender.post(f"https://{NAME}/", {}, b"").problem
    assert receiver.seen == []


def test_a_redirect_is_an_answer_and_not_followed(tmp_path: Path) -> None:
    with tls_receiver(tmp_path) as (receiver, client):
        receiver.answers = [(307, {"location": "https://169.254.169.254/latest/"})]
        network = Network(receiver.port, [PUBLIC])
        sender = WebhookSender((), network.resolve, network.connect, client)
        assert sender.post(f"https://{NAME}/", {}, b"").status == 307
    assert len(receiver.seen) == 1
    assert len(network.connected) == 1
    assert not retry.is_delivered(307)
    assert not retry.may_pass(307)


def test_the_next_checked_address_is_tried_where_the_first_takes_no_connection() -> None:
    with receiving() as receiver:
        tried = []

        def connect(address: str, port: int, seconds: float) -> socket.socket:
            tried.append(address)
            if address == "2606:4700::1111":
                raise OSError("no IPv6 here")
            return socket.create_connection(("127.0.0.1", receiver.port), timeout=seconds)

        allowed = (f"{NAME}:8080",)
        sender = WebhookSender(allowed, lambda host, port: ["2606:4700::1111", PUBLIC], connect)
        assert sender.post(f"http://{NAME}:8080/", {}, b"").status == 204
        assert tried == ["2606:4700::1111", PUBLIC]


def test_what_goes_wrong_on_the_way_is_told_without_what_was_received() -> None:
    def no_name(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    def closed(address: str, port: int, seconds: float) -> socket.socket:
        raise ConnectionRefusedError("port 1 of 10.1.2.3")

    unresolved = WebhookSender((), no_name).post(f"https://{NAME}/", {}, b"")
    nobody = WebhookSender((), lambda host, port: []).post(f"https://{NAME}/", {}, b"")
    shut = WebhookSender((), lambda host, port: [PUBLIC], closed).post(f"https://{NAME}/", {}, b"")
    too_long = WebhookSender(()).post(f"https://{'a' * 70}.com/", {}, b"")
    answers = [unresolved, nobody, shut, too_long]
    assert all(answer.status == 0 and answer.problem and not answer.refused for answer in answers)
    assert "10.1.2.3" not in shut.problem


@pytest.mark.parametrize(
    "script",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 banana\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"\xff" * 70_000,
    ],
    ids=lambda script: repr(script[:20]),
)
def test_an_answer_that_is_no_http_is_a_failed_try(script: bytes) -> None:
    with _raw_server(script) as port:
        answer = WebhookSender((f"127.0.0.1:{port}",)).post(f"http://127.0.0.1:{port}/", {}, b"")
    assert (answer.status, answer.refused) == (0, False)
    assert answer.problem


_EARLY = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n"
_BUSY = b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\n\r\n"


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n",
        _EARLY,
        _EARLY * 3 + b"HTTP/1.1 100 Continue\r\n\r\n" + _EARLY,
        b"HTTP/1.1 103 Early Hints\r\nretry-after: 3000\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 199 Something\r\n\r\n",
    ],
    ids=lambda interim: repr(interim[:24]) + str(len(interim)),
)
@pytest.mark.parametrize(
    ("final", "status", "retry_after"),
    [(b"HTTP/1.1 204 No Content\r\n\r\n", 204, None), (_BUSY, 503, "7")],
    ids=["204", "503"],
)
def test_the_answer_after_interim_ones_is_the_one_that_counts(
    interim: bytes, final: bytes, status: int, retry_after: str | None
) -> None:
    with _raw_server(interim + final) as port:
        answer = WebhookSender((f"127.0.0.1:{port}",)).post(f"http://127.0.0.1:{port}/", {}, b"")
    assert (answer.status, answer.retry_after) == (status, retry_after)


def test_a_switch_of_protocols_is_an_answer_that_nothing_follows() -> None:
    with _raw_server(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n" + _BUSY) as port:
        answer = WebhookSender((f"127.0.0.1:{port}",)).post(f"http://127.0.0.1:{port}/", {}, b"")
    assert (answer.status, answer.problem) == (101, "")


def test_interim_answers_without_end_are_a_failed_try() -> None:
    beyond = webhook_sender.MOST_BYTES // len(_EARLY) + 1
    with _raw_server(_EARLY * beyond + b"HTTP/1.1 204 No Content\r\n\r\n") as port:
        answer = WebhookSender((f"127.0.0.1:{port}",)).post(f"http://127.0.0.1:{port}/", {}, b"")
    assert (answer.status, answer.refused) == (0, False)
    assert answer.problem


def test_an_answer_that_ends_with_an_interim_one_is_waited_for_until_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webhook_sender, "TOTAL_SECONDS", 0.3)
    stop = threading.Event()
    with _raw_server(_EARLY, drip=stop) as port:
        answer = WebhookSender((f"127.0.0.1:{port}",)).post(f"http://127.0.0.1:{port}/", {}, b"")
        stop.set()
    assert (answer.status, answer.refused) == (0, False)
    assert "no answer within" in answer.problem


def test_no_more_than_64_kilobytes_of_an_answer_are_read() -> None:
    ours, theirs = socket.socketpair()

    def send() -> None:
        theirs.sendall(b"x" * 100_000)
        theirs.shutdown(socket.SHUT_WR)

    with ours, theirs:
        sending = threading.Thread(target=send, daemon=True)
        sending.start()
        reading = webhook_sender._Reading(ours, time.monotonic() + 30)
        assert len(reading.makefile("rb").read()) == webhook_sender.MOST_BYTES
        while ours.recv(100_000):
            pass
        sending.join()


def test_a_head_without_an_end_is_no_more_than_its_first_64_kilobytes() -> None:
    lines = b"".join(b"x-%d: %s\r\n" % (number, b"y" * 900) for number in range(95))
    with _raw_server(b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\n" + lines) as port:
        answer = WebhookSender((f"127.0.0.1:{port}",)).post(f"http://127.0.0.1:{port}/", {}, b"")
    assert (answer.status, answer.retry_after) == (503, "7")


def test_a_receiver_that_drips_or_hangs_is_given_up_at_one_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webhook_sender, "TOTAL_SECONDS", 0.3)
    with receiving() as receiver:
        receiver.before_answer = threading.Event()
        address = f"127.0.0.1:{receiver.port}"
        answer = WebhookSender((address,)).post(f"http://{address}/", {}, b"")
        receiver.before_answer.set()
    assert "no answer within" in answer.problem
    stop = threading.Event()
    with _raw_server(b"HTTP/1.1 200 OK\r\n", drip=stop) as port:
        address = f"127.0.0.1:{port}"
        answer = WebhookSender((address,)).post(f"http://{address}/", {}, b"")
        stop.set()
    assert "no answer within" in answer.problem


def test_a_name_that_never_resolves_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_sender, "CONNECT_SECONDS", 0.05)
    never = threading.Event()

    def hang(host: str, port: int) -> list[str]:
        never.wait(30)
        return [PUBLIC]

    answer = WebhookSender((), hang).post(f"https://{NAME}/", {}, b"")
    never.set()
    assert "not resolved in time" in answer.problem


@contextmanager
def _raw_server(script: bytes, drip: threading.Event | None = None) -> Iterator[int]:
    """Sends `script` to its one client; with `drip`, a header's byte at a time ever after."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    connection.recv(65_536)
                    connection.sendall(script)
                    while drip is not None and not drip.wait(0.02):
                        connection.sendall(b"x")
                except OSError:
                    return  # the client has seen enough

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)
