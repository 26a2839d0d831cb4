"""Reports as mail systems write them, and subscribers whom they are about."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, insert, select

from mailer.address import parse_address
from mailer.audience.ledger import enrol
from mailer.audience.transitions import Enrolment, Origin
from mailer.database.engine import Database
from mailer.database.rows import insert_rows
from mailer.database.tables import (
    Delivery,
    DeliveryState,
    IssueState,
    StoredEdition,
    StoredIssue,
    Subscriber,
    SubscriberStatus,
)
from mailer.tokens import Signer, Subject

SECRET = b"s" * 32
SIGNER = Signer([SECRET])
ISSUE = 1


def subscribe(database: Database, at: datetime, address: str = "ana@example.com", issues: int = 1) -> int:
    """Add a subscriber to whom `issues` issues were sent; return the id."""
    return subscribe_all(database, at, [address], issues)[address]


def subscribe_all(
    database: Database, at: datetime, addresses: Sequence[str], issues: int = 1
) -> dict[str, int]:
    """Add subscribers to whom `issues` issues were sent; return their ids."""
    keys = {address: parse_address(address).key for address in addresses}
    with database.transaction() as connection:
        found = select(Subscriber.c.address_key, Subscriber.c.id).where(
            Subscriber.c.address_key.in_(keys.values())
        )
        ids = {row.address_key: row.id for row in connection.execute(found)}
        new = [parse_address(address) for address, key in keys.items() if key not in ids]
        active = [Enrolment(address, SubscriberStatus.ACTIVE, Origin("command")) for address in new]
        ids |= enrol(connection, active, at=at)
        sent = {"state": DeliveryState.SENT, "attempts": 1, "changed_at": at}
        for number in range(ISSUE, ISSUE + issues):
            _store_issue(connection, number, at)
            rows = [{"issue_id": number, "subscriber_id": ids[key], **sent} for key in keys.values()]
            insert_rows(connection, Delivery, rows)
    return {address: ids[key] for address, key in keys.items()}


def _store_issue(connection: Connection, number: int, at: datetime) -> None:
    if connection.scalar(select(StoredEdition.c.digest).where(StoredEdition.c.digest == "e")) is None:
        connection.execute(insert(StoredEdition).values(digest="e", content="", created_at=at))
    if connection.scalar(select(StoredIssue.c.id).where(StoredIssue.c.id == number)) is None:
        connection.execute(
            insert(StoredIssue).values(
                id=number,
                slug=f"{number:03}",
                title="An issue",
                source_path="",
                edition_digest="e",
                state=IssueState.FINISHED.value,
                dated_at=at,
                created_at=at,
            )
        )


def token(subscriber_id: int, issue_id: int = ISSUE) -> str:
    """Return the return-path token of a delivery."""
    return SIGNER.return_path(Subject(issue_id, subscriber_id))


def dsn(
    return_path: str,
    *,
    recipient: str = "ana@example.com",
    reply: str = "550 5.1.1 User unknown",
    status: str = "5.1.1",
    action: str = "failed",
    message_id: str = "",
    remote: str = "",
) -> bytes:
    """Return a delivery status notification (RFC 3464) that came to `b.RETURN_PATH@…`."""
    to = f"b.{return_path}@bounce.example.org" if return_path else "postmaster@example.org"
    return f"""\
From: MAILER-DAEMON@mx.example.net (Mail Delivery System)
To: {to}
Subject: Delivery Status Notification
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="x"

--x
Content-Type: text/plain

About your message to {recipient}.

--x
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Final-Recipient: rfc822; {recipient}
Action: {action}
Status: {status}
Diagnostic-Code: smtp; {reply}
{f"Remote-MTA: dns; {remote}" if remote else "X-Remote: none"}

--x
Content-Type: text/rfc822-headers

Message-ID: <{message_id or "1@elsewhere.example"}>
To: {recipient}

--x--
""".encode()


def complaint(return_path: str, *, kind: str = "abuse", recipient: str = "ana@example.com") -> bytes:
    """Return a feedback report (RFC 5965) on a message with this token in its Message-ID."""
    return f"""\
From: feedback@provider.example
To: abuse@example.org
Subject: Feedback
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="x"

--x
Content-Type: text/plain

This is a report.

--x
Content-Type: message/feedback-report

Feedback-Type: {kind}
User-Agent: Test/1
Version: 1
Original-Rcpt-To: {recipient}

--x
Content-Type: message/rfc822

From: ana@example.org
To: {recipient}
Message-ID: <{return_path}@example.org>
Subject: An issue

Text.
--x--
""".encode()
