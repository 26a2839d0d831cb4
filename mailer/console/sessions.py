"""Logins to the console. The database keeps only hashes of the secrets in links and cookies."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from mailer.console.users import LOCAL_NAME, Role
from mailer.database.models import ConsoleSession, ConsoleUser

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


def make_link(session: Session, *, at: datetime) -> str:
    """Return the secret of a link that logs the person at this machine in, once, as an admin."""
    return _make(session, _LINK, None, "", at=at, lifetime=LINK_LIFETIME)


def use_link(session: Session, secret: str, agent: str, *, at: datetime, lifetime: timedelta) -> str | None:
    """Return the secret of a new session if this link is fresh and unused, or None."""
    spent = delete(ConsoleSession).where(
        ConsoleSession.digest == digest(secret),
        ConsoleSession.kind == _LINK,
        ConsoleSession.expires_at > at,
    )
    # The request that deletes the row may use the link; a simultaneous one finds no row.
    if session.execute(spent.returning(ConsoleSession.digest)).first() is None:
        return None
    return _make(session, _SESSION, None, agent, at=at, lifetime=lifetime)


def open_session(session: Session, user_id: int, agent: str, *, at: datetime, lifetime: timedelta) -> str:
    """Return the secret of a new session of a user who has just logged in."""
    return _make(session, _SESSION, user_id, agent, at=at, lifetime=lifetime)


def visitor_of(session: Session, session_digest: str, agent: str, *, at: datetime) -> Visitor | None:
    """Return who a session belongs to; None if it has ended or another browser presents it."""
    row = session.execute(
        select(ConsoleSession, ConsoleUser.name, ConsoleUser.role)
        .outerjoin(ConsoleUser, ConsoleUser.id == ConsoleSession.user_id)
        .where(
            ConsoleSession.digest == session_digest,
            ConsoleSession.kind == _SESSION,
            ConsoleSession.expires_at > at,
            ConsoleSession.agent == digest(agent),
        )
    ).first()
    if row is None:
        return None
    stored, name, role = row
    return Visitor(
        name or LOCAL_NAME,
        Role(role or Role.ADMIN),
        stored.digest,
        stored.created_at,
        stored.expires_at,
    )


def close_session(session: Session, session_digest: str) -> None:
    """End a session."""
    session.execute(delete(ConsoleSession).where(ConsoleSession.digest == session_digest))


def digest(secret: str) -> str:
    """Return the SHA-256 of a secret, as it is stored. Secrets are random, so no slow hash is needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _make(
    session: Session, kind: str, user_id: int | None, agent: str, *, at: datetime, lifetime: timedelta
) -> str:
    session.execute(delete(ConsoleSession).where(ConsoleSession.expires_at <= at))
    secret = secrets.token_urlsafe(32)
    session.add(
        ConsoleSession(
            digest=digest(secret),
            kind=kind,
            user_id=user_id,
            agent=digest(agent) if kind == _SESSION else "",
            created_at=at,
            expires_at=at + lifetime,
        )
    )
    session.flush()
    return secret
