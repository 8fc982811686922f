import json

import pytest

from market_data_collector.client import Client
from market_data_collector.locate import (
    DEFAULT_URL,
    Unusable,
    find_url,
    is_loopback,
    with_prefix,
)
from tests.cli.running import run

PREFIX = "/api/v1/data-collector"


def endpoints(folder, content):
    (folder / ".local").mkdir(parents=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / ".local" / "endpoints.json").write_text(text)


def test_url_comes_from_the_option_then_the_environment_then_the_file_then_the_default(tmp_path):
    assert find_url(None, {}, tmp_path) == DEFAULT_URL
    endpoints(tmp_path, {"api_url": "http://file"})
    assert find_url(None, {"DATA_COLLECTOR_URL": ""}, tmp_path) == "http://file"
    environ = {"DATA_COLLECTOR_URL": "http://environment"}
    assert find_url(None, environ, tmp_path) == "http://environment"
    assert find_url("http://option", environ, tmp_path) == "http://option"


def test_endpoints_file_is_searched_upwards_past_one_without_a_url(tmp_path):
    endpoints(tmp_path, {"api_url": "http://outer"})
    endpoints(tmp_path / "a" / "b", {"ws_url": "ws://inner"})
    (tmp_path / "a" / "b" / "c").mkdir()
    assert find_url(None, {}, tmp_path / "a" / "b" / "c") == "http://outer"
    endpoints(tmp_path / "a", {"api_url": "http://nearer"})
    assert find_url(None, {}, tmp_path / "a" / "b" / "c") == "http://nearer"


def test_a_broken_endpoints_file_is_named(tmp_path):
    endpoints(tmp_path, '{"api_url": ')
    with pytest.raises(Unusable, match=r"endpoints\.json is not valid JSON"):
        find_url(None, {}, tmp_path)
    assert run("status").code == 2


def test_the_client_uses_what_it_finds(tmp_path, monkeypatch):
    endpoints(tmp_path, {"api_url": "http://file.test/base"})
    url = run("status").api.requests[0].url
    assert str(url) == f"http://file.test/base{PREFIX}/status"
    monkeypatch.setenv("DATA_COLLECTOR_URL", "http://env.test")
    assert run("status").api.requests[0].url.host == "env.test"
    for args in (["--api-url", "opt.test", "status"], ["status", "--api-url", "opt.test"]):
        assert run(*args).api.requests[0].url.host == "opt.test"


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://h:1", f"http://h:1{PREFIX}"),
        ("http://h:1/", f"http://h:1{PREFIX}"),
        (f"http://h:1{PREFIX}", f"http://h:1{PREFIX}"),
        (f"http://h:1{PREFIX}/", f"http://h:1{PREFIX}"),
        (f"https://h/prod{PREFIX}?x=1#y", f"https://h/prod{PREFIX}"),
        ("https://h/prod", f"https://h/prod{PREFIX}"),
        ("https://h/api/", f"https://h{PREFIX}"),
        (f"https://h{PREFIX}/status", f"https://h{PREFIX}"),
        (f"https://h{PREFIX}/task/1?x=1", f"https://h{PREFIX}"),
        (f"https://h{PREFIX}s", f"https://h{PREFIX}s{PREFIX}"),
        ("localhost:8000", f"http://localhost:8000{PREFIX}"),
        (" http://[::1]:8 ", f"http://[::1]:8{PREFIX}"),
    ],
)
def test_prefix_is_added_only_when_missing(given, used):
    assert with_prefix(given) == used


@pytest.mark.parametrize(
    "bad", [" ", "ftp://h", "http://", "http://h:port", "http://[::1", "http://h:0"]
)
def test_an_unusable_url_is_refused(bad):
    with pytest.raises(Unusable):
        Client(bad)


def test_only_this_machine_is_loopback():
    assert all(map(is_loopback, ["localhost", "api.localhost", "127.0.0.1", "127.8.8.8", "::1"]))
    assert not any(map(is_loopback, ["example.test", "10.0.0.1", "localhost.example.test"]))
