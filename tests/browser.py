"""A real browser for tests: Debian's Chromium without a screen, driven by Playwright."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import debian
import pytest
from runs import REPOSITORY

#: Pictures of the page that a person can look at; not a part of the repository.
SCREENSHOTS = REPOSITORY / "screenshots"
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Give a browser; without one, skip with the reason, but fail in CI."""
    program = debian.program("chromium", "chromium")
    if program is None:
        reason = "Chromium is not installed (apt install chromium)"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"missing in CI: {reason}")
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        yield started
        started.close()


class Tab:
    """One open page, and everything it complained about or asked the network for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**({"viewport": {"width": 1440, "height": 900}} | options))
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("request", self._note)
        self.page.goto(path.as_uri())
        if options.get("java_script_enabled", True):
            self.page.wait_for_selector("html[data-ready]", state="attached")

    def _note(self, request: Any) -> None:
        if not request.url.startswith("data:"):
            self.requests.append(request.url)

    def rows(self) -> list[str]:
        """Return the names in the table, as they are shown."""
        found: list[str] = self.page.locator("#table .file").all_inner_texts()
        return found

    def open(self, name: str) -> Any:
        """Open the row of a measurement and return its details."""
        button = self.page.get_by_role("button", name=name, exact=False).first
        button.click()
        details = self.page.locator("section.opened")
        details.first.wait_for()
        return details

    def await_count(self, words: str) -> None:
        """Wait until what the page says about the number of rows holds some words."""
        self.page.locator("p.count").get_by_text(words).wait_for()

    def count(self) -> str:
        """Return what the page says about the number of rows."""
        text: str = self.page.locator("p.count").inner_text()
        return text


@pytest.fixture
def open_tab(browser: Any) -> Iterator[Callable[..., Tab]]:
    """Give a function that opens a page; all are closed after the test."""
    tabs: list[Tab] = []

    def open_it(path: Path, **options: Any) -> Tab:
        tabs.append(Tab(browser, path, **options))
        return tabs[-1]

    yield open_it
    for tab in tabs:
        tab.context.close()
