"""An issue watched in Chromium: paused, corrected and resumed there, with the console killed on the way."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.console.browsing import settled, write
from tests.console.conftest import AGENT, Running, started
from tests.end_to_end.newsletter import Folder
from tests.end_to_end.recorder import Recorder

pytestmark = [pytest.mark.servers, pytest.mark.slow]
PEOPLE = 240
RATE = 20
_SECONDS = 30_000
_CONFIG = """
[relays.main]
host = "127.0.0.1"
port = {port}
security = "plain"
rate_per_second = {rate}
[web]
public_url = "https://news.example.org"
"""


def entered(browser: Browser, console: Running) -> Page:
    """Return a page that is logged in and shows the issue."""
    page = browser.new_context(user_agent=AGENT).new_page()
    page.set_default_timeout(_SECONDS)
    expect.set_options(timeout=_SECONDS)
    page.goto(console.link())
    expect(page.get_by_role("heading", name="Home")).to_be_visible()
    page.goto(f"{console.url}/issues/001-short")
    settled(page)
    return page


def sent(page: Page) -> int:
    """Return how many messages the page says were sent."""
    return int(page.locator("a.figure", has_text="sent").locator("b").inner_text())


def until_sent(page: Page, number: int) -> None:
    deadline = time.monotonic() + 60
    while sent(page) < number:
        assert time.monotonic() < deadline
        page.wait_for_timeout(100)


def test_send_is_watched_paused_resumed_and_outlives_the_console(browser: Browser, tmp_path: Path) -> None:
    with Recorder() as server:
        folder = Folder(tmp_path / "news", _CONFIG.format(port=server.port, rate=RATE))
        folder.subscribe(PEOPLE)
        with started(folder) as console:
            page = entered(browser, console)
            page.get_by_role("button", name="Send now").click()
            page.get_by_role("dialog").get_by_role("button", name="Send now").click()
            until_sent(page, 10)
            expect(page.get_by_text("a second,")).to_be_visible()
            page.get_by_role("button", name="Pause").click()
            expect(page.get_by_text("Paused: paused by this machine")).to_be_visible()
            page.wait_for_timeout(1500)
            paused = server.total
            page.wait_for_timeout(1000)
            assert paused == server.total < PEOPLE
            until_sent(page, paused)
            assert sent(page) == paused
            page.get_by_role("link", name="Correct the rest").click()
            settled(page)
            write(page, "\nThe corrected text, with [a link](https://example.org/page).\n")
            page.get_by_role("button", name="Save").click()
            expect(page.get_by_text("Saved", exact=True).first).to_be_visible()
            page.get_by_role("button", name="Send the correction").click()
            dialog = page.get_by_role("dialog")
            expect(dialog).to_contain_text(f"{PEOPLE - paused} subscribers who don't have it yet")
            dialog.get_by_role("button", name="Send the correction").click()
            expect(page.get_by_text(f"{paused} sent, since")).to_be_visible()
            settled(page)
            page.get_by_role("button", name="Resume").click()
            until_sent(page, paused + 10)
            console.process.kill()
            console.process.wait(20)
            page.context.close()
        # The worker notices, finishes the messages it has begun, and ends.
        books = folder.books()
        assert 0 < books["sent"] < PEOPLE
        hurried = (folder.path / "config.toml").read_text().replace(f"= {RATE}\n", "= 1000\n")
        (folder.path / "config.toml").write_text(hurried)
        with started(folder) as console:
            page = entered(browser, console)
            expect(page.locator(".tag.good", has_text="finished")).to_be_visible()
            expect(page.get_by_text(f"{PEOPLE - paused} sent, since")).to_be_visible()
            assert sent(page) == PEOPLE
            page.context.close()
        assert folder.books() == {**dict.fromkeys(books, 0), "audience": PEOPLE, "sent": PEOPLE}
        assert list(server.accepted.values()) == [1] * PEOPLE
