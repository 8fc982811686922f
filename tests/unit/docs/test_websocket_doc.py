"""The messages that docs/WEBSOCKET.md shows are those that are understood and sent."""

from __future__ import annotations

import json
import re

import pytest

from chalicelib.candles.store import CandleStore
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.live import connections, receive, tickets
from infra.package import ROOT

PAGE = (ROOT / "docs" / "WEBSOCKET.md").read_text(encoding="utf-8")


def _exchanges() -> list[tuple[str, list[dict]]]:
    """What is sent in the page's examples, and what is answered."""
    found: list[tuple[str, list[dict]]] = []
    for line in PAGE.splitlines():
        if line.startswith("> "):
            found.append((line[2:], []))
        elif line.startswith("< ") and '"update"' not in line:
            found[-1][1].append(json.loads(line[2:]))
    return found


@pytest.fixture
def client(run, worker, clock):
    run(CatalogueTable(worker).write_catalogue({"BTCUSDT": "TRADING"}, 6000, clock()))
    run(CatalogueTable(worker).write_prices({"BTCUSDT": "62128.63"}, clock()))
    run(receive.connect(worker, "me"))


def test_every_message_shown_is_answered_as_shown(run, worker, aws, client) -> None:
    shown = _exchanges()
    assert len(shown) >= 5
    for text, answers in shown:
        aws.sockets.sent.clear()
        run(receive.receive(worker, CandleStore(worker), "me", text))
        given = [json.loads(sent) for _, sent in aws.sockets.sent]
        assert [list(answer) for answer in given] == [list(answer) for answer in answers]
        for answer, example in zip(given, answers, strict=True):
            for name in set(example) - {"sequence", "at", "time"}:
                assert answer[name] == example[name]


def test_every_action_is_shown() -> None:
    assert {json.loads(text)["action"] for text, _ in _exchanges()} == set(receive.ACTIONS)


def test_the_limits_are_those_of_the_code() -> None:
    for name, value in (
        ("topics of a connection", str(connections.MOST_TOPICS)),
        ("a message to us", f"{receive.MOST_BYTES // 1024} KB"),
        ("messages to us, per connection", f"{connections.MOST_MESSAGES} in ten seconds"),
    ):
        assert f"| {name} | {value} |" in PAGE
    assert connections.RATE_SECONDS == 10
    assert connections.LIFE_SECONDS == 7200
    assert tickets.LIFE_SECONDS == 60


def test_every_reason_that_the_code_gives_is_in_the_table_and_no_other() -> None:
    table = PAGE.split("| `reason` |")[1].split("## Numbers")[0]
    named = set(re.findall(r"`([A-Z_]+)`", table))
    files = ("receive", "subscribe", "topics", "connections")
    code = "".join(
        (ROOT / "chalicelib" / "live" / f"{file}.py").read_text("utf-8") for file in files
    )
    given = set(re.findall(r'reason="([A-Z_]+)"', code))
    of_classes = {"INVALID_REQUEST", "TASK_NOT_FOUND", "TASK_EXPIRED", "BACKEND_UNAVAILABLE"}
    assert named == given | of_classes
