"""One message of an issue: rendered to files, or sent to one address as a test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import uvloop

from mailer.address import parse_address
from mailer.config import Settings
from mailer.delivery import dispatch, editions
from mailer.delivery.clock import now
from mailer.errors import RelayError
from mailer.rendering.edition import Edition
from mailer.rendering.message import Recipient
from mailer.review import linting
from mailer.review.viewing import viewed
from mailer.smtp.session import Attempt, Fate, Outgoing


@dataclass(frozen=True, slots=True)
class Rendered:
    """The parts of an issue, rendered for one reader."""

    slug: str
    html: str
    """For a browser: attached images are inlined as data URLs."""
    text: str
    message: bytes


def render(settings: Settings, path: Path, *, reader: Recipient = linting.READER) -> Rendered:
    """Render an issue for a reader. Links lead nowhere, and the same input always gives the same octets."""
    edition = editions.build(settings, path)
    message = linting.sample_message(settings, edition, reader)
    seen = viewed(edition, message, public_url=settings.web.public_url)
    return Rendered(edition.slug, seen.html, seen.text, message)


def send_test(settings: Settings, edition: Edition, reader: Recipient) -> None:
    """Send an issue to one address, bypassing queue and books. Links lead nowhere.

    Raises `RelayError` with the server's reply if it is refused, and `RecipientError` if the reader lacks
    a field.
    """
    composer = editions.composer(settings, edition, editions.ANY_ISSUE, editions.POWERLESS)
    message = composer.compose(reader, now())
    outgoing = Outgoing(0, message.envelope, message.content, wire_safe=True)
    domain = parse_address(reader.email).domain
    outcome = uvloop.run(dispatch.deliver_once(settings, outgoing, domain))
    if outcome.fate is not Fate.ACCEPTED:
        raise RelayError(f"{reader.email}: {_said(outcome)}", remedy="check the address and [relays]")


def _said(outcome: Attempt) -> str:
    if outcome.reply is not None:
        return f"{outcome.reply.code} {outcome.reply.enhanced} {outcome.reply.text}"
    return outcome.problem or outcome.fate.value
