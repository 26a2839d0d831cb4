"""Reports are kept as they came, before anything is done with them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from mailer.database.models import StoredReport
from mailer.database.session import Database

STORED: Final = "stored"
"""The outcome of what has not been read yet."""


def store(database: Database, raws: Sequence[bytes], *, source: str, at: datetime) -> list[int]:
    """Keep reports as they came and return their numbers; the same octets have the same number."""
    try:
        with database.transaction() as session:
            return [insert_report(session, raw, source=source, at=at) for raw in raws]
    except IntegrityError:
        # Another fetch brought one of these mails between our look and our insert.
        with database.transaction() as session:
            return [insert_report(session, raw, source=source, at=at) for raw in raws]


def insert_report(session: Session, raw: bytes, *, source: str, at: datetime) -> int:
    """Keep one report in the caller's transaction and return its number."""
    digest = hashlib.sha256(raw).hexdigest()
    known = session.scalar(select(StoredReport.id).where(StoredReport.digest == digest))
    if known is not None:
        return known
    stored = StoredReport(
        received_at=at, source=source, digest=digest, raw=raw, kind="", details={},
        outcome=STORED,
    )  # fmt: skip
    session.add(stored)
    session.flush()
    return stored.id
