import httpx
import pytest

from tests.cli.fake_api import TASK_ID, FakeApi, problem, task
from tests.cli.running import run

INVALID = problem(
    400,
    "Invalid request",
    "2 fields do not fit.",
    "INVALID_REQUEST",
    errors=[
        {"detail": "unknown timeframe '7m'", "pointer": "/timeframes/0"},
        {"detail": "must be before end", "pointer": "/start"},
    ],
)


def ended(*tasks):
    return FakeApi({"GET /task": tasks})


def test_completed_without_failed_units_is_0():
    assert run("start", "-y", "-w", api=ended(task("running", 3), task())).code == 0


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_failed_or_cancelled_is_1_with_the_error_and_a_way_on(state):
    error = {"reason": "NOTHING_COLLECTED", "detail": "Every unit failed"}
    ran = run("task", TASK_ID, "-w", api=ended(task(state, 9, error=error)))
    assert ran.code == 1
    assert "Error: Every unit failed" in ran.out
    assert f"data-collector retry {TASK_ID} -w" in ran.out


def test_showing_a_failed_task_without_waiting_is_0():
    assert run("task", TASK_ID, api=ended(task("failed", 9))).code == 0


def test_completed_with_failed_units_is_3_also_in_json():
    api = ended(task(failed=2))
    assert run("task", TASK_ID, "-w", api=api).code == 3
    ran = run("task", TASK_ID, "-w", "--json", api=api)
    assert (ran.code, ran.json["units"]["failed"]) == (3, 2)


def test_failed_units_told_only_by_the_result_or_the_list_are_3_too():
    lean = {"task_id": TASK_ID, "status": "completed"}
    assert run("task", "x", "-w", api=ended({**lean, "result": {"failed": 1}})).code == 3
    assert run("task", "x", "-w", api=ended({**lean, "failures": [{"symbol": "A"}]})).code == 3


def test_rejected_request_is_2_and_names_each_field():
    api = FakeApi({"POST /start": [INVALID]})
    ran = run("start", "-y", "-t", "7m", api=api)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines() == [
        "Invalid request (400): 2 fields do not fit.",
        "  /timeframes/0: unknown timeframe '7m'",
        "  /start: must be before end",
    ]
    document = run("start", "-y", "-t", "7m", "--json", api=api).json
    assert document["reason"] == "INVALID_REQUEST"
    assert len(document["errors"]) == 2


def test_expired_task_is_2_and_said_to_be_expired():
    gone = problem(410, "Gone", "Its audit trail is at /audit?task=x.", "TASK_EXPIRED")
    for args in (["task", "x"], ["task", "x", "--wait"], ["retry", "x"]):
        ran = run(*args, api=FakeApi({"GET /task": [gone], "POST /task/retry": [gone]}))
        assert ran.code == 2
        assert "The task has expired." in ran.err
        assert "/audit?task=x" in ran.err


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_server_error_is_4_on_one_line_with_url_and_remedy(status):
    api = FakeApi({"GET /status": [problem(status, "Oh no", "a table is gone.", "X")]})
    ran = run("status", api=api)
    assert ran.code == 4
    assert len(ran.err.splitlines()) == 1
    assert f"{status} Oh no: a table is gone. If" in ran.err
    assert "http://127.0.0.1:8000/api/v1/data-collector" in ran.err
    assert "`make run`" in ran.err


def test_no_answer_is_4_with_url_and_remedy():
    api = FakeApi({"GET /status": [httpx.ConnectError("[Errno 111] Connection refused")]})
    ran = run("status", "--json", "--api-url", "https://user:secret@example.test/prod", api=api)
    assert ran.code == 4
    assert ran.json["reason"] == "UNREACHABLE"
    assert ran.err == (
        "The API at https://example.test/prod/api/v1/data-collector cannot be reached "
        "(Connection refused). Check the URL, and the way there.\n"
    )


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=["a list"]),
        httpx.Response(200, text='{"status": "completed", "candles": NaN}'),
        httpx.Response(200, text='{"status": "completed", "candles": 1e999}'),
        httpx.Response(200, text="[" * 100_000),
        httpx.Response(200, content=b"\xff"),
        httpx.Response(302, headers={"Location": "/login"}),
        httpx.Response(200, json={"hello": "world"}),
    ],
)
def test_another_service_at_the_url_is_4(answer):
    ran = run("task", "x", api=FakeApi({"GET /task": [answer]}))
    assert ran.code == 4
    assert "is not the data collector" in ran.err


def test_accepted_without_a_task_id_cannot_be_waited_for():
    ran = run("start", "-y", "-w", api=FakeApi({"POST /start": [{"status": "submitted"}]}))
    assert ran.code == 4
    assert "no task_id" in ran.err


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (httpx.Response(404, text="<html>no</html>"), "Not Found (404)"),
        (httpx.Response(403, json={"message": "Missing Token"}), "Forbidden (403): Missing Token"),
        (httpx.Response(400, json=[1]), "Bad Request (400)"),
        (httpx.Response(400, json={"title": 5, "detail": None, "errors": None}), "Bad Request"),
        (httpx.Response(400, json={"errors": "all wrong"}), "all wrong"),
        (httpx.Response(400, json={"errors": ["odd", {"pointer": "/x"}, None]}), "/x: {"),
        (httpx.Response(400, json={"errors": [{"detail": 7, "pointer": 8}]}), '"detail": 7'),
        (httpx.Response(499, content=b"\xff{"), "(499)"),
    ],
)
def test_rejection_with_a_malformed_body_is_still_2_and_valid_json(answer, says):
    api = FakeApi({"POST /start": [answer]})
    ran = run("start", "-y", api=api)
    assert ran.code == 2
    assert says in ran.err
    document = run("start", "-y", "--json", api=api).json
    assert document["status"] == answer.status_code
    assert isinstance(document["title"], str)


def test_ctrl_c_while_waiting_is_130_and_leaves_the_task_alone():
    api = ended(task("running", 3), KeyboardInterrupt())
    ran = run("start", "-y", "-w", api=api)
    assert (ran.code, ran.out) == (130, "")
    assert "keeps running" in ran.err
    assert f"data-collector task {TASK_ID} --wait" in ran.err
    assert [r.method for r in api.requests] == ["POST", "GET", "GET"]


def test_ctrl_c_while_waiting_on_a_terminal_gives_the_cursor_back():
    api = ended(task("running", 3), KeyboardInterrupt())
    ran = run("task", TASK_ID, "-w", api=api, err_tty=True)
    assert ran.code == 130
    assert ran.err.rindex("\x1b[?25h") > ran.err.rindex("\x1b[?25l")


def test_ctrl_c_with_json_leaves_one_document():
    ran = run("task", TASK_ID, "-w", "--json", api=ended(KeyboardInterrupt()))
    assert ran.code == 130
    assert (ran.json["task_id"], ran.json["reason"]) == (TASK_ID, "INTERRUPTED")


def test_ctrl_c_before_an_answer_is_130_and_says_where_to_look():
    api = FakeApi({"POST /start": [KeyboardInterrupt()]})
    ran = run("start", "-y", "-w", api=api)
    assert ran.code == 130
    assert "data-collector tasks" in ran.err
    assert run("start", "-y", "--json", api=api).json["reason"] == "INTERRUPTED"
