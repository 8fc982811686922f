"""Who may call which route: every registered route, with every kind of key."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib import wiring
from chalicelib.access.key_table import KeyTable
from chalicelib.access.keys import CACHED_MS, USE_NOTED_MS
from chalicelib.access.scopes import ADMIN, COLLECT, OBSERVE, OPEN, READ, SCOPES
from chalicelib.api import web
from chalicelib.aws.calls import run
from chalicelib.core.backend import Backend
from tests.doubles.aws import Aws
from tests.doubles.clock import Clock
from tests.doubles.faults import Refuse
from tests.handlers.conftest import PREFIX, Http

#: Scope of a key -> the scopes of routes that it opens.
OPENS = {
    READ: {READ},
    COLLECT: {READ, COLLECT},
    ADMIN: {READ, COLLECT, ADMIN, OBSERVE},
    OBSERVE: {OBSERVE},
}
UNKNOWN = "mdc_0123456789abcdef_" + "A" * 43
NewKey = Callable[..., str]


def _registered() -> list[tuple[str, str]]:
    import app

    return [
        (method, path.removeprefix(PREFIX))
        for path, methods in app.app.routes.items()
        for method in methods
    ]


ROUTES = _registered()


@pytest.fixture
def keys(new_key: NewKey, http: Http, clock: Clock) -> dict[str, str | None]:
    """A key of every kind, and what is no key."""
    keys: dict[str, str | None] = {scope: new_key("me", scope) for scope in SCOPES}
    keys["expired"] = new_key("me", ADMIN, expires_at=clock() + 1000)
    keys["revoked"] = new_key("me", ADMIN)
    clock.advance(1000)
    http.key = keys[ADMIN]
    assert http("DELETE", f"/keys/{_id(keys['revoked'])}").status_code == 200
    http.key = None
    keys["foreign"] = UNKNOWN
    keys["wrong"] = str(keys[READ])[:-43] + "A" * 43
    keys["malformed"] = "mdc_"
    keys["missing"] = None
    return keys


def _id(key: str | None) -> str:
    return str(key).split("_")[1]


def _ask(http: Http, method: str, path: str, key: str | None) -> Any:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    filled = re.sub(r"\{[a-z_]+\}", "none", path)
    if OPEN in web.SCOPES[method, path]:
        return http.page(filled, headers)
    return http(method, filled, headers=headers)


def test_every_route_declares_who_may_call_it() -> None:
    assert set(web.SCOPES) == set(ROUTES)
    for (method, path), scopes in web.SCOPES.items():
        assert scopes
        assert set(scopes) <= {*SCOPES, OPEN}
        if path.startswith("/keys") or path in ("/pause", "/resume"):
            assert scopes == (ADMIN,)
        elif method != "GET" and path != "/ws-ticket":
            assert scopes == (COLLECT,), (method, path)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_route_opens_to_the_scopes_that_it_declares_and_to_nobody_else(
    http: Http, keys: dict[str, str | None], method: str, path: str
) -> None:
    wanted = web.SCOPES[method, path]
    for kind, key in keys.items():
        answer = _ask(http, method, path, key)
        refused = answer.status_code in (401, 403)
        if OPEN in wanted or OPENS.get(kind, set()) & set(wanted):
            assert not refused, kind
            continue
        assert answer.headers["Content-Type"] == "application/problem+json"
        body, challenge = answer.json_body, answer.headers.get("WWW-Authenticate", "")
        if kind in OPENS:
            assert (answer.status_code, body["reason"]) == (403, "SCOPE_MISSING"), kind
            assert body["scopes"] == list(wanted)
            assert wanted[0] in body["detail"]
            continue
        assert answer.status_code == 401, kind
        assert challenge.startswith("Bearer")
        assert body["reason"] == {
            "missing": "KEY_REQUIRED",
            "expired": "KEY_ENDED",
            "revoked": "KEY_ENDED",
        }.get(kind, "KEY_REFUSED")


def test_variables_at_one_level_have_one_name() -> None:
    # API Gateway refuses a second one: API Reference, CreateResource.
    names: dict[str, set[str]] = {}
    for _, path in ROUTES:
        parts = path.split("/")
        for level, part in enumerate(parts):
            if part.startswith("{"):
                above = re.sub(r"\{\w+\}", "{}", "/".join(parts[:level]))
                names.setdefault(above, set()).add(part)
    assert not {above: found for above, found in names.items() if len(found) > 1}


def test_wrong_unknown_and_malformed_keys_cannot_be_told_apart(
    http: Http, keys: dict[str, str | None]
) -> None:
    answers = [
        _ask(http, "GET", "/tasks", keys[kind]) for kind in ("foreign", "wrong", "malformed")
    ]
    assert len({answer.body for answer in answers}) == 1
    assert len({str(sorted(answer.headers.items())) for answer in answers}) == 1


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    header=st.text(st.characters(codec="latin-1"), max_size=120)
    | st.from_regex(r"[Bb]earer mdc_[0-9a-f]{15,17}_[A-Za-z0-9_-]{42,44}", fullmatch=True)
)
def test_whatever_the_header_holds_it_is_a_401(http: Http, keyed: Backend, header: str) -> None:
    answer = http("GET", "/tasks", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.json_body["reason"] in ("KEY_REQUIRED", "KEY_REFUSED")


def test_the_scheme_is_read_in_any_case(http: Http, new_key: NewKey) -> None:
    key = new_key("me", READ)
    for header in (f"Bearer {key}", f"bearer {key}", f"BEARER  {key} "):
        assert http("GET", "/tasks", headers={"Authorization": header}).status_code == 200
    for header in (key, f"Basic {key}"):
        assert http("GET", "/tasks", headers={"Authorization": header}).status_code == 401


# --- calls ----------------------------------------------------------------------------------------


def _reads(aws: Aws, settings: Any) -> int:
    return sum(
        called.operation == "GetItem" and called.parameters["TableName"] == settings.keys_table
        for called in aws.calls
    )


def _writes(aws: Aws, settings: Any) -> int:
    return sum(
        called.operation == "UpdateItem" and called.parameters["TableName"] == settings.keys_table
        for called in aws.calls
    )


def test_a_key_is_read_once_a_minute_and_its_use_noted_every_five(
    http: Http, new_key: NewKey, aws: Aws, clock: Clock, settings: Any
) -> None:
    http.key = new_key("me", READ)
    for minutes in range(7):
        for _ in range(3):
            assert http("GET", "/tasks").status_code == 200
        assert _reads(aws, settings) == minutes + 1
        assert _writes(aws, settings) == 1 + (minutes * CACHED_MS) // USE_NOTED_MS
        clock.advance(CACHED_MS)


def test_a_revoked_key_works_no_longer_than_a_minute_in_other_containers(
    http: Http, keyed: Backend, new_key: NewKey, clock: Clock
) -> None:
    http.key = new_key("me", READ)
    assert http("GET", "/tasks").status_code == 200
    clock.advance(1)
    run(KeyTable(keyed).revoke(_id(http.key), clock(), "boss"))  # by another container
    clock.advance(CACHED_MS - 1)
    answer = http("GET", "/tasks")
    assert (answer.status_code, answer.json_body["reason"]) == (401, "KEY_ENDED")


def test_a_rotated_key_works_at_once_and_the_old_one_no_more(
    http: Http, new_key: NewKey, clock: Clock
) -> None:
    boss, key = new_key("boss", ADMIN), new_key("me", READ)
    http.key = boss
    rotated = http("POST", f"/keys/{_id(key)}/rotate")
    assert rotated.headers["Cache-Control"] == "no-store"
    new = rotated.json_body["key"]
    assert _id(new) == _id(key)
    assert new != key
    for text, status in ((new, 200), (key, 401), (new, 200)):
        assert _ask(http, "GET", "/tasks", text).status_code == status


def test_a_request_is_answered_though_its_keys_use_cannot_be_noted(
    http: Http, new_key: NewKey, aws: Aws
) -> None:
    http.key = new_key("me", READ)
    aws.hooks.append(Refuse("dynamodb.UpdateItem"))
    assert http("GET", "/tasks").status_code == 200


def test_nobody_is_let_in_where_keys_cannot_be_read(http: Http, new_key: NewKey, aws: Aws) -> None:
    http.key = new_key("me", READ)
    aws.hooks.append(Refuse("dynamodb.GetItem"))
    assert http("GET", "/tasks").status_code == 503


# --- /keys ----------------------------------------------------------------------------------------


def test_a_key_is_shown_once_and_stored_and_logged_nowhere(
    http: Http, new_key: NewKey, aws: Aws, capsys: pytest.CaptureFixture[str], settings: Any
) -> None:
    http.key = new_key("boss", ADMIN)
    made = http("POST", "/keys", {"owner": "me", "scopes": [READ]}, {"Idempotency-Key": "k"})
    assert made.status_code == 201
    text = made.json_body["key"]
    rotated = http("POST", f"/keys/{_id(text)}/rotate").json_body["key"]
    listed = http("GET", "/keys")
    _ask(http, "GET", "/tasks", rotated)
    _ask(http, "GET", "/tasks", text)
    everything = str([table.items for table in aws.dynamodb.tables.values()])
    everything += str(aws.sqs.queues) + listed.body.decode() + "".join(capsys.readouterr())
    for key in (text, rotated, http.key):
        assert str(key)[-43:] not in everything
    assert _id(text) in listed.body.decode()


def test_keys_are_listed_page_by_page_with_what_became_of_them(
    http: Http, new_key: NewKey, clock: Clock
) -> None:
    http.key = new_key("boss", ADMIN)
    names = {_id(http.key): "live"}
    for number in range(4):
        names[_id(new_key(f"owner-{number}", READ))] = "live"
    names[_id(new_key("late", READ, expires_at=clock() + 1))] = "expired"
    clock.advance(1)
    revoked = next(
        iter(set(names) - {_id(http.key)} - {k for k, v in names.items() if v != "live"})
    )
    names[revoked] = "revoked"
    for _ in range(2):  # to repeat it changes nothing
        answer = http("DELETE", f"/keys/{revoked}")
        assert (answer.status_code, answer.json_body["status"]) == (200, "revoked")
    found: dict[str, str] = {}
    query = "?page_size=2"
    while query:
        page = http("GET", f"/keys{query}").json_body
        found |= {key["key_id"]: key["status"] for key in page["keys"]}
        assert all("secret_hash" not in key and "key" not in key for key in page["keys"])
        following = page["next_page_token"]
        query = f"?page_size=2&page_token={following}" if following else ""
    assert found == names


@pytest.mark.parametrize("key_id", ["none", "0" * 16, "x" * 101])
@pytest.mark.parametrize(("method", "rest"), [("DELETE", ""), ("POST", "/rotate")])
def test_an_unknown_key_is_a_404(
    http: Http, new_key: NewKey, key_id: str, method: str, rest: str
) -> None:
    http.key = new_key("boss", ADMIN)
    answer = http(method, f"/keys/{key_id}{rest}")
    assert (answer.status_code, answer.json_body["reason"]) == (404, "KEY_NOT_FOUND")


@pytest.mark.parametrize("authentication", ["none", "iam"])
def test_no_key_is_made_where_keys_are_not_in_use(
    http: Http, backend: Backend, monkeypatch: pytest.MonkeyPatch, authentication: str
) -> None:
    chosen = dataclasses.replace(backend.settings, authentication=authentication)
    asked = dataclasses.replace(backend, settings=chosen)
    monkeypatch.setattr(wiring, "backend", lambda: asked)
    answer = http("POST", "/keys", {"owner": "me", "scopes": [ADMIN]})
    reasons = {"none": (409, "KEYS_NOT_IN_USE"), "iam": (401, "NOT_SIGNED")}
    assert (answer.status_code, answer.json_body["reason"]) == reasons[authentication]


@pytest.mark.parametrize(("session", "is_admin"), [("ops/anna", True), ("clients/anna", False)])
def test_under_iam_the_setting_says_who_may_pause_and_others_are_told_its_name(
    http: Http, backend: Backend, monkeypatch: pytest.MonkeyPatch, session: str, is_admin: bool
) -> None:
    chosen = dataclasses.replace(
        backend.settings,
        authentication="iam",
        admin_roles=("arn:aws:iam::123456789012:role/ops",),
    )
    asked = dataclasses.replace(backend, settings=chosen)
    monkeypatch.setattr(wiring, "backend", lambda: asked)
    arn = "arn:aws:sts::123456789012:assumed-role/"

    def signed(by: str) -> Callable[[], Any]:
        def request() -> Any:
            current = web.routes.current_request
            current.context["identity"] = {"userArn": arn + by}
            return current

        return request

    monkeypatch.setattr(web, "_request", signed("clients/ben"))
    task_id = http("POST", "/start", {"symbols": ["BTCUSDT"]}).json_body["task_id"]
    monkeypatch.setattr(web, "_request", signed(session))
    assert http("GET", "/tasks").status_code == 200
    statuses = {}
    for method, path in ROUTES:
        if web.SCOPES[method, path] == (ADMIN,):
            answer = _ask(http, method, path, None)
            statuses[answer.status_code] = answer.json_body
    if is_admin:
        assert set(statuses) <= {200, 400, 404, 409}
        assert http("POST", "/pause").json_body["pause"]["by"] == f"{arn}ops"
        assert http("POST", "/resume").status_code == 200
        assert http("GET", "/keys").json_body["reason"] == "KEYS_NOT_IN_USE"
        assert http("POST", f"/task/{task_id}/cancel").status_code == 202
    else:
        assert set(statuses) == {403}
        assert (statuses[403]["reason"], statuses[403]["scopes"]) == ("SCOPE_MISSING", ["admin"])
        assert "ADMIN_ROLES" in statuses[403]["detail"]
