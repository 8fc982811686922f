"""Watching: over the WebSocket as long as there is one, else by polling."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import Any

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.sync.server import ServerConnection, serve

from market_data_collector.cli.__main__ import main
from market_data_collector.effects import Unheard
from market_data_collector.sockets import open_socket
from tests.cli import running
from tests.cli.fake_api import TASK_ID, FakeApi, problem, task
from tests.cli.running import Ran, Stream

TICKET = {"ticket": "a/b", "expires_at": "2026-11-23T12:01:00.000Z", "url": "ws://there"}
TOPIC = f"task:{TASK_ID}"


def snapshot(number: int, topic: str = TOPIC, **content: Any) -> dict[str, Any]:
    return {"type": "snapshot", "topic": topic, "sequence": number, "at": "now", **content}


def update(number: int, topic: str = TOPIC, **content: Any) -> dict[str, Any]:
    return {**snapshot(number, topic, **content), "type": "update"}


def error(reason: str, detail: str = "what is wrong") -> dict[str, Any]:
    return {"type": "error", "reason": reason, "detail": detail}


class Server:
    """WebSocket connections by script: a list of what each of them brings, in turn.

    An exception in a script is raised by `recv`; None is a silence; a script that is an exception
    refuses the connection. The last connection's end is Ctrl-C, by which a person stops watching.
    """

    def __init__(self, *connections: Any) -> None:
        self.connections = list(connections)
        self.opened: list[str] = []
        self.said: list[dict[str, Any]] = []
        self.closed = 0

    def __call__(self, url: str) -> Server:
        self.opened.append(url)
        script = self.connections.pop(0) if self.connections else KeyboardInterrupt()
        if isinstance(script, BaseException):
            raise script
        self.left = list(script)
        return self

    def send(self, message: str) -> None:
        self.said.append(json.loads(message))

    def recv(self, timeout: float) -> str:
        message = self.left.pop(0) if self.left else KeyboardInterrupt()
        if message is None:
            raise TimeoutError
        if isinstance(message, BaseException):
            raise message
        return message if isinstance(message, str) else json.dumps(message)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed += 1


def watch(*args: str, server: Server, api: FakeApi | None = None, **ttys: bool) -> Ran:
    api = api or FakeApi()
    api.usual["POST /ws-ticket"] = (201, TICKET)
    return running.run("watch", *args, api=api, opener=server, **ttys)


def lines(ran: Ran) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran.out.splitlines()]


def states(ran: Ran) -> list[str]:
    return [message["task"]["status"] for message in lines(ran)]


def test_a_task_is_followed_to_its_end_with_a_ticket() -> None:
    server = Server(
        [
            {"type": "subscribed", "topics": [TOPIC]},
            snapshot(0, task=task("pending", 0)),
            update(1, task=task("running", 9)),
            update(2, task=task("completed")),
        ]
    )
    ran = watch(TASK_ID, "--json", server=server)
    assert ran.code == 0
    assert server.opened == ["ws://there?ticket=a%2Fb"]
    assert server.said == [{"action": "subscribe", "topics": [TOPIC]}]
    assert states(ran) == ["pending", "running", "completed"]
    assert server.closed == 1


@pytest.mark.parametrize(
    ("last", "code"),
    [(task("completed"), 0), (task("completed", failed=2), 3), (task("failed", 2), 1)],
)
def test_the_exit_code_is_that_of_wait(last: dict[str, Any], code: int) -> None:
    api = FakeApi({"GET /task": [last]})
    server = Server([snapshot(4, task=last)])
    ran = watch(TASK_ID, server=server, api=api)
    assert ran.code == code
    assert last["status"].capitalize() in ran.out


def test_a_terminal_shows_a_bar_and_then_how_it_ended() -> None:
    server = Server([snapshot(0, task=task("running", 9)), update(1, task=task("completed"))])
    ran = watch(TASK_ID, server=server, out_tty=True, err_tty=True)
    assert "9/18 units" in ran.err
    assert "Completed: 18 of 18 units" in ran.out


def test_after_a_hole_a_snapshot_is_asked_for_and_nothing_is_lost_from_sight() -> None:
    server = Server(
        [
            snapshot(0, task=task("running", 1)),
            update(1, task=task("running", 2)),
            update(4, task=task("running", 5)),
            snapshot(5, task=task("running", 6)),
            update(5, task=task("running", 6)),
            update(6, task=task("completed")),
        ]
    )
    ran = watch(TASK_ID, "--json", server=server)
    assert server.said[1:] == [{"action": "snapshot", "topics": [TOPIC]}]
    assert [message["sequence"] for message in lines(ran)] == [0, 1, 4, 5, 6]


def test_updates_that_come_before_their_snapshot_wait_for_it() -> None:
    server = Server(
        [
            update(3, task=task("running", 3)),
            update(4, task=task("completed")),
            snapshot(3, task=task("running", 4)),
        ]
    )
    ran = watch(TASK_ID, "--json", server=server)
    assert [message["sequence"] for message in lines(ran)] == [3, 4]


def test_what_is_behind_the_snapshot_is_not_shown() -> None:
    server = Server(
        [
            snapshot(0, task=task("running", 9)),
            update(1, task=task("pending", 0)),
            update(2, task=task("running", 0)),
            update(3, task=task("completed")),
        ]
    )
    assert states(watch(TASK_ID, "--json", server=server)) == ["running", "completed"]


def test_a_lost_connection_is_made_again_with_a_new_ticket() -> None:
    server = Server(
        [snapshot(0, task=task("running", 1)), ConnectionClosedError(None, None)],
        Unheard("not yet"),
        [snapshot(7, task=task("completed"))],
    )
    ran = watch(TASK_ID, "--json", server=server)
    assert ran.code == 0
    assert len(server.opened) == 3
    assert ran.api.sent().count("POST /api/v1/data-collector/ws-ticket") == 3
    assert ran.slept == sorted(ran.slept)
    assert "polling" not in ran.err


def test_a_silence_is_broken_by_asking_for_a_snapshot() -> None:
    server = Server(
        [snapshot(0, task=task("running", 1)), None, snapshot(0, task=task("completed"))]
    )
    ran = watch(TASK_ID, "--json", server=server)
    assert ran.code == 0
    assert server.said[1] == {"action": "snapshot", "topics": [TOPIC]}


def test_a_connection_that_stays_silent_is_made_again() -> None:
    server = Server(
        [snapshot(0, task=task("running", 1)), None, None], [snapshot(2, task=task("completed"))]
    )
    assert watch(TASK_ID, "--json", server=server).code == 0
    assert len(server.opened) == 2


def test_without_a_websocket_the_task_is_polled_and_a_note_says_so() -> None:
    api = FakeApi({"GET /task": [task("running", 9), task("completed")]})
    ran = watch(TASK_ID, server=Server(Unheard("no route")), api=api)
    assert ran.code == 0
    assert "polling instead" in ran.err
    assert "Completed" in ran.out


def test_an_api_without_tickets_is_polled() -> None:
    api = FakeApi({"POST /ws-ticket": [problem(403, "Forbidden", "no", "NO")]})
    ran = watch("tasks", "prices:BTCUSDT", server=Server(), api=_until_interrupted(api))
    assert ran.code == 130
    assert "polling instead" in ran.err
    assert "91,234.5" in ran.out


def _until_interrupted(api: FakeApi) -> FakeApi:
    prices = {"prices": {"BTCUSDT": {"price": 91234.5, "time": "2026-11-23T11:59:48Z"}}}
    api.script["GET /latest-prices"] = [httpx.Response(200, json=prices), KeyboardInterrupt()]
    return api


def test_polling_several_topics_outlives_a_restart() -> None:
    api = FakeApi()
    prices = {"prices": {"BTCUSDT": {"price": 91234.5, "time": "2026-11-23T11:59:48Z"}}}
    api.script["GET /latest-prices"] = [
        httpx.Response(200, json=prices),
        *[problem(503, "Not ready", "restarting", "BACKEND_UNAVAILABLE")] * 3,
        httpx.Response(200, json={"prices": {"BTCUSDT": {"price": 7.5, "time": None}}}),
        KeyboardInterrupt(),
    ]
    ran = watch("tasks", "prices:BTCUSDT", server=Server(Unheard("no route")), api=api)
    assert ran.code == 130
    assert "7.5" in ran.out


def test_polling_several_topics_ends_where_the_api_stays_away() -> None:
    api = FakeApi()
    away = problem(503, "Not ready", "restarting", "BACKEND_UNAVAILABLE")
    prices = {"prices": {"BTCUSDT": {"price": 91234.5, "time": "2026-11-23T11:59:48Z"}}}
    api.script["GET /latest-prices"] = [httpx.Response(200, json=prices), *[away] * 20]
    ran = watch("tasks", "prices:BTCUSDT", server=Server(Unheard("no route")), api=api)
    assert ran.code == 4
    assert sum(ran.slept) < 60


def test_a_task_that_is_retried_while_others_are_watched_is_watched_to_its_end_again() -> None:
    other = "task:other"
    server = Server(
        [
            snapshot(0, task=task("failed", 2)),
            snapshot(0, other, task=task("running", 1)),
            update(1, task=task("running", 2, attempt=2)),
            update(1, other, task=task("completed")),
            update(2, task=task("completed", attempt=2)),
        ]
    )
    ran = watch(TASK_ID, "other", "--json", server=server)
    assert states(ran) == ["failed", "running", "running", "completed", "completed"]
    assert ran.code == 0


@pytest.mark.parametrize(
    "url",
    [
        *("http://there", "there", "ws://", "ws://[::1/ws", "ws://there:port", "ws://there:0"),
        *("ws://there:70000", "ws://there/ws?ticket=mine", "ws://there#here"),
    ],
)
def test_an_address_that_is_no_websockets_is_wrong_usage(url: str) -> None:
    ran = watch(TASK_ID, "--ws-url", url, server=Server())
    assert ran.code == 2
    assert "--ws-url" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://127.0.0.1:1/?ticket=secret", None),
        ("ws://127.0.0.1:70000/?ticket=secret", None),
        ("ws://[::1/?ticket=secret", None),
        ("wss://there.example/?ticket=secret", "strange://proxy"),
        ("wss://there.example/?ticket=secret", "socks5://127.0.0.1:1"),
    ],
)
def test_what_cannot_be_opened_is_unheard_and_the_ticket_is_not_told(
    monkeypatch: pytest.MonkeyPatch, url: str, proxy: str | None
) -> None:
    for name in ("wss_proxy", "https_proxy", "WSS_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    if proxy:
        monkeypatch.setenv("wss_proxy", proxy)
    with pytest.raises(Unheard) as unheard, open_socket(url):
        pass
    assert "secret" not in str(unheard.value)


def test_candles_cannot_be_polled_and_that_is_said() -> None:
    ran = watch("candles:BTCUSDT:1m", server=Server(Unheard("no route")))
    assert ran.code == 4
    assert "WebSocket only" in ran.err


def test_a_connection_that_cannot_be_made_again_is_given_up_for_polling() -> None:
    api = FakeApi({"GET /task": [task("completed")]})
    server = Server([snapshot(0, task=task("running", 1)), OSError()], *[Unheard("no")] * 9)
    ran = watch(TASK_ID, server=server, api=api)
    assert ran.code == 0
    assert "polling instead" in ran.err


@pytest.mark.parametrize("reason", ["UNKNOWN_TOPIC", "TASK_NOT_FOUND", "UNKNOWN_SYMBOL"])
def test_a_topic_that_is_refused_ends_it_with_the_servers_words(reason: str) -> None:
    ran = watch("weather", server=Server([error(reason, "no such thing")]))
    assert ran.code == 2
    assert "no such thing" in ran.err


@pytest.mark.parametrize("reason", ["RATE_LIMITED", "CONNECTION_EXPIRED", "BACKEND_UNAVAILABLE"])
def test_an_error_that_passes_is_outlived(reason: str) -> None:
    server = Server(
        [snapshot(0, task=task("running", 1)), error(reason)], [snapshot(1, task=task("completed"))]
    )
    assert watch(TASK_ID, "--json", server=server).code == 0


@pytest.mark.parametrize("strange", ["no JSON", "[]", "7", '{"type": "update", "topic": []}'])
def test_a_server_of_another_kind_is_not_believed(strange: str) -> None:
    api = FakeApi({"GET /task": [task("completed")]})
    ran = watch(TASK_ID, server=Server(*[[strange]] * 9), api=api)
    assert ran.code == 0
    assert "polling instead" in ran.err


def test_streams_go_on_until_ctrl_c_in_plain_lines() -> None:
    candle = {"open_time": "2026-11-23T11:59:00.000Z", "open": 1.0, "high": 2.0, "low": 0.5}
    candle |= {"close": 1.5, "volume": 12.25}
    server = Server(
        [
            snapshot(0, "tasks", tasks=[task("running", 9)], count=1),
            snapshot(0, "prices:BTCUSDT", price=62000.5, time="2026-11-23T12:00:00.000Z"),
            update(1, "prices:BTCUSDT", price=5, time="2026-11-23T12:00:00.000Z", stale=True),
            snapshot(0, "candles:BTCUSDT:1m", candle=candle, covered=None),
            snapshot(0, "candles:BTCUSDT:1h", candle=None, covered=None),
        ]
    )
    ran = watch("tasks", "prices:BTCUSDT", "candles:BTCUSDT:1m", server=server)
    assert ran.code == 130
    assert ran.out.splitlines() == [
        f"{TASK_ID}   50%  running  9/18 units  9,000 candles  "
        "Collected data for ETHUSDT 5m (9/18)",
        "prices:BTCUSDT  62,000.5  2026-11-23 12:00:00 UTC",
        "prices:BTCUSDT  5  2026-11-23 12:00:00 UTC  stale",
        "candles:BTCUSDT:1m  2026-11-23 11:59:00 UTC  O 1.0  H 2.0  L 0.5  C 1.5  V 12.25",
        "candles:BTCUSDT:1h  –",
    ]


def test_another_address_can_be_given() -> None:
    server = Server([snapshot(0, task=task())])
    assert watch(TASK_ID, "--json", "--ws-url", "ws://here/ws", server=server).code == 0
    assert server.opened[0].startswith("ws://here/ws?ticket=")


@pytest.mark.parametrize(
    ("region", "suffix"),
    [
        ("us-east-2", "amazonaws.com"),
        ("cn-north-1", "amazonaws.com.cn"),
        ("eusc-de-east-1", "amazonaws.eu"),
    ],
)
def test_requests_are_signed_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, region: str, suffix: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    api = FakeApi()
    url = f"https://abc123.execute-api.{region}.{suffix}"
    ran = running.run("start", "BTCUSDT", "--sign", "--api-url", url, api=api)
    assert ran.code == 0
    sent = api.requests[0]
    assert f"/{region}/execute-api/aws4_request" in sent.headers["Authorization"]
    # The same request, signed by botocore at the same moment, has the same signature.
    again = AWSRequest(sent.method, str(sent.url), data=sent.content)
    for name in ("Host", "Content-Type"):
        again.headers[name] = sent.headers[name]
    again.context["timestamp"] = sent.headers["X-Amz-Date"]
    signer = SigV4Auth(Credentials("AKIDEXAMPLE", "secret"), "execute-api", region)
    again.headers["X-Amz-Date"] = sent.headers["X-Amz-Date"]
    canonical = signer.canonical_request(again)
    signature = signer.signature(signer.string_to_sign(again, canonical), again)
    assert sent.headers["Authorization"].endswith(f"Signature={signature}")


@pytest.mark.parametrize("sign", [False, True])
def test_who_is_refused_unsigned_is_told_how_to_sign(
    monkeypatch: pytest.MonkeyPatch, sign: bool
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    refused = httpx.Response(
        403,
        json={"message": "Missing Authentication Token"},
        headers={"x-amzn-ErrorType": "MissingAuthenticationTokenException"},
    )
    ran = running.run("tasks", *["--sign"] * sign, api=FakeApi({"GET /tasks": [refused]}))
    assert ran.code == 2
    assert "Missing Authentication Token" in ran.err
    assert ("--sign" in ran.err) is not sign


def test_without_credentials_signing_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("DATA_COLLECTOR_SIGN", "1")
    ran = running.run("tasks", api=FakeApi())
    assert ran.code == 2
    assert "credentials" in ran.err


def test_the_command_is_in_the_clients_help() -> None:
    out = Stream()
    with contextlib.redirect_stdout(out):
        assert main(["--help"]) == 0
    assert "watch" in out.text()


def test_a_real_websocket_is_opened_heard_and_closed() -> None:
    """By the library itself, over loopback."""
    ended = []

    def talk(client: ServerConnection) -> None:
        topics = json.loads(client.recv())["topics"]
        client.send(json.dumps(snapshot(0, topics[0], task=task("running", 9))))
        client.send(json.dumps(update(1, topics[0], task=task("completed"))))
        with contextlib.suppress(ConnectionClosed):
            client.recv()
        ended.append(topics)

    with serve(talk, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        api = FakeApi()
        api.usual["POST /ws-ticket"] = (201, {**TICKET, "url": address})
        ran = running.run("watch", TASK_ID, "--json", api=api)
        server.shutdown()
        thread.join()
    assert ran.code == 0
    assert states(ran) == ["running", "completed"]
    assert ended == [[TOPIC]]


def test_where_nobody_listens_the_task_is_polled() -> None:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        api = FakeApi()
        address = f"ws://127.0.0.1:{taken.getsockname()[1]}"
        api.usual["POST /ws-ticket"] = (201, {**TICKET, "url": address})
        ran = running.run("watch", TASK_ID, api=api)
    assert ran.code == 0
    assert "polling instead" in ran.err
