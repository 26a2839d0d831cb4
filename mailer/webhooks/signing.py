"""The headers and the body of a webhook, signed as Standard Webhooks specifies (symmetric, version 1)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from mailer.webhooks.endpoints import SECRET_PREFIX


def body_of(type_: str, at: datetime, data: Mapping[str, Any]) -> bytes:
    """Return the JSON body of an event."""
    return msgspec.json.encode({"type": type_, "timestamp": at.isoformat(), "data": dict(data)})


def headers_of(secret: str, uid: str, body: bytes, *, at: datetime) -> dict[str, str]:
    """Return the headers by which a receiver recognises and verifies a body sent at that time."""
    timestamp = str(int(at.timestamp()))
    return {
        "content-type": "application/json",
        "webhook-id": uid,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature(secret, uid, timestamp, body),
    }


def signature(secret: str, uid: str, timestamp: str, body: bytes) -> str:
    """Return `v1,` and the base64 of the HMAC-SHA256 of `ID.TIMESTAMP.BODY`."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = b".".join((uid.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
