"""A person's whole way in a real browser, against a real server: in, about, out, back, and forgotten.

Scripts are off throughout: no page needs one. Links come from the messages in the outbox.
"""

from __future__ import annotations

import email
import email.policy
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page

from tests.end_to_end.newsletter import Folder
from tests.ports import free_port

pytestmark = pytest.mark.servers

ADDRESS = "ioana@example.com"
_MOST_TABS = 60


@pytest.fixture
def newsletter(tmp_path: Path) -> Iterator[tuple[Folder, str]]:
    """A newsletter's folder while `mailer serve` answers for it, and where."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    folder = Folder(
        tmp_path / "letters", f'[web]\npublic_url = "{url}"\nport = {port}\n[tracking]\nclicks = true\n'
    )
    server = folder.start("serve")
    try:
        assert server.stderr is not None
        assert url in server.stderr.readline()
        yield folder, url
    finally:
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=30)
    assert (server.returncode, out, err) == (0, "", "")


def row(folder: Folder) -> dict[str, Any]:
    """Return what the database holds of the one person in it."""
    with sqlite3.connect(f"file:{folder.path / 'subscribers.db'}?mode=ro", uri=True) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute("SELECT * FROM subscribers").fetchall()
    connection.close()
    assert len(found) == 1
    return dict(found[0])


def mailed_link(folder: Folder, start: str, *, subject: str) -> str:
    """Return the one link that begins so in the mail of this subject, once it is in the outbox."""
    for _ in range(600):
        found: set[str] = set()
        for kept in folder.kept():
            message = email.message_from_bytes(kept, policy=email.policy.default)
            assert message["To"].addresses[0].addr_spec == ADDRESS
            if not re.search(subject, message["Subject"]):
                continue
            text = message.get_body(("plain",))
            assert text is not None
            found.update(re.findall(re.escape(start) + r"[\w-]+", text.get_content()))
        if found:
            assert len(found) == 1
            return found.pop()
        time.sleep(0.05)
    pytest.fail(f"no mail with a link to {start}")


@dataclass
class Person:
    """Somebody at a browser, with a pointer or with the keyboard alone."""

    page: Page
    keyboard: bool
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda line: self.complaints.append(line.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(request.url))

    def opens(self, url: str) -> None:
        answer = self.page.goto(url)
        assert answer is not None
        assert answer.status == 200
        self.looks()

    def presses(self, selector: str) -> None:
        """Press a button or a link; return when the next page is there."""
        with self.page.expect_navigation() as next_page:
            if self.keyboard:
                self.reaches(selector)
                self.page.keyboard.press("Enter")
            else:
                self.page.click(selector)
        assert next_page.value is not None
        assert next_page.value.status == 200
        self.looks()

    def types(self, selector: str, text: str) -> None:
        if self.keyboard:
            self.reaches(selector)
            self.page.keyboard.press("Control+A")
            self.page.keyboard.type(text)
        else:
            self.page.fill(selector, text)

    def chooses_second(self, selector: str) -> None:
        if self.keyboard:
            self.reaches(selector)
            self.page.keyboard.press("ArrowDown")
        else:
            self.page.select_option(selector, index=1)

    def reaches(self, selector: str) -> Locator:
        """Go on with the Tab key until an element has the focus, and can be seen to have it."""
        wanted = self.page.locator(selector)
        for _ in range(_MOST_TABS):
            if wanted.evaluate("element => element === document.activeElement"):
                assert wanted.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
                return wanted
            self.page.keyboard.press("Tab")
        pytest.fail(f"{selector} of {self.page.url} is out of the keyboard's reach")

    def looks(self) -> None:
        """See that the page is as wide as the window, and that it has one heading of the first order."""
        size = self.page.viewport_size
        assert size is not None
        assert self.page.evaluate("document.documentElement.scrollWidth") == size["width"]
        assert self.page.locator("h1").count() == 1


def signs_up(person: Person, folder: Folder, url: str) -> None:
    """Ask, and confirm from the mail; only the button of its page counts."""
    person.opens(f"{url}/subscribe")
    person.types("input[name=email]", ADDRESS)
    person.types("input[name=name]", "Ioana")
    person.presses('form[action="/subscribe"] button')
    confirm = mailed_link(folder, f"{url}/confirm/", subject="confirm")
    assert (row(folder)["status"], row(folder)["name"]) == ("pending", "Ioana")
    person.opens(confirm)
    assert row(folder)["status"] == "pending"
    person.presses('form[action^="/confirm/"] button')
    assert row(folder)["status"] == "active"


def decides(person: Person, folder: Folder, preferences: str) -> None:
    """Change the name, allow tracking, and ask for a pause."""
    person.opens(preferences)
    named = 'form:has(input[name=action][value="name"])'
    person.types(f"{named} input[name=name]", "Ioana Pop")
    person.presses(f"{named} button")
    assert row(folder)["name"] == "Ioana Pop"
    assert not row(folder)["tracking_consent"]
    person.presses('form[action$="/tracking"] button')
    assert row(folder)["tracking_consent"]
    assert row(folder)["paused_until"] is None
    person.chooses_second("select[name=weeks]")
    person.presses('form[action$="/pause"] button')
    assert row(folder)["paused_until"] is not None
    assert row(folder)["status"] == "active"


def leaves_and_returns(person: Person, folder: Folder, leave: str, preferences: str) -> None:
    """Unsubscribe from the mail's link, and come back from the page that follows."""
    person.opens(leave)
    assert row(folder)["status"] == "active"
    person.presses('form[action^="/u/"] button')
    assert row(folder)["status"] == "unsubscribed"
    person.presses('main a[href^="/p/"]')
    assert person.page.url == preferences
    person.presses('form:has(input[name=action][value="subscribe"]) button')
    assert row(folder)["status"] == "active"


def is_forgotten(person: Person, folder: Folder, preferences: str) -> None:
    """Delete oneself; the link alone is not enough."""
    person.opens(preferences)
    person.presses('a[href$="/erase"]')
    assert row(folder)["status"] == "active"
    person.types("input[name=email]", ADDRESS)
    person.presses('form[action$="/erase"] button')
    left = row(folder)
    assert left["status"] == "erased"
    assert ADDRESS not in str(left)
    assert "Ioana" not in str(left)


@pytest.mark.parametrize(
    ("width", "keyboard"), [pytest.param(375, True, id="375-keyboard"), pytest.param(1280, False, id="1280")]
)
def test_person_comes_decides_leaves_returns_and_is_forgotten(
    browser: Browser, newsletter: tuple[Folder, str], width: int, keyboard: bool
) -> None:
    folder, url = newsletter
    context = browser.new_context(viewport={"width": width, "height": 800}, java_script_enabled=False)
    person = Person(context.new_page(), keyboard)
    signs_up(person, folder, url)
    sending = folder.start("send", "001-short", "--yes")
    out, err = sending.communicate(timeout=120)
    assert sending.returncode == 0, out + err
    preferences = mailed_link(folder, f"{url}/p/", subject="A short one")
    leave = mailed_link(folder, f"{url}/u/", subject="A short one")
    decides(person, folder, preferences)
    leaves_and_returns(person, folder, leave, preferences)
    is_forgotten(person, folder, preferences)
    person.opens(preferences)
    assert person.complaints == []
    context.close()
