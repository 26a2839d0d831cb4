"""Addresses that must never be mailed, whoever subscribes them."""

from __future__ import annotations

import hmac
from datetime import datetime
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from mailer.database.models import Suppression

ERASED: Final = "erased"


def suppress(
    session: Session,
    address_key: str,
    reason: str,
    *,
    at: datetime,
    note: str = "",
    report_id: int | None = None,
) -> bool:
    """Suppress an address (its case-folded key); return whether it was not suppressed yet.

    The first reason stays: what came first explains why nobody was mailed since.
    """
    if session.get(Suppression, address_key) is not None:
        return False
    session.add(Suppression(address_key=address_key, reason=reason, at=at, note=note, report_id=report_id))
    session.flush()
    return True


def lift(session: Session, address_key: str) -> bool:
    """Allow an address again; return whether it was suppressed."""
    found = session.execute(
        delete(Suppression).where(Suppression.address_key == address_key).returning(Suppression.address_key)
    )
    return found.first() is not None


def reason_for(session: Session, address_key: str, *, secret: bytes) -> str | None:
    """Return why an address is suppressed, erased ones included; None if it is not."""
    keys = [address_key, erased_key(address_key, secret)]
    return session.scalar(select(Suppression.reason).where(Suppression.address_key.in_(keys)).limit(1))


def erased_key(address_key: str, secret: bytes) -> str:
    """Return the only thing that is kept of an erased address: a keyed hash that nobody can turn back.

    `secret` is the oldest of `Database.secrets()`, so that rotating keys forgets no erasure.
    """
    return "hmac:" + hmac.digest(secret, b"mailer/erased/1:" + address_key.encode(), "sha256").hex()
