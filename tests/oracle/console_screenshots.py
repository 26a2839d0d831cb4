"""Make the pictures of the console in docs/images, or of all its pages to look at.

`make screenshots` runs this. With a folder as its argument it takes every page instead, on a desktop and on a
phone, in light and dark.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, sync_playwright
from sqlalchemy import insert, text

from mailer.api_tokens import Scope, create
from mailer.console import users
from mailer.console.users import Role
from mailer.database.engine import Database
from mailer.database.tables import StoredReport
from mailer.review.chromium import find_chromium
from mailer.webhooks import endpoints
from tests.conftest import PROJECT
from tests.console.browsing import context_of, settled, stored
from tests.console.conftest import Running, started
from tests.end_to_end.newsletter import Folder
from tests.reports.test_authentication import store

_COLOURS: Final = 256
_DAY: Final = 86_400_000_000
_DRAFT: Final = """\
---
title: Herbs in old cups
date: 2026-12-04
subject: Herbs in old cups 🌿
preheader: Basil, mint and one stubborn rosemary
---

Hello {{ subscriber.name | default("there") }},

Every cup that loses its handle in this house becomes a pot. Basil forgives nearly everything, mint
forgives too much, and rosemary forgives nothing at all.

## What you need

- a cup with a hole in its base
- a handful of compost
- a windowsill that gets the morning sun

[How to drill a hole in a cup](https://example.org/cups) without breaking it.
"""
_ARMS: Final = """\
---
title: A letter from the compost
subject: [A letter from the compost, What the worms know]
test: {share: 50%, wait: PT1H, hold: true}
---

Hello. [Read on](https://example.org/compost).
"""
_MACHINES: Final = """
    INSERT INTO events (at, kind, issue_id, subscriber_id, details)
    SELECT at - id % 3 * :hour, kind, issue_id, NULL, json_set(details, '$.machine', 'scanner')
    FROM events WHERE kind IN ('open', 'click') AND id % 7 < 3
"""
_TIMES: Final = (
    ("issues", "dated_at"), ("issues", "created_at"), ("issues", "finished_at"),
    ("deliveries", "first_at"), ("deliveries", "changed_at"), ("events", "at"),
)  # fmt: skip
_CONFIG: Final = """
[console.oidc]
issuer = "https://login.example.org/realms/staff"
client_id = "newsletter-console"
client_secret = "secret"
name = "our account"
"""
_RELAYS: Final = """
[relays.main]
host = "127.0.0.1"
port = 25
security = "plain"
warmup = {{ start = "{today}", first_day = 200 }}
"""
_ROWS: Final = "email,name\nioana@example.org,Ioana Popa\nbroken,Nobody\nioana@example.org,Ioana\n,Empty\n"


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture of the documentation."""

    path: str
    height: int
    width: int = 1280
    scheme: str = "light"


IN_THE_DOCS: Final[Mapping[str, Shot]] = {
    "console-home": Shot("/", 1000),
    "console-write": Shot("/issues/002-herbs-in-old-cups", 1250),
    "console-write-phone-dark": Shot("/issues/002-herbs-in-old-cups", 1100, 375, "dark"),
    "console-results-dark": Shot("/issues/001-a-bean-in-a-jar", 1150, scheme="dark"),
    "console-person": Shot("/subscribers/{reader}", 900),
    "console-deliverability": Shot("/deliverability", 900),
    "console-login": Shot("/login", 760, 700),
}
EVERY: Final[Mapping[str, str]] = {
    "home": "/",
    "issues": "/issues",
    "write": "/issues/002-herbs-in-old-cups",
    "results": "/issues/001-a-bean-in-a-jar",
    "arms": "/issues/003-a-letter-from-the-compost",
    "clicks": "/issues/001-a-bean-in-a-jar/clicks",
    "failed": "/issues/001-a-bean-in-a-jar/deliveries?state=failed",
    "readers": "/issues/001-a-bean-in-a-jar/readers",
    "at-provider": "/issues/001-a-bean-in-a-jar/deliveries?state=all&provider=example.com",
    "unsubscribed": "/issues/001-a-bean-in-a-jar/readers?kind=unsubscribed",
    "complained": "/issues/001-a-bean-in-a-jar/readers?kind=complained",
    "subscribers": "/subscribers",
    "nobody": "/subscribers?q=nobody-like-this",
    "odd-segment": "/subscribers?where=plan+%3D",
    "person": "/subscribers/{reader}",
    "import": "/subscribers/import",
    "bounces": "/bounces",
    "bounce": "/bounces/{report}",
    "deliverability": "/deliverability",
    "settings": "/settings",
    "access": "/settings/access",
    "passkeys": "/settings/passkeys",
    "audit": "/audit",
    "404": "/no-such-page",
    "refused": "/people.csv?issue=none&group=sent",
    "login": "/login",
}


class Demo(Folder):
    """What `mailer demo` makes, with a history of 80 days, a draft, and something on every page."""

    def __init__(self, path: Path) -> None:
        self.path = path
        command = [sys.executable, "-m", "mailer", "demo", "--json", "--folder", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        self._append(_CONFIG)
        (path / "issues" / "002-herbs-in-old-cups.md").write_text(_DRAFT, encoding="utf-8")
        (path / "issues" / "003-a-letter-from-the-compost.md").write_text(_ARMS, encoding="utf-8")
        at = datetime.now(UTC)
        with Database("sqlite:///subscribers.db", folder=path) as database:
            database.open()
            store(database, at)
            with database.transaction() as connection:
                for table, column in (("consents", "at"), ("subscribers", "created_at")):
                    person = "subscriber_id" if table == "consents" else "id"
                    old = f"UPDATE {table} SET {column} = {column} - (500 - {person}) * 80 * :day / 500"
                    connection.execute(
                        text(old + (" WHERE way = 'import'" if table == "consents" else "")), {"day": _DAY}
                    )
                for table, column in _TIMES:
                    later = {"events": "id % 7", "deliveries": "subscriber_id % 5 * 3 / 4"}.get(table, "0")
                    back = f"(8 - {later}) * :hour"
                    connection.execute(
                        text(f"UPDATE {table} SET {column} = {column} - {back}"), {"hour": _DAY / 24}
                    )
                connection.execute(text(_MACHINES), {"hour": _DAY // 24})
                users.add_user(connection, "Mia", Role.SENDER, "correct horse battery", at=at)
                create(connection, "The shop", [Scope.READ], at=at)
                endpoints.add(connection, "https://hooks.example.org/mailer", ["subscriber.*"], at=at)
                connection.execute(
                    insert(StoredReport).values(digest="0" * 64, received_at=at, source="pipe", kind="bounce",
                                 outcome="unmatched", recipient="someone@example.net",
                                 raw=b"Subject: Out of office\n\nI am back on Monday.\n")
                )  # fmt: skip
        self.mailer("stats", "--rebuild")

    def warm_up(self) -> None:
        """Configure a relay whose reputation is new."""
        self._append(_RELAYS.format(today=datetime.now(UTC).date()))

    def _append(self, lines: str) -> None:
        with (self.path / "config.toml").open("a", encoding="utf-8") as file:
            file.write(lines)


def take_for_docs(browser: Browser, console: Running, demo: Demo, folder: Path) -> None:
    """Take the pictures of docs/console.md."""
    with _visitor(browser, console, login=True) as page, _visitor(browser, console) as visitor:
        for name, shot in IN_THE_DOCS.items():
            if name == "console-deliverability":
                demo.warm_up()
            shown = page if shot.path == "/login" else visitor
            _open(shown, console, shot.path, shot.width, shot.scheme, shot.height)
            _keep(shown, folder / f"{name}.png")


def take_all(browser: Browser, console: Running, demo: Demo, folder: Path) -> None:
    """Take every page, in two widths and two themes; and the states that need a click before."""
    folder.mkdir(parents=True, exist_ok=True)
    with _visitor(browser, console, login=True) as stranger, _visitor(browser, console) as visitor:
        _send_arms(visitor, console)
        demo.warm_up()
        for name, path in EVERY.items():
            shown = stranger if path == "/login" else visitor
            for width in (1280, 375):
                _open(shown, console, path, width, "light", 900)
                for scheme in ("light", "dark"):
                    _theme(shown, scheme)
                    _keep(shown, folder / f"{name}-{width}-{scheme}.png", full=True)
        for width, scheme in ((1280, "light"), (375, "dark")):
            _open(visitor, console, "/subscribers/import", width, scheme, 900)
            rows = FilePayload(name="people.csv", mimeType="text/csv", buffer=_ROWS.encode())
            visitor.locator("input[type=file]").set_input_files(rows)
            visitor.locator("pre.diff").wait_for()
            _keep(visitor, folder / f"import-tried-{width}-{scheme}.png", full=True)
            _open(visitor, console, EVERY["write"], width, scheme, 900)
            visitor.get_by_role("button", name="Send now").click()
            visitor.wait_for_timeout(600)
            _keep(visitor, folder / f"confirm-{width}-{scheme}.png")
            visitor.keyboard.press("Escape")


def _send_arms(page: Page, console: Running) -> None:
    _open(page, console, EVERY["arms"], 1280, "light", 900)
    page.get_by_role("button", name="Send now").click()
    page.get_by_role("dialog").get_by_role("button", name="Send now").click()
    page.get_by_text("Not decided yet.").wait_for()
    page.wait_for_timeout(3000)


def _open(page: Page, console: Running, path: str, width: int, scheme: str, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    _theme(page, scheme)
    with stored(console) as session:
        one = "SELECT id FROM subscribers WHERE address LIKE 'reader5@%'"
        names = {"reader": session.scalar(text(one)), "report": session.scalar(
            text("SELECT max(id) FROM reports WHERE outcome = 'unmatched'"))}  # fmt: skip
    page.goto(console.url + path.format(**names))
    if path != "/login":
        settled(page)
    if page.locator("iframe.mail").count():
        page.frame_locator("iframe.mail").locator("a").first.wait_for()
    page.wait_for_timeout(400)


def _theme(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")


def _keep(page: Page, path: Path, *, full: bool = False) -> None:
    """Write a picture with few colours, which keeps it small."""
    page.screenshot(path=path, full_page=full)
    picture = Image.open(path).convert("RGB")
    few = picture.quantize(_COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    print(f"{path}  {path.stat().st_size:,} bytes")


@contextmanager
def _visitor(browser: Browser, console: Running, *, login: bool = False) -> Iterator[Page]:
    """Give a page of somebody who is logged in, or of a stranger before the `login`."""
    context = context_of(browser)
    page = context.new_page()
    if not login:
        page.goto(console.link())
        page.get_by_role("heading", name="Home").wait_for()
    yield page
    context.close()


def main(arguments: list[str]) -> None:
    """Take the pictures of the documentation, or every page into a folder."""
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as driver:
        demo = Demo(Path(scratch) / "demo")
        browser = driver.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        with started(demo) as console:
            if arguments:
                take_all(browser, console, demo, Path(arguments[0]))
            else:
                take_for_docs(browser, console, demo, PROJECT / "docs" / "images")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
