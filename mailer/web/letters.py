"""The mail that asks whether an address is its owner's wish; sent at once, outside of any queue."""

from __future__ import annotations

from functools import cached_property

import uvloop

from mailer.address import parse_address
from mailer.config import Settings
from mailer.delivery import dispatch
from mailer.delivery.sender import now
from mailer.delivery.smtp import Fate, Outgoing
from mailer.errors import RelayError
from mailer.rendering.build import build_letter
from mailer.rendering.message import Composer, Recipient
from mailer.tokens import Signer


class Confirmations:
    """Sends confirmation letters through the relays, or to the outbox where there is none."""

    def __init__(self, settings: Settings, signer: Signer) -> None:
        self._settings = settings
        self._signer = signer

    @cached_property
    def _composer(self) -> Composer:
        settings = self._settings
        letter = build_letter(
            "confirmation",
            settings.newsletter,
            settings.brand,
            settings.path(settings.paths.templates),
            public_url=settings.web.public_url,
        )
        return dispatch.composer(settings, letter, 0, self._signer, letter=True)

    def send(self, recipient: Recipient) -> None:
        """Send the letter to one person; raise `RelayError` if no relay takes it now."""
        message = self._composer.compose(recipient, now())
        outgoing = Outgoing(0, message.envelope, message.content, wire_safe=True)
        domain = parse_address(recipient.email).domain
        outcome = uvloop.run(dispatch.deliver_once(self._settings, outgoing, domain))
        if outcome.fate is not Fate.ACCEPTED:
            raise RelayError(f"a confirmation letter was not taken: {outcome.problem or outcome.fate.value}")
