"""Postal: the body is signed with the server's RSA key, by SHA-256 (version 3) or SHA-1.

The key is the `p=` of the server's DKIM record. https://docs.postalserver.io/developer/webhooks
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mailer.bounces.providers.events import (
    EventKind,
    Native,
    WebhookEvent,
    address,
    from_epoch,
    message_id,
    table,
    text,
)
from mailer.bounces.providers.proofs import Headers, Secrets, WebhookError, from_base64, required
from mailer.bounces.providers.requests import Provider, Request, one_or_many

_SHA256: Final = "x-postal-signature-256"
_SHA1: Final = "x-postal-signature"
_KINDS: Final = {
    "MessageSent": EventKind.DELIVERED,
    "MessageDelayed": EventKind.DEFERRED,
    "MessageDeliveryFailed": EventKind.BOUNCED,  # `output` is the receiving system's reply.
    "MessageBounced": EventKind.BOUNCED,  # A bounce came back as mail; its text is not passed on.
    "MessageHeld": EventKind.QUEUED,  # Held for the operator of the server to release.
    "MessageLoaded": EventKind.OPENED,
    "MessageLinkClicked": EventKind.CLICKED,
}


def _admit(headers: Headers, secrets: Secrets) -> None:
    secrets.value("postal")
    required(headers, _SHA256 if _SHA256 in headers else _SHA1)


def _check(request: Request, secrets: Secrets) -> None:
    name = _SHA256 if _SHA256 in request.headers else _SHA1
    algorithm: HashAlgorithm = SHA256() if name == _SHA256 else SHA1()  # noqa: S303
    try:
        public = load_der_public_key(base64.b64decode(secrets.value("postal")))
        if not isinstance(public, rsa.RSAPublicKey):
            raise WebhookError(401, "webhooks.postal_public_key is not an RSA key")
        signature = from_base64(required(request.headers, name))
        public.verify(signature, request.body, padding.PKCS1v15(), algorithm)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError) as error:
        raise WebhookError(401, "the signature is wrong") from error


def _events(native: Native) -> Iterator[WebhookEvent]:
    payload = table(native.get("payload"))
    message = table(payload.get("message") or payload.get("original_message"))
    kind = _KINDS.get(text(native.get("event")), EventKind.UNKNOWN)
    if message.get("direction") == "incoming":
        kind = EventKind.INBOUND
    yield WebhookEvent(
        "postal",
        kind,
        recipient=address(message.get("to")),
        message_id=message_id(message.get("message_id")),
        event_id=text(native.get("uuid")),
        at=from_epoch(native.get("timestamp")),
        reply=text(payload.get("output") or payload.get("details")),
        payload=native,
    )


POSTAL: Final = Provider(admit=_admit, check=_check, natives=one_or_many, events=_events)
