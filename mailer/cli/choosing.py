"""The subscriber named by an option."""

from __future__ import annotations

from mailer.address import parse_address
from mailer.audience.subscribers import find
from mailer.cli.app import App
from mailer.database.models import Subscriber
from mailer.errors import ConfigError
from mailer.rendering.message import Recipient
from mailer.review.filling import everybody


def subscriber(app: App, address: str) -> Recipient:
    """Return the subscriber with an address, as templates see them; raise `ConfigError` if there is none."""
    with app.database.reading() as session:
        known = find(session, parse_address(address))
        if known is None:
            raise ConfigError(
                f"{address}: no such subscriber",
                remedy="see: mailer subscribers list; or leave out --as",
            )
        return next(everybody(session, Subscriber.id == known.id))
