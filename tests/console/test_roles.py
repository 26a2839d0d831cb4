"""Every event of every page, fired with each role: a page that shows no button is no protection."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Final

import pytest
from nicegui import Client, ui
from PIL import Image
from sqlalchemy import insert, select, update

from mailer.address import parse_address
from mailer.api_tokens import Scope, create
from mailer.audience.ledger import change_status
from mailer.audience.subscribers import add
from mailer.audience.transitions import Origin
from mailer.config import load
from mailer.console import approval, sessions, users
from mailer.console.approval import Kind, Release
from mailer.console.audit import entries
from mailer.console.desk import Desk
from mailer.console.users import Role
from mailer.database.engine import Database
from mailer.database.tables import (
    ConsoleUser,
    Delivery,
    StoredReport,
    SubscriberStatus,
    WebhookDelivery,
    every_table,
)
from mailer.delivery import control, editions, enqueueing, issues, schedule
from mailer.delivery.lock import adopt
from mailer.tokens import Signer
from mailer.webhooks import endpoints, queue
from mailer.webhooks.queue import Occurrence
from tests.console.pressing import AGENT, Pressed, as_session, pressed
from tests.databases import recount
from tests.end_to_end.newsletter import ISSUE, Folder

pytestmark = pytest.mark.slow
AT = datetime.now(UTC)
NEEDED: Final[Mapping[str, Role]] = {
    "issue.create": Role.EDITOR,
    "issue.save": Role.EDITOR,
    "issue.image": Role.EDITOR,
    "issue.test": Role.EDITOR,
    "subscriber.edit": Role.EDITOR,
    "subscriber.unsubscribe": Role.EDITOR,
    "issue.schedule": Role.SENDER,
    "issue.unschedule": Role.SENDER,
    "issue.send": Role.SENDER,
    "issue.pause": Role.SENDER,
    "issue.resume": Role.SENDER,
    "issue.retry": Role.SENDER,
    "issue.cancel": Role.SENDER,
    "issue.withdraw": Role.SENDER,
    "issue.amend": Role.SENDER,
    "issue.propose": Role.SENDER,
    "issue.withdraw_proposal": Role.SENDER,
    "issue.approve": Role.SENDER,
    "issue.decline": Role.SENDER,
    "import.try": Role.SENDER,
    "import": Role.SENDER,
    "import.revert": Role.SENDER,
    "subscriber.restore": Role.ADMIN,
    "subscriber.erase": Role.ADMIN,
    "subscribers.export": Role.ADMIN,
    "issue.export_people": Role.ADMIN,
    "suppressions.lift": Role.ADMIN,
    "bounces.reclassify": Role.ADMIN,
    "token.create": Role.ADMIN,
    "token.revoke": Role.ADMIN,
    "webhook.add": Role.ADMIN,
    "webhook.remove": Role.ADMIN,
    "webhook.resend": Role.ADMIN,
}
_BY_LOOKING: Final = (
    "console_sessions", "console_users", "instance", "issue_counts", "ledger_days", "cohorts",
)  # fmt: skip
"""The tables of who looks, and of the statistics, which looking brings up to date."""
FILL: Final[Mapping[str, object]] = {
    "Title": "Something new",
    "{text}": "\nChanged.\n",
    "Send a test to": "me@example.org",
    "Send at": "2031-07-01T08:00",
    "Tags, separated": "changed",
    "Why it was": "a mistake",
    "Name of a new": "A robot",
    "Address of a new": "https://hooks.example.org",
    "Issue, run": "invalid_mailbox",
    "Scopes": [Scope.READ.value],
}
UNCHANGED: Final[Mapping[str, object]] = {"Send at": FILL["Send at"]}
ISSUES: Final = ("002-running", "003-paused", "004-scheduled", "005-partly", "006-wanted", "007-asked",
                 "008-asked")  # fmt: skip


def build(folder: Path) -> None:
    """Make a newsletter with something to do on every page."""
    made = Folder(folder)
    for slug in ISSUES:
        (folder / "issues" / f"{slug}.md").write_text(ISSUE, encoding="utf-8")
    with Database("sqlite:///subscribers.db", folder=made.path) as database:
        database.open()
        settings, secret = load(folder / "config.toml"), database.secrets()[0]
        with database.transaction() as connection:
            for number in range(1, 6):
                address = parse_address(f"s{number}@example.org")
                add(connection, address, secret=secret, origin=Origin("command"), at=AT)
            change_status(connection, 4, SubscriberStatus.BOUNCED, at=AT,
                          origin=Origin("report", note="invalid_mailbox: no such user"))  # fmt: skip
            connection.execute(
                insert(StoredReport).values(
                    digest="0" * 64, received_at=AT, source="pipe", kind="bounce", outcome="applied",
                    bounce_class="invalid_mailbox", hard=True, raw=b"Subject: not a report\n\nHello\n",
                )
            )  # fmt: skip
            create(connection, "robot", [Scope.READ], at=AT)
            endpoints.add(connection, "https://hooks.example.org", [], at=AT)
            queue.put(connection, [Occurrence("complaint", {})], at=AT)
            connection.execute(update(WebhookDelivery).values(state="failed"))
            change_status(connection, 2, SubscriberStatus.BOUNCED, origin=Origin("report"), at=AT)
        edition = {slug: editions.build(settings, source(folder, slug)) for slug in ISSUES}
        for slug in ("002-running", "003-paused", "005-partly"):
            enqueueing.enqueue(settings, database, edition[slug], source(folder, slug), "", at=AT)
        with database.transaction() as connection:
            for slug in ("003-paused", "005-partly"):
                control.pause(connection, issues.named(connection, slug).id, "a test")
            partly = issues.named(connection, "005-partly").id
            first = update(Delivery).where(Delivery.c.subscriber_id == 1)
            connection.execute(first.where(Delivery.c.issue_id != partly).values(state="failed"))
            connection.execute(first.where(Delivery.c.issue_id == partly).values(state="sent"))
            recount(connection)
            due_at = AT + timedelta(days=9)
            path = str(source(folder, "004-scheduled"))
            schedule.add(
                connection,
                edition["004-scheduled"],
                source_path=path,
                segment="",
                due_at=due_at,
                zone="",
                at=AT,
            )
            for slug in ("007-asked", "008-asked"):
                approval.propose(connection, edition[slug], Release(Kind.SEND), "Mia", at=AT)


def source(folder: Path, slug: str) -> Path:
    """Return the file of an issue."""
    return folder / "issues" / f"{slug}.md"


async def press_everything(pages: Pressed, config: Path) -> None:
    """Fire every event there is."""
    await pages.press("/", FILL)
    await pages.press("/issues", FILL)
    await pages.press("/issues/004-scheduled", FILL, skip=frozenset({"Send now"}))
    await pages.press("/issues/001-short", FILL, skip=frozenset({"Schedule"}))
    await pages.press("/issues/003-paused", FILL, skip=frozenset({"Cancel the rest"}))
    await pages.press("/issues/002-running", FILL, skip=frozenset({"Withdraw"}))
    await pages.press("/issues/005-partly/correct", FILL)
    await pages.upload("/issues/004-scheduled", "../../evil.png", picture(), lambda page: None)
    await pages.upload("/subscribers/import", "people.csv", b"email\nnew@example.org\n", press_import)
    for path in ("/subscribers/import", "/subscribers", "/subscribers/1", "/subscribers/2", "/subscribers/3",
                 "/bounces", "/settings", "/settings/access", "/audit"):  # fmt: skip
        await pages.press(path, FILL)
    await pages.http.get("/export.csv")
    await pages.http.get("/people.csv?issue=002-running&group=sent")
    with config.open("a", encoding="utf-8") as file:
        file.write("[console]\napproval = true\n")
    await pages.press("/issues/006-wanted", UNCHANGED)
    await pages.press("/issues/006-wanted", UNCHANGED, skip=frozenset({"Send now", "Schedule"}))
    await pages.press("/issues/007-asked", UNCHANGED, skip=frozenset({"Send now", "Schedule", "Decline"}))
    await pages.press("/issues/008-asked", UNCHANGED, skip=frozenset({"Send now", "Schedule", "Approve"}))


def press_import(page: Client) -> None:
    """Press the button that appears once a file was tried."""
    for element in list(page.elements.values()):
        if isinstance(element, ui.button) and element.text == "Import":
            for listener in element._event_listeners.values():
                page.handle_event({"id": element.id, "listener_id": listener.id, "args": []})


def picture() -> bytes:
    """Return a small PNG."""
    made = BytesIO()
    Image.new("RGB", (2, 2)).save(made, "PNG")
    return made.getvalue()


def content(desk: Desk) -> dict[str, object]:
    """Return everything that someone could change."""
    folder = desk.config_path.parent
    with desk.database.reading() as connection:
        found: dict[str, object] = {
            table.name: connection.execute(select(table)).all()
            for table in every_table().sorted_tables
            if table.name not in _BY_LOOKING
        }
    for path in sorted(folder.rglob("*")):
        if path.name != "config.toml" and path.is_file() and ".db" not in path.name:
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


async def acts_of(desk: Desk, pages: Pressed, role: Role) -> set[str]:
    """Open each page as an admin whose role has changed by the time the events come; return what happened."""
    with desk.database.transaction() as connection:
        user, _ = users.add_user(connection, "Ana", Role.ADMIN, "correct horse battery", at=AT)
        secret = sessions.open_session(connection, user.id, AGENT, at=AT, lifetime=timedelta(hours=1))

    def become(wanted: Role) -> None:
        with desk.database.transaction() as connection:
            connection.execute(update(ConsoleUser).values(role=wanted.value))

    pages.before = lambda: become(Role.ADMIN)
    pages.after = lambda: become(role)
    with as_session(pages, secret):
        await press_everything(pages, desk.config_path)
    with desk.database.reading() as connection:
        return {one.act for one in entries(connection, limit=1000)}


def test_every_event_needs_its_role(tmp_path: Path) -> None:
    template = tmp_path / "template"
    build(template)

    async def run() -> dict[Role, set[str]]:
        done: dict[Role, set[str]] = {}
        first = Database("sqlite:///subscribers.db", folder=template)
        desk = Desk(template / "config.toml", first, Signer(first.secrets()))
        async with pressed(desk) as pages:
            for role in Role:
                folder = tmp_path / role
                shutil.copytree(template, folder)
                desk.config_path = folder / "config.toml"
                with Database("sqlite:///subscribers.db", folder=folder) as desk.database:
                    adopt(desk.database)
                    before = content(desk)
                    done[role] = await acts_of(desk, pages, role)
                    assert (content(desk) == before) is (role is Role.READER)
        first.close()
        return done

    expected = {role: {act for act, needed in NEEDED.items() if role.may(needed)} for role in Role}
    done = asyncio.run(run())
    # The picture was called ../../evil.png.
    stored = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("evil*"))
    assert [f"{role}/issues/images/evil.png" for role in ("admin", "editor", "sender")] == stored
    for role in Role:
        assert expected[role] - done[role] == set() == done[role] - expected[role], role
