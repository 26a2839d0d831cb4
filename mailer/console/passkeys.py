"""Passkeys: logging in with a fingerprint, a face or a security key (WebAuthn).

A passkey replaces password and code together: the authenticator checks the person, and its signature holds
only for the console's own origin, so a look-alike page gets nothing.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy import Connection, delete, insert, select, update
from starlette.requests import Request
from webauthn import (
    base64url_to_bytes,
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import bytes_to_base64url, parse_authentication_credential_json
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from mailer.config import is_ip_address
from mailer.console.users import User, user_named, user_of
from mailer.database.tables import ConsolePasskey
from mailer.errors import RefusedError

_LIFETIME: Final = timedelta(minutes=5)
_MOST_CHALLENGES: Final = 1000
_MOST_PASSKEYS: Final = 20


@dataclass(frozen=True, slots=True)
class Site:
    """Where the browser is: passkeys belong to a host name and are used from one origin."""

    host: str
    origin: str

    @property
    def usable(self) -> bool:
        """Whether passkeys can exist here: browsers want a name, not an address."""
        return bool(self.host) and not is_ip_address(self.host)


@dataclass(frozen=True, slots=True)
class Passkey:
    """A passkey without its key."""

    credential_id: str
    created_at: datetime
    used_at: datetime | None


def site_of(request: Request, public_url: str) -> Site:
    """Return where the browser is: under the public address, or on this machine. The guard knows no other."""
    host, netloc = request.url.hostname or "", request.url.netloc.lower()
    if public_url and netloc == urlsplit(public_url).netloc.lower():
        return Site(host, public_url.rstrip("/"))
    return Site(host, f"http://{netloc}")


class Challenges:
    """The challenges of logins that have begun. Each can be used once, within five minutes."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, tuple[bytes, datetime]] = OrderedDict()

    def begin(self, site: Site, *, at: datetime) -> tuple[str, str]:
        """Return the name of a new challenge, and the options for the browser as JSON."""
        options = generate_authentication_options(
            rp_id=site.host, user_verification=UserVerificationRequirement.REQUIRED
        )
        name = secrets.token_urlsafe(16)
        self._open[name] = (options.challenge, at + _LIFETIME)
        while len(self._open) > _MOST_CHALLENGES:
            self._open.popitem(last=False)
        return name, options_to_json(options)

    def take(self, name: str, *, at: datetime) -> bytes | None:
        """Return a challenge and forget it; None if there is none, or it is too old."""
        challenge, until = self._open.pop(name, (None, at))
        return challenge if at < until else None


def registration(connection: Connection, name: str, site: Site) -> tuple[bytes, str]:
    """Return the challenge for a new passkey of a user, and the options for the browser as JSON.

    Raises `RefusedError` if the host has no name, or if this person is no user.
    """
    if not site.usable:
        raise RefusedError(
            "Passkeys need a host name", remedy="open the console under its public address, or as localhost"
        )
    user = user_named(connection, name)
    if user is None:
        raise RefusedError(
            "Only users have passkeys", remedy="add one with: mailer users add NAME --role ROLE"
        )
    known = passkeys(connection, name)
    if len(known) >= _MOST_PASSKEYS:
        raise RefusedError(f"A user may have {_MOST_PASSKEYS} passkeys", remedy="remove one first")
    options = generate_registration_options(
        rp_id=site.host,
        rp_name="mailer",
        user_id=user.id.to_bytes(8, "big"),
        user_name=user.name,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[
            PublicKeyCredentialDescriptor(id=base64url_to_bytes(one.credential_id)) for one in known
        ],
    )
    return options.challenge, options_to_json(options)


def register(
    connection: Connection, name: str, credential: str, challenge: bytes, site: Site, *, at: datetime
) -> None:
    """Store the passkey that a browser has made. Raises `RefusedError` if it is not valid."""
    user = user_named(connection, name)
    try:
        made = verify_registration_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=site.host,
            expected_origin=site.origin,
            require_user_verification=True,
        )
    except WebAuthnException as error:
        raise RefusedError("The browser's answer is not valid", remedy="try again") from error
    if user is None:
        raise RefusedError("Only users have passkeys")
    connection.execute(
        insert(ConsolePasskey).values(
            credential_id=bytes_to_base64url(made.credential_id),
            user_id=user.id,
            public_key=made.credential_public_key,
            sign_count=made.sign_count,
            created_at=at,
        )
    )


def log_in(
    connection: Connection, credential: str, challenge: bytes, site: Site, *, at: datetime
) -> User | None:
    """Return the user whose passkey has signed the challenge, or None."""
    try:
        answer = parse_authentication_credential_json(credential)
        mine = ConsolePasskey.c.credential_id == bytes_to_base64url(answer.raw_id)
        stored = connection.execute(select(ConsolePasskey).where(mine).with_for_update()).one_or_none()
        if stored is None:
            return None
        verified = verify_authentication_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=site.host,
            expected_origin=site.origin,
            credential_public_key=stored.public_key,
            credential_current_sign_count=stored.sign_count,
            require_user_verification=True,
        )
    except WebAuthnException:
        return None
    connection.execute(
        update(ConsolePasskey).where(mine).values(sign_count=verified.new_sign_count, used_at=at)
    )
    return user_of(connection, stored.user_id)


def passkeys(connection: Connection, name: str) -> list[Passkey]:
    """Return a user's passkeys, oldest first."""
    user = user_named(connection, name)
    if user is None:
        return []
    columns = ConsolePasskey.c.credential_id, ConsolePasskey.c.created_at, ConsolePasskey.c.used_at
    query = select(*columns).where(ConsolePasskey.c.user_id == user.id)
    return [Passkey(*row) for row in connection.execute(query.order_by(ConsolePasskey.c.created_at))]


def remove(connection: Connection, name: str, credential_id: str) -> None:
    """Remove one of a user's passkeys."""
    user = user_named(connection, name)
    if user is not None:
        connection.execute(
            delete(ConsolePasskey).where(
                ConsolePasskey.c.user_id == user.id, ConsolePasskey.c.credential_id == credential_id
            )
        )
