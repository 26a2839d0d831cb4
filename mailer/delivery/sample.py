"""An issue as one reader gets it: rendered to look at, or sent to one address as a test."""

from __future__ import annotations

import base64
import email
import email.policy
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import uvloop

from mailer.address import parse_address
from mailer.config import Settings
from mailer.delivery import dispatch
from mailer.delivery.sender import now
from mailer.delivery.smtp import Fate, Outcome, Outgoing
from mailer.errors import RelayError
from mailer.rendering.edition import Edition
from mailer.rendering.message import Recipient
from mailer.tokens import Signer

READER = Recipient(subscriber_id=0, email="reader@example.org", name="Reader", attributes={}, tags=())
_NO_DATE = datetime(2000, 1, 1, tzinfo=UTC)


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
    edition = dispatch.build(settings, path)
    composer = dispatch.composer(settings, edition, dispatch.ANY_ISSUE, dispatch.POWERLESS)
    at = datetime.fromisoformat(edition.date).replace(tzinfo=UTC) if edition.date else _NO_DATE
    content = composer.compose(reader, at).content
    parsed = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    html = _part(parsed, "html")
    for image in edition.images:
        # In the message they travel as parts of their own; a browser that opens the file has no parts.
        data = base64.b64encode(image.content).decode("ascii")
        html = html.replace(f"cid:{image.content_id}", f"data:{image.media_type};base64,{data}")
    return Rendered(edition.slug, html, _part(parsed, "plain"), content)


def send_test(settings: Settings, edition: Edition, address: str, signer: Signer) -> None:
    """Send an issue to one address; nothing is queued and no books are kept.

    Raises `RelayError` with the server's words if it is not taken.
    """
    parsed = parse_address(address)
    reader = Recipient(subscriber_id=0, email=str(parsed), name="", attributes={}, tags=())
    message = dispatch.composer(settings, edition, dispatch.ANY_ISSUE, signer).compose(reader, now())
    outgoing = Outgoing(0, message.envelope, message.content, wire_safe=True)
    outcome = uvloop.run(dispatch.deliver_once(settings, outgoing, parsed.domain))
    if outcome.fate is not Fate.ACCEPTED:
        raise RelayError(f"{address}: {_said(outcome)}", remedy="look at the address and at [relays]")


def _said(outcome: Outcome) -> str:
    if outcome.reply is not None:
        return f"{outcome.reply.code} {outcome.reply.enhanced} {outcome.reply.text}"
    return outcome.problem or outcome.fate.value


def _part(message: EmailMessage, kind: str) -> str:
    part = message.get_body(preferencelist=(kind,))
    assert isinstance(part, EmailMessage)
    content: str = part.get_content()
    return content
