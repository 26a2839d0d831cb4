"""Scripted faults: replies of the built-in server, and bounces that arrive later."""

from __future__ import annotations

import email.utils
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path


@dataclass(slots=True)
class Script:
    """Replies by local part: `always` refuses every time, `at_first` only the first time."""

    always: Mapping[str, str]
    at_first: Mapping[str, str]
    _asked: Counter[str] = field(default_factory=Counter)

    def __call__(self, recipient: str) -> str | None:
        """Return the reply to RCPT, or None to accept."""
        local = recipient.partition("@")[0]
        if reply := self.always.get(local):
            return reply
        self._asked[local] += 1
        return self.at_first.get(local) if self._asked[local] == 1 else None


def report(original: bytes, *, status: str, diagnostic: str) -> bytes:
    """Return the DSN (RFC 3464) of a server that gives up on a message it had accepted.

    `original` is the message as the server keeps it, with Return-Path and X-Original-To.
    """
    headers = message_from_bytes(original)
    recipient = str(headers["X-Original-To"])
    envelope_sender = str(headers["Return-Path"]).strip("<>")
    notice = MIMEText(
        f"The message could not be delivered to <{recipient}>.\n\n{diagnostic}\n", "plain", "us-ascii"
    )
    per_message, per_recipient = Message(), Message()
    per_message["Reporting-MTA"] = "dns; outbox.localhost"
    per_recipient["Final-Recipient"] = f"rfc822; {recipient}"
    per_recipient["Action"] = "failed"
    per_recipient["Status"] = status
    per_recipient["Diagnostic-Code"] = f"smtp; {diagnostic}"
    delivery_status = Message()
    delivery_status["Content-Type"] = "message/delivery-status"
    delivery_status.set_payload([per_message, per_recipient])
    del headers["Return-Path"], headers["X-Original-To"]
    headers.set_payload("")
    dsn = MIMEMultipart("report", report_type="delivery-status")
    dsn["Return-Path"] = "<>"
    dsn["From"] = "Mail Delivery System <MAILER-DAEMON@outbox.localhost>"
    dsn["To"] = envelope_sender
    dsn["Subject"] = "Undelivered mail returned to sender"
    dsn["Date"] = email.utils.formatdate()
    dsn["Message-ID"] = email.utils.make_msgid(domain="outbox.localhost")
    dsn["Auto-Submitted"] = "auto-replied"
    for part in (notice, delivery_status, MIMEMessage(headers, "rfc822")):
        dsn.attach(part)
    return dsn.as_bytes()


def put(maildir: Path, name: str, content: bytes) -> None:
    """Put a message into a Maildir the way a mail server does, in one rename."""
    for folder in ("tmp", "new", "cur"):
        (maildir / folder).mkdir(parents=True, exist_ok=True)
    (maildir / "tmp" / name).write_bytes(content)
    (maildir / "tmp" / name).rename(maildir / "new" / name)
