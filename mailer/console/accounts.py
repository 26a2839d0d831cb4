"""The accounts at an OpenID Connect provider by which users log in.

An address finds the user. Their first login links them to the account behind it, because a provider may give
the address to somebody else later, but never the account.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from mailer.address import parse_address
from mailer.console.users import User, public
from mailer.database.models import ConsoleSession, ConsoleUser
from mailer.errors import AddressError, RefusedError, SourceError

_ASK = "ask the person who runs this newsletter"


@dataclass(frozen=True, slots=True)
class Account:
    """An account whose owner has just proved who they are."""

    issuer: str
    subject: str
    """The provider's name for the account; it never means another one."""
    email: str
    """An address that the provider has verified."""


class OtherAccountError(RefusedError):
    """The address leads to a user who is linked to another account. `user` is their name."""

    def __init__(self, user: str) -> None:
        super().__init__(
            f"{user} has logged in with another account of the provider before",
            remedy=f"if this one is yours too, {_ASK} to unlink the other (mailer users unlink"
            f" {shlex.quote(user)})",
        )
        self.user = user


def log_in(session: Session, account: Account) -> tuple[User, bool]:
    """Return the user of an account, and whether this links them to it.

    Raises `OtherAccountError` if they are linked to another account, and `RefusedError` if nobody has the
    address or the account is another user's.
    """
    stored = _with_email(session, account.email)
    if stored is None:
        raise RefusedError(f"No user here has the address {account.email[:254]}", remedy=_ASK)
    if stored.subject is not None:
        if (stored.issuer, stored.subject) != (account.issuer, account.subject):
            raise OtherAccountError(stored.name)
        return public(stored), False
    known = (ConsoleUser.issuer == account.issuer, ConsoleUser.subject == account.subject)
    if (owner := session.scalar(select(ConsoleUser.name).where(*known))) is not None:
        raise RefusedError(f"This account of the provider belongs to the user {owner}", remedy=_ASK)
    stored.issuer, stored.subject = account.issuer, account.subject
    session.flush()
    return public(stored), True


def unlink(session: Session, name: str) -> bool:
    """Forget a user's account and end their sessions; return whether they were linked to one.

    Their next login through the provider links them again. Raises `SourceError` if there is no such user.
    """
    stored = session.scalar(select(ConsoleUser).where(ConsoleUser.name == name))
    if stored is None:
        raise SourceError(f"there is no user '{name}'", remedy="list the users with: mailer users list")
    if stored.subject is None:
        return False
    stored.issuer = stored.subject = None
    session.execute(delete(ConsoleSession).where(ConsoleSession.user_id == stored.id))
    return True


def _with_email(session: Session, email: str) -> ConsoleUser | None:
    try:
        key = parse_address(email).key
    except AddressError:
        return None
    # Of two simultaneous first logins, the second one sees the account of the first.
    return session.scalar(select(ConsoleUser).where(ConsoleUser.email == key).with_for_update())
