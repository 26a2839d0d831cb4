"""Requests that may be repeated without being done twice: their keys and answers.

A key is stored in the transaction that does what the request asks for. A repetition of the request gets the
stored answer; the same key with another request is refused.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, delete, insert, select

from mailer.database.tables import ApiRequest
from mailer.errors import RefusedError

KEPT_FOR: Final = timedelta(days=7)
"""How long a key is remembered."""


def digest(operation: str, body: object) -> str:
    """Return the identity of a request, derived from its content."""
    return hashlib.sha256(msgspec.json.encode([operation, body], order="sorted")).hexdigest()


def answered(connection: Connection, caller: int, key: str, asked: str) -> dict[str, Any] | None:
    """Return the answer that a caller's earlier request with this key got, or None if there was none.

    Raises `RefusedError` if that request asked for something else.
    """
    known = connection.execute(
        select(ApiRequest.c.digest, ApiRequest.c.answer).where(
            ApiRequest.c.caller == caller, ApiRequest.c.key == key
        )
    ).one_or_none()
    if known is None:
        return None
    if known.digest != asked:
        raise RefusedError(
            "this idempotency key was used for another request", remedy="use a new key for each request"
        )
    answer: dict[str, Any] = known.answer
    return answer


def remember(
    connection: Connection, caller: int, key: str, asked: str, answer: dict[str, Any], *, at: datetime
) -> None:
    """Store the answer to a request; raises `IntegrityError` if another request with this key was faster."""
    connection.execute(delete(ApiRequest).where(ApiRequest.c.at < at - KEPT_FOR))
    connection.execute(insert(ApiRequest).values(caller=caller, key=key, digest=asked, answer=answer, at=at))
