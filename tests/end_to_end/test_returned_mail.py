"""Mails that cannot be delivered: Postfix gives up on them, the reports come back, we learn from them."""

from __future__ import annotations

import contextlib
import poplib
import smtplib
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import pytest
from imapclient import SEEN, IMAPClient
from sqlalchemy import select, text
from sqlalchemy.exc import DatabaseError

from mailer import config
from mailer.bounces.boxes import pop3
from mailer.bounces.boxes.fetch import Box, Tally, fetch
from mailer.bounces.boxes.imap import Imap
from mailer.bounces.boxes.lmtp import Intake, serve
from mailer.bounces.boxes.pop3 import Pop3
from mailer.bounces.boxes.watching import watch
from mailer.bounces.record import Effect, Recorded, Rules
from mailer.config import Mailbox, Security
from mailer.database.engine import Database
from mailer.database.tables import Delivery, StoredReport, Subscriber
from mailer.errors import MailboxError, MailerError, StorageError
from tests.bounces.reports import ISSUE, SIGNER, subscribe, token
from tests.end_to_end.mailservers import FULL, PASSWORD, USER, MailServers, mail_servers
from tests.served import served

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
pytestmark = pytest.mark.servers

UNKNOWN, OVER_SIZE, OVER_QUOTA = "nobody@example.com", "ana@small.example.com", f"{FULL}@example.com"
EXPECTED = {
    UNKNOWN: ("bounced", "failed", "invalid_mailbox", 0.0),
    OVER_SIZE: ("active", "failed", "message_too_large", 0.0),
    OVER_QUOTA: ("active", "failed", "mailbox_full", 1.0),
}
"""Each subscriber's end: status, state and class of the delivery, soft points."""


@pytest.fixture(scope="module")
def servers() -> Iterator[MailServers]:
    with mail_servers() as running:
        yield running


def section(kind: str, port: int) -> Mailbox:
    return config.section(Mailbox,
        {"kind": kind, "host": "127.0.0.1", "port": port, "security": Security.PLAIN, "user": USER,
         "password": PASSWORD}
    )  # fmt: skip


def opened(kind: str, servers: MailServers) -> Imap | Pop3:
    if kind == "imap":
        return Imap(section(kind, servers.imap), lambda: PASSWORD)
    return Pop3(section(kind, servers.pop3), lambda: PASSWORD)


def send_to_all(servers: MailServers, database: Database, domain: str) -> None:
    """Mail every address that cannot take it; the reports go to our return path in `domain`."""
    with smtplib.SMTP("127.0.0.1", servers.smtp) as client:
        for address in EXPECTED:
            sender = f"b.{token(subscribe(database, NOW, address))}@{domain}"
            body = "Hello, this is a long letter.\r\n" * 100
            client.sendmail(sender, [address], f"From: ana@example.org\r\nTo: {address}\r\n\r\n{body}")


def waiting(kind: str, servers: MailServers) -> int:
    """Return how many reports lie in the mailbox and have not been dealt with."""
    if kind == "imap":
        with IMAPClient("127.0.0.1", servers.imap, ssl=False) as client:
            client.login(USER, PASSWORD)
            client.select_folder("INBOX")
            return len(client.search("UNSEEN"))
    with contextlib.closing(poplib.POP3("127.0.0.1", servers.pop3)) as box:
        box.user(USER)
        box.pass_(PASSWORD)
        count = int(box.stat()[0])
        box.quit()
    return count


def wait_for_reports(kind: str, servers: MailServers) -> None:
    for _ in range(300):
        if waiting(kind, servers) == len(EXPECTED):
            return
        time.sleep(0.1)
    raise AssertionError("the reports did not come back")


def emptied(servers: MailServers) -> None:
    """Leave no mail of another test in the mailbox."""
    with IMAPClient("127.0.0.1", servers.imap, ssl=False) as client:
        client.login(USER, PASSWORD)
        client.select_folder("INBOX")
        if found := client.search("ALL"):
            client.delete_messages(found)
            client.expunge()


def fetched(database: Database, box: Box) -> Tally:
    return fetch(database, SIGNER, box, clock=lambda: NOW, rules=Rules())


def ends(database: Database) -> dict[str, tuple[str, str, str | None, float]]:
    """Return where each subscriber and the delivery to him ended."""
    with database.reading() as connection:
        rows = connection.execute(
            select(
                Subscriber.c.address, Subscriber.c.status, Delivery.c.state, Delivery.c.bounce_class,
                Subscriber.c.soft_points,
            )
            .join(Delivery, Delivery.c.subscriber_id == Subscriber.c.id)
            .where(Delivery.c.issue_id == ISSUE)
        )  # fmt: skip
        return {row.address: (row.status, row.state, row.bounce_class, row.soft_points) for row in rows}


@pytest.mark.parametrize("kind", ["imap", "pop3"])
def test_reports_end_in_the_right_state_and_the_box_is_empty_after(
    database: Database, servers: MailServers, kind: str
) -> None:
    emptied(servers)
    send_to_all(servers, database, "bounce.example.org")
    wait_for_reports(kind, servers)
    with opened(kind, servers) as box:
        tally = fetched(database, box)
    assert tally.failures == []
    assert tally.effects == {Effect.SUPPRESSED: 1, Effect.COUNTED: 1}
    assert ends(database) == EXPECTED
    assert waiting(kind, servers) == 0
    with opened(kind, servers) as box:
        assert fetched(database, box).read == 0


@pytest.mark.parametrize("kind", ["imap", "pop3"])
def test_box_keeps_what_could_not_be_stored(database: Database, servers: MailServers, kind: str) -> None:
    emptied(servers)
    send_to_all(servers, database, "bounce.example.org")
    wait_for_reports(kind, servers)
    with database.transaction() as connection:
        connection.execute(
            text("CREATE TRIGGER full BEFORE INSERT ON reports BEGIN SELECT RAISE(ABORT, 'no room'); END")
        )
    with opened(kind, servers) as box, pytest.raises((DatabaseError, MailerError), match="no room"):
        fetched(database, box)
    assert waiting(kind, servers) == len(EXPECTED)
    with database.transaction() as connection:
        connection.execute(text("DROP TRIGGER full"))
    with opened(kind, servers) as box:
        fetched(database, box)
    assert ends(database) == EXPECTED
    assert waiting(kind, servers) == 0


def test_pop3_deletes_during_the_pass_and_yields_each_message_once(
    servers: MailServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied(servers)
    monkeypatch.setattr(pop3, "_SESSION_MESSAGES", 3)
    with IMAPClient("127.0.0.1", servers.imap, ssl=False) as client:
        client.login(USER, PASSWORD)
        for number in range(12):
            client.append("INBOX", f"Subject: {number}\r\n\r\ntext\r\n".encode())
    seen: list[int] = []
    left: list[int] = []
    with opened("pop3", servers) as box:
        for mail in box.messages():
            seen.append(int(mail.raw.split()[1]))
            left.append(sum(len(list((servers.bounces / name).iterdir())) for name in ("new", "cur")))
            if seen[-1] not in (1, 5):
                box.mark(mail)
    assert seen == list(range(12))
    assert left == [12, 12, 12, 12, 9, 9, 9, 9, 6, 6, 6, 3]
    assert waiting("pop3", servers) == 2


@contextlib.contextmanager
def our_lmtp_server(database: Database, port: int) -> Iterator[list[Recorded]]:
    """Run our LMTP server in a thread; give what it has recorded."""
    recorded: list[Recorded] = []
    intake = Intake(
        database, SIGNER, bounce_domain="direct.example.org", rules=Rules(), clock=lambda: NOW,
        told=recorded.append,
    )  # fmt: skip
    with served(lambda ready: serve(intake, "127.0.0.1", port, ready=ready)):
        yield recorded


def test_reports_handed_over_by_lmtp_end_in_the_right_state(database: Database, servers: MailServers) -> None:
    with our_lmtp_server(database, servers.intake) as recorded:
        send_to_all(servers, database, "direct.example.org")
        servers.wait_until_delivered()
    assert sorted(one.effect for one in recorded) == [Effect.NOTHING, Effect.COUNTED, Effect.SUPPRESSED]
    assert ends(database) == EXPECTED
    with database.reading() as connection:
        assert set(connection.scalars(select(StoredReport.c.source))) == {"lmtp"}


def test_imap_marks_as_seen(database: Database, servers: MailServers) -> None:
    emptied(servers)
    send_to_all(servers, database, "bounce.example.org")
    wait_for_reports("imap", servers)
    with opened("imap", servers) as box:
        fetched(database, box)
    with IMAPClient("127.0.0.1", servers.imap, ssl=False) as client:
        client.login(USER, PASSWORD)
        client.select_folder("INBOX")
        flags = client.get_flags(client.search("ALL"))
    assert len(flags) == len(EXPECTED)
    assert all(SEEN in one for one in flags.values())


def appended(servers: MailServers, raw: bytes, folder: str = "INBOX") -> None:
    with IMAPClient("127.0.0.1", servers.imap, ssl=False) as client:
        client.login(USER, PASSWORD)
        if not client.folder_exists(folder):
            client.create_folder(folder)
        client.append(folder, raw)


def test_idle_ends_when_mail_comes_and_not_before(servers: MailServers) -> None:
    emptied(servers)
    with Imap(section("imap", servers.imap), lambda: PASSWORD) as box:
        assert box.can_wait()
        start = time.monotonic()
        box.wait(0.5)
        assert time.monotonic() - start >= 0.5
        timer = threading.Timer(0.5, appended, (servers, b"Subject: hello\r\n\r\nWords.\r\n"))
        timer.start()
        start = time.monotonic()
        box.wait(60.0)
        assert 0.3 < time.monotonic() - start < 30.0
        timer.join()


def test_each_of_several_boxes_is_watched_with_idle(database: Database, servers: MailServers) -> None:
    emptied(servers)
    appended(servers, b"Subject: hello\r\n\r\nWords.\r\n", "Other")
    other = msgspec.structs.replace(section("imap", servers.imap), folder="Other")
    boxes = [
        lambda: Imap(section("imap", servers.imap), lambda: PASSWORD),
        lambda: Imap(other, lambda: PASSWORD),
    ]
    passes = watch(boxes, lambda box: fetched(database, box), seconds=90.0)
    assert sorted(next(passes).read for _ in boxes) == [0, 1]
    for folder in ("INBOX", "Other"):  # The first box as well as the last.
        start = time.monotonic()
        appended(servers, f"Subject: news for {folder}\r\n\r\nWords.\r\n".encode(), folder)
        assert next(passes).read == 1
        assert time.monotonic() - start < 60.0
    passes.close()


def test_box_that_is_away_is_a_failure_and_the_others_are_watched(
    database: Database, servers: MailServers
) -> None:
    emptied(servers)
    boxes = [
        lambda: Imap(section("imap", servers.imap), lambda: "another"),
        lambda: Imap(section("imap", servers.imap), lambda: PASSWORD),
    ]
    passes = watch(boxes, lambda box: fetched(database, box), seconds=300.0)
    assert sorted(len(next(passes).failures) for _ in boxes) == [0, 1]
    passes.close()


def test_fault_of_a_watching_thread_is_raised(database: Database, servers: MailServers) -> None:
    def fail(_: Box) -> Tally:
        raise StorageError("the disk is full")

    with pytest.raises(StorageError):
        next(watch([lambda: Imap(section("imap", servers.imap), lambda: PASSWORD)], fail, seconds=300.0))


@pytest.mark.parametrize("kind", ["imap", "pop3"])
def test_wrong_password_is_reported_with_a_remedy(servers: MailServers, kind: str) -> None:
    port = servers.imap if kind == "imap" else servers.pop3
    box = (Imap if kind == "imap" else Pop3)(section(kind, port), lambda: "another")
    with pytest.raises(MailboxError, match="password"), box:
        pass
