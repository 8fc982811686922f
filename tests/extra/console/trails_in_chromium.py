"""Schedules that are made, run and changed on the page, and audit trails that it verifies."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from chalicelib.audit.chain import AuditEvent, sealed, verify
from market_data_collector.client import Client
from tests.e2e.waiting import ended, until
from tests.extra.console.browser import Console, picture, serious_findings
from tests.extra.console.market_in_chromium import _expect


def test_a_schedule_is_made_run_disabled_enabled_and_deleted(console: Console, api: Client) -> None:
    console.expected += ["400 (Bad Request)"]
    page = console.open("schedules")
    page.get_by_text("New schedule").click()
    maker = page.locator(".maker")
    maker.get_by_label("Name").fill("from the page")
    maker.get_by_label("When").fill("rate(1 parsec)")
    maker.get_by_label("Symbols").fill("ETHUSDT")
    maker.get_by_label("Timeframes").fill("1h 4h")
    maker.get_by_label("Promised lag").fill("7200")
    maker.get_by_role("button", name="Make it").click()
    _expect(maker.get_by_role("alert")).to_contain_text("expression")
    maker.get_by_label("When").fill("rate(1 day)")
    maker.get_by_role("button", name="Make it").click()
    card = page.get_by_role("region", name="from the page")
    for text in ("rate(1 day)", "in 23 h", "2 h", "ETHUSDT", "1h, 4h", "0 started"):
        _expect(card).to_contain_text(text)
    card.get_by_role("button", name="Run now").click()
    _expect(card.locator(".task-line[data-status=completed]")).to_be_visible()
    _expect(card).to_contain_text("1 started")
    assert not serious_findings(page)
    picture(page, "schedule")
    card.get_by_role("button", name="Disable").click()
    _expect(card).to_contain_text("none while it is disabled")
    [made] = [one for one in api.schedules() if one["name"] == "from the page"]
    assert (made["enabled"], made["runs"]["started"]) == (False, 1)
    card.get_by_role("button", name="Enable").click()
    _expect(card.get_by_role("button", name="Disable")).to_be_visible()
    card.get_by_role("button", name="Delete").click()
    card.get_by_role("button", name="Really delete it").click()
    _expect(card).to_have_count(0)
    assert made["schedule_id"] not in json.dumps([*api.schedules()])


def test_a_trail_is_verified_and_altered_ones_are_not(console: Console, api: Client) -> None:
    task = ended(api, api.start("BTCUSDT", "1h").task_id)
    until(lambda: _actions(api, task["task_id"]), lambda found: "task.completed" in found)
    page = console.open("audit")
    page.get_by_label("Id of a task").fill(task["task_id"])
    page.get_by_role("button", name="Show the trail").click()
    verdict = page.locator(".verdict")
    _expect(verdict).to_have_attribute("data-verdict", "whole")
    _expect(verdict).to_contain_text(f"{len(_actions(api, task['task_id']))} entries")
    page.get_by_text("Try it").click()
    page.get_by_label("Entry").select_option(index=1)
    for button, found in (
        ("Change its text", "altered at entry 2"),
        ("Change who did it", "altered at entry 2"),
        ("Remove it", "missing at entry 2"),
        ("Move it", "reordered at entry 1"),
    ):
        page.get_by_role("button", name=button, exact=True).click()
        _expect(verdict).to_have_attribute("data-verdict", "broken")
        _expect(verdict).to_contain_text(found)
    assert not serious_findings(page)
    picture(page, "audit-altered")
    page.get_by_role("button", name="Put back").click()
    _expect(verdict).to_have_attribute("data-verdict", "whole")


def test_a_trail_that_was_altered_on_its_way_is_called_broken(
    console: Console, api: Client
) -> None:
    task = ended(api, api.start("BTCUSDT", "1d").task_id)
    until(lambda: _actions(api, task["task_id"]), lambda found: "task.completed" in found)
    page = console.open("audit")

    def alter(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace('"units": 1', '"units": 2', 1))

    page.route("**/audit?task_id=*", alter)
    console.show(page, f"audit/{task['task_id']}")
    verdict = page.locator(".verdict")
    _expect(verdict).to_have_attribute("data-verdict", "broken")
    _expect(verdict).to_contain_text("Somebody changed the Audit table")


def test_who_may_only_read_sees_all_and_changes_nothing(console: Console, reader: str) -> None:
    console.expected += ["401 (Unauthorized)"]
    page = console.open("coverage?symbols=BTCUSDT&timeframes=1h")
    page.locator("dialog input[name=key]").fill(reader)
    page.keyboard.press("Enter")
    page.locator(".who", has_text="reader").wait_for()
    cell = page.locator("[data-key='BTCUSDT 1h'][data-at='0']")
    cell.click()
    for name in ("Collect what is missing", "Collect all again"):
        button = page.get_by_role("button", name=name)
        _expect(button).to_have_attribute("aria-disabled", "true")
        _expect(button).to_have_attribute("title", re.compile("collect"))
    console.show(page, "schedules")
    page.get_by_text("New schedule").click()
    button = page.get_by_role("button", name="Make it")
    _expect(button).to_have_attribute("aria-disabled", "true")
    button.click(force=True)  # it says why
    _expect(page.locator(".toast")).to_contain_text("This needs a key with the scope")
    console.show(page, "chart/BTCUSDT?timeframe=1h")
    _expect(page.locator(".chart-card[data-phase=drawn]")).to_be_visible()


def _actions(api: Client, task_id: str) -> list[str]:
    return [event["action"] for event in api.audit(task_id=task_id)]


@pytest.mark.parametrize("seed", range(3))
def test_the_page_finds_what_the_command_line_finds(console: Console, seed: int) -> None:
    """Chains with odd values, most of them altered, as JSON texts of Python."""
    chance = random.Random(seed)
    chains = [_altered(chance) for _ in range(100)]
    assert any(verify("task:t", chain) for chain in chains)
    page = console.open("audit")
    base = page.locator("script[type=module]").get_attribute("src").rsplit("/", 1)[0]
    found = page.evaluate(
        """async ([base, texts]) => {
            const {parseExact, verify} = await import(`${base}/chain.js`);
            return Promise.all(texts.map(async (text) =>
                (await verify("task:t", parseExact(text))).map(({seq, kind}) => [seq, kind])));
        }""",
        [base, [json.dumps(chain) for chain in chains]],
    )
    assert found == [
        [[fault.seq, fault.kind] for fault in verify("task:t", chain)] for chain in chains
    ]


_ODD: list[Any] = [
    *(0, -5, 10**20, 1.0, 1e-7, 1e16, 1.5e300, -0.0, True, None, [], {}),
    *("é", "\x7f", '"\\/', "\n\x01", "😀", "\ud800", "￿", "<b>"),
]


def _value(chance: random.Random, depth: int = 0) -> Any:
    if depth > 2 or chance.random() < 0.6:
        return chance.choice(_ODD)
    if chance.random() < 0.5:
        return [_value(chance, depth + 1) for _ in range(3)]
    names = chance.sample(["z", "é", "😀x", "￿x", "__proto__", "B", ""], 4)
    return {name: _value(chance, depth + 1) for name in names}


def _altered(chance: random.Random) -> list[AuditEvent]:
    chain: list[AuditEvent] = []
    for _ in range(chance.randrange(2, 6)):
        content = {"subject": "task:t", "action": "task.x", "data": _value(chance)}
        chain.append(sealed(content, chain[-1] if chain else None))
    at = chance.randrange(len(chain))
    event = dict(chain[at])
    how = chance.randrange(8)
    if how == 1:
        event["detail"] = "another"
    elif how == 2:
        event["seq"] = chance.choice([0, True, "1", 99])
    elif how == 3:
        event["id"] = "task:t:0"
    elif how == 4:
        event = dict(sealed({**event, "detail": "q"}, chain[at - 1] if at else None))
    chain[at] = event  # type: ignore[call-overload]
    if how == 5:
        del chain[at]
    elif how == 6:
        chain.insert(at, chain[at])
    elif how == 7:
        chance.shuffle(chain)
    return chain
