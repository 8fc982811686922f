"""Chromium, and pages of the console that are watched while they are open."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.package import ROOT

#: Playwright is in an environment of its own, of the same Python (local/browser.sh).
sys.path += [str(path) for path in ROOT.glob(".venv-browser/lib/python3*/site-packages")]

#: Debian's, as quiet as can be: it asks nobody for anything.
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
IMAGES = ROOT / "docs" / "images"
WIDE, NARROW = 1280, 360
#: What a page may take to show something on a busy machine.
PATIENCE_MS = 30_000


@contextmanager
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Console:
    """Opens pages of the console at `origin`, and notes what they should not do.

    `sockets`: the origin of the WebSocket API, the only other one that they may use.
    """

    def __init__(self, browser: Any, origin: str, sockets: str) -> None:
        self.origin = origin
        self._allowed = (f"{origin}/", f"{sockets}/", "data:", "blob:")
        self._browser = browser
        self._contexts: list[Any] = []
        #: Messages of the browser's console, errors that nobody caught, requests elsewhere.
        self.complaints: list[str] = []
        #: Parts of messages that a test provokes.
        self.expected: list[str] = []

    def open(self, view: str = "", *, width: int = WIDE, dark: bool = False) -> Any:
        """A page in a session of its own, at #/`view`, once it shows something."""
        context = self._browser.new_context(
            viewport={"width": width, "height": 820},
            color_scheme="dark" if dark else "light",
            accept_downloads=True,
        )
        self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self._note("error", str(error)))
        page.on("request", lambda request: self._allow(request.url))
        page.on("websocket", lambda socket: self._allow(socket.url))
        self.show(page, view)
        return page

    def show(self, page: Any, view: str) -> None:
        """Go to #/`view` from wherever the page is."""
        page.goto(f"{self.origin}/api/#/{view}")
        page.locator("h1, dialog[open]").first.wait_for()
        page.locator("main .loading").first.wait_for(state="detached")

    def close(self) -> None:
        for context in self._contexts:
            context.close()

    def unexpected(self) -> list[str]:
        return [
            complaint
            for complaint in self.complaints
            if not any(part in complaint for part in self.expected)
        ]

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(f"{kind}: {text}")

    def _allow(self, url: str) -> None:
        if not url.startswith(self._allowed):
            self.complaints.append(f"asked elsewhere: {url}")


def serious_findings(page: Any) -> list[str]:
    """What axe finds that keeps somebody from using the page: rule and element."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['target']} {node.get('failureSummary', '')}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def picture(page: Any, name: str) -> None:
    """Write docs/images/console-`name`.png, where CONSOLE_IMAGES asks for it."""
    if os.environ.get("CONSOLE_IMAGES"):
        page.wait_for_timeout(1500)
        page.screenshot(path=Path(IMAGES, f"console-{name}.png"), animations="disabled")
