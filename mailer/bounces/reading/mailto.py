"""Unsubscribing by mail: List-Unsubscribe's `mailto:` and its token (RFC 2369)."""

from __future__ import annotations

import re
from typing import Final

from mailer.bounces.reading.mime import decoded_words, read_mail
from mailer.errors import TokenError
from mailer.tokens import Signer, Subject

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{16,80}")
_TO_FIELDS: Final = ("to", "delivered-to", "x-original-to", "envelope-to", "cc")


def who_asks(signer: Signer, raw: bytes, address: str) -> Subject | None:
    """Return whom a mail to our unsubscribe address takes off, by the link token that it carries.

    The token stands in the subject, or after a plus in the address. Whoever holds it may unsubscribe,
    from whatever address they write. None for a mail to another address or without a token of ours.
    """
    local, _, domain = address.rpartition("@")
    if not local:
        return None
    headers, _ = read_mail(raw)
    ours = re.compile(
        rf"(?<![\w.+-]){re.escape(local)}(?:\+([\w-]+))?@{re.escape(domain)}(?![\w-])", re.IGNORECASE
    )
    found = ours.search("\n".join(headers.all(*_TO_FIELDS))[:65_536])
    if found is None:
        return None
    for token in [found[1] or "", *_TOKEN.findall(decoded_words(headers.get("subject"))[:2000])]:
        try:
            return signer.read_link(token)
        except TokenError:
            continue
    return None
