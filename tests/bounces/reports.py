"""Reports as mail systems write them, and subscribers whom they are about."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from mailer.address import parse_address
from mailer.audience.subscribers import add
from mailer.audience.transitions import Origin
from mailer.database.models import Delivery, DeliveryState, IssueState, StoredEdition, StoredIssue
from mailer.database.session import Database
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
    with database.transaction() as session:
        return {address: _subscribe(session, at, address, issues) for address in addresses}


def _subscribe(session: Session, at: datetime, address: str, issues: int) -> int:
    if session.get(StoredEdition, "e") is None:
        session.add(StoredEdition(digest="e", content="", created_at=at))
        session.flush()
    made = add(session, parse_address(address), secret=SECRET, origin=Origin("command"), at=at)
    assert made.subscriber_id is not None
    for number in range(ISSUE, ISSUE + issues):
        if session.get(StoredIssue, number) is None:
            session.add(
                StoredIssue(
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
            session.flush()
        session.add(
            Delivery(
                issue_id=number,
                subscriber_id=made.subscriber_id,
                state=DeliveryState.SENT.value,
                attempts=1,
                changed_at=at,
            )
        )
    return made.subscriber_id


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
