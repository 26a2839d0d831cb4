"""A person at the console in Chromium, and an attack wherever foreign text is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy import Connection, insert, select, update

from mailer.console import sessions, users
from mailer.console.users import Role
from mailer.database.engine import Database
from mailer.database.tables import (
    ApiToken,
    AuditEntry,
    Consent,
    ConsoleUser,
    Delivery,
    Event,
    Import,
    StoredIssue,
    StoredReport,
    Subscriber,
    Suppression,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEvent,
)
from tests.console.conftest import AGENT, Running

EVIL = '<img src=x onerror="window.taken=1"><script>window.taken=1</script>{{7*7}}`${window.taken=1}`'
SECONDS = 30_000


def context_of(browser: Browser, width: int = 1280) -> BrowserContext:
    """Return a context of a browser with patience, without a session."""
    context = browser.new_context(
        user_agent=AGENT,
        viewport={"width": width, "height": 900},
        color_scheme="light",
        bypass_csp=True,
        accept_downloads=True,
    )
    context.set_default_timeout(SECONDS)
    expect.set_options(timeout=SECONDS)
    return context


@contextmanager
def at_the_console(browser: Browser, console: Running, name: str, role: Role) -> Iterator[Page]:
    """Give a page on which a new user is logged in; they are removed afterwards."""
    at = datetime.now(UTC)
    with stored(console) as connection:
        user, _ = users.add_user(connection, name, role, None, email=f"{name}@example.org", at=at)
        secret = sessions.open_session(connection, user.id, AGENT, at=at, lifetime=timedelta(hours=1))
    context = context_of(browser)
    context.add_cookies([{"name": f"mailer-{console.port}", "value": secret, "url": console.url}])
    yield context.new_page()
    context.close()
    with stored(console) as connection:
        users.remove_user(connection, name)


def settled(page: Page) -> None:
    """Wait until the page's websocket is connected, so that its events arrive.

    An editor also has to show its preview, which pushes the buttons below it away from the mouse.
    """
    page.wait_for_function("window.socket && window.did_handshake")
    if page.locator(".writing").count():
        page.wait_for_selector(".writing .findings, .writing .note", state="attached")


def write(page: Page, text: str) -> None:
    """Replace the text in the editor."""
    page.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(text)


@contextmanager
def stored(console: Running) -> Iterator[Connection]:
    """Give a transaction on the console's database."""
    with (
        Database("sqlite:///subscribers.db", folder=console.folder.path) as database,
        database.transaction() as connection,
    ):
        yield connection


def plant(console: Running) -> None:
    """Put the attack wherever foreign text is kept: names, files, replies, reports, settings."""
    at = datetime.now(UTC)
    with stored(console) as connection:
        person = connection.execute(select(Subscriber.c.id, Subscriber.c.address_key).limit(1)).one()
        named = update(Subscriber).where(Subscriber.c.id == person.id)
        connection.execute(named.values(name=EVIL, attributes={EVIL: EVIL}))
        connection.execute(
            insert(Consent).values(
                subscriber_id=person.id, at=at, before="active", after="active", way=EVIL[:16],
                ip=EVIL[:45], form=EVIL, note=EVIL,
            )
        )  # fmt: skip
        connection.execute(
            insert(Suppression).values(address_key=person.address_key, reason="bounce", at=at, note=EVIL)
        )
        connection.execute(
            insert(StoredReport).values(
                digest="0" * 64, received_at=at, source=EVIL[:16], kind="bounce", outcome="unmatched",
                recipient=EVIL, subscriber_id=person.id, details={EVIL: EVIL, "text": EVIL},
                raw=EVIL.encode(),
            )
        )  # fmt: skip
        for issue_id in connection.scalars(select(StoredIssue.c.id)).all():
            connection.execute(
                update(Delivery)
                .where(Delivery.c.subscriber_id == person.id, Delivery.c.issue_id == issue_id)
                .values(state="failed", reply=EVIL, enhanced=EVIL[:16], bounce_class=EVIL[:32])
            )
            for kind in ("alert", "open"):
                connection.execute(
                    insert(Event).values(
                        at=at, kind=kind, subscriber_id=person.id, issue_id=issue_id,
                        details={"text": EVIL, "agent": EVIL, "referrer": EVIL},
                    )
                )  # fmt: skip
        connection.execute(
            insert(Import).values(source=f"/tmp/{EVIL}", at=at, added=1, updated=0, rejected=0)
        )
        connection.execute(
            insert(AuditEntry).values(at=at, who=EVIL[:64], act=EVIL[:40], about=EVIL, details={EVIL: EVIL})
        )
        connection.execute(insert(ApiToken).values(name=EVIL[:64], digest="0" * 64, scopes="", created_at=at))
        connection.execute(
            insert(WebhookEndpoint).values(id=1, url=EVIL, secret="", events=EVIL[:60], created_at=at)
        )
        connection.execute(insert(WebhookEvent).values(uid="evt_0", type=EVIL[:40], at=at, data={}))
        connection.execute(
            insert(WebhookDelivery).values(event_uid="evt_0", endpoint_id=1, state="failed", said=EVIL[:200])
        )
        connection.execute(
            insert(ConsoleUser).values(
                name=EVIL[:64], role="reader", password="", totp_secret="", created_at=at
            )
        )
    path = console.folder.path / "issues" / "003-evil.md"
    written = json.dumps(EVIL)
    path.write_text(f"---\ntitle: {written}\nsubject: {written}\n---\n\n{EVIL}\n", encoding="utf-8")
