"""What an endpoint lacks is found out and counted, and hides no failure."""

from __future__ import annotations

import datetime
import http.server
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from chalicelib.aws.calls import run as drive
from chalicelib.core.errors import ConditionFailed
from tests.aws.conftest import VARIABLES
from tests.aws.endpoint import OLD_ITEMS, SERVICES, TRANSACTIONS, Endpoint, lacking
from tests.aws.endpoint import _Calls as Calls
from tests.aws.record import with_record
from tests.aws.run import Run

KEY = {"pk": {"S": "a"}, "sk": {"S": "b"}}


def test_what_an_endpoint_lacks_is_found_out_by_asking(endpoint: Endpoint) -> None:
    assert lacking(endpoint.session) == endpoint.lacking


@pytest.fixture(params=[200, 404])
def web_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It answers every request, and is no AWS."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(request.param)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_no_aws_lacks_every_service(web_server: None) -> None:
    assert lacking(boto3.Session()) >= set(SERVICES)


def calls_that(found: Any, lacks: str, item: dict[str, Any] | None = None) -> Calls:
    async def call(service: str, operation: str, **_: Any) -> dict[str, Any]:
        if operation == "GetItem":
            return {"Item": item} if item else {}
        if isinstance(found, Exception):
            raise found
        return dict(found)

    return Calls(call, frozenset({lacks}))


@pytest.mark.parametrize(
    ("lacks", "service", "operation"),
    [("sqs", "sqs", "SendMessage"), (TRANSACTIONS, "dynamodb", "TransactWriteItems")],
)
def test_a_call_of_what_is_lacking_ends_the_test(lacks: str, service: str, operation: str) -> None:
    calls = calls_that({}, lacks)
    with pytest.raises(pytest.skip.Exception, match=f"needs {lacks}"):
        drive(calls(service, operation))
    assert not calls.counts
    assert drive(calls("dynamodb", "PutItem")) == {}
    assert calls.counts == {"dynamodb": 1}


@pytest.mark.parametrize(
    ("lacks", "found", "asked", "ends"),
    [
        (OLD_ITEMS, KEY, True, True),
        (OLD_ITEMS, None, True, False),
        (OLD_ITEMS, KEY, False, False),
        ("sqs", KEY, True, False),
    ],
)
def test_a_refused_condition_ends_the_test_where_it_met_an_item_that_is_not_told(
    lacks: str, found: dict[str, Any] | None, asked: bool, ends: bool
) -> None:
    calls = calls_that(ConditionFailed("PutItem", None), lacks, found)
    more = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"} if asked else {}
    try:
        drive(calls("dynamodb", "PutItem", TableName="t", Item=KEY, **more))
    except (ConditionFailed, pytest.skip.Exception) as raised:
        ended = isinstance(raised, pytest.skip.Exception)
    assert ended == ends


def report(name: str, outcome: str, reason: str = "", when: str = "call") -> Any:
    return pytest.TestReport(
        f"tests/aws/{name}",
        ("", 0, ""),
        {},
        outcome,
        ("", 0, reason),
        when,  # type: ignore[arg-type]
    )


def ran(*reports: Any, foreseen: frozenset[str] | None = None) -> Run:
    run = Run("http://127.0.0.1:1", None, frozenset(), foreseen)
    for each in reports:
        run.pytest_runtest_logreport(each)
    return run


def exit_status(run: Run) -> int:
    session = SimpleNamespace(exitstatus=0)
    run.pytest_sessionfinish(session)  # type: ignore[arg-type]
    return int(session.exitstatus)


def test_a_run_says_what_ran_and_what_each_other_test_needs() -> None:
    run = ran(
        report("test_a.py::test_one[1]", "passed"),
        report("test_a.py::test_two[1]", "skipped", "Skipped: needs sqs", "setup"),
        report("test_a.py::test_two[2]", "skipped", "Skipped: needs sqs"),
        report("test_b.py::test_three", "skipped", "Skipped: needs transactions"),
    )
    run.calls.update({("signed", "dynamodb"): 3})
    assert run.lines() == [
        "- 1 tests ran, 0 failed.",
        "- Passed: 1 of `test_a.py`.",
        "- Calls, signed: 3 dynamodb.",
        "- 2 did not run, which need sqs:",
        "  `test_a.py::test_two` (2)",
        "- 1 did not run, which need transactions:",
        "  `test_b.py::test_three` (1)",
    ]
    assert exit_status(run) == 0
    page = "before\n<!-- some: begin -->\nold\n<!-- some: end -->\nafter\n"
    written = with_record(page, "some 1.2", run, datetime.date(2026, 11, 26))
    assert written.startswith(
        "before\n<!-- some: begin -->\n\nsome 1.2, on 2026-11-26:\n\n- 1 tests"
    )
    assert written.endswith("(1)\n\n<!-- some: end -->\nafter\n")
    assert "old" not in written
    with pytest.raises(ValueError, match="other"):
        with_record(page, "other 1.2", run, datetime.date(2026, 11, 26))


@pytest.mark.parametrize(
    "reports",
    [
        [],
        [report("test_a.py::test_one", "skipped", "Skipped: needs sqs")],
        [report("test_a.py::test_one", "passed"), report("test_a.py::test_two", "failed")],
        [
            report("test_a.py::test_one", "passed"),
            report("test_a.py::test_two", "skipped", "Skipped: for another reason"),
        ],
    ],
)
def test_a_run_fails_where_nothing_ran_or_something_failed_or_was_left_out(
    reports: list[Any],
) -> None:
    assert exit_status(ran(*reports)) == pytest.ExitCode.TESTS_FAILED


def test_a_run_fails_where_something_is_lacking_that_was_not_foreseen() -> None:
    reports = (
        report("test_a.py::test_one", "passed"),
        report("test_a.py::test_two", "skipped", "Skipped: needs sqs"),
    )
    for foreseen, status in ((["sqs", "s3"], 0), (["s3"], 1), ([], 1)):
        assert exit_status(ran(*reports, foreseen=frozenset(foreseen))) == status
    assert exit_status(ran(*reports)) == 0


def test_an_endpoint_that_lets_something_pass_ends_the_test_unless_it_is_known_to(
    endpoint: Endpoint,
) -> None:
    lenient = replace(endpoint, lenient=frozenset({"nonsense"}), made=ExitStack())
    with pytest.raises(pytest.skip.Exception, match="needs a refusal of nothing"):
        lenient.refuses("nothing", False)
    lenient.refuses("nothing", True)
    lenient.refuses("nonsense", False)
    with pytest.raises(AssertionError):
        lenient.refuses("nonsense", True)
