"""The accounts at an OpenID Connect provider by which users log in.

An address finds the user. Their first login links them to the account behind it, because a provider may give
the address to somebody else later, but never the account.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace

from sqlalchemy import Connection, delete, select, update

from mailer.address import parse_address
from mailer.console.users import User, public
from mailer.database.tables import ConsoleSession, ConsoleUser, TableRow
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


def log_in(connection: Connection, account: Account) -> tuple[User, bool]:
    """Return the user of an account, and whether this links them to it.

    Raises `OtherAccountError` if they are linked to another account, and `RefusedError` if nobody has the
    address or the account is another user's.
    """
    stored = _with_email(connection, account.email)
    if stored is None:
        raise RefusedError(f"No user here has the address {account.email[:254]}", remedy=_ASK)
    if stored.subject is not None:
        if (stored.issuer, stored.subject) != (account.issuer, account.subject):
            raise OtherAccountError(stored.name)
        return public(stored), False
    known = (ConsoleUser.c.issuer == account.issuer, ConsoleUser.c.subject == account.subject)
    if (owner := connection.scalar(select(ConsoleUser.c.name).where(*known))) is not None:
        raise RefusedError(f"This account of the provider belongs to the user {owner}", remedy=_ASK)
    connection.execute(
        update(ConsoleUser)
        .where(ConsoleUser.c.id == stored.id)
        .values(issuer=account.issuer, subject=account.subject)
    )
    return replace(public(stored), linked=True), True


def unlink(connection: Connection, name: str) -> bool:
    """Forget a user's account and end their sessions; return whether they were linked to one.

    Their next login through the provider links them again. Raises `SourceError` if there is no such user.
    """
    stored = connection.execute(
        select(ConsoleUser.c.id, ConsoleUser.c.subject).where(ConsoleUser.c.name == name)
    ).one_or_none()
    if stored is None:
        raise SourceError(f"there is no user '{name}'", remedy="list the users with: mailer users list")
    if stored.subject is None:
        return False
    connection.execute(
        update(ConsoleUser).where(ConsoleUser.c.id == stored.id).values(issuer=None, subject=None)
    )
    connection.execute(delete(ConsoleSession).where(ConsoleSession.c.user_id == stored.id))
    return True


def _with_email(connection: Connection, email: str) -> TableRow | None:
    try:
        key = parse_address(email).key
    except AddressError:
        return None
    # Of two simultaneous first logins, the second one sees the account of the first.
    wanted = select(ConsoleUser).where(ConsoleUser.c.email == key).with_for_update()
    return connection.execute(wanted).one_or_none()
