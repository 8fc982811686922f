"""Settings from the environment: what works is taken, what cannot work is refused by name."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.collecting.gate import RESERVE_MS
from chalicelib.core.environ import from_environ
from chalicelib.core.errors import SettingsInvalid
from chalicelib.core.roots import root_of
from chalicelib.core.settings import Settings
from infra.configuration import as_text, user_settings

NAMES = [name for name, _, _ in user_settings()]


def test_an_empty_environment_gives_the_defaults() -> None:
    assert vars(from_environ({})) == vars(Settings())


def test_every_default_written_as_text_reads_as_itself() -> None:
    environ = {name: as_text(default) for name, default, _ in user_settings()}
    assert vars(from_environ(environ)) == vars(Settings())


def test_every_setting_says_what_it_means() -> None:
    assert NAMES
    assert all(about for _, _, about in user_settings())


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=20), max_size=4))
def test_any_environment_gives_settings_or_one_sentence_that_names_the_variable(
    environ: dict[str, str],
) -> None:
    try:
        from_environ(environ)
        said = "it is fine"
    except SettingsInvalid as error:
        said = error.detail
    assert said == "it is fine" or any(name in said for name in environ)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("RETENTION_SECONDS", "0"),
        ("RETENTION_SECONDS", "five"),
        ("TASK_TIMEOUT_SECONDS", "59"),
        ("MAX_UNITS", "200001"),
        ("BUDGET_PERCENT", "101"),
        ("DEFAULT_TIMEFRAMES", "1m,2m"),
        ("DEFAULT_TIMEFRAMES", ""),
        ("DEFAULT_SYMBOLS", "BTC USDT"),
        ("EXCHANGE_URL", "data-api.binance.vision"),
        ("EXCHANGE_URL", "https://example.com?key=1"),
        ("ARCHIVE", "always"),
        ("ARCHIVE_URL", "data.binance.vision"),
        ("EXCHANGE", "Binance!"),
        ("EXCHANGE", "b" * 32),
        ("LOG_LEVEL", "LOUD"),
        ("TRACING", "some"),
        ("ACCESS_LOGS", "yes"),
        ("DELETION_PROTECTION", ""),
        ("BUCKET_VERSIONING", "1"),
        ("ADMIN_ROLES", "ops"),
        ("ADMIN_ROLES", "*"),
        ("ADMIN_ROLES", "arn:aws:iam::123456789012:role/*"),
        ("ADMIN_ROLES", "arn:aws:iam::123456789012:role/"),
        ("ADMIN_ROLES", "arn:aws:iam::123456789012:root"),
        ("ADMIN_ROLES", "arn:aws:iam::12345:user/me"),
        ("ADMIN_ROLES", "arn:aws:iam::123456789012:group/ops"),
        ("ADMIN_ROLES", "arn:aws:sts::123456789012:assumed-role/ops/session"),
        ("ADMIN_ROLES", "arn:aws:iam::123456789012:role/ops;arn:aws:iam::123456789012:role/me"),
        ("ALARM_EMAIL", "nobody"),
        ("COLLECT_TIMEOUT_SECONDS", "901"),
        ("COLLECT_TIMEOUT_SECONDS", "29"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_its_name(name: str, text: str) -> None:
    with pytest.raises(SettingsInvalid, match=name):
        from_environ({name: text})


def test_the_shortest_collect_timeout_leaves_time_to_collect_in() -> None:
    shortest = next(one for one in fields(Settings) if one.name == "collect_timeout_seconds")
    assert shortest.metadata["low"] * 1000 >= 2 * RESERVE_MS


def test_a_default_page_must_fit_into_the_largest_page() -> None:
    with pytest.raises(SettingsInvalid, match="DEFAULT_PAGE_SIZE"):
        from_environ({"DEFAULT_PAGE_SIZE": "50", "MAX_PAGE_SIZE": "20"})


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:iam::123456789012:role/ops",
        "arn:aws-us-gov:iam::123456789012:role/a/path/ops+=.@_-1",
        "arn:aws-cn:iam::123456789012:user/me",
        "arn:aws:sts::123456789012:assumed-role/ops",
    ],
)
def test_admins_are_named_by_the_arns_of_roles_and_users(arn: str) -> None:
    user = "arn:aws:iam::123456789012:user/team/me"
    assert from_environ({"ADMIN_ROLES": f"{arn}, {user}"}).admin_roles == (arn, user)


def test_lists_are_split_at_commas_and_trimmed() -> None:
    settings = from_environ({"DEFAULT_SYMBOLS": " BTCUSDT , ETHUSDT ,"})
    assert settings.default_symbols == ("BTCUSDT", "ETHUSDT")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://data-api.binance.vision", "binance"),
        ("HTTPS://Data-API.binance.vision:443/", "binance"),
        ("https://api.binance.com", "api-binance-com"),
        ("http://127.0.0.1:9000", "127-0-0-1-9000"),
        ("http://[::1]:9000/mirror", "1-9000-mirror"),
        ("https://user:secret@example.com/v1", "example-com-v1"),
        ("http://local", "local-8287d509"),
        ("https://binance", "binance-35a42b3d"),
        ("https://a-very-long-name-of-a-proxy.example.com", ""),
        ("http://币安", ""),
    ],
)
def test_an_exchange_without_a_name_has_that_of_its_host(url: str, name: str) -> None:
    settings = from_environ({"EXCHANGE_URL": url})
    assert settings.exchange == (name or settings.exchange)
    assert len(settings.exchange) <= 31
    assert settings.exchange != "local"
    assert "secret" not in settings.exchange_root
    again = from_environ({"EXCHANGE_URL": url, "EXCHANGE": settings.exchange})
    assert vars(again) == vars(settings)


HOSTS = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,40}[a-z0-9])?", fullmatch=True)
PATHS = st.from_regex(r"(/[A-Za-z0-9._-]{1,8}){0,3}", fullmatch=True)


@given(st.sampled_from(["http", "https"]), HOSTS, st.integers(1, 65_535), PATHS)
def test_spellings_of_one_root_are_one_root_and_have_one_name(
    scheme: str, host: str, port: int, path: str
) -> None:
    url = f"{scheme}://{host}:{port}{path}"
    spellings = {url, f"{url}/", f"{scheme.upper()}://{host.upper()}:{port}{path}"}
    if (scheme, port) in (("http", 80), ("https", 443)):
        spellings.add(f"{scheme}://{host}{path}")
    found = {
        (settings.exchange, settings.exchange_root)
        for settings in (from_environ({"EXCHANGE_URL": each}) for each in spellings)
    }
    assert len(found) == 1
    assert found != {("local", root_of(url))}


@pytest.mark.parametrize(
    "other",
    ["http://example.com", "https://example.com:8443", "https://example.com/v1", "https://e.com"],
)
def test_another_scheme_port_path_or_host_is_another_root(other: str) -> None:
    assert root_of(other) != root_of("https://example.com")


def test_the_local_exchange_is_the_same_on_any_port_and_nothing_else_is() -> None:
    def root(url: str, name: str) -> str:
        return from_environ({"EXCHANGE_URL": url, "EXCHANGE": name}).exchange_root

    here, there = "http://127.0.0.1:4711", "http://127.0.0.1:4712"
    assert root(here, "local") == root(there, "local") == root("http://localhost:1", "local")
    assert root(here, "mine") != root(there, "mine")
    assert root("https://example.com:1", "local") != root("https://example.com:2", "local")
    assert root("http://127.0.0.1:1/path", "local") != root(here, "local")


@pytest.mark.parametrize(
    ("environ", "root"),
    [
        ({}, "https://data.binance.vision"),
        ({"EXCHANGE_URL": "HTTPS://data-api.binance.vision:443/"}, "https://data.binance.vision"),
        ({"EXCHANGE_URL": "https://api.binance.com"}, ""),
        ({"EXCHANGE": "binance", "EXCHANGE_URL": "https://mirror.test"}, ""),
        ({"EXCHANGE": "local", "EXCHANGE_URL": "http://127.0.0.1:8900"}, "http://127.0.0.1:8900"),
        ({"EXCHANGE": "local", "EXCHANGE_URL": "https://elsewhere.test"}, ""),
        ({"EXCHANGE_URL": "https://x.test", "ARCHIVE_URL": "https://y.test/a"}, "https://y.test/a"),
        ({"ARCHIVE": "never"}, ""),
        ({"ARCHIVE": "never", "ARCHIVE_URL": "https://y.test"}, ""),
    ],
)
def test_an_exchange_has_its_own_archive_or_the_one_that_is_named(
    environ: dict[str, str], root: str
) -> None:
    assert from_environ(environ).archive_root == root
