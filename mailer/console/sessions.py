"""Logins to the console. The database keeps only hashes of the secrets in links and cookies."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from mailer.console.users import LOCAL_NAME, Role
from mailer.database.tables import ConsoleSession, ConsoleUser

LINK_LIFETIME: Final = timedelta(minutes=15)
_LINK: Final = "link"
_SESSION: Final = "session"


@dataclass(frozen=True, slots=True)
class Visitor:
    """A person who is logged in."""

    name: str
    role: Role
    digest: str
    """Identifies the session."""
    opened_at: datetime
    expires_at: datetime


def make_link(connection: Connection, *, at: datetime) -> str:
    """Return the secret of a link that logs the person at this machine in, once, as an admin."""
    return _make(connection, _LINK, None, "", at=at, lifetime=LINK_LIFETIME)


def use_link(
    connection: Connection, secret: str, agent: str, *, at: datetime, lifetime: timedelta
) -> str | None:
    """Return the secret of a new session if this link is fresh and unused, or None."""
    spent = delete(ConsoleSession).where(
        ConsoleSession.c.digest == digest(secret),
        ConsoleSession.c.kind == _LINK,
        ConsoleSession.c.expires_at > at,
    )
    # The request that deletes the row may use the link; a simultaneous one finds no row.
    if connection.execute(spent.returning(ConsoleSession.c.digest)).first() is None:
        return None
    return _make(connection, _SESSION, None, agent, at=at, lifetime=lifetime)


def open_session(
    connection: Connection, user_id: int, agent: str, *, at: datetime, lifetime: timedelta
) -> str:
    """Return the secret of a new session of a user who has just logged in."""
    return _make(connection, _SESSION, user_id, agent, at=at, lifetime=lifetime)


def visitor_of(connection: Connection, session_digest: str, agent: str, *, at: datetime) -> Visitor | None:
    """Return who a session belongs to; None if it has ended or another browser presents it."""
    row = connection.execute(
        select(
            ConsoleUser.c.name,
            ConsoleUser.c.role,
            ConsoleSession.c.digest,
            ConsoleSession.c.created_at,
            ConsoleSession.c.expires_at,
        )
        .select_from(ConsoleSession)
        .outerjoin(ConsoleUser, ConsoleUser.c.id == ConsoleSession.c.user_id)
        .where(
            ConsoleSession.c.digest == session_digest,
            ConsoleSession.c.kind == _SESSION,
            ConsoleSession.c.expires_at > at,
            ConsoleSession.c.agent == digest(agent),
        )
    ).first()
    if row is None:
        return None
    return Visitor(
        row.name or LOCAL_NAME,
        Role(row.role or Role.ADMIN),
        row.digest,
        row.created_at,
        row.expires_at,
    )


def close_session(connection: Connection, session_digest: str) -> None:
    """End a session."""
    connection.execute(delete(ConsoleSession).where(ConsoleSession.c.digest == session_digest))


def digest(secret: str) -> str:
    """Return the SHA-256 of a secret, as it is stored. Secrets are random, so no slow hash is needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _make(
    connection: Connection, kind: str, user_id: int | None, agent: str, *, at: datetime, lifetime: timedelta
) -> str:
    connection.execute(delete(ConsoleSession).where(ConsoleSession.c.expires_at <= at))
    secret = secrets.token_urlsafe(32)
    connection.execute(
        insert(ConsoleSession).values(
            digest=digest(secret),
            kind=kind,
            user_id=user_id,
            agent=digest(agent) if kind == _SESSION else "",
            created_at=at,
            expires_at=at + lifetime,
        )
    )
    return secret
