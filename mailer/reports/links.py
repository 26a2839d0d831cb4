"""The tracked links of an issue."""

from __future__ import annotations

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from mailer.database.models import StoredEdition


class _Links(msgspec.Struct):
    """The part of an edition's JSON that is read here."""

    links: tuple[str, ...]


def links_of(session: Session, digest: str) -> tuple[str, ...]:
    """Return the addresses of an edition's tracked links; events know a link by its place here.

    Each edition of an issue begins with the links of the one before, so the newest has all of them.
    """
    content = session.scalars(select(StoredEdition.content).where(StoredEdition.digest == digest)).one()
    return msgspec.json.decode(content, type=_Links).links
