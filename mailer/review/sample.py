"""An issue as one reader gets it: rendered to look at, or sent to one address as a test."""

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
from mailer.review.linting import sample_message
from mailer.review.viewing import viewed
from mailer.smtp.session import Attempt, Fate, Outgoing

READER = Recipient(subscriber_id=0, email="reader@example.org", name="Reader", attributes={}, tags=())


@dataclass(frozen=True, slots=True)
class Rendered:
    """An issue as one reader gets it."""

    slug: str
    html: str
    """To look at in a browser: images that the message carries stand in it as data."""
    text: str
    message: bytes


def render(settings: Settings, path: Path, *, reader: Recipient = READER) -> Rendered:
    """Render an issue as `reader` gets it; links lead nowhere.

    The same input gives the same octets: the date is the issue's own.
    """
    edition = editions.build(settings, path)
    message = sample_message(settings, edition, reader)
    seen = viewed(edition, message, public_url=settings.web.public_url)
    return Rendered(edition.slug, seen.html, seen.text, message)


def send_test(settings: Settings, edition: Edition, reader: Recipient) -> None:
    """Send an issue to one address; nothing is queued, no books are kept, and its links lead nowhere.

    Raises `RelayError` with the server's words if it is not taken, and `RecipientError` when the reader
    lacks a field.
    """
    composer = editions.composer(settings, edition, editions.ANY_ISSUE, editions.POWERLESS)
    message = composer.compose(reader, now())
    outgoing = Outgoing(0, message.envelope, message.content, wire_safe=True)
    domain = parse_address(reader.email).domain
    outcome = uvloop.run(dispatch.deliver_once(settings, outgoing, domain))
    if outcome.fate is not Fate.ACCEPTED:
        raise RelayError(f"{reader.email}: {_said(outcome)}", remedy="look at the address and at [relays]")


def _said(outcome: Attempt) -> str:
    if outcome.reply is not None:
        return f"{outcome.reply.code} {outcome.reply.enhanced} {outcome.reply.text}"
    return outcome.problem or outcome.fate.value
