"""Ask flufl.bounce about messages in which our own rules find no recipient."""

from __future__ import annotations

import logging
from email import message_from_bytes, policy
from typing import Final

from flufl.bounce import all_failures

from mailer.bounces.reading.dsn import clean_address
from mailer.bounces.reading.mime import with_plain_line_ends

# It uses the standard library's recursive parser and patterns that are quadratic in the length of a line, so
# deeply nested messages are skipped, and long lines and messages are cut.
_MAX_OCTETS: Final = 64 << 10
_MAX_LINE: Final = 998
_MAX_LINES: Final = 1500
_MAX_BOUNDARIES: Final = 40
# It logs a traceback for each message that one of its detectors cannot read.
logging.getLogger("flufl.bounce").setLevel(logging.CRITICAL)


def vote(raw: bytes) -> list[str]:
    """Return the addresses that flufl.bounce finds, in alphabetical order, or none if it fails."""
    lines = with_plain_line_ends(raw[:_MAX_OCTETS]).split(b"\n", _MAX_LINES)
    raw = b"\n".join(line[:_MAX_LINE] for line in lines[:_MAX_LINES])
    if raw.lower().count(b"boundary=") > _MAX_BOUNDARIES or raw[:8192].count(b"(") > 200:
        return []
    try:
        temporary, permanent = all_failures(message_from_bytes(raw, policy=policy.compat32))
    except Exception:  # It raises IndexError without a From field, and other errors on malformed messages.
        return []
    found = {clean_address(address.decode("utf-8", "replace")) for address in [*temporary, *permanent]}
    return sorted(address for address in found if "@" in address)
