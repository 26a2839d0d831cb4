"""Whole sessions with Postfix, OpenSMTPD and Exim: pipelined or not, and abused.

Postfix and Exim are also spoken to with TLS and a login. OpenSMTPD is not: see `tests.end_to_end.mtas`.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvloop

from mailer.address import Envelope
from mailer.config import Newsletter, Security
from mailer.errors import RecipientError, RelayError
from mailer.rendering.edition import Edition
from mailer.rendering.message import Composer, Recipient
from mailer.smtp.session import Attempt, End, Fate, Outgoing, SmtpSession, Stage
from mailer.tokens import Signer
from tests.end_to_end.mtas import EVERY, PASSWORD, PROTECTED, Mta
from tests.end_to_end.newsletter import Folder
from tests.smtp.test_smuggling import ENDINGS, EVIL

pytestmark = pytest.mark.servers
_AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture(scope="module", params=list(EVERY))
def mta(request: pytest.FixtureRequest) -> Iterator[Mta]:
    with EVERY[request.param]() as running:
        yield running


@pytest.fixture(autouse=True)
def _empty(mta: Mta) -> None:
    mta.forget()


def trusted(mta: Mta) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=mta.certificate)


def send(
    mta: Mta, security: Security, messages: Sequence[Outgoing]
) -> tuple[SmtpSession, End, list[Attempt]]:
    """Send over one connection; return the session, how it ended, and the outcomes."""

    async def go() -> tuple[SmtpSession, End, list[Attempt]]:
        waiting, outcomes = list(messages), list[Attempt]()
        session = await SmtpSession.open(
            mta.relay(security),
            password="" if security is Security.PLAIN else PASSWORD,
            tls=None if security is Security.PLAIN else trusted(mta),
        )
        end = await session.run(lambda: waiting.pop(0) if waiting else None, outcomes.append)
        await session.close()
        return session, end, outcomes

    return uvloop.run(go())


def outgoing(key: int, body: bytes, recipient: str = "reader@example.com") -> Outgoing:
    head = b"From: a@example.org\r\nTo: reader@example.com\r\nSubject: number %03d\r\n\r\n" % key
    return Outgoing(key, Envelope("b.1@example.org", recipient), [head, body])


def subjects(kept: Sequence[bytes]) -> list[str]:
    return sorted(
        found[1].decode() for raw in kept if (found := re.search(rb"^Subject: (.*?)\r?$", raw, re.M))
    )


@pytest.mark.parametrize(
    ("mta", "security"),
    [
        *((name, Security.PLAIN) for name in EVERY),
        *((name, security) for name in PROTECTED for security in (Security.STARTTLS, Security.TLS)),
    ],
    indirect=["mta"],
)
def test_what_is_taken_arrives_once_and_whole_beside_what_is_refused(mta: Mta, security: Security) -> None:
    # Every fifth recipient is refused, every seventh body is long, every third has lines of dots.
    messages = [
        outgoing(
            key,
            (b".\r\n..\r\n" if key % 3 == 0 else b"") + b"x" * 70 * (1000 if key % 7 == 0 else 1) + b"\r\n",
            "nobody@example.net" if key % 5 == 0 else "reader@example.com",
        )
        for key in range(1, 31)
    ]
    messages = [
        Outgoing(one.key, one.envelope, [re.sub(rb"x{70}", b"x" * 70 + b"\r\n", b"".join(one.parts))])
        for one in messages
    ]
    _, end, outcomes = send(mta, security, messages)
    assert end is End.DRAINED
    assert bool(mta.relay(security).user) == (security is not Security.PLAIN)
    assert [(o.key, o.fate, o.stage) for o in outcomes] == [
        (key, Fate.REFUSED, Stage.RCPT) if key % 5 == 0 else (key, Fate.ACCEPTED, Stage.BODY)
        for key in range(1, 31)
    ]
    kept = mta.kept(24)
    assert subjects(kept) == [f"number {key:03}" for key in range(1, 31) if key % 5]
    for raw in kept:
        content = raw.replace(b"\r\n", b"\n")
        key = int(content.partition(b"Subject: number ")[2][:3])
        assert content.count(b"\n" + b"x" * 70) == (1000 if key % 7 == 0 else 1)
        assert (b"\n\n.\n..\n" in content) == (key % 3 == 0)


def test_pipelining_is_used_where_it_is_announced_and_only_there(mta: Mta) -> None:
    session, _, outcomes = send(mta, Security.PLAIN, [outgoing(1, b"one\r\n"), outgoing(2, b"two\r\n")])
    assert session.pipelining == (mta.pipelines)
    assert [outcome.fate for outcome in outcomes] == [Fate.ACCEPTED] * 2
    assert len(mta.kept(2)) == 2


@pytest.mark.parametrize("mta", PROTECTED, indirect=True)
def test_wrong_password_and_untrusted_certificate_are_told_apart(mta: Mta) -> None:
    async def attempt(password: str, context: ssl.SSLContext | None) -> None:
        session = await SmtpSession.open(mta.relay(Security.STARTTLS), password=password, tls=context)
        await session.close()

    with pytest.raises(RelayError, match="login refused: 5"):
        uvloop.run(attempt("wrong", trusted(mta)))
    with pytest.raises(RelayError, match="certificate is not trusted"):
        uvloop.run(attempt(PASSWORD, None))


def test_content_that_tries_to_end_its_message_makes_no_second_one(mta: Mta) -> None:
    evil = EVIL.replace(b"victim@example.net", b"victim@example.com") + b"Subject: evil\r\n\r\nevil\r\n"
    messages = [outgoing(key, b"hello" + ending + evil) for key, ending in enumerate(ENDINGS, 1)]
    _, end, outcomes = send(mta, Security.PLAIN, messages)
    assert end is End.DRAINED
    taken = [outcome.key for outcome in outcomes if outcome.fate is Fate.ACCEPTED]
    # A server may refuse a message with a NUL; that is as good.
    assert len(taken) >= len(ENDINGS) - 1
    kept = mta.kept(len(taken))
    assert subjects(kept) == [f"number {key:03}" for key in taken]


def test_fields_of_subscribers_and_the_issue_end_no_message_early(mta: Mta) -> None:
    """Every ending in the name, an attribute, a tag and the text of the issue, through our own composer."""
    messages: list[Outgoing] = []
    refused: list[str] = []
    for ending in ENDINGS:
        evil = (b"x" + ending + EVIL).decode("latin-1")
        # An issue with a NUL is refused before anything is queued.
        written = evil.replace("\0", "")
        edition = Edition(
            slug="001-x", title="T", subtitle="", author="", date="2026-03-02", number=1, tags=(),
            subject="{{ subscriber.name | default('x') }} {{ subscriber.city | default('') }}",
            preheader="", links=(), images=(), made_of={},
            html="<p>{{ subscriber.name | default('x') }} {{ subscriber.city | default('') }}</p>"
            "<p>{{ subscriber.tags | join(' ') }}</p>" + written.replace("<", "&lt;"),
            text=written + "\n{{ subscriber.name | default('x') }} {{ subscriber.tags | join(' ') }}\n",
        )  # fmt: skip
        composer = Composer(
            edition, issue_id=1, newsletter=Newsletter(author_address="a@example.org"),
            public_url="https://news.example.org", bounce_domain="example.org",
            unsubscribe_address="leave@example.org", signer=Signer([b"a secret of the tests"]),
        )  # fmt: skip
        for person in (
            Recipient(1, "reader@example.com", "Anna", {}, ()),
            Recipient(2, "reader@example.com", evil, {}, ()),
            Recipient(3, "reader@example.com", "Anna", {"city": evil}, ()),
            Recipient(4, "reader@example.com", "Anna", {}, (evil,)),
        ):
            try:
                made = composer.compose(person, _AT)
            except RecipientError as error:
                refused.append(error.field)
                continue
            messages.append(Outgoing(len(messages) + 1, made.envelope, made.parts, wire_safe=True))
    assert all(field.startswith("subscriber.") for field in refused)
    assert len(messages) + len(refused) == 4 * len(ENDINGS)
    assert len(messages) >= len(ENDINGS)
    _, end, outcomes = send(mta, Security.PLAIN, messages)
    assert end is End.DRAINED
    assert {outcome.fate for outcome in outcomes} == {Fate.ACCEPTED}
    kept = mta.kept(len(messages))
    assert len(kept) == len(messages)
    for raw in kept:
        head = raw.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
        assert len(re.findall(rb"^Subject:", head, re.M)) == len(re.findall(rb"^To:", head, re.M)) == 1
        assert not re.search(rb"^(?:MAIL FROM|RCPT TO|DATA|Bcc|Cc)", head, re.M | re.I)


def test_whole_run_through_a_protected_relay(
    mta: Mta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    security = Security.STARTTLS if Security.STARTTLS in mta.ports else Security.PLAIN
    relay = mta.relay(security)
    login = f'user = "{relay.user}"\npassword = "{PASSWORD}"\n' if relay.user else ""
    folder = Folder(
        tmp_path / "news",
        f'[relays.mta]\nhost = "127.0.0.1"\nport = {relay.port}\nsecurity = "{security.value}"\n{login}'
        'connections = 3\n[web]\npublic_url = "https://news.example.org"\n',
    )
    folder.subscribe(60)
    monkeypatch.setenv("SSL_CERT_FILE", str(mta.certificate))
    ran = folder.mailer("send", "1", "--yes")
    assert (ran.code, folder.books()["sent"]) == (0, 60), ran.err
    kept = mta.kept(60)
    found = {match[1] for raw in kept if (match := re.search(rb"^To: .*<(s\d+@example\.com)>", raw, re.M))}
    assert (len(kept), len(found)) == (60, 60)
