"""A mail to nobody: Postfix gives up on it, Dovecot keeps the report, we fetch it and learn from it."""

from __future__ import annotations

import poplib
import smtplib
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from imapclient import SEEN, IMAPClient

from mailer.audience.subscribers import get
from mailer.bounces.fetch import Box, Tally, fetch
from mailer.bounces.imap import Imap
from mailer.bounces.pop3 import Pop3
from mailer.bounces.record import Effect, Rules
from mailer.config import Mailbox, Security
from mailer.database.session import Database
from mailer.errors import MailboxError
from tests.bounces.reports import SIGNER, subscribe, token
from tests.end_to_end.mailservers import PASSWORD, USER, MailServers, mail_servers

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def servers() -> Iterator[MailServers]:
    with mail_servers() as running:
        yield running


def section(kind: str, port: int) -> Mailbox:
    return Mailbox.model_validate(
        {"kind": kind, "host": "127.0.0.1", "port": port, "security": Security.PLAIN, "user": USER,
         "password": PASSWORD}
    )  # fmt: skip


def sent_to_nobody(servers: MailServers, database: Database, address: str) -> int:
    """Mail an address that does not exist, wait for the report, and return the subscriber."""
    subscriber = subscribe(database, NOW, address)
    sender = f"b.{token(subscriber)}@bounce.example.org"
    with smtplib.SMTP("127.0.0.1", servers.smtp) as client:
        client.sendmail(sender, [address], f"From: ana@example.org\r\nTo: {address}\r\n\r\nHello.\r\n")
    for _ in range(300):
        with IMAPClient("127.0.0.1", servers.imap, ssl=False) as client:
            client.login(USER, PASSWORD)
            client.select_folder("INBOX")
            if client.search("UNSEEN"):
                return subscriber
        time.sleep(0.1)
    raise AssertionError("the report did not come back")


def fetched(database: Database, box: Box) -> Tally:
    return fetch(database, SIGNER, box, clock=lambda: NOW, rules=Rules())


def status(database: Database, subscriber_id: int) -> str:
    with database.reading() as session:
        found = get(session, subscriber_id)
    assert found is not None
    return found.status.value


def test_imap_report_suppresses_and_stays_as_seen(database: Database, servers: MailServers) -> None:
    nobody = sent_to_nobody(servers, database, "nobody@example.com")
    with Imap(section("imap", servers.imap), lambda: PASSWORD) as box:
        tally = fetched(database, box)
        assert box.can_wait()
        box.wait(0.1)
    assert (dict(tally.effects), tally.failures) == ({Effect.SUPPRESSED: 1}, [])
    assert status(database, nobody) == "bounced"
    with IMAPClient("127.0.0.1", servers.imap, ssl=False) as client:
        client.login(USER, PASSWORD)
        client.select_folder("INBOX")
        assert all(SEEN in flags for flags in client.get_flags(client.search("ALL")).values())
    with Imap(section("imap", servers.imap), lambda: PASSWORD) as box:
        assert fetched(database, box).read == 0


def test_pop3_report_suppresses_and_is_deleted_once_stored(database: Database, servers: MailServers) -> None:
    nobody = sent_to_nobody(servers, database, "nobody-else@example.com")
    with Pop3(section("pop3", servers.pop3), lambda: PASSWORD) as box:
        tally = fetched(database, box)
    assert tally.effects[Effect.SUPPRESSED] == 1
    assert status(database, nobody) == "bounced"
    client = poplib.POP3("127.0.0.1", servers.pop3)
    client.user(USER)
    client.pass_(PASSWORD)
    assert client.stat()[0] == 0
    client.quit()


@pytest.mark.parametrize("kind", ["imap", "pop3"])
def test_wrong_password_is_told_with_a_remedy(servers: MailServers, kind: str) -> None:
    port = servers.imap if kind == "imap" else servers.pop3
    box = (Imap if kind == "imap" else Pop3)(section(kind, port), lambda: "another")
    with pytest.raises(MailboxError, match="password"), box:
        pass
