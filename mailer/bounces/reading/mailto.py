"""Unsubscribing by email: List-Unsubscribe's `mailto:` and its token (RFC 2369)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from mailer.bounces.reading.mime import Headers
from mailer.errors import TokenError
from mailer.tokens import Signer, Subject

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{16,80}")
_TO_FIELDS: Final = ("to", "delivered-to", "x-original-to", "envelope-to", "cc")
_MAX_OCTETS: Final = 65_536
_MAX_SUBJECT: Final = 2_000


@dataclass(frozen=True, slots=True)
class MailtoRequest:
    """The parts of a message that may ask to unsubscribe."""

    sent_to: str = ""
    """The values of its address fields, one a line."""
    tokens: tuple[str, ...] = ()
    """A possible link token in its subject."""


NO_REQUEST: Final = MailtoRequest()


def read_request(headers: Headers, subject: str) -> MailtoRequest:
    """Return the parts of a message that `find_subject` needs; `subject` is decoded."""
    tokens = tuple(_TOKEN.findall(subject[:_MAX_SUBJECT]))
    return MailtoRequest("\n".join(headers.all(*_TO_FIELDS))[:_MAX_OCTETS], tokens)


def find_subject(signer: Signer, request: MailtoRequest, address: str) -> Subject | None:
    """Return the person to unsubscribe for a message to `address`, our unsubscribe address.

    The token that names them is in the subject, or in the address after a plus sign. A valid token is
    enough, whatever address the message was sent from. Returns None for a message to another address or
    without a valid token.
    """
    local, _, domain = address.rpartition("@")
    if not local:
        return None
    ours = re.compile(
        rf"(?<![\w.+-]){re.escape(local)}(?:\+([\w-]+))?@{re.escape(domain)}(?![\w-])", re.IGNORECASE
    )
    found = ours.search(request.sent_to)
    if found is None:
        return None
    for token in (found[1] or "", *request.tokens):
        try:
            return signer.read_link(token)
        except TokenError:
            continue
    return None
