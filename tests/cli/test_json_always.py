import json
from pathlib import Path
from unittest.mock import Mock

import httpx
import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cli.fake_api import FakeApi
from tests.cli.running import run

# Half of a surrogate pair included: JSON can carry it, no encoding can.
text = st.text(st.characters(), max_size=20)
scalar = st.none() | st.booleans() | st.integers() | text
scalar |= st.floats(allow_nan=False, allow_infinity=False)
anything = st.recursive(
    scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3)
)
natural = st.none() | st.integers(0, 10**12)
ended = st.sampled_from(["completed", "failed", "cancelled"])


def shaped(required=None, **fields):
    """Objects with these fields, of which any may be missing, odd or joined by others."""
    usual = {name: values | anything for name, values in fields.items()}
    return st.builds(
        lambda extra, known: {**extra, **known},
        st.dictionaries(text, anything, max_size=2),
        st.fixed_dictionaries(required or {}, optional=usual),
    )


failure = shaped(symbol=text, timeframe=text, start=text, end=text, reason=text, detail=text)
units = shaped(total=natural, succeeded=natural, failed=natural, remaining=natural)
times = {name: text | st.datetimes().map(str) for name in ("created_at", "started_at")}
task = shaped(
    {"task_id": text.filter(len), "status": ended},
    task_type=st.sampled_from(["data_collection", "symbol_refresh"]),
    progress=st.integers(0, 100),
    message=text,
    completed_at=text | st.datetimes().map(str),
    error=text,
    result=units,
    units=units,
    candles=natural,
    revised_candles=natural,
    rejected_candles=natural,
    rejections=st.lists(shaped(symbol=text, timeframe=text, open_time=text), max_size=3),
    passed_over=st.lists(shaped(file=text, reason=text), max_size=3),
    eta_seconds=natural,
    attempt=natural,
    failures=st.lists(failure, max_size=3),
    **times,
)
counts = st.dictionaries(text, natural, max_size=3)
page = shaped(tasks=st.lists(task, max_size=3), next_page_token=st.none() | text, count=natural)
known = shaped(
    symbols_count=natural, timeframes=st.lists(text), available_symbols=st.lists(text | anything)
)
prices = shaped(
    prices=st.dictionaries(
        text,
        shaped(
            price=st.floats(allow_nan=False) | text,
            time=text,
            age_seconds=natural | text,
            stale=st.booleans() | text,
        ),
    ),
    unreachable=st.lists(text, max_size=3),
    as_of=text,
)
pause = shaped(by=text, since=text, until=text, reason=text, tasks_wait_until=text)
ordered = shaped(paused=st.booleans(), message=text, pause=pause)
status = shaped(
    status=text,
    task_counts=counts,
    queues=st.dictionaries(text, shaped(visible=natural, in_flight=natural), max_size=2),
    rate_budget=shaped(limit=natural, used=natural, left=natural, resets_at=text),
    breaker=shaped(open=st.booleans(), until=text, reason=text),
    pause=st.none() | pause,
)
problem = shaped(
    type=text,
    title=text,
    status=natural,
    detail=text,
    errors=st.lists(shaped(detail=text, pointer=text) | anything, max_size=3),
)
event = shaped(
    id=text,
    subject=text,
    seq=natural,
    action=text,
    at=text | st.datetimes().map(str),
    attempt=natural,
    late=st.booleans(),
    detail=text,
    data=anything,
    hash=text,
    previous_hash=text,
)
cell = shaped(
    start=text | st.datetimes().map(str),
    end=text | st.datetimes().map(str),
    expected=natural,
    held=natural,
    explained=st.dictionaries(text, natural | anything, max_size=2),
    missing=natural,
    percent=natural,
)
row = shaped(
    symbol=text,
    timeframe=text,
    expected=natural,
    missing=natural,
    explained=st.dictionaries(text, natural, max_size=2),
    cells=st.lists(cell, max_size=3),
)
rows = shaped(coverage=st.lists(row, max_size=3), next_page_token=st.none() | text)
gap = shaped(
    start=text | st.datetimes().map(str),
    candles=natural,
    reason=text,
    evidence=shaped(times_asked=natural, last_asked=text),
)
gaps = shaped(gaps=st.lists(gap, max_size=3), next_page_token=st.none() | text)
submitted = shaped({"task_id": text.filter(len)}, status=text, message=text)

COMMANDS = {
    ("start",): ("POST /start", submitted),
    ("cancel", "x"): ("POST /task/cancel", submitted),
    ("retry", "x"): ("POST /task/retry", submitted),
    ("refresh-symbols",): ("POST /refresh-symbols", submitted),
    ("task", "x"): ("GET /task", task),
    ("task", "x", "--wait"): ("GET /task", task),
    ("start", "--wait"): ("GET /task", task),
    ("tasks",): ("GET /tasks", page),
    ("tasks", "--all"): ("GET /tasks", page),
    ("tasks", "--active"): ("GET /tasks/active", page),
    ("stats",): ("GET /tasks/stats", shaped(task_counts=counts, data_collector_status=known)),
    ("symbols", "A"): ("GET /tasks/stats", shaped(data_collector_status=known)),
    ("prices",): ("GET /latest-prices", prices),
    ("status",): ("GET /status", status),
    ("pause", "--for", "2h"): ("POST /pause", ordered),
    ("resume",): ("POST /resume", ordered),
    ("history",): ("GET /history", page),
    ("history", "--all"): ("GET /history", page),
    ("coverage",): ("GET /coverage", rows),
    ("gaps", "x", "1h"): ("GET /coverage/gaps", gaps),
    ("fill",): ("POST /coverage/fill", submitted),
    ("verify",): ("POST /coverage/verify", submitted),
    ("audit",): ("GET /audit", shaped(events=st.lists(event, max_size=3))),
    ("audit", "verify", "x"): ("GET /audit", shaped(events=st.lists(event, max_size=3))),
    ("audit", "verify", "--all"): ("GET /audit", shaped(events=st.lists(event, max_size=3))),
}


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_json_is_one_document_and_a_person_is_answered_whatever_comes_back(data):
    args = data.draw(st.sampled_from(list(COMMANDS)))
    route, bodies = COMMANDS[args]
    rejected = data.draw(st.integers(0, 4)) == 0
    code = data.draw(st.sampled_from([400, 404, 409, 410, 422, 500, 503])) if rejected else 200
    content = json.dumps(data.draw(problem if rejected else bodies))
    script = {route: [httpx.Response(code, content=content)]}

    ran = run(*args, "--json", api=FakeApi(script))
    assert isinstance(ran.json, dict)
    assert "NaN" not in ran.out.replace('"NaN', "")
    for tty in (False, True):
        person = run(*args, api=FakeApi(script), out_tty=tty, err_tty=tty)
        assert person.code == ran.code
        assert tty or "\x1b" not in person.out + person.err


@pytest.mark.parametrize(
    "args",
    [
        ("--sign", "status"),
        ("--sign", "--api-url", "https://candles.acme.com", "status"),
        ("--sign", "--api-url", "https://candles.acme.com", "stats"),
        ("candles", "BTCUSDT", "1h", "-o", "plain/candles.csv"),
        ("candles", "BTCUSDT", "1h", "-o", f"{'c' * 255}.csv"),
    ],
    ids=["no profile", "no region", "no role", "no folder", "a long name"],
)
def test_what_is_wrong_outside_of_the_api_is_a_document_too(
    args: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plain").write_text("a file", "utf-8")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    if args == ("--sign", "status"):
        monkeypatch.setenv("AWS_PROFILE", "nosuch")
    if args[-1] == "stats":
        denied = ClientError({"Error": {"Code": "AccessDenied"}}, "AssumeRole")
        monkeypatch.setattr("botocore.session.Session.get_credentials", Mock(side_effect=denied))
    ran = run("--json", *args, api=FakeApi())
    assert (ran.code, ran.json["reason"]) == (2, "USAGE")
    assert ran.json["detail"].endswith(".")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain"]
