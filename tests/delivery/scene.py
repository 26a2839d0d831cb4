"""A queued issue over some subscribers, and a run of it against the built-in server."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from sqlalchemy import Connection, insert, select

from mailer.config import DeliverySettings, Newsletter
from mailer.database.engine import Database
from mailer.database.tables import Delivery, Subscriber, TableRow
from mailer.delivery import issues
from mailer.delivery.bookkeeping import Learn
from mailer.delivery.books import Books, books_of, running_books
from mailer.delivery.clock import Clock, now
from mailer.delivery.ending import Ended
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.sender import Hooks, Sender
from mailer.rendering.edition import Edition
from mailer.rendering.message import Composer, Dkim
from mailer.replies import Refusal
from mailer.smtp.outbox import Answer, Outbox
from mailer.smtp.pool import Access, Network
from mailer.smtp.signing import SigningProcess
from mailer.tokens import Signer

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SIGNER = Signer([b"a secret of the tests"])
EDITION = Edition(
    slug="001-hello",
    title="Hello",
    subtitle="",
    author="Ana",
    date="2026-03-02",
    number=1,
    tags=(),
    subject="Hello",
    preheader="",
    html='<p>Hello {{ subscriber.name | default("you") }}</p><a href="{{ urls.unsubscribe }}">Leave</a>',
    text='Hello {{ subscriber.name | default("you") }}\n\nLeave: {{ urls.unsubscribe }}\n',
    links=(),
    images=(),
    made_of={},
)


def make_composer(issue_id: int, edition: Edition = EDITION, dkim: Dkim | None = None) -> Composer:
    """Return a composer of an edition for one issue, with the addresses of these tests."""
    return Composer(
        edition,
        issue_id=issue_id,
        newsletter=Newsletter(),
        public_url="https://news.example.org",
        bounce_domain="bounce.example.org",
        unsubscribe_address="unsubscribe@example.org",
        signer=SIGNER,
        dkim=dkim,
    )


@contextlib.contextmanager
def locked(database: Database) -> Iterator[None]:
    """Let another program hold the write lock."""
    assert database.path is not None
    other = sqlite3.connect(database.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def subscribe(database: Database, number: int, *, first: int = 1) -> None:
    """Add subscribers `s<N>@example.org`, their ids from `first`."""
    with database.transaction() as connection:
        connection.execute(
            insert(Subscriber),
            [
                {
                    "id": n,
                    "address": f"s{n}@example.org",
                    "address_key": f"s{n}@example.org",
                    "domain": "example.org",
                    "name": f"Name {n}",
                    "status": "active",
                    "attributes": {},
                    "created_at": AT,
                    "changed_at": AT,
                }
                for n in range(first, first + number)
            ],
        )


def queued(database: Database, number: int) -> QueuedIssue:
    """Queue the edition for that many subscribers."""
    subscribe(database, number)
    with database.transaction() as connection:
        issue, _ = issues.enqueue(connection, EDITION, source_path="issues/001-hello.md", at=AT)
    return issue


def books(database: Database, issue: QueuedIssue) -> Books:
    """Return the books as the database has them, balanced and equal to the running totals."""
    with database.reading() as connection:
        found = books_of(connection, issue.id)
        assert running_books(connection, issue.id) == found
    assert found.balanced
    return found


def delivery(connection: Connection, issue_id: int, subscriber_id: int) -> TableRow:
    """Return one delivery."""
    ours = (Delivery.c.issue_id == issue_id, Delivery.c.subscriber_id == subscriber_id)
    return connection.execute(select(Delivery).where(*ours)).one()


def learn_nothing(connection: Connection, refusals: Sequence[Refusal], at: datetime) -> None:
    """Take refusals without changing anybody."""


def run(
    database: Database,
    issue: QueuedIssue,
    maildir: Path,
    *,
    answer: Answer | None = None,
    settings: DeliverySettings | None = None,
    learn: Learn = learn_nothing,
    clock: Callable[[], datetime] = now,
    jitter: float = 1.0,
    port: int | None = None,
    edition: Edition | None = None,
    dkim: Dkim | None = None,
    signing: SigningProcess | None = None,
    meanwhile: Callable[[Books, Sender], None] = lambda books, sender: None,
) -> Ended:
    """Send the issue through the built-in server; `meanwhile` sees the books at every turn."""

    async def main() -> Ended:
        async with Outbox(maildir, answer=answer) as outbox:
            relay = outbox.relay()
            if port is not None:
                relay = msgspec.structs.replace(relay, port=port)
            composer = make_composer(issue.id, edition or EDITION, dkim)
            sender: list[Sender] = []
            made = Sender(
                database,
                issue.id,
                composer,
                Network({"outbox": Access(relay)}),
                settings or DeliverySettings(window=20),
                Hooks(learn, lambda books: meanwhile(books, sender[0])),
                Clock(now=clock, jitter=lambda: jitter),
                signing=signing,
            )
            sender.append(made)
            return await made.run()

    return asyncio.run(main())


def recipients(maildir: Path) -> list[str]:
    """Return the recipients of the messages in a Maildir, sorted."""
    found = []
    for path in (maildir / "new").iterdir():
        for line in path.read_bytes().split(b"\r\n"):
            if line.startswith(b"X-Original-To: "):
                found.append(line.removeprefix(b"X-Original-To: ").decode())
    return sorted(found)
