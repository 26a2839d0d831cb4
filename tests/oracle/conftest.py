"""A Chromium for each module of this folder, which never reaches the network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from mailer.review import chromium
from tests.conftest import program

WIDTHS = (375, 700)


# Not for the whole session: two of Playwright's drivers cannot live in one process.
@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page on which every request fails immediately."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program(*chromium.NAMES), args=["--no-sandbox"])
        opened = browser.new_page()
        opened.route("**/*", lambda route: route.abort())
        yield opened
        browser.close()
