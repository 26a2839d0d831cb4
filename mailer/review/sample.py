"""An issue for a single reader: rendered to files, or sent as a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import uvloop

from mailer.address import parse_address
from mailer.audience.subscribers import find
from mailer.config import Settings
from mailer.database.engine import Database
from mailer.database.tables import Subscriber
from mailer.delivery import dispatch, editions
from mailer.delivery.clock import now
from mailer.errors import ConfigError, RelayError
from mailer.rendering.edition import Edition
from mailer.rendering.recipient import Recipient
from mailer.review import linting
from mailer.review.filling import everybody
from mailer.review.viewing import Rendered, rendered
from mailer.smtp.session import Attempt, Fate, Outgoing


def render(settings: Settings, path: Path, *, reader: Recipient = linting.READER) -> Rendered:
    """Render an issue for a reader. Links lead nowhere, and the same input always gives the same octets."""
    edition = editions.build(settings, path)
    message = linting.sample_message(settings, edition, reader)
    return rendered(edition, message, public_url=settings.web.public_url)


def reader_at(database: Database, address: str) -> Recipient:
    """Return the subscriber with an address, as templates see them; raise `ConfigError` if there is none."""
    with database.reading() as connection:
        known = find(connection, parse_address(address))
        if known is None:
            raise ConfigError(
                f"{address}: no such subscriber",
                remedy="list the subscribers with: mailer subscribers list; or leave out --as",
            )
        return next(everybody(connection, Subscriber.c.id == known.id))


def send_test(
    settings: Settings, edition: Edition, reader: Recipient, *, say: Callable[[str], None] | None = None
) -> None:
    """Send an issue to one address, bypassing queue and books. Links lead nowhere.

    `say` gets a line when the relay does not answer for a while.

    Raises `RelayError` with the server's reply if it is refused, and `RecipientError` if the reader lacks
    a field.
    """
    composer = editions.composer(settings, edition, editions.ANY_ISSUE, editions.POWERLESS)
    message = composer.compose(reader, now())
    outgoing = Outgoing(0, message.envelope, message.parts, wire_safe=True)
    domain = parse_address(reader.email).domain
    outcome = uvloop.run(dispatch.deliver_once(settings, outgoing, domain, say=say))
    if outcome.fate is not Fate.ACCEPTED:
        raise RelayError(f"{reader.email}: {_said(outcome)}", remedy="check the address and [relays]")


def _said(outcome: Attempt) -> str:
    if outcome.reply is not None:
        return f"{outcome.reply.code} {outcome.reply.enhanced} {outcome.reply.text}"
    return outcome.problem or outcome.fate.value
