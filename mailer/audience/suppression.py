"""Whether an address is suppressed, erased addresses included. `ledger` writes suppressions."""

from __future__ import annotations

import hmac
from typing import Final

from sqlalchemy import Connection, select

from mailer.database.tables import Suppression

ERASED: Final = "erased"


def reason_for(connection: Connection, address_key: str, *, secret: bytes) -> str | None:
    """Return the reason why an address is suppressed, or None."""
    keys = [address_key, erased_key(address_key, secret)]
    return connection.scalar(select(Suppression.c.reason).where(Suppression.c.address_key.in_(keys)))


def erased_key(address_key: str, secret: bytes) -> str:
    """Return the keyed hash that remains of an erased address; it cannot be reversed.

    `secret` is the oldest of `Database.secrets()`, so that rotating the keys forgets no erasure.
    """
    return "hmac:" + hmac.digest(secret, b"mailer/erased/1:" + address_key.encode(), "sha256").hex()
