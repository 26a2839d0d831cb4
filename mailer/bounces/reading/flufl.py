"""flufl.bounce as one voter: asked where our own rules found no recipient."""

from __future__ import annotations

from email import message_from_bytes, policy
from typing import Final

from flufl.bounce import all_failures

from mailer.bounces.reading.dsn import clean_address

# Its parser is the standard library's, which recurses: deeper or longer mails are not shown to it.
_MAX_OCTETS: Final = 256 << 10
_MAX_BOUNDARIES: Final = 40


def vote(raw: bytes) -> list[str]:
    """Return the addresses that flufl.bounce finds, in alphabetical order, or none if it fails."""
    if (
        len(raw) > _MAX_OCTETS
        or raw.lower().count(b"boundary=") > _MAX_BOUNDARIES
        or raw[:8192].count(b"(") > 200
    ):
        return []
    try:
        temporary, permanent = all_failures(message_from_bytes(raw, policy=policy.compat32))
    except Exception:  # It raises IndexError without a From and others on broken mail; then it has no vote.
        return []
    found = {clean_address(address.decode("utf-8", "replace")) for address in [*temporary, *permanent]}
    return sorted(address for address in found if "@" in address)
