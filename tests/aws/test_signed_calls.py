"""The SDK-free calls: their signature against botocore's, their answers against a real server."""

from __future__ import annotations

import asyncio
import gc
import http.server
import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chalicelib.aws import pooled_calls, s3_requests
from chalicelib.aws.calls import run
from chalicelib.aws.pooled_calls import PooledCalls
from chalicelib.aws.protocol import Protocol
from chalicelib.aws.signature import presigned, sign
from chalicelib.aws.signed_calls import SignedCalls
from chalicelib.core.errors import CallFailed, ConditionFailed
from tests.aws.endpoint import close

Call = Callable[..., dict[str, Any]]

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
}


@given(
    body=st.binary(max_size=300),
    service=st.sampled_from(["dynamodb", "sqs", "events", "execute-api"]),
    token=st.sampled_from([None, "session/token=="]),
    path=st.sampled_from(["/", "/api/@connections/abc%3D", "/a%20b/c"]),
    query=st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=3),
    method=st.sampled_from(["POST", "PUT", "DELETE"]),
    second=st.integers(0, 4_000_000_000),
)
@example(
    body=b"",
    service="sqs",
    token=None,
    path="/",
    query={"0": "", "00": ""},
    method="POST",
    second=0,
)
def test_signature_is_the_one_botocore_makes(
    body: bytes,
    service: str,
    token: str | None,
    path: str,
    query: dict[str, str],
    method: str,
    second: int,
) -> None:
    pairs = (f"{quote(name, safe='-_.~')}={quote(query[name], safe='-_.~')}" for name in query)
    url = f"https://host.example.com{path}{'?' if query else ''}{'&'.join(pairs)}"
    moment = time.gmtime(second)
    headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": "T.Op"}
    credentials = {**CREDENTIALS, **({"AWS_SESSION_TOKEN": token} if token else {})}
    ours = sign(method, url, headers, body, service, "eu-west-1", credentials, moment)

    theirs = AWSRequest(method, url, headers, body)
    signer = SigV4Auth(
        Credentials(CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"], token),
        service,
        "eu-west-1",
    )
    theirs.context["timestamp"] = time.strftime("%Y%m%dT%H%M%SZ", moment)
    theirs.headers["X-Amz-Date"] = theirs.context["timestamp"]
    if token:
        theirs.headers["X-Amz-Security-Token"] = token
    signature = signer.signature(
        signer.string_to_sign(theirs, signer.canonical_request(theirs)), theirs
    )
    assert ours["authorization"].rpartition("Signature=")[2] == signature
    assert ours["x-amz-date"] == theirs.context["timestamp"]
    assert ours["host"] == "host.example.com"


S3_KEYS = st.text(min_size=1, max_size=20).map(lambda key: f"candles/exchange=x/{key}.parquet")


@given(
    key=S3_KEYS.filter(lambda key: key.isprintable()),
    token=st.sampled_from([None, "session/token=="]),
    second=st.integers(0, 4_000_000_000),
    scheme=st.sampled_from(["http", "https"]),
    checksum=st.sampled_from([None, "AAAAAA=="]),
)
def test_requests_to_s3_and_presigned_urls_are_those_that_botocore_makes(
    key: str, token: str | None, second: int, scheme: str, checksum: str | None
) -> None:
    url = f"{scheme}://bucket.s3.eu-west-1.amazonaws.com/{quote(key, safe='/-_.~')}"
    moment = time.gmtime(second)
    credentials = {**CREDENTIALS, **({"AWS_SESSION_TOKEN": token} if token else {})}
    theirs = Credentials(*CREDENTIALS.values(), token)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", moment)

    headers = {"x-amz-checksum-crc32": checksum} if checksum else {}
    ours = sign("PUT", url, headers, b"content", "s3", "eu-west-1", credentials, moment)
    request = AWSRequest("PUT", url, headers, b"content")
    # As a client of its own prepares it before it signs.
    request.context["checksum"] = {
        "request_algorithm": {"in": "header", "name": "x-amz-checksum-crc32"}
    }
    request.context["has_streaming_input"] = True
    request.headers["X-Amz-Date"] = request.context["timestamp"] = stamp
    if token:
        request.headers["X-Amz-Security-Token"] = token
    signer = S3SigV4Auth(theirs, "s3", "eu-west-1")
    request.headers["X-Amz-Content-SHA256"] = signer.payload(request)
    assert ours["x-amz-content-sha256"] == request.headers["X-Amz-Content-SHA256"]
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    assert ours["authorization"].rpartition("Signature=")[2] == signature

    shown = presigned(url, "eu-west-1", credentials, moment, 900)
    request = AWSRequest("GET", url)
    request.context["timestamp"] = stamp
    query = S3SigV4QueryAuth(theirs, "s3", "eu-west-1", expires=900)
    query._modify_request_before_signing(request)
    canonical = query.canonical_request(request)
    signature = query.signature(query.string_to_sign(request, canonical), request)
    assert shown == f"{request.url}&X-Amz-Signature={signature}"


class Script(http.server.BaseHTTPRequestHandler):
    """Answers from a list of (status, body), or drops the connection for None."""

    answers: list[tuple[int, dict[str, object] | str] | None]
    seen: list[tuple[str, dict[str, str], bytes]]
    methods: list[str]
    error_type = ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.methods.append(self.command)
        self.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        answer = self.answers.pop(0)
        if answer is None:
            self.close_connection = True
            self.connection.close()
            return
        said = answer[1]
        content = (said if isinstance(said, str) else json.dumps(said)).encode()
        self.send_response(answer[0])
        self.send_header("content-length", str(len(content)))
        self.send_header("ETag", '"e"')
        if self.error_type:
            self.send_header("x-amzn-ErrorType", self.error_type)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Script]]:
    handler = type("Handler", (Script,), {"answers": [], "seen": [], "methods": []})
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listening.server_port}")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    yield handler
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between tries, in seconds; nothing really waits."""
    found: list[float] = []

    async def waited(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(time, "sleep", found.append)
    monkeypatch.setattr(pooled_calls, "asyncio", SimpleNamespace(sleep=waited))
    return found


@pytest.fixture(params=["signed", "pooled"])
def call(request: pytest.FixtureRequest) -> Iterator[Call]:
    """A call of either implementation."""
    if request.param == "signed":
        calls = SignedCalls()
        yield lambda *named, **parameters: run(calls(*named, **parameters))
        close(calls)
        return
    with asyncio.Runner() as runner:
        pooled = PooledCalls()
        yield lambda *named, **parameters: runner.run(pooled(*named, **parameters))
        runner.run(pooled.aclose())


def test_binary_values_travel_as_base64(server: type[Script], call: Call) -> None:
    server.answers = [(200, {"Item": {"data": {"B": "AAEC"}, "B": {"S": "a name like a type"}}})]
    answer = call("dynamodb", "GetItem", Key={"pk": {"B": b"\x00\xff"}})
    assert answer["Item"] == {"data": {"B": b"\x00\x01\x02"}, "B": {"S": "a name like a type"}}
    assert json.loads(server.seen[0][2])["Key"] == {"pk": {"B": "AP8="}}
    assert server.seen[0][1]["x-amz-target"] == "DynamoDB_20120810.GetItem"


def test_events_are_put_in_the_protocol_that_their_service_speaks(
    server: type[Script], call: Call
) -> None:
    server.answers = [(200, {"FailedEntryCount": 0, "Entries": [{"EventId": "e"}]})]
    entry = {"Source": "s", "DetailType": "t", "Detail": "{}", "Time": 1_700_000_000}
    assert call("events", "PutEvents", Entries=[entry])["FailedEntryCount"] == 0
    [(_, headers, body)] = server.seen
    assert headers["x-amz-target"] == "AWSEvents.PutEvents"
    assert headers["content-type"] == "application/x-amz-json-1.1"
    assert "/events/aws4_request" in headers["authorization"]
    assert json.loads(body) == {"Entries": [entry]}


def test_refused_condition_carries_the_old_item(server: type[Script], call: Call) -> None:
    server.answers = [
        (
            400,
            {
                "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
                "Item": {"a": {"N": "1"}},
            },
        )
    ]
    with pytest.raises(ConditionFailed) as failed:
        call("dynamodb", "UpdateItem")
    assert failed.value.item == {"a": {"N": "1"}}


@pytest.mark.parametrize(
    "trouble",
    [
        (500, {"__type": "InternalServerError"}),
        (503, {}),
        (400, {"__type": "x#ThrottlingException", "message": "slow down"}),
        (400, {"__type": "x#ProvisionedThroughputExceededException"}),
        (400, {"__type": "x#TransactionConflictException"}),
        None,
    ],
)
def test_passing_trouble_is_tried_again(
    server: type[Script], call: Call, trouble: tuple[int, dict[str, object]] | None
) -> None:
    server.answers = [trouble, (200, {"MessageId": "m"})]
    assert call("sqs", "SendMessage")["MessageId"] == "m"
    assert len(server.seen) == 2


def test_a_transaction_says_that_it_is_the_same_when_it_is_sent_again(
    server: type[Script], call: Call
) -> None:
    """DynamoDB then does it once, whichever answer was lost."""
    server.answers = [None, (200, {}), (200, {})]
    call("dynamodb", "TransactWriteItems", TransactItems=[])
    call("dynamodb", "TransactWriteItems", TransactItems=[])
    first, again, other = (json.loads(body)["ClientRequestToken"] for _, _, body in server.seen)
    assert first == again != other
    assert len(first) == 32


REASONS = st.lists(
    st.sampled_from(
        (
            *("None", "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"),
            *("ConditionalCheckFailed", "ItemCollectionSizeLimitExceeded", "ValidationError"),
        )
    ),
    max_size=3,
)


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(reasons=REASONS)
@example(reasons=["None", "TransactionConflict"])
@example(reasons=["ConditionalCheckFailed", "TransactionConflict"])
@example(reasons=[])
def test_a_cancelled_transaction_is_tried_again_where_only_others_were_in_the_way(
    server: type[Script], call: Call, pauses: list[float], reasons: list[str]
) -> None:
    cancelled = {
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "CancellationReasons": [{"Code": reason} for reason in reasons],
    }
    server.seen.clear()
    pauses.clear()
    server.answers[:] = [(400, cancelled), (400, cancelled), (200, {})]
    passes = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
    if set(reasons) & passes and set(reasons) <= passes | {"None"}:
        call("dynamodb", "TransactWriteItems")
        assert len(server.seen) == 3
        assert len(set(pauses)) == 2, "each after a wait of its own"
        return
    with pytest.raises(CallFailed) as failed:
        call("dynamodb", "TransactWriteItems")
    assert failed.value.code == "TransactionCanceledException"
    assert (len(server.seen), pauses) == (1, [])


@pytest.mark.parametrize(
    "suffix", ["amazonaws.com", "amazonaws.com.cn", "amazonaws.eu", "sc2s.gov"]
)
@pytest.mark.parametrize(
    "region", ["eu-central-1", "cn-north-1", "us-isob-east-1", "eusc-de-east-1"]
)
def test_host_names_end_as_the_partition_says_whatever_the_region_is_called(
    monkeypatch: pytest.MonkeyPatch, suffix: str, region: str
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_REGION", region)
    assert Protocol(None, suffix).root("sqs") == f"https://sqs.{region}.{suffix}"


def test_lasting_trouble_is_raised_after_four_tries(server: type[Script], call: Call) -> None:
    server.answers = [None, None, None, None]
    with pytest.raises(CallFailed) as failed:
        call("sqs", "SendMessage")
    assert failed.value.code == "ConnectionError"
    assert len(server.seen) == 4


def test_refused_access_is_not_tried_again(server: type[Script], call: Call) -> None:
    server.answers = [(400, {"__type": "x#AccessDeniedException", "Message": "no"})]
    with pytest.raises(CallFailed) as failed:
        call("dynamodb", "GetItem")
    assert failed.value.code == "AccessDeniedException"
    assert len(server.seen) == 1


def test_schedules_are_made_changed_and_deleted_over_rest(server: type[Script], call: Call) -> None:
    server.answers = [(200, {"ScheduleArn": "arn"}), (200, {"ScheduleArn": "arn"}), (200, {})]
    fields = {"GroupName": "a group", "State": "ENABLED", "Target": {"Arn": "arn"}}
    call("scheduler", "CreateSchedule", Name="an id", **fields)
    call("scheduler", "UpdateSchedule", Name="an id", **fields)
    call("scheduler", "DeleteSchedule", Name="an id", GroupName="a group")
    assert server.methods == ["POST", "PUT", "DELETE"]
    paths = [path for path, _, _ in server.seen]
    assert paths == ["/schedules/an%20id"] * 2 + ["/schedules/an%20id?groupName=a%20group"]
    assert [json.loads(body or b"null") for _, _, body in server.seen] == [fields, fields, None]
    assert "/scheduler/aws4_request" in server.seen[0][1]["authorization"]


@pytest.mark.parametrize("code", ["ConflictException", "ResourceNotFoundException"])
def test_an_error_of_a_rest_service_is_named_by_its_header(
    server: type[Script], call: Call, code: str
) -> None:
    server.answers = [(409, {"Message": "no"})]
    server.error_type = f"{code}:http://internal.amazon.com/coral/"
    with pytest.raises(CallFailed) as failed:
        call("scheduler", "CreateSchedule", Name="id", GroupName="group")
    assert failed.value.code == code


def test_gone_connection_is_named_so(server: type[Script], call: Call) -> None:
    server.answers = [(410, {}), (200, {}), (204, {})]
    with pytest.raises(CallFailed) as failed:
        call("apigatewaymanagementapi", "PostToConnection", ConnectionId="a=", Data=b"x")
    assert failed.value.code == "GoneException"
    call("apigatewaymanagementapi", "PostToConnection", ConnectionId="a=", Data=b"x")
    assert server.seen[1][0] == "/@connections/a%3D"
    assert server.seen[1][2] == b"x"
    call("apigatewaymanagementapi", "DeleteConnection", ConnectionId="a=")
    assert server.methods == ["POST", "POST", "DELETE"]
    assert (server.seen[2][0], server.seen[2][2]) == ("/@connections/a%3D", b"")


S3_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>a &amp; b</Message></Error>"


@pytest.mark.parametrize(
    ("status", "code", "tries"),
    [(404, "NoSuchKey", 1), (403, "AccessDenied", 1), (503, "SlowDown", 4)],
)
def test_an_error_of_s3_is_named_by_its_body_and_a_passing_one_tried_again(
    server: type[Script],
    call: Call,
    pauses: list[float],
    status: int,
    code: str,
    tries: int,
) -> None:
    server.answers = [(status, S3_ERROR.format(code))] * tries
    with pytest.raises(CallFailed) as failed:
        call("s3", "GetObject", Bucket="bucket", Key="a/=b c")
    assert failed.value.code == code
    assert [path for path, _, _ in server.seen] == ["/bucket/a/%3Db%20c"] * tries
    assert len(pauses) == tries - 1


def test_on_aws_a_bucket_has_a_host_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_REGION", "cn-north-1")
    asked = {"Bucket": "b", "Prefix": "a=/", "StartAfter": "a=/2", "MaxKeys": 7}
    _, url, _, _ = s3_requests.request("ListObjectsV2", asked, "amazonaws.com.cn")
    host = "https://b.s3.cn-north-1.amazonaws.com.cn"
    assert url == f"{host}/?list-type=2&prefix=a%3D%2F&start-after=a%3D%2F2&max-keys=7"
    method, url, headers, _ = s3_requests.request(
        "GetObject", {"Bucket": "b", "Key": "k", "Range": "bytes=-8"}, "amazonaws.com.cn"
    )
    assert (method, url, headers) == ("GET", f"{host}/k", {"range": "bytes=-8"})
    for operation, more in (("CopyObject", {}), ("GetObject", {"Key": "k", "IfMatch": "e"})):
        with pytest.raises(ValueError, match=f"^{operation} is not sent"):
            s3_requests.request(operation, {"Bucket": "b", **more}, "amazonaws.com")


def test_an_object_is_written_under_a_condition_and_its_version_comes_back(
    server: type[Script], call: Call
) -> None:
    server.answers = [(200, ""), (412, S3_ERROR.format("PreconditionFailed")), (409, "")]
    written = {"Bucket": "b", "Key": "k", "Body": b"\x00x", "ContentType": "a/b"}
    written["ChecksumCRC32"] = "n/nv4A=="
    assert call("s3", "PutObject", **written, IfNoneMatch="*") == {"ETag": '"e"'}
    for condition, code in (("IfMatch", "PreconditionFailed"), ("IfNoneMatch", "409")):
        with pytest.raises(CallFailed) as failed:
            call("s3", "PutObject", **written, **{condition: '"e"'})
        assert failed.value.code == code
    assert server.methods == ["PUT"] * 3
    assert {(path, body) for path, _, body in server.seen} == {("/b/k", b"\x00x")}
    headers = [each for _, each, _ in server.seen]
    assert [each["content-type"] for each in headers] == ["a/b"] * 3
    assert [each["x-amz-checksum-crc32"] for each in headers] == ["n/nv4A=="] * 3
    assert [each.get("if-match") for each in headers] == [None, '"e"', None]
    assert [each.get("if-none-match") for each in headers] == ["*", None, '"e"']


@pytest.mark.parametrize("way", ["signed", "pooled"])
@pytest.mark.parametrize("status", [400, 503])
def test_a_call_that_fails_keeps_nothing_of_what_its_caller_held(
    server: type[Script], pauses: list[float], way: str, status: int
) -> None:
    """Megabytes of candles would lie in a circle of references until the collector comes."""
    server.answers = [(status, {"__type": "x"})] * 4
    calls: Any = SignedCalls() if way == "signed" else PooledCalls()

    class Held:
        """What a caller holds."""

    async def caller() -> weakref.ref[Held]:
        held = Held()
        with suppress(CallFailed):
            await calls("sqs", "SendMessage", QueueUrl="q")
        return weakref.ref(held)

    async def work() -> weakref.ref[Held]:
        found = await caller()
        if way == "pooled":
            await calls.aclose()
        return found

    gc.collect()
    gc.disable()
    try:
        found = run(work()) if way == "signed" else asyncio.run(work())
        assert found() is None
    finally:
        gc.enable()
        if way == "signed":
            close(calls)
