"""Webhooks: what may be asked for, the signature, the waits; and the sender, against real TLS."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.errors import PoisonMessage
from chalicelib.webhooks import message as webhook_message
from chalicelib.webhooks import retry, signature, webhook
from chalicelib.webhooks import sender as webhook_sender
from chalicelib.webhooks.message import WebhookMessage
from chalicelib.webhooks.sender import WebhookSender
from chalicelib.webhooks.webhook import parse, url_problem
from tests.doubles.receiver import Receiver, certificate_for, receiving

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
GOOD = {"url": "https://hooks.acme.com/in?token=1", "secret": "x" * 24}
NAME = "hooks.acme.com"

# --- what may be asked for ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.acme.com",
        "https://hooks.acme.com:443/",
        "https://hooks.acme.com:1024/in?a=b&c=d",
        "https://hooks.acme.com:65535/in",
        "HTTPS://Hooks.Acme.com/in",
        "https://8.8.8.8/in",
        "https://[2606:4700:4700::1111]/in",
        "https://[2606:4700:4700::1111]:8443/in",
        "https://a.co/" + "x" * (2048 - len("https://a.co/")),
    ],
)
def test_public_https_urls_are_taken(url: str) -> None:
    assert url_problem(url, ()) == ""


@pytest.mark.parametrize(
    "url",
    [
        None,
        7,
        "",
        "hooks.acme.com",
        "//hooks.acme.com/in",
        "http://hooks.acme.com/in",
        "ftp://hooks.acme.com/in",
        "file:///etc/passwd",
        "gopher://hooks.acme.com/",
        "https://",
        "https:///in",
        "https://user@hooks.acme.com/in",
        "https://user:pass@hooks.acme.com/in",
        "https://@hooks.acme.com/in",
        "https://hooks.acme.com@127.0.0.1/in",
        "https://127.0.0.1#@hooks.acme.com/in",
        "https://hooks.acme.com/in#part",
        "https://127.0.0.1\\@hooks.acme.com/in",
        "https://hooks.acme.com:80/in",
        "https://hooks.acme.com:22/in",
        "https://hooks.acme.com:0/in",
        "https://hooks.acme.com:65536/in",
        "https://hooks.acme.com:x/in",
        "https://hooks.acme.com:-1/in",
        "https://127.0.0.1/in",
        "https://127.0.0.1:8443/in",
        "https://[::1]/in",
        "https://[::1]:8443/in",
        "https://[fd00:ec2::254]/latest/meta-data",
        "https://169.254.169.254/latest/meta-data",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://localhost/in",
        "https://localhost.:8443/in",
        "https://①②⑦.⓪.⓪.①/",
        "https://hooks.acme.com/in\r\nx-evil: 1",
        "https://hooks.acme.com/in put",
        "https://hooks.acme.com/\x00",
        " https://hooks.acme.com/",
        "https://a.co/" + "x" * 2048,
    ],
)
def test_any_other_url_is_refused(url: object) -> None:
    assert url_problem(url, ())


@given(st.text(max_size=80))
def test_whatever_url_is_taken_leads_where_its_check_looked(text: str) -> None:
    for url in (text, "https://" + text, f"https://hooks.acme.com{text}"):
        if url_problem(url, ()):
            continue
        to = webhook.target(url)
        assert to.scheme == "https"
        assert to.port == 443 or to.port >= 1024
        assert "@" not in to.authority
        assert to.authority.lower().strip("[]").startswith(to.host)
        assert to.path.startswith("/")
        assert to.path.isascii()
        assert not set(" \r\n") & set(to.path + to.authority)


def test_only_the_very_host_and_port_of_the_setting_escape_the_rules() -> None:
    allowed = ("127.0.0.1:9999", "localhost:9998")
    assert url_problem("http://127.0.0.1:9999/in", allowed) == ""
    assert url_problem("http://localhost:9998/in", allowed) == ""
    for url in (
        "http://127.0.0.1:9998/in",
        "http://127.0.0.1/in",
        "http://127.1:9999/in",
        "http://localhost.:9998/in",
        "http://127.0.0.1:9999@acme.com/in",
        "ftp://127.0.0.1:9999/in",
        "https://192.168.0.1:9999/in",
    ):
        assert url_problem(url, allowed), url


def test_a_webhook_is_told_the_ends_unless_it_names_events() -> None:
    hook, problems = parse(GOOD, ())
    assert problems == []
    assert hook is not None
    assert hook.events == ("task.completed", "task.failed", "task.cancelled")
    assert hook.host == NAME
    hook, _ = parse({**GOOD, "events": ["task.started", "task.started", "task.failed"]}, ())
    assert hook is not None
    assert hook.events == ("task.started", "task.failed")


@pytest.mark.parametrize(
    ("value", "pointers"),
    [
        ("https://hooks.acme.com", [""]),
        (None, [""]),
        ([], [""]),
        ({}, ["/url", "/secret"]),
        ({**GOOD, "url": "http://hooks.acme.com"}, ["/url"]),
        ({**GOOD, "secret": "x" * 23}, ["/secret"]),
        ({**GOOD, "secret": "x" * 257}, ["/secret"]),
        ({**GOOD, "secret": "\n" + "x" * 30}, ["/secret"]),
        ({**GOOD, "secret": "ü" * 30}, ["/secret"]),
        ({**GOOD, "secret": 10**30}, ["/secret"]),
        ({**GOOD, "secret": "whsec_not*base64*at*all*"}, ["/secret"]),
        ({**GOOD, "events": []}, ["/events"]),
        ({**GOOD, "events": "task.completed"}, ["/events"]),
        ({**GOOD, "events": ["task.completed"] * 101}, ["/events"]),
        ({**GOOD, "events": ["nope", "task.completed", 7]}, ["/events/0", "/events/2"]),
        ({**GOOD, "events": ["webhook.failed", "task.expired"]}, ["/events/0", "/events/1"]),
        ({**GOOD, "a/b~c": 1}, ["/a~1b~0c"]),
    ],
)  # fmt: skip
def test_every_problem_of_a_webhook_is_named_by_its_pointer(
    value: object, pointers: list[str]
) -> None:
    hook, problems = parse(value, ())
    assert hook is None
    assert [pointer for _, pointer in problems] == pointers


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(
    inner, max_size=3) | st.dictionaries(st.sampled_from(["url", "secret", "events", "x"]), inner),
    max_leaves=8))  # fmt: skip
def test_no_json_value_breaks_the_check(value: object) -> None:
    hook, problems = parse(value, ())
    assert (hook is None) == bool(problems)


def test_neither_a_refusal_nor_a_printed_webhook_repeats_the_secret() -> None:
    secret = "s3cr3t-s3cr3t-s3cr3t-s3cr3t\x07"
    _, problems = parse({"url": f"https://{secret}", "secret": secret, "events": [secret]}, ())
    assert len(problems) == 3
    assert "s3cr3t" not in str(problems)
    hook, _ = parse(GOOD, ())
    assert "xxxx" not in repr(hook)


# --- what is sent -------------------------------------------------------------------------------


def test_the_signature_is_the_conventions_own_example() -> None:
    """Standard Webhooks, specification, "Verifying webhook authenticity": its published example."""
    body = b'{"test": 2432232314}'
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    made = signature.signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.text("abcXYZ0-9 !#", min_size=24, max_size=256), st.text(max_size=50), st.binary())
def test_a_plain_secret_is_itself_the_key(secret: str, event_id: str, body: bytes) -> None:
    signed = event_id.encode() + b"." + b"1700000000." + body
    expected = base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest())
    made = signature.signature(secret, event_id, 1_700_000_000, body)
    assert made == "v1," + expected.decode()


@given(st.text(), st.integers(0, 10**9), st.dictionaries(st.text(), st.text()))
def test_messages_come_back_as_they_were(task_id: str, seq: int, more: dict[str, str]) -> None:
    event = {**more, "id": "1", "action": "task.completed", "at": "2026-01-01T00:00:00.000Z"}
    message = WebhookMessage(task_id, seq, event)
    assert webhook_message.decode(message.encode()) == message


@given(st.text() | st.sampled_from(['{"v": 1}', "[]", '{"v": 2}', "7", "[" * 5000]))
def test_what_we_never_wrote_is_poison(body: str) -> None:
    with pytest.raises(PoisonMessage):
        webhook_message.decode(body)


# --- waiting ------------------------------------------------------------------------------------


def test_waits_grow_to_an_hour_and_then_end() -> None:
    waits = [retry.wait_seconds(tries, 0.5) for tries in range(1, 8)]
    assert waits == [5, 30, 120, 600, 3600, None, None]


@given(st.integers(1, 5), st.floats(0, 1))
def test_jitter_keeps_a_wait_within_a_fifth(tries: int, chance: float) -> None:
    wait = retry.wait_seconds(tries, chance)
    assert wait is not None
    assert 0.8 * retry.WAITS[tries - 1] <= wait <= 1.2 * retry.WAITS[tries - 1]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("120", 120),
        (" 7 ", 7),
        ("999999999999", 3600),
        ("-5", 0),
        ("soon", 0),
        ("١٢", 0),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 60),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
    ],
)
def test_retry_after_is_read_in_both_forms_and_never_holds_us_for_more_than_an_hour(
    text: str | None, seconds: int
) -> None:
    assert retry.retry_after_seconds(text, 0) == seconds


@given(st.text())
def test_no_retry_after_breaks_the_wait(text: str) -> None:
    assert 0 <= retry.retry_after_seconds(text, 0) <= retry.LONGEST_WAIT


# --- the sender, against a real server ----------------------------------------------------------


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
