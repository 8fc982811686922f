"""Settings from the environment: what works is taken, what cannot work is refused by name."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.collecting.gate import RESERVE_MS
from chalicelib.core.errors import SettingsInvalid
from chalicelib.core.settings import Settings, as_text, from_environ, user_settings

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
        ("MAX_UNITS", "20001"),
        ("BUDGET_PERCENT", "101"),
        ("DEFAULT_TIMEFRAMES", "1m,2m"),
        ("DEFAULT_TIMEFRAMES", ""),
        ("DEFAULT_SYMBOLS", "BTC USDT"),
        ("EXCHANGE_URL", "data-api.binance.vision"),
        ("EXCHANGE", "Binance!"),
        ("LOG_LEVEL", "LOUD"),
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


def test_lists_are_split_at_commas_and_trimmed() -> None:
    settings = from_environ({"DEFAULT_SYMBOLS": " BTCUSDT , ETHUSDT ,"})
    assert settings.default_symbols == ("BTCUSDT", "ETHUSDT")
