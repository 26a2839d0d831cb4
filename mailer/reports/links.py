"""The tracked links of an issue."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, select

from mailer.database.tables import StoredEdition


class _Links(msgspec.Struct):
    """The part of an edition's JSON that is read here."""

    links: tuple[str, ...]


def links_of(connection: Connection, digest: str) -> tuple[str, ...]:
    """Return the addresses of an edition's tracked links; events know a link by its place here.

    Each edition of an issue begins with the links of the one before, so the newest has all of them.
    """
    content = connection.scalars(
        select(StoredEdition.c.content).where(StoredEdition.c.digest == digest)
    ).one()
    return msgspec.json.decode(content, type=_Links).links
