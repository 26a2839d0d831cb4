"""A list with a history: people who join and leave, issues, opens and clicks, drawn from a seed."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, insert, select, update

from mailer.address import parse_address
from mailer.audience import ledger
from mailer.audience.transitions import Enrolment, Move, Origin
from mailer.database.rows import insert_rows
from mailer.database.tables import (
    Delivery,
    DeliveryState,
    Event,
    IssueState,
    StoredEdition,
    StoredIssue,
    StoredReport,
    Subscriber,
    SubscriberStatus,
)

START: Final = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
DOMAINS: Final = ("gmail.com", "googlemail.com", "example.org", "example.net", "rare.example")
SEGMENTS: Final = {"romania": 'country = "RO"', "gmail": "domain:gmail.com"}
EDITION: Final = '{"links": ["https://example.org/a", "https://example.org/b", "https://example.org/c"]}'
_OUT: Final = (SubscriberStatus.UNSUBSCRIBED, SubscriberStatus.BOUNCED, SubscriberStatus.COMPLAINED)


class Scene:
    """Adds a random history to a database, in steps."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = START
        self.people: list[int] = []
        self.issues: list[int] = []

    def pass_time(self, most: timedelta = timedelta(days=20)) -> None:
        self.now += self.random.random() * most + timedelta(minutes=2)

    def join(self, connection: Connection, number: int) -> None:
        """Let people join; a third of them agree to tracking."""
        first = len(self.people)
        enrolments = [
            Enrolment(
                parse_address(f"p{first + one}@{self.random.choices(DOMAINS, (9, 3, 6, 5, 1))[0]}"),
                self.random.choice([SubscriberStatus.ACTIVE, SubscriberStatus.PENDING]),
                Origin(self.random.choice(["form", "import"])),
                attributes={"country": self.random.choice(["RO", "MD"])},
            )
            for one in range(number)
        ]
        new = sorted(ledger.enrol(connection, enrolments, at=self.now).values())
        self.people += new
        agreed = [one for one in new if self.random.random() < 0.4]
        connection.execute(
            update(Subscriber).where(Subscriber.c.id.in_(agreed)).values(tracking_consent=True)
        )

    def move(self, connection: Connection, number: int) -> None:
        """Let people confirm, leave and come back."""
        for _ in range(number):
            to = self.random.choice([SubscriberStatus.ACTIVE, *_OUT])
            issue_id = self.random.choice([None, *self.issues])
            origin = Origin(self.random.choice(["form", "one-click", "page"]), issue_id=issue_id)
            ledger.move(connection, [Move(self.random.choice(self.people), to, origin, self.now)])

    def issue(self, connection: Connection) -> None:
        """Queue an issue for everyone, in whatever states."""
        number = len(self.issues) + 1
        connection.execute(
            insert(StoredEdition).values(digest=f"{number:064}", content=EDITION, created_at=self.now)
        )
        stored = insert(StoredIssue).values(
            slug=f"{number:03}-issue",
            title=f"Issue {number}",
            source_path="",
            edition_digest=f"{number:064}",
            state=IssueState.FINISHED.value,
            audience=len(self.people),
            dated_at=self.now,
            created_at=self.now,
        )
        issue_id = connection.execute(stored.returning(StoredIssue.c.id)).scalar_one()
        self.issues.append(issue_id)
        states = [DeliveryState.SENT] * 6 + [DeliveryState.FAILED, DeliveryState.QUEUED]
        rows = []
        for one in self.people:
            state = self.random.choice(states)
            failed = state is DeliveryState.FAILED
            sent_at = self.now + timedelta(minutes=self.random.randrange(200))
            rows.append(
                {
                    "issue_id": issue_id,
                    "subscriber_id": one,
                    "state": state.value,
                    "first_at": None if state is DeliveryState.QUEUED else sent_at,
                    "changed_at": None if state is DeliveryState.QUEUED else sent_at,
                    "bounce_class": self.random.choice(["no-mailbox", "full"]) if failed else None,
                }
            )
        insert_rows(connection, Delivery, rows)

    def respond(self, connection: Connection, number: int) -> None:
        """Open and click: with and without names, people and machines."""
        agreed = set(connection.scalars(select(Subscriber.c.id).where(Subscriber.c.tracking_consent)))
        rows: list[dict[str, object]] = []
        for _ in range(number if self.issues else 0):
            kind = self.random.choice(["open", "click", "alert"])
            details: dict[str, object] = {"link": self.random.randrange(3)} if kind == "click" else {}
            if self.random.random() < 0.3:
                details["machine"] = self.random.choice(["apple", "scanner"])
            one = self.random.choice(self.people)
            rows.append(
                {
                    "at": self.now + timedelta(hours=self.random.randrange(100)),
                    "kind": kind,
                    "issue_id": self.random.choice(self.issues),
                    "subscriber_id": one if one in agreed else None,
                    "details": details,
                }
            )
        self.now += timedelta(hours=100)
        insert_rows(connection, Event, rows)

    def complain(self, connection: Connection) -> None:
        """Store a complaint, and let its delivery fail."""
        if not self.issues:
            return
        issue_id, one = self.random.choice(self.issues), self.random.choice(self.people)
        connection.execute(
            insert(StoredReport).values(
                received_at=self.now,
                source="test",
                digest=f"{self.random.getrandbits(200):064}",
                raw=b"",
                kind="complaint",
                outcome="applied",
                issue_id=issue_id,
                subscriber_id=one,
            )
        )
        connection.execute(
            update(Delivery)
            .where(Delivery.c.issue_id == issue_id, Delivery.c.subscriber_id == one)
            .values(state=DeliveryState.FAILED.value, bounce_class="spam")
        )

    def step(self, connection: Connection) -> None:
        """Let a while pass in which anything may happen."""
        self.pass_time()
        self.join(connection, self.random.randrange(1, 25))
        self.move(connection, self.random.randrange(10))
        if self.random.random() < 0.7:
            self.issue(connection)
        self.respond(connection, self.random.randrange(60))
        if self.random.random() < 0.5:
            self.complain(connection)
