"""The words of the forms by which people agreed to something, each wording kept once (GDPR 7)."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from mailer.database.models import to_microseconds

# Both databases say it like this; two servers may meet a new wording at once.
_KEEP: Final = text(
    "INSERT INTO wordings (version, text, first_at) VALUES (:version, :text, :first_at) "
    "ON CONFLICT (version) DO NOTHING"
)


def version_of(wording: str) -> str:
    """Return what tells one wording from another: the beginning of its SHA-256; nothing for no words."""
    return hashlib.sha256(wording.encode()).hexdigest()[:16] if wording else ""


def keep(session: Session, wording: str, *, at: datetime) -> None:
    """Keep a wording, if it is a new one, so that its version can be read in the ledger."""
    if wording:
        values = {"version": version_of(wording), "text": wording, "first_at": to_microseconds(at)}
        session.execute(_KEEP, values)
