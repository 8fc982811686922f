"""What is sent again and what is not, by a Client and by an AsyncClient alike."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from market_data_collector import Client, Expired, Rejected, Unreachable
from market_data_collector.calls import BACKOFF, IN_FLIGHT, SHORT_RETRY_AFTER, seconds
from market_data_collector.jobs import BETWEEN_ATTEMPTS, PATIENCE
from tests.cli.fake_api import AT, SUBMITTED, FakeApi, problem, task
from tests.client.both import WAYS

LOST = httpx.ReadError("connection lost")
#: Route -> how it is asked for; each brings an Idempotency-Key of its own.
KEYED = {
    "POST /start": lambda client: client.start("A"),
    "POST /refresh-symbols": lambda client: client.refresh_symbols(),
    "POST /task/cancel": lambda client: client.cancel("x"),
    "POST /task/retry": lambda client: client.retry("x"),
    "POST /coverage/fill": lambda client: client.fill(),
    "POST /coverage/verify": lambda client: client.verify(),
    "POST /pause": lambda client: client.pause(),
    "POST /resume": lambda client: client.resume(),
    "POST /schedules": lambda client: client.create_schedule("rate(1 day)"),
    "POST /schedules/{id}/run": lambda client: client.run_schedule("x"),
}
#: What takes no key.
ONCE = {
    "POST /keys": lambda client: client.create_key("anna", ["read"]),
    "DELETE /keys/{id}": lambda client: client.revoke_key("0"),
    "PATCH /schedules/{id}": lambda client: client.change_schedule("x", enabled=True),
    "DELETE /schedules/{id}": lambda client: client.delete_schedule("x"),
    "POST /ws-ticket": lambda client: client.ws_ticket(),
}


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def played(request):
    return request.param


def status(client):
    return client.status()


def progress(client):
    return client.job("x").progress()


def client(script):
    slept = []
    fake = FakeApi(script)
    return Client("http://api.test", transport=fake, sleep=slept.append), fake, slept


def after(seconds, body):
    return httpx.Response(200, json=body, headers={"Retry-After": seconds})


@pytest.mark.parametrize("lost", [LOST, httpx.ConnectError("refused"), httpx.ReadTimeout("slow")])
def test_get_is_sent_again_after_a_connection_error(lost, played):
    done = played(status, {"GET /status": [lost, lost, {"status": "idle"}]})
    assert done.answer == {"status": "idle"}
    assert len(done.api.requests) == 3
    assert done.slept == [*BACKOFF]


@pytest.mark.parametrize("code", [502, 503, 504])
def test_get_is_sent_again_after_what_passes_as_long_as_it_is_asked_to(code, played):
    soon = httpx.Response(code, headers={"Retry-After": "2"})
    done = played(status, {"GET /status": [soon, httpx.Response(code), {"status": "idle"}]})
    assert done.answer == {"status": "idle"}
    assert done.slept == [2, BACKOFF[1]]
    late = httpx.Response(code, headers={"Retry-After": str(SHORT_RETRY_AFTER + 1)})
    done = played(status, {"GET /status": [late]})
    assert isinstance(done.answer, Unreachable)
    assert (len(done.api.requests), done.answer.retry_after) == (1, SHORT_RETRY_AFTER + 1)


def test_an_error_that_does_not_pass_is_not_sent_again(played):
    for code in (400, 404, 409, 410, 422, 500):
        done = played(status, {"GET /status": [httpx.Response(code)]})
        assert done.answer.status == code
        assert (len(done.api.requests), done.slept) == (1, [])


def test_get_gives_up_after_three_connection_errors(played):
    done = played(status, {"GET /status": [LOST]})
    assert isinstance(done.answer, Unreachable)
    assert "connection lost" in str(done.answer)
    assert "Check the URL" in done.answer.hint
    assert len(done.api.requests) == 3


@pytest.mark.parametrize("route", KEYED)
@pytest.mark.parametrize("trouble", [LOST, problem(409, "Conflict", "", IN_FLIGHT)])
def test_a_post_is_sent_again_with_the_same_key_and_body(route, trouble, played):
    done = played(KEYED[route], {route: [trouble, SUBMITTED]})
    assert not isinstance(done.answer, Exception), done.answer
    first, second = done.api.requests
    assert first.content == second.content
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    again = played(KEYED[route], {route: [SUBMITTED]})
    assert again.api.requests[0].headers["Idempotency-Key"] != first.headers["Idempotency-Key"]


@pytest.mark.parametrize("route", ONCE)
@pytest.mark.parametrize("trouble", [LOST, httpx.Response(503)])
def test_what_takes_no_key_is_never_sent_twice(route, trouble, played):
    done = played(ONCE[route], {route: [trouble]})
    assert isinstance(done.answer, Unreachable)
    assert len(done.api.requests) == 1


def test_a_key_of_ones_own_is_sent(played):
    done = played(lambda client: client.start("A", idempotency_key="mine"))
    assert done.api.requests[0].headers["Idempotency-Key"] == "mine"


def test_rejections_are_typed_and_carry_the_problem(played):
    gone = problem(410, "Task expired", "gone", "TASK_EXPIRED")
    assert isinstance(played(lambda c: c.task("x"), {"GET /task": [gone]}).answer, Expired)
    wrong = [{"detail": "unknown", "pointer": "/symbols/0"}]
    refused = problem(400, "Invalid request", "no", "INVALID_REQUEST", errors=wrong)
    error = played(lambda c: c.start("X"), {"POST /start": [refused]}).answer
    assert isinstance(error, Rejected)
    assert not isinstance(error, Expired)
    assert (error.status, error.reason, error.errors) == (400, "INVALID_REQUEST", wrong)
    assert error.problem["detail"] == "no"
    nobody = httpx.Response(401, json={"title": "Who", "status": 401})
    assert "keys create" in played(status, {"GET /status": [nobody]}).answer.hint


def test_a_task_is_waited_for_through_its_own_retries_and_told_of(played):
    due = {"next_attempt_at": AT, "retries_left": 1}
    views = [task("running", 3), task("failed", 18, 18, **due), task("running", 9, attempt=2)]
    last = task(attempt=2, next_attempt_at=None)
    seen = []
    done = played(lambda c: c.job("x").wait(on_progress=seen.append), {"GET /task": [*views, last]})
    assert done.answer == last
    assert seen == [*views, last]
    assert done.slept == [1.0, BETWEEN_ATTEMPTS, 1.0]


def test_waiting_for_so_long_only_raises_and_leaves_the_task(played):
    clock = iter(range(0, 90, 10))
    done = played(
        lambda c: c.job("x").wait(timeout=25, clock=lambda: next(clock)),
        {"GET /task": [task("running", 3)]},
    )
    assert isinstance(done.answer, TimeoutError)
    assert len(done.api.requests) == 2
    assert done.slept == [1.0]


@given(st.text(max_size=40))
@example("0\x1f")
@example("1 Jan 99999 00:00:00 +9999")
def test_any_retry_after_is_seconds_or_nothing(text):
    found = seconds(text)
    assert found is None or 0 <= found < 1e12


@pytest.mark.parametrize(
    ("asked", "waited"),
    [("5", 5), ("0", 0.3), ("2.5", 2.5), ("soon", 1), ("", 1), ("-3", 1), ("999999", 3600)],
)
def test_polling_waits_as_long_as_it_is_asked_to_within_reason(asked, waited):
    api, _, slept = client({"GET /task": [after(asked, task("running", 1)), task()]})
    assert [t["status"] for t in api.job("x").progress()] == ["running", "completed"]
    assert slept == [waited]


def test_polling_without_retry_after_waits_a_second():
    api, _, slept = client({"GET /task": [task("pending", 0), task()]})
    list(api.job("x").progress())
    assert slept == [1.0]


def test_retry_after_may_be_a_date():
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    replies = [after(until, task("running", 1)), after(past, task("running", 1)), task()]
    api, _, slept = client({"GET /task": replies})
    list(api.job("x").progress())
    assert 25 < slept[0] <= 30
    assert slept[1] == 0.3


def test_waiting_survives_a_restart_of_the_api():
    busy = httpx.Response(429, headers={"Retry-After": "7"})
    script = [task("running", 1), httpx.Response(503), busy, LOST, LOST, LOST, task()]
    api, _, slept = client({"GET /task": script})
    assert [t["status"] for t in api.job("x").progress()] == ["running", "completed"]
    assert 7 in slept


def quota(retry_after):
    refusal = {"title": "Quota exceeded", "status": 429, "detail": "100 tasks are running"}
    return httpx.Response(429, json=refusal, headers={"Retry-After": retry_after})


@pytest.mark.parametrize("method", ["status", "start"])
def test_a_short_wait_for_a_quota_is_waited_out_and_a_few_times_only(method):
    route = {"status": "GET /status", "start": "POST /start"}[method]
    arguments = ("A",) if method == "start" else ()
    api, fake, slept = client({route: [quota("1"), quota("2"), {**SUBMITTED}]})
    answer = getattr(api, method)(*arguments)
    assert getattr(answer, "answer", answer) == SUBMITTED
    assert slept == [1, 2]
    api, fake, slept = client({route: [quota("1")]})
    with pytest.raises(Rejected, match=r"100 tasks are running\. Try again in 1 s"):
        getattr(api, method)(*arguments)
    assert len(fake.requests) == 3


@pytest.mark.parametrize(
    ("retry_after", "hint"), [("10", ". Try again in 10 s."), ("3600", ""), ("0", "")]
)
def test_a_longer_wait_for_a_quota_is_told_at_once(retry_after, hint):
    api, fake, slept = client({"POST /start": [quota(retry_after)]})
    with pytest.raises(Rejected) as refused:
        api.start()
    assert str(refused.value) == f"Quota exceeded (429): 100 tasks are running{hint}"
    assert (len(fake.requests), slept) == (1, [])


def test_waiting_ends_when_the_api_stays_away():
    api, fake, _ = client({"GET /task": [task("running", 1), httpx.Response(503)]})
    with pytest.raises(Unreachable):
        list(api.job("x").progress())
    assert len(fake.requests) == 1 + 3 * (PATIENCE + 1)


def test_waiting_for_a_task_never_seen_fails_at_once():
    api, fake, _ = client({"GET /task": [httpx.Response(503)]})
    with pytest.raises(Unreachable):
        list(api.job("x").progress())
    assert len(fake.requests) == 3


def test_waiting_ends_when_the_task_expires_meanwhile():
    api, fake, _ = client({"GET /task": [task("running", 1), problem(410, "Gone", "", "X")]})
    with pytest.raises(Expired):
        list(api.job("x").progress())
    assert len(fake.requests) == 2


def test_an_odd_state_is_waited_through():
    api, _, _ = client({"GET /task": [task("hibernating", 1), task()]})
    assert len(list(api.job("x").progress())) == 2


def test_an_id_that_no_url_can_hold_is_asked_for_all_the_same() -> None:
    fake = FakeApi()
    with Client("http://there.test", transport=fake) as api, pytest.raises(Rejected):
        api.revoke_key("\ud8f2/x")
    assert fake.requests[-1].url.raw_path.endswith(b"/keys/%3F%2Fx")
