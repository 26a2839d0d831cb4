"""The outbox in Chromium: messages at full height, and nothing in them runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from mailer.config import Brand
from mailer.web.operator.outbox import create_outbox_app
from tests.web.conftest import serving
from tests.web.test_outbox import keep, message
from tests.web.test_preview_in_browser import HOSTILE

pytestmark = pytest.mark.servers
LONG = "<!doctype html><html><head><title>x</title></head><body>" + "<p>A bean.</p>" * 200 + "</body></html>"


def shown(maildir: Path, html: str) -> str:
    (maildir / "new").mkdir(parents=True)
    return keep(maildir, message(html=html))


@pytest.mark.parametrize("screen", [320, 375, 1280])
@pytest.mark.parametrize("view", ["desktop", "phone"])
def test_message_is_shown_at_full_height(browser: Browser, tmp_path: Path, view: str, screen: int) -> None:
    name = shown(tmp_path, LONG)
    with serving(create_outbox_app(tmp_path, brand=Brand())) as url:
        page = browser.new_page(viewport={"width": screen, "height": 700})
        try:
            page.goto(f"{url}/message/{name}?view={view}")
            page.wait_for_selector("#mail[style*=height]")
            frame = page.frames[1]
            assert frame.evaluate("document.documentElement.scrollHeight <= innerHeight")
            assert frame.evaluate("innerHeight") > 5_000
            expected = {320: 320, 375: 375, 1280: 375 if view == "phone" else 894}[screen]
            assert frame.evaluate("innerWidth") == expected
            assert page.evaluate("document.documentElement.scrollWidth") == screen
        finally:
            page.close()


def test_hostile_message_does_nothing(browser: Browser, tmp_path: Path) -> None:
    name = shown(tmp_path, HOSTILE)
    with serving(create_outbox_app(tmp_path, brand=Brand())) as url:
        page = browser.new_page(viewport={"width": 1280, "height": 700})
        try:
            page.goto(f"{url}/message/{name}")
            page.wait_for_selector("#mail[style*=height]")
            frame = page.frames[1]
            frame.click("#send")
            frame.click("#script")
            page.wait_for_timeout(300)
            assert page.title() == "Hello · Outbox"
            assert frame.url.endswith("/html")
            assert frame.evaluate_handle("document").get_property("title").json_value() == "Mail"
        finally:
            page.close()
