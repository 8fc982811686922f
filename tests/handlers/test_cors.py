"""CORS over HTTP: pages of the origins that a setting names may call, and pages of no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from chalice import Chalice
from chalice.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.api import cors, web
from chalicelib.core.environ import from_environ
from chalicelib.core.errors import SettingsInvalid
from tests.handlers.conftest import PREFIX, Http

ORIGINS = ("https://app.example.com", "http://127.0.0.1:5173")
ALLOWS = "Access-Control-Allow-Origin"


@pytest.fixture
def open_http(http: Http, monkeypatch: pytest.MonkeyPatch) -> Iterator[Http]:
    """The application as it is with CORS_ORIGINS set."""
    import app

    # A blueprint can be put on one application only.
    application = Chalice(app_name="open")
    application.api.binary_types = []
    for path, methods in app.app.routes.items():
        application.routes[path] = dict(methods)
    monkeypatch.setattr(web.routes, "_current_app", application)
    cors.allow(application, ORIGINS)
    with Client(application) as client:
        yield Http(client)


def preflight(http: Http, path: str, origin: str) -> Any:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    return http("OPTIONS", path, headers=asked)


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize(
    ("path", "methods"),
    [("/start", "POST"), ("/task/some-id", "GET"), ("/schedules", "GET, POST")],
)
def test_a_preflight_of_a_named_origin_is_answered_with_that_origin(
    open_http: Http, origin: str, path: str, methods: str
) -> None:
    answer = preflight(open_http, path, origin)
    assert (answer.status_code, answer.body) == (204, b"")
    assert answer.headers[ALLOWS] == origin
    assert answer.headers["Access-Control-Allow-Methods"] == methods
    assert "Idempotency-Key" in answer.headers["Access-Control-Allow-Headers"].split(", ")
    assert answer.headers["Vary"] == "Origin"


def test_every_answer_names_the_origin_be_it_an_error_or_not(open_http: Http) -> None:
    origin = {"Origin": ORIGINS[0]}
    for method, path, status in [
        ("GET", "/status", 200),
        ("GET", "/task/nobody-has-it", 404),
        ("GET", "/tasks?page_size=x", 400),
    ]:
        answer = open_http(method, path, headers=origin)
        assert answer.status_code == status
        assert answer.headers[ALLOWS] == ORIGINS[0]
        assert answer.headers["Vary"] == "Origin"
    assert "Location" in answer.headers["Access-Control-Expose-Headers"].split(", ")


#: What resembles a named origin, and anything else.
OTHERS = st.one_of(
    st.sampled_from(ORIGINS).flatmap(
        lambda origin: st.sampled_from(
            [
                *(origin.upper(), origin + "/", origin + ":443", origin + ".evil.test"),
                *(origin[:-1], "https://evil.test#" + origin, origin + "," + origin),
                *(origin.replace("//", "//evil."), origin.replace(":", "s:", 1)),
            ]
        )
    ),
    st.sampled_from(["*", "null", ""]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
).filter(lambda origin: origin not in ORIGINS)


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(origin=OTHERS)
def test_no_other_origin_is_let_in(open_http: Http, origin: str) -> None:
    for answer in (
        preflight(open_http, "/start", origin),
        open_http("GET", "/task/nobody-has-it", headers={"Origin": origin}),
    ):
        assert ALLOWS not in answer.headers
        assert answer.headers["Vary"] == "Origin"


def test_a_request_without_an_origin_is_answered_as_ever(open_http: Http) -> None:
    answer = open_http("GET", "/status")
    assert answer.status_code == 200
    assert ALLOWS not in answer.headers
    assert answer.headers["Vary"] == "Origin"


def test_no_answer_says_star_or_lets_credentials_in(open_http: Http) -> None:
    for origin in (*ORIGINS, "*"):
        for answer in (
            preflight(open_http, "/start", origin),
            open_http("GET", "/status", headers={"Origin": origin}),
        ):
            assert answer.headers.get(ALLOWS) != "*"
            assert "Access-Control-Allow-Credentials" not in answer.headers


def test_without_the_setting_there_is_no_preflight_and_no_header(http: Http) -> None:
    import app

    assert cors.origins_of({}) == ()
    assert not [path for path, methods in app.app.routes.items() if "OPTIONS" in methods]
    assert PREFIX + "/status" in app.app.routes
    answer = http("GET", "/status", headers={"Origin": ORIGINS[0]})
    assert not [name for name in answer.headers if name.startswith("Access-Control")]
    assert "Vary" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [
        *("*", "null", "https://*.example.com", "https://example.com/", "https://example.com/app"),
        *("example.com", "HTTPS://example.com", "https://Example.com", "https://", "ws://a.test"),
        *("https://a.test:port", "https://me@a.test", "https://a..test", "https://a.test?b"),
    ],
)
def test_what_is_no_origin_is_refused_before_anything_is_built(origin: str) -> None:
    with pytest.raises(SettingsInvalid, match="CORS_ORIGINS"):
        from_environ({"CORS_ORIGINS": f"https://fine.example.com,{origin}"})


@pytest.mark.parametrize("origin", [*ORIGINS, "http://localhost:3000", "https://[::1]:8443"])
def test_an_origin_as_browsers_write_it_is_taken(origin: str) -> None:
    assert cors.origins_of({"CORS_ORIGINS": origin}) == (origin,)
