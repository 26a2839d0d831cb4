"""The wordings of consent forms, each stored once (GDPR 7)."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, text

from mailer.database.columns import to_microseconds

# Valid in both databases; two servers may store a new wording at the same time.
_KEEP: Final = text(
    "INSERT INTO wordings (version, text, first_at) VALUES (:version, :text, :first_at) "
    "ON CONFLICT (version) DO NOTHING"
)


def version_of(wording: str) -> str:
    """Return the version of a wording: the first 16 hex digits of its SHA-256; empty for no wording."""
    return hashlib.sha256(wording.encode()).hexdigest()[:16] if wording else ""


def keep(connection: Connection, wording: str, *, at: datetime) -> None:
    """Store a wording if it is new, so that its version in the ledger can be looked up."""
    if wording:
        values = {"version": version_of(wording), "text": wording, "first_at": to_microseconds(at)}
        connection.execute(_KEEP, values)
