"""API tokens with scopes. The database keeps only their hashes.

A token is `mlr_ID_SECRET`. The ID finds the row and is not secret; the SHA-256 of the secret is compared in
constant time. The secret has 256 random bits, so a slow hash would add nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, insert, select, update

from mailer.database.tables import ApiToken, TableRow
from mailer.errors import SourceError

_FORM: Final = re.compile(r"mlr_([1-9][0-9]{0,17})_([A-Za-z0-9_-]{43})")
_NOBODY: Final = "0" * 64
# Recorded to the hour: writing on every request would cost more than it is worth.
_USE_NOTED_EVERY: Final = timedelta(hours=1)
_MAX_NAME: Final = 64


class Scope(StrEnum):
    """The permission of a token."""

    READ = "subscribers:read"
    SUBSCRIBE = "subscribers:subscribe"
    """Request a confirmation letter; this does not show who is subscribed."""
    IMPORT = "subscribers:import"
    """Add people who agreed elsewhere, without a confirmation letter."""
    WRITE = "subscribers:write"
    """Change and unsubscribe."""
    ERASE = "subscribers:erase"
    READ_ISSUES = "issues:read"
    WRITE_ISSUES = "issues:write"
    """Create and change the files of issues."""
    SEND_ISSUES = "issues:send"
    """Schedule issues and send them to their audience."""
    READ_STATS = "stats:read"
    SEND_MESSAGES = "messages:send"
    """Send a message to one subscriber."""
    READ_METRICS = "metrics:read"
    """Read the gauges for monitoring, which name issues but no people."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret."""

    id: int
    name: str
    scopes: frozenset[Scope]
    created_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None


def create(connection: Connection, name: str, scopes: Iterable[Scope], *, at: datetime) -> tuple[Token, str]:
    """Make a token; return it and its text, which is not stored and cannot be shown again."""
    name = name.strip()
    if not name or len(name) > _MAX_NAME or not name.isprintable():
        raise SourceError(f"a token's name has 1 to {_MAX_NAME} printable characters")
    secret = secrets.token_urlsafe(32)
    values = {
        "name": name,
        "digest": _digest(secret),
        "scopes": " ".join(sorted(set(scopes))),
        "created_at": at,
    }
    stored = connection.execute(insert(ApiToken).values(values).returning(ApiToken)).one()
    return _token(stored), f"mlr_{stored.id}_{secret}"


def tokens(connection: Connection) -> list[Token]:
    """Return all tokens, revoked ones included, oldest first."""
    return [_token(stored) for stored in connection.execute(select(ApiToken).order_by(ApiToken.c.id))]


def revoke(connection: Connection, token_id: int, *, at: datetime) -> bool:
    """Revoke a token immediately; return False if it was revoked before. Raises `SourceError`."""
    stored = _stored(connection, token_id)
    if stored is None:
        raise SourceError(f"there is no token {token_id}", remedy="list the tokens with: mailer tokens list")
    if stored.revoked_at is not None:
        return False
    connection.execute(update(ApiToken).where(ApiToken.c.id == token_id).values(revoked_at=at))
    return True


def check(connection: Connection, text: str) -> Token | None:
    """Return the token with this text, or None if it is malformed, unknown, wrong or revoked."""
    found = _FORM.fullmatch(text)
    stored = None if found is None else _stored(connection, int(found[1]))
    right = hmac.compare_digest(_digest(found[2] if found else text), stored.digest if stored else _NOBODY)
    return _token(stored) if stored is not None and right and stored.revoked_at is None else None


def needs_note(token: Token, at: datetime) -> bool:
    """Return whether `note_use` should write."""
    return token.used_at is None or at - token.used_at >= _USE_NOTED_EVERY


def note_use(connection: Connection, token: Token, at: datetime) -> None:
    """Record that a token was used."""
    connection.execute(update(ApiToken).where(ApiToken.c.id == token.id).values(used_at=at))


def _stored(connection: Connection, token_id: int) -> TableRow | None:
    return connection.execute(select(ApiToken).where(ApiToken.c.id == token_id)).one_or_none()


def _token(stored: TableRow) -> Token:
    return Token(
        id=stored.id,
        name=stored.name,
        scopes=frozenset(Scope(scope) for scope in stored.scopes.split()),
        created_at=stored.created_at,
        used_at=stored.used_at,
        revoked_at=stored.revoked_at,
    )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
