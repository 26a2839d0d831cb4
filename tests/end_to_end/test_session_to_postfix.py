"""The pipelined session against a real Postfix, which brings what it accepts to Dovecot."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import pytest
import uvloop
from imapclient import IMAPClient

from mailer.address import Envelope
from mailer.config import Relay, Security
from mailer.smtp.pool import Access, Item, Network, Pool
from mailer.smtp.session import Attempt, End, Fate, Outgoing, SmtpSession, Stage
from tests.end_to_end.mailservers import PASSWORD, USER, MailServers, mail_servers
from tests.smtp.test_session import supply
from tests.smtp.test_smuggling import ENDINGS, EVIL

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def servers() -> Iterator[MailServers]:
    with mail_servers() as running:
        yield running


@pytest.fixture
def relay(servers: MailServers) -> Relay:
    with IMAPClient("127.0.0.1", servers.imap, ssl=False) as client:
        client.login(USER, PASSWORD)
        client.select_folder("INBOX")
        client.delete_messages(client.search("ALL"))
        client.expunge()
    return Relay(host="127.0.0.1", port=servers.smtp, security=Security.PLAIN, connections=4)


def arrived(servers: MailServers, count: int) -> list[str]:
    """Wait until so many messages are in the mailbox; return their subjects in order."""
    with IMAPClient("127.0.0.1", servers.imap, ssl=False) as client:
        client.login(USER, PASSWORD)
        for _ in range(300):
            client.select_folder("INBOX")
            found = client.search("ALL")
            if len(found) >= count:
                break
            time.sleep(0.1)
        envelopes = client.fetch(found, ["ENVELOPE"])
    return sorted(envelopes[one][b"ENVELOPE"].subject.decode() for one in found)


def outgoing(key: int, *, recipient: str = "", body: bytes = b"hello\r\n") -> Outgoing:
    envelope = Envelope("a@example.org", recipient or f"b.{key}@bounce.example.org")
    return Outgoing(key, envelope, [b"From: a@example.org\r\nSubject: %03d\r\n\r\n" % key, body])


def test_refused_recipients_do_not_disturb_their_neighbours(servers: MailServers, relay: Relay) -> None:
    async def go() -> tuple[bool, End, list[Attempt]]:
        outcomes: list[Attempt] = []
        session = await SmtpSession.open(relay)
        # Postfix knows no such form of address; every tenth message has a long body.
        messages = [
            outgoing(
                key, recipient="" if key % 5 else "@", body=b"x" * 76 * (1 if key % 10 else 2000) + b"\r\n"
            )
            for key in range(1, 41)
        ]
        end = await session.run(supply(messages), outcomes.append)
        await session.close()
        return session.pipelining, end, outcomes

    pipelining, end, outcomes = uvloop.run(go())
    assert pipelining
    assert end is End.DRAINED
    assert [(o.key, o.fate, o.stage) for o in outcomes] == [
        (key, Fate.ACCEPTED, Stage.BODY) if key % 5 else (key, Fate.REFUSED, Stage.RCPT)
        for key in range(1, 41)
    ]
    assert arrived(servers, 32) == [f"{key:03}" for key in range(1, 41) if key % 5]


def test_smuggled_endings_make_no_second_message(servers: MailServers, relay: Relay) -> None:
    async def go() -> list[Attempt]:
        outcomes: list[Attempt] = []
        session = await SmtpSession.open(relay)
        evil = (
            EVIL.replace(b"victim@example.net", b"b.0@bounce.example.org") + b"Subject: evil\r\n\r\nevil\r\n"
        )
        messages = [
            outgoing(key, body=b"hello" + ENDINGS[key - 1] + evil) for key in range(1, len(ENDINGS) + 1)
        ]
        await session.run(supply(messages), outcomes.append)
        await session.close()
        return outcomes

    assert [outcome.fate for outcome in uvloop.run(go())] == [Fate.ACCEPTED] * len(ENDINGS)
    assert arrived(servers, len(ENDINGS)) == [f"{key:03}" for key in range(1, len(ENDINGS) + 1)]


def test_pool_brings_everything_over(servers: MailServers, relay: Relay) -> None:
    async def go() -> list[Attempt]:
        outcomes: list[Attempt] = []
        waiting = [Item(key, "bounce.example.org") for key in range(100)]

        async def claim(count: int, except_domains: frozenset[str]) -> list[Item]:
            taken, waiting[:] = waiting[:count], waiting[count:]
            return taken

        relays = {"main": Access(msgspec.structs.replace(relay, messages_per_connection=10))}
        pool = Pool(
            Network(relays),
            take=claim,
            compose=outgoing,
            record=lambda attempt, relay: outcomes.append(attempt),
            window=40,
        )
        await pool.deliver()
        return outcomes

    assert {outcome.fate for outcome in uvloop.run(go())} == {Fate.ACCEPTED}
    assert arrived(servers, 100) == [f"{key:03}" for key in range(100)]
