"""The route of bounces: a message to the bounce domain, sent through the relays, must come back here."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from email.utils import format_datetime
from typing import Final

import uvloop
from sqlalchemy import select

from mailer.address import Envelope
from mailer.bounces.boxes.configured import boxes_of
from mailer.config import Settings
from mailer.database.engine import Database
from mailer.database.tables import StoredReport
from mailer.delivery import dispatch
from mailer.doctor.findings import Finding, ok, problem
from mailer.errors import MailerError
from mailer.smtp.dkim import DkimSigner, SigningKey
from mailer.smtp.session import Fate, Outgoing
from mailer.tokens import Signer, Subject

_PATIENCE_SECONDS: Final = 120.0
_LOOK_SECONDS: Final = 3.0


def probe(
    settings: Settings,
    database: Database,
    keys: Sequence[SigningKey],
    *,
    at: datetime,
    patience_seconds: float = _PATIENCE_SECONDS,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[Finding]:
    """Send a message to an address for bounces, and wait until it is in a bounce mailbox.

    If a worker fetches it first, the stored report counts as well.
    """
    domain = settings.bounce_domain
    if not settings.relays:
        yield problem("route", domain, "there is no relay to send a probe", remedy="add [relays.main]")
        return
    if not boxes_of(settings):
        yield problem(
            "route",
            domain,
            "no mailbox is read for bounces, so a probe cannot be found",
            remedy="add [[bounces.boxes]] or bounces.maildirs; with LMTP or a pipe, send a message by hand",
        )
        return
    word = f"mailer-doctor-{secrets.token_hex(12)}"
    address = f"b.{Signer(database.secrets()).return_path(Subject(0, 0))}@{domain}"
    message = _message(settings, keys, address, word, at)
    outcome = uvloop.run(dispatch.deliver_once(settings, message, domain))
    if outcome.fate is not Fate.ACCEPTED:
        said = outcome.reply.text if outcome.reply is not None else outcome.problem
        yield problem(
            "route",
            domain,
            f"a probe to an address for bounces was refused: {said or outcome.fate.value}",
            remedy="let the mail server accept every address b.…@ at the bounce domain",
        )
        return
    began = time.monotonic()
    while not _has_arrived(settings, database, word, at):
        if time.monotonic() - began > patience_seconds:
            yield problem(
                "route",
                domain,
                f"a probe did not arrive in a bounce mailbox within {patience_seconds:.0f} s",
                remedy="follow it in the mail server's log: the MX record, aliases, the spam folder",
            )
            return
        wait(_LOOK_SECONDS)
    took = time.monotonic() - began
    yield ok("route", domain, f"a probe to an address for bounces arrived after {took:.0f} s")


def _message(
    settings: Settings, keys: Sequence[SigningKey], address: str, word: str, at: datetime
) -> Outgoing:
    author = settings.newsletter.author_address
    headers = (
        f"Date: {format_datetime(at)}\r\nFrom: <{author}>\r\nTo: <{address}>\r\nSubject: {word}\r\n"
        f"Message-ID: <{word}@{settings.newsletter.author_domain}>\r\nAuto-Submitted: auto-generated\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    ).encode()
    body = b"mailer doctor checks whether bounces arrive here. You can delete this message.\r\n"
    signature = DkimSigner(keys).sign(headers, body) if keys else b""
    return Outgoing(0, Envelope(author, address), (signature, headers, b"\r\n", body))


def _has_arrived(settings: Settings, database: Database, word: str, since: datetime) -> bool:
    sought = word.encode()
    for open_box in boxes_of(settings):
        try:
            with open_box() as box:
                for mail in box.messages():
                    if sought in mail.raw:
                        box.mark(mail)
                        return True
        except MailerError as error:
            raise MailerError(
                f"a bounce mailbox cannot be read: {error.message}", remedy=error.remedy
            ) from error
    stored = select(StoredReport.c.raw).where(StoredReport.c.received_at >= since)
    with database.reading() as connection:
        return any(sought in raw for raw in connection.scalars(stored))
