"""CPU time to make one message from an issue that is rendered already, unsigned and DKIM-signed.

The peer does it the usual way: compiled Jinja templates rendered for each
subscriber, and the standard library's EmailMessage around the result, with the same headers. Both are
given the same 60 KB of HTML and 40 KB of text with 20 slots, and the same subscribers. The figure is
the best of several rounds in turn, since other work on the machine can only add to it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP

import jinja2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from benchmarks import Figure
from mailer.config import Newsletter
from mailer.rendering.edition import Edition
from mailer.rendering.message import Composer, Dkim, Recipient
from mailer.smtp import dkim
from mailer.tokens import Signer, Subject

_AT = datetime(2026, 3, 4, 10, 0, tzinfo=UTC)
_PROSE = (
    "the week brought smaller models longer contexts and a careful look at what a benchmark measures "
    "while two laboratories published the data behind their claims and a third withdrew its own"
)
_WORDS = _PROSE.split()
_SIGNER = Signer([b"a secret for this benchmark only"])


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the number of messages per round, and of rounds."""
    parser.add_argument("--compose-messages", type=int, default=40, help="messages a round (40)")
    parser.add_argument(
        "--compose-rounds", type=int, default=250, help="rounds, of which the best counts (250)"
    )


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield the cost of a message in microseconds of CPU."""
    edition = padded_issue()
    recipients = [
        Recipient(100_000 + number, f"reader{number}@example.net", f"Reader {number}")
        for number in range(options.compose_messages)
    ]
    composer = composer_of(edition, None)
    peer = Peer(edition)
    few = recipients[: max(1, len(recipients) // 100)]
    ours, plain = _best(
        options.compose_rounds, (lambda r: composer.compose(r, _AT).content, recipients), (peer.compose, few)
    )
    yield Figure(
        "compose", "CPU a message, 60 KB HTML and 40 KB text", ours, plain, plain / ours,
        "ours <= 60 us", ours <= 60, "us",
    )  # fmt: skip
    key = generate_private_key(public_exponent=65537, key_size=2048)
    signer = dkim.DkimSigner([dkim.SigningKey("example.org", "mail", key)])
    signing = composer_of(edition, Dkim(dkim.relaxed_lines, signer.sign_digest))
    body = composer.compose(recipients[0], _AT).content
    some = recipients[: max(1, len(recipients) // 5)]
    signed, unsigned, openssl = _best(
        options.compose_rounds,
        (lambda r: signing.compose(r, _AT).content, some),
        (lambda r: composer.compose(r, _AT).content, some),
        (lambda _: key.sign(body, padding.PKCS1v15(), hashes.SHA256()), some),
    )
    added = signed - unsigned
    yield Figure(
        "compose", "CPU that DKIM (RSA-2048) adds a message", added, openssl, added / openssl,
        "<= 1.2 of OpenSSL hashing and signing it", added / openssl <= 1.2, "us",
    )  # fmt: skip


def padded_issue() -> Edition:
    """Return an edition of 60 KB of HTML and 40 KB of text: 15 tracked links, name, links, image."""
    sentences = [" ".join(_WORDS[at:] + _WORDS[:at]).capitalize() + "." for at in range(len(_WORDS))]
    blocks = [
        f'<tr><td style="font-family:Georgia,serif;font-size:16px;padding:0 24px">\n  <p>{sentence}'
        f' <a href="{{{{ urls.click }}}}/{number}" style="color:#0b6e4f">Read on</a></p>\n</td></tr>\n'
        for number, sentence in enumerate(sentences[:15])
    ]
    filling = "".join(f"<tr><td><p>{sentence}</p></td></tr>\n" for sentence in sentences)
    html = (
        '<!DOCTYPE html>\n<html lang="en"><body><table>\n<tr><td>Hello '
        '{{ subscriber.name | default("reader") }},</td></tr>\n' + "".join(blocks)
    )
    while len(html) < 60_000 - 300:
        html += filling[: 60_000 - 300 - len(html)]
    html += (
        '<a href="{{ urls.unsubscribe }}">Unsubscribe</a> <a href="{{ urls.preferences }}">Preferences</a>'
        '<img src="{{ urls.open }}" alt=""></table></body></html>\n'
    )
    wrapped = "\n".join(sentence[at : at + 72].strip() for sentence in sentences for at in range(0, 216, 72))
    text = "Hello {{ subscriber.name | default('reader') }},\n\n"
    while len(text) < 40_000:
        text += wrapped[: 40_000 - len(text)] + "\n"
    text += "Unsubscribe: {{ urls.unsubscribe }}\n"
    return Edition(
        slug="007-padded", title="Padded", subtitle="", author="", date="2026-03-04", number=7, tags=(),
        subject="The week, padded", preheader="", html=html, text=text,
        links=tuple(f"https://example.com/{number}" for number in range(15)), images=(), made_of={},
    )  # fmt: skip


class Peer:
    """Renders Jinja templates and builds an EmailMessage for each subscriber."""

    def __init__(self, edition: Edition) -> None:
        self._subject = edition.subject
        self._text = jinja2.Environment(autoescape=False).from_string(edition.text)
        self._html = jinja2.Environment(autoescape=True).from_string(edition.html)

    def compose(self, recipient: Recipient) -> bytes:
        """Return the octets of one message."""
        token = _SIGNER.link(Subject(7, recipient.subscriber_id))
        path = _SIGNER.return_path(Subject(7, recipient.subscriber_id))
        base = "https://news.example.org"
        names = ("unsubscribe", "preferences", "click", "open", "view")
        urls = {name: f"{base}/{name[0]}/{token}" for name in names}
        message = EmailMessage(policy=SMTP)
        message["Date"] = _AT
        message["From"] = "The Week <ada@example.org>"
        message["To"] = f"{recipient.name} <{recipient.email}>"
        message["Subject"] = self._subject
        message["Message-ID"] = f"<{path}@example.org>"
        message["List-Id"] = "<the-week.example.org>"
        message["List-Unsubscribe"] = f"<{urls['unsubscribe']}>, <mailto:leave@example.org?subject={token}>"
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        message["Feedback-ID"] = "007-padded:all:weekly:exampleorg"
        values = {"subscriber": {"name": recipient.name}, "urls": urls}
        message.set_content(self._text.render(values), cte="quoted-printable")
        message.add_alternative(self._html.render(values), subtype="html", cte="quoted-printable")
        return message.as_bytes()


def composer_of(edition: Edition, signing: Dkim | None) -> Composer:
    """Return a composer for an edition, signing or not."""
    return Composer(
        edition,
        issue_id=7,
        newsletter=Newsletter(name="The Week", author_address="ada@example.org"),
        public_url="https://news.example.org",
        bounce_domain="bounce.example.org",
        unsubscribe_address="leave@example.org",
        signer=_SIGNER,
        dkim=signing,
    )


def _best(rounds: int, *sides: tuple[Callable[[Recipient], object], list[Recipient]]) -> list[float]:
    """Return, for each side, the least CPU time of one call in microseconds; the sides take turns."""
    best = [float("inf")] * len(sides)
    for _ in range(rounds):
        for at, (call, recipients) in enumerate(sides):
            began = time.process_time_ns()
            for recipient in recipients:
                call(recipient)
            best[at] = min(best[at], (time.process_time_ns() - began) / 1000 / len(recipients))
    return best
