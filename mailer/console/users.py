"""The people who may use the console: their roles, passwords and one-time codes."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Final

import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from mailer.address import parse_address
from mailer.database.tables import ConsoleUser, TableRow
from mailer.errors import RefusedError, SourceError

LOCAL_NAME: Final = "this machine"
"""The name of the person who came by the link that `mailer console` printed."""
MIN_PASSWORD: Final = 12
_MAX_PASSWORD: Final = 256
_MAX_NAME: Final = 64
_STEP_SECONDS: Final = 30
_hasher = PasswordHasher()


class Role(StrEnum):
    """A role; each may do everything that the ones before it may."""

    READER = "reader"
    """Sees everything, changes nothing."""
    EDITOR = "editor"
    """Writes issues, sends tests, and edits subscribers."""
    SENDER = "sender"
    """Sends, schedules, pauses and cancels issues; imports subscribers."""
    ADMIN = "admin"
    """Exports and erases subscribers, lifts suppressions, reads the audit log."""

    def may(self, needed: Role) -> bool:
        """Return whether this role includes another."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class User:
    """A user without secrets."""

    id: int
    name: str
    role: Role
    created_at: datetime
    email: str | None = None
    """By which an OpenID Connect provider knows them."""
    linked: bool = False
    """Whether they have logged in through the provider, and only that account may."""


def add_user(
    connection: Connection, name: str, role: Role, password: str | None, *, email: str = "", at: datetime
) -> tuple[User, str]:
    """Add a user; return it and the secret for the one-time codes, which is not shown again.

    `email` is the address by which an OpenID Connect provider knows them. Without a password, they can
    only log in through that provider, and there is no secret. Raises `SourceError` for an invalid name,
    password or address, and `RefusedError` if name or address is taken.
    """
    name = name.strip()
    if not name or len(name) > _MAX_NAME or not name.isprintable() or name == LOCAL_NAME:
        raise SourceError(f"a user's name has 1 to {_MAX_NAME} printable characters")
    if password is None and not email:
        raise SourceError("a user without a password needs an email address")
    if password is not None and not MIN_PASSWORD <= len(password) <= _MAX_PASSWORD:
        raise SourceError(f"a password has {MIN_PASSWORD} to {_MAX_PASSWORD} characters")
    key = parse_address(email).key if email else None
    for taken, what in ((ConsoleUser.c.name == name, name), (ConsoleUser.c.email == key, email)):
        if what and (other := connection.scalar(select(ConsoleUser.c.name).where(taken))) is not None:
            raise RefusedError(
                f"there is a user '{what}' already",
                remedy=f"remove the old one first with: mailer users remove {other}",
            )
    secret = pyotp.random_base32()
    user_id = connection.execute(
        insert(ConsoleUser)
        .values(
            name=name,
            role=role.value,
            # Nobody knows a random password.
            password=_hasher.hash(password or secrets.token_urlsafe()),
            totp_secret=secret,
            email=key,
            created_at=at,
        )
        .returning(ConsoleUser.c.id)
    ).scalar_one()
    return User(user_id, name, role, at, key), secret if password else ""


def users(connection: Connection) -> list[User]:
    """Return all users by name."""
    return [public(stored) for stored in connection.execute(select(ConsoleUser).order_by(ConsoleUser.c.name))]


def user_named(connection: Connection, name: str) -> User | None:
    """Return the user with this name, or None."""
    return _found(connection, ConsoleUser.c.name == name)


def user_of(connection: Connection, user_id: int) -> User | None:
    """Return the user with this id, or None."""
    return _found(connection, ConsoleUser.c.id == user_id)


def _found(connection: Connection, condition: ColumnElement[bool]) -> User | None:
    stored = connection.execute(select(ConsoleUser).where(condition)).one_or_none()
    return None if stored is None else public(stored)


def remove_user(connection: Connection, name: str) -> User:
    """Remove a user, end their sessions and return them; raise `SourceError` if nobody has this name."""
    found = user_named(connection, name)
    if found is None:
        raise SourceError(f"there is no user '{name}'", remedy="list the users with: mailer users list")
    connection.execute(delete(ConsoleUser).where(ConsoleUser.c.id == found.id))
    return found


def code_url(name: str, secret: str, issuer: str) -> str:
    """Return the otpauth URL that authenticator apps read."""
    return pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=issuer)


def log_in(connection: Connection, name: str, password: str, code: str, *, at: datetime) -> User | None:
    """Return the user if name, password and one-time code are right, or None; a code works once."""
    stored = connection.execute(
        select(ConsoleUser).where(ConsoleUser.c.name == name).with_for_update()
    ).one_or_none()
    # Made for known names too, so that nothing shows which names are known.
    nobody = _nobody()
    right = _verified(stored.password if stored else nobody, password[: _MAX_PASSWORD + 1])
    if stored is None or not right:
        return None
    step = _step_of(stored.totp_secret, code.replace(" ", ""), at)
    if step is None or step <= stored.totp_step:
        return None
    connection.execute(update(ConsoleUser).where(ConsoleUser.c.id == stored.id).values(totp_step=step))
    return public(stored)


@cache
def _nobody() -> str:
    """Return what to check when the name is unknown, so that the answer takes as long."""
    return _hasher.hash("no user has this password")


def _verified(known: str, password: str) -> bool:
    try:
        return _hasher.verify(known, password)
    except (VerificationError, InvalidHashError):
        return False


def _step_of(secret: str, code: str, at: datetime) -> int | None:
    """Return the time step that a code belongs to: now, or the step before or after (RFC 6238)."""
    now = int(at.timestamp()) // _STEP_SECONDS
    found = None
    for step in (now - 1, now, now + 1):
        right = pyotp.TOTP(secret).at(step * _STEP_SECONDS)
        if hmac.compare_digest(right.encode(), code.encode("utf-8", "surrogatepass")):
            found = step
    return found


def public(stored: TableRow) -> User:
    """Return a row of `ConsoleUser` without secrets."""
    return User(
        stored.id, stored.name, Role(stored.role), stored.created_at, stored.email, stored.subject is not None
    )
