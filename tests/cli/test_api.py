from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from market_data_collector.cli.api import PATIENCE, Api, Expired, Rejected, Unreachable
from tests.cli.fake_api import FakeApi, problem, task

LOST = httpx.ReadError("connection lost")


def client(script):
    slept = []
    fake = FakeApi(script)
    return Api("http://api.test", transport=fake, sleep=slept.append), fake, slept


def after(seconds, body):
    return httpx.Response(200, json=body, headers={"Retry-After": seconds})


@pytest.mark.parametrize("lost", [LOST, httpx.ConnectError("refused"), httpx.ReadTimeout("slow")])
def test_get_is_sent_again_after_a_connection_error(lost):
    api, fake, slept = client({"GET /status": [lost, lost, {"status": "idle"}]})
    assert api.status() == {"status": "idle"}
    assert len(fake.requests) == 3
    assert slept == [0.2, 0.5]


def test_get_gives_up_after_three_connection_errors():
    api, fake, _ = client({"GET /status": [LOST]})
    with pytest.raises(Unreachable, match="connection lost"):
        api.status()
    assert len(fake.requests) == 3


def test_post_without_an_idempotency_key_is_never_sent_twice():
    lost = {r: [LOST] for r in ("POST /start", "POST /refresh-symbols", "POST /task/retry")}
    api, fake, _ = client({**lost, "POST /task/cancel": [LOST]})
    calls = (api.start, {}), (api.refresh_symbols,), (api.cancel, "x"), (api.retry, "x")
    for call, *args in calls:
        with pytest.raises(Unreachable):
            call(*args)
    assert len(fake.requests) == len(calls)


def test_post_with_an_idempotency_key_is_sent_again_with_the_same_key_and_body():
    api, fake, _ = client({"POST /start": [LOST, {"task_id": "t"}]})
    assert api.start({"symbols": ["A"]}, idempotency_key="k") == {"task_id": "t"}
    first, second = fake.requests
    assert first.content == second.content
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"] == "k"


def test_rejections_are_typed_and_carry_the_problem():
    api, _, _ = client(
        {
            "GET /task": [problem(410, "Task expired", "gone", "TASK_EXPIRED")],
            "POST /task/cancel": [problem(409, "Conflict", "already finished", "CONFLICT")],
        }
    )
    with pytest.raises(Expired):
        api.task("x")
    with pytest.raises(Rejected) as caught:
        api.cancel("x")
    assert not isinstance(caught.value, Expired)
    assert caught.value.problem["reason"] == "CONFLICT"
    assert caught.value.problem["detail"] == "already finished"


@pytest.mark.parametrize(
    ("asked", "waited"),
    [("5", 5), ("0", 0.3), ("2.5", 2.5), ("soon", 1), ("", 1), ("-3", 1), ("999999", 3600)],
)
def test_polling_waits_as_long_as_it_is_asked_to_within_reason(asked, waited):
    api, _, slept = client({"GET /task": [after(asked, task("running", 1)), task()]})
    assert [t["status"] for t in api.watch("x")] == ["running", "completed"]
    assert slept == [waited]


def test_polling_without_retry_after_waits_a_second():
    api, _, slept = client({"GET /task": [task("pending", 0), task()]})
    list(api.watch("x"))
    assert slept == [1.0]


def test_retry_after_may_be_a_date():
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    replies = [after(until, task("running", 1)), after(past, task("running", 1)), task()]
    api, _, slept = client({"GET /task": replies})
    list(api.watch("x"))
    assert 25 < slept[0] <= 30
    assert slept[1] == 0.3


def test_waiting_survives_a_restart_of_the_api():
    busy = httpx.Response(429, headers={"Retry-After": "7"})
    script = [task("running", 1), httpx.Response(503), busy, LOST, LOST, LOST, task()]
    api, _, slept = client({"GET /task": script})
    assert [t["status"] for t in api.watch("x")] == ["running", "completed"]
    assert 7 in slept


def quota(retry_after):
    refusal = {"title": "Quota exceeded", "status": 429, "detail": "100 tasks are running"}
    return httpx.Response(429, json=refusal, headers={"Retry-After": retry_after})


@pytest.mark.parametrize("method", ["status", "start"])
def test_a_short_wait_for_a_quota_is_waited_out_and_a_few_times_only(method):
    route = {"status": "GET /status", "start": "POST /start"}[method]
    arguments = ({},) if method == "start" else ()
    api, fake, slept = client({route: [quota("1"), quota("2"), {"status": "fine"}]})
    assert getattr(api, method)(*arguments) == {"status": "fine"}
    assert slept == [1, 2]
    api, fake, slept = client({route: [quota("1")]})
    with pytest.raises(Rejected, match=r"100 tasks are running\. Try again in 1 s"):
        getattr(api, method)(*arguments)
    assert len(fake.requests) == 3


@pytest.mark.parametrize(
    ("retry_after", "hint"), [("10", ". Try again in 10 s"), ("3600", ""), ("0", "")]
)
def test_a_longer_wait_for_a_quota_is_told_at_once(retry_after, hint):
    api, fake, slept = client({"POST /start": [quota(retry_after)]})
    with pytest.raises(Rejected) as refused:
        api.start({})
    assert str(refused.value) == f"Quota exceeded (429): 100 tasks are running{hint}"
    assert (len(fake.requests), slept) == (1, [])


def test_waiting_ends_when_the_api_stays_away():
    api, fake, _ = client({"GET /task": [task("running", 1), httpx.Response(503)]})
    with pytest.raises(Unreachable):
        list(api.watch("x"))
    assert len(fake.requests) == 1 + PATIENCE + 1


def test_waiting_for_a_task_never_seen_fails_at_once():
    api, fake, _ = client({"GET /task": [httpx.Response(503)]})
    with pytest.raises(Unreachable):
        list(api.watch("x"))
    assert len(fake.requests) == 1


def test_waiting_ends_when_the_task_expires_meanwhile():
    api, fake, _ = client({"GET /task": [task("running", 1), problem(410, "Gone", "", "X")]})
    with pytest.raises(Expired):
        list(api.watch("x"))
    assert len(fake.requests) == 2


def test_an_odd_state_is_waited_through():
    api, _, _ = client({"GET /task": [task("hibernating", 1), task()]})
    assert len(list(api.watch("x"))) == 2


def test_an_id_that_no_url_can_hold_is_asked_for_all_the_same() -> None:
    fake = FakeApi()
    with Api("http://there.test", transport=fake) as api, pytest.raises(Rejected):
        api.revoke_key("\ud8f2/x")
    assert fake.requests[-1].url.raw_path.endswith(b"/keys/%3F%2Fx")
