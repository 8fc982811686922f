"""Keys: which one is sent where, and `data-collector keys`."""

import json

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market_data_collector.client import Client
from market_data_collector.locate import Unusable, find_key
from tests.cli.fake_api import KEY, KEY_ID, KEY_TEXT, PREFIX, FakeApi, problem
from tests.cli.running import run

HOME = "http://127.0.0.1:8000"


def sent(ran) -> str | None:
    return ran.api.requests[-1].headers.get("Authorization")


def write(file, **content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def test_without_a_key_none_is_sent():
    assert sent(run("tasks")) is None


def test_the_option_wins_over_the_environment_and_that_over_the_files(tmp_path, monkeypatch):
    write(tmp_path / "home/.config/data-collector/config.json", api_url=HOME, api_key="own")
    assert sent(run("tasks")) == "Bearer own"
    write(tmp_path / ".local/endpoints.json", api_url=HOME, api_key="stack")
    assert sent(run("tasks")) == "Bearer stack"
    monkeypatch.setenv("DATA_COLLECTOR_KEY", "environment")
    assert sent(run("tasks")) == "Bearer environment"
    assert sent(run("tasks", "--key", "option")) == "Bearer option"
    assert sent(run("--key", "option", "tasks")) == "Bearer option"


def test_a_files_key_goes_to_the_files_url_and_nowhere_else(tmp_path):
    write(tmp_path / "home/.config/data-collector/config.json", api_url=HOME, api_key="own")
    assert sent(run("tasks", "--api-url", f"{HOME}/api/")) == "Bearer own"
    assert sent(run("tasks", "--api-url", "http://other.test")) is None
    write(tmp_path / ".local/endpoints.json", api_url="http://stack.test")
    ran = run("tasks")
    assert (ran.api.requests[-1].url.host, sent(ran)) == ("stack.test", None)


def test_the_config_file_names_the_api_where_nothing_else_does(tmp_path, monkeypatch):
    config = tmp_path / "elsewhere"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config))
    write(config / "data-collector/config.json", api_url="http://mine.test", api_key="own")
    ran = run("tasks")
    assert (ran.api.requests[-1].url.host, sent(ran)) == ("mine.test", "Bearer own")
    (config / "data-collector/config.json").write_text("{")
    ran = run("tasks")
    assert ran.code == 2
    assert "config.json is not valid JSON" in ran.err


def test_a_signature_takes_the_keys_place():
    class Signed(httpx.Auth):
        def auth_flow(self, request):
            request.headers["Authorization"] = "AWS4-HMAC-SHA256 ..."
            yield request

    api = FakeApi()
    Client(HOME, transport=api, auth=Signed(), key="key").stats()
    assert api.requests[0].headers["Authorization"].startswith("AWS4")


def test_the_library_takes_the_key_by_name_or_from_the_environment(monkeypatch):
    monkeypatch.setenv("DATA_COLLECTOR_KEY", "environment")
    for chosen, header in ((None, "environment"), ("", "environment"), ("mine", "mine")):
        api = FakeApi()
        Client(HOME, transport=api, key=chosen).stats()
        assert api.requests[0].headers["Authorization"] == f"Bearer {header}"


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.text(max_size=30))
def test_whatever_the_key_is_it_is_sent_or_refused_and_never_shown(key):
    ran = run("tasks", "--key", f"geheim{key}")
    if ran.code == 0:
        assert sent(ran) == f"Bearer {('geheim' + key).strip()}"
    else:
        assert ran.code == 2
        assert not ran.api.requests
        assert "geheim" not in ran.out + ran.err


@pytest.mark.parametrize("file", ["", "[]", "{}", '{"api_url": 5, "api_key": "x"}'])
def test_a_file_without_a_url_has_no_key(tmp_path, file):
    folder = tmp_path / ".local"
    folder.mkdir()
    (folder / "endpoints.json").write_text(file or "null")
    assert find_key(None, {}, tmp_path, HOME) is None


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local/endpoints.json").write_text("{")
    with pytest.raises(Unusable, match=r"endpoints\.json"):
        find_key(None, {}, tmp_path, HOME)


def test_a_401_says_how_to_give_a_key_and_a_403_which_scope_is_missing():
    unknown = problem(401, "Not authenticated", "send a key", "KEY_REQUIRED")
    ran = run("tasks", api=FakeApi({"GET /tasks": [unknown]}))
    assert ran.code == 2
    assert "$DATA_COLLECTOR_KEY or --key" in ran.err
    small = problem(
        403, "Scope missing", "this needs a key with the scope collect", "SCOPE_MISSING"
    )
    ran = run("start", "BTCUSDT", api=FakeApi({"POST /start": [small]}))
    assert (ran.code, "scope collect" in ran.err) == (2, True)


# --- data-collector keys --------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["keys"], ["keys", "list"]])
def test_keys_are_listed(command):
    lines = run(*command).out.splitlines()
    assert lines[0].split() == ["ID", "STATUS", "SCOPES", "LAST", "USED", "(UTC)", "OWNER"]
    assert lines[1].split() == [
        *(KEY_ID, "live", "collect", "read", "2026-11-23", "12:00", "research")
    ]


def test_a_key_is_made_and_shown_whole_on_any_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    ran = run(
        "keys", "create", "research", "-s", "collect", "--expires", "2027-01-31", out_tty=True
    )
    assert (ran.code, KEY_TEXT in ran.out) == (0, True)
    assert ran.body() == {
        "owner": "research",
        "scopes": ["collect"],
        "expires_at": "2027-01-31T00:00:00Z",
    }


def test_a_key_needs_a_scope_that_is_one():
    assert run("keys", "create", "research").code == 2
    assert run("keys", "create", "research", "--scope", "root").code == 2


def test_a_key_is_rotated_and_revoked():
    ran = run("keys", "rotate", KEY_ID, "--json")
    assert ran.json == {**KEY, "key": KEY_TEXT}
    assert ran.api.sent() == [f"POST {PREFIX}/keys/{KEY_ID}/rotate"]
    ran = run("keys", "revoke", KEY_ID)
    assert ran.api.sent() == [f"DELETE {PREFIX}/keys/{KEY_ID}"]
    assert f"Key {KEY_ID} revoked" in ran.out


def test_no_keys_say_how_to_make_one():
    ran = run("keys", api=FakeApi({"GET /keys": [httpx.Response(200, json={"keys": []})]}))
    assert "data-collector keys create --help" in ran.out
