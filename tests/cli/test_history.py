"""`data-collector history`: one list, however many pages it takes."""

import httpx
import pytest

from tests.cli.fake_api import ENDED_TASK, FakeApi
from tests.cli.running import run


def pages(*entries: list[dict]) -> FakeApi:
    """One page for each list of entries."""
    last = len(entries) - 1
    script = [
        httpx.Response(
            200, json={"tasks": page, "next_page_token": None if at == last else f"t{at}"}
        )
        for at, page in enumerate(entries)
    ]
    return FakeApi({"GET /history": script})


def test_a_person_reads_what_was_asked_for_and_what_came_of_it() -> None:
    ran = run("history", "--status", "completed", "--since", "2026-11-01")
    assert ran.code == 0
    for shown in (ENDED_TASK["task_id"], "completed", "BTCUSDT, ETHUSDT +5 1h,4h", "14", "1 units"):
        assert shown in ran.out
    query = dict(ran.api.requests[0].url.params)
    assert query == {"status": "completed", "since": "2026-11-01T00:00:00Z"}


def test_empty_pages_are_followed_to_the_first_entry() -> None:
    ran = run("history", "--json", api=pages([], [], [ENDED_TASK], [ENDED_TASK]))
    assert ran.json == {"tasks": [ENDED_TASK], "next_page_token": "t2"}
    assert [request.url.params.get("page_token") for request in ran.api.requests] == [
        None,
        "t0",
        "t1",
    ]


@pytest.mark.parametrize("odd", [1.5, ["t"], {"t": 1}, True, ""])
def test_what_is_no_token_is_no_further_page(odd: object) -> None:
    empty = {"tasks": [], "next_page_token": odd}
    for args in ((), ("--all",)):
        api = FakeApi({"GET /history": [httpx.Response(200, json=empty)]})
        assert (run("history", *args, api=api).code, len(api.requests)) == (0, 1)


def test_all_follows_every_page_once() -> None:
    ran = run("history", "--all", "--json", api=pages([ENDED_TASK], [], [ENDED_TASK]))
    assert ran.json == {"tasks": [ENDED_TASK, ENDED_TASK], "next_page_token": None}
    endless = FakeApi({"GET /history": [httpx.Response(200, json={"next_page_token": "t"})]})
    assert run("history", "--all", "--json", api=endless).json["tasks"] == []


def test_nothing_is_said_to_be_nothing() -> None:
    assert "No task has ended." in run("history", api=pages([])).out


def test_all_symbols_and_a_symbol_refresh_are_named() -> None:
    everything = {**ENDED_TASK, "asked": {"symbols": None, "timeframes": ["1d"]}}
    refresh = {**ENDED_TASK, "task_type": "symbol_refresh", "asked": None}
    out = run("history", api=pages([everything, refresh])).out
    assert "all symbols 1d" in out
    assert "symbol refresh" in out
