"""The console as a whole: every view, its looks, its live connection, signing in.

`make test-extra` runs it. Its name keeps it out of `make test`, which needs Python alone.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from infra.package import ROOT
from market_data_collector.client import Client
from tests.extra.console.browser import NARROW, WIDE, Console, picture, serious_findings

_FRAME = (ROOT / "console" / "main.js").read_text("utf-8")
#: Name in the address -> title, of all views.
VIEWS = dict(re.findall(r'^  (\w+): \["([^"]+)", "\w+"', _FRAME, flags=re.M))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("width", "dark"), [(WIDE, False), (NARROW, True)])
def test_a_view_opens_fits_and_can_be_used_by_everybody(
    console: Console, view: str, width: int, dark: bool
) -> None:
    page = console.open(view, width=width, dark=dark)
    assert page.locator("h1").inner_text() == VIEWS[view]
    assert VIEWS[view] in page.title()
    assert page.locator("nav [aria-current=page]").inner_text() == VIEWS[view]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not serious_findings(page)
    if not dark:
        picture(page, view)
    elif view == "overview":
        picture(page, "narrow-dark")


def test_all_views_are_reached_by_keyboard_alone(console: Console) -> None:
    page = console.open("nowhere")
    # What is done after the next frame comes late, as on a busy machine.
    page.evaluate("() => { requestAnimationFrame = (call) => setTimeout(call, 300); }")
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "Skip to content"
    page.keyboard.press("Tab")  # the name of the product
    for title in VIEWS.values():
        page.keyboard.press("Tab")
        assert page.locator(":focus").inner_text() == title
        page.keyboard.press("Enter")
        # The heading has the focus as soon as it is shown: what is read aloud begins there.
        page.locator("h1", has_text=title).wait_for()
        assert page.evaluate("document.activeElement.matches('h1')")
        page.locator("nav a", has_text=title).focus()


@pytest.mark.parametrize("address", ["nowhere", "constructor", "%", "%E0%A4%A"])
def test_an_address_without_a_view_says_so(console: Console, address: str) -> None:
    page = console.open(address)
    assert page.locator("h1").inner_text() == "Not found"


def test_a_view_that_fails_leaves_the_frame_and_the_others(console: Console) -> None:
    console.expected += ["TypeError"]
    page = console.open("audit")
    odd = {"data_collector_status": {}}
    page.route("**/tasks/stats*", lambda route: route.fulfill(json=odd))
    console.show(page, "coverage")
    page.locator("[role=alert]", has_text="This view has failed").wait_for()
    page.locator("nav a", has_text="Audit").click()
    page.locator("h1", has_text="Audit").wait_for()
    assert page.locator("text=This view has failed").count() == 0


@pytest.mark.parametrize("how", ["while it connects", "and loses its connection"])
def test_whoever_listens_after_a_view_was_left_is_live(console: Console, how: str) -> None:
    console.expected += ["WebSocket"]
    sockets: list[Any] = []
    held: list[Any] = []

    def pass_on(socket: Any) -> None:
        socket.connect_to_server()
        sockets.append(socket)

    page = console.open("audit")
    page.route_web_socket(re.compile(".*"), pass_on)
    if how == "while it connects":
        page.route("**/ws-ticket", lambda route: held.append(route))
        console.show(page, "tasks")
        page.locator(".connection", has_text="Connecting").wait_for()
        console.show(page, "audit")
        held[0].continue_()
        page.unroute("**/ws-ticket")
        page.locator(".connection").wait_for(state="detached")
    else:
        console.show(page, "tasks")
        page.reload()
        page.locator(".connection.live").wait_for()
        console.show(page, "audit")
        sockets[-1].close(code=1001)
        page.locator(".connection").wait_for(state="detached")
    console.show(page, "tasks")
    page.locator(".connection.live").wait_for()


def test_the_history_is_that_of_the_filter_which_was_chosen_last(console: Console) -> None:
    held: list[Any] = []
    page = console.open("audit")

    def answer(route: Any) -> None:
        if "status=completed" in route.request.url:
            held.append(route)
        else:
            route.continue_()

    page.route("**/history?*", answer)
    page.goto(f"{console.origin}/api/#/tasks?status=completed")
    page.wait_for_function("() => document.querySelector('main .loading')")
    page.wait_for_timeout(500)
    console.show(page, "tasks?status=failed")
    page.locator("text=No task has ended that fits.").wait_for()
    late = {"task_id": "late", "attempt": 1, "status": "completed", "asked": {}, "units": {}}
    late |= {"completed_at": "2026-01-01T00:00:00.000Z", "created_at": "2026-01-01T00:00:00.000Z"}
    held[0].fulfill(json={"tasks": [late], "next_page_token": None})
    page.wait_for_timeout(500)
    assert page.locator("a[href='#/tasks/late']").count() == 0


def test_the_stream_is_cut_and_the_page_polls_until_it_is_live_again(
    console: Console, api: Client
) -> None:
    # Tickets are refused meanwhile, and a socket that is cut is an error to the browser.
    console.expected += ["Failed to load resource", "WebSocket"]
    sockets: list[Any] = []

    def pass_on(socket: Any) -> None:
        socket.connect_to_server()
        sockets.append(socket)

    page = console.open()
    page.route_web_socket(re.compile(".*"), pass_on)
    console.show(page, "tasks")
    page.reload()
    page.locator(".connection.live").wait_for()
    page.route("**/ws-ticket", lambda route: route.abort())
    sockets[-1].close(code=1001)
    page.locator(".connection.polling").wait_for()
    # Polling shows what was started elsewhere, from its beginning to its end.
    task_id = api.start("LTCUSDT", "1h").task_id
    page.locator(f"a[href='#/tasks/{task_id}']").first.wait_for()
    page.unroute("**/ws-ticket")
    page.locator(".connection.live").wait_for()
    assert len(sockets) >= 2


def test_a_key_is_asked_for_kept_for_the_tab_and_its_scope_respected(
    console: Console, reader: str
) -> None:
    console.expected += ["401 (Unauthorized)"]
    page = console.open("collect")
    dialog = page.locator("dialog[open]")
    dialog.locator("input[name=key]").fill("mdc_0123456789abcdef_" + "A" * 43)
    dialog.locator("text=Sign in >> nth=-1").click()
    dialog.locator("[role=alert]").wait_for()
    assert not serious_findings(page)
    picture(page, "sign-in")
    dialog.locator("input[name=key]").fill(reader)
    page.keyboard.press("Enter")
    page.locator(".who", has_text="reader").wait_for()
    # Reloading keeps the key: it belongs to the tab. Nothing else holds it.
    page.reload()
    page.locator(".who", has_text="reader").wait_for()
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    button = page.locator("button", has_text="Start collecting")
    assert button.get_attribute("aria-disabled") == "true"
    assert "collect" in (button.get_attribute("title") or "")
    page.locator(".who button").click()
    page.locator("dialog[open]").wait_for()
    assert page.evaluate("sessionStorage.length") == 0
