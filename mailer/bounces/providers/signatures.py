"""Who sent a webhook: each provider's signature or secret, and how old the request may be."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mailer.errors import MailerError

# Providers try again for hours with the signature of the first try; the same event twice is one anyway.
REPLAY_WINDOW: Final = timedelta(hours=24)
_FUTURE: Final = timedelta(minutes=5)
# Amazon's own hosts alone: whoever chooses the certificate signs whatever he likes.
_SNS_HOST: Final = r"https://sns\.[a-z0-9-]{3,30}\.amazonaws\.com(?:\.cn)?/"
_SNS_CERTIFICATE: Final = re.compile(_SNS_HOST + r"SimpleNotificationService-[0-9a-f]{1,64}\.pem")
_SNS_CONFIRM: Final = re.compile(_SNS_HOST + r"\?Action=ConfirmSubscription&[\w&=:%.+-]{1,2000}")
_SNS_FIELDS: Final = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        "Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type",
    ),
}  # fmt: skip


class WebhookError(MailerError):
    """A webhook that is refused; `status` is the HTTP status to answer with."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Secrets:
    """What each provider proves itself with; a provider without a value is refused.

    `basic` holds `user:password` by provider; `certificate` returns the PEM at a URL that has been
    checked to be Amazon's.
    """

    ses_topics: tuple[str, ...] = ()
    sendgrid_public_key: str = ""
    mailgun_signing_key: str = ""
    basic: Mapping[str, str] = field(default_factory=dict)
    certificate: Callable[[str], bytes] | None = None


def verify(
    provider: str, headers: Mapping[str, str], body: bytes, payload: Any, secrets: Secrets, now: datetime
) -> None:
    """Raise `WebhookError` unless the request is the provider's own and fresh."""
    match provider:
        case "ses":
            _verify_sns(payload, secrets, now)
        case "sendgrid":
            _verify_sendgrid(headers, body, secrets.sendgrid_public_key, now)
        case "mailgun":
            _verify_mailgun(payload, secrets.mailgun_signing_key, now)
        case _:
            _verify_basic(headers, secrets.basic.get(provider, ""))


def _verify_basic(headers: Mapping[str, str], expected: str) -> None:
    if not expected:
        raise WebhookError(404, "this provider is not configured")
    scheme, _, given = headers.get("authorization", "").partition(" ")
    wanted = base64.b64encode(expected.encode())
    if scheme.lower() != "basic" or not hmac.compare_digest(given.strip().encode(), wanted):
        raise WebhookError(401, "the user or the password is wrong")


def _verify_mailgun(payload: Any, key: str, now: datetime) -> None:
    if not key:
        raise WebhookError(404, "this provider is not configured")
    table = payload if isinstance(payload, dict) else {}
    signed = table.get("signature")
    if isinstance(signed, dict):
        parts = [signed.get(name) for name in ("timestamp", "token", "signature")]
    else:
        parts = [_last(table.get(name)) for name in ("timestamp", "token", "signature")]
    timestamp, token, signature = (part if isinstance(part, str) else "" for part in parts)
    expected = hmac.new(key.encode(), f"{timestamp}{token}".encode(), "sha256").hexdigest()
    if not token or not hmac.compare_digest(expected.encode(), signature.encode()):
        raise WebhookError(401, "the signature is wrong")
    _fresh(_epoch(timestamp), now)


def _verify_sendgrid(headers: Mapping[str, str], body: bytes, key: str, now: datetime) -> None:
    if not key:
        raise WebhookError(404, "this provider is not configured")
    timestamp = headers.get("x-twilio-email-event-webhook-timestamp", "")
    signature = headers.get("x-twilio-email-event-webhook-signature", "")
    try:
        public = load_der_public_key(base64.b64decode(key))
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise WebhookError(401, "the configured key is not an ECDSA key")
        public.verify(base64.b64decode(signature), timestamp.encode() + body, ec.ECDSA(SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError) as error:
        raise WebhookError(401, "the signature is wrong") from error
    _fresh(_epoch(timestamp), now)


def _verify_sns(payload: Any, secrets: Secrets, now: datetime) -> None:
    if not secrets.ses_topics or secrets.certificate is None:
        raise WebhookError(404, "this provider is not configured")
    table = payload if isinstance(payload, dict) else {}
    if table.get("TopicArn") not in secrets.ses_topics:
        raise WebhookError(401, "the topic is not one of ours")
    url = table.get("SigningCertURL")
    if not isinstance(url, str) or not _SNS_CERTIFICATE.fullmatch(url):
        raise WebhookError(401, "the certificate is not Amazon's")
    fields = _SNS_FIELDS.get(str(table.get("Type")))
    if fields is None:
        raise WebhookError(400, "not a notification")
    signed = "".join(f"{name}\n{table[name]}\n" for name in fields if table.get(name) is not None)
    algorithm: HashAlgorithm = SHA256() if table.get("SignatureVersion") == "2" else SHA1()  # noqa: S303
    try:
        public = x509.load_pem_x509_certificate(secrets.certificate(url)).public_key()
        if not isinstance(public, rsa.RSAPublicKey):
            raise WebhookError(401, "the certificate holds another kind of key")
        signature = base64.b64decode(str(table.get("Signature")), validate=True)
        public.verify(signature, signed.encode(), padding.PKCS1v15(), algorithm)
    except (InvalidSignature, UnsupportedAlgorithm, binascii.Error, ValueError) as error:
        raise WebhookError(401, "the signature is wrong") from error
    if table["Type"] == "SubscriptionConfirmation" and not _SNS_CONFIRM.fullmatch(
        str(table.get("SubscribeURL"))
    ):
        raise WebhookError(401, "the confirmation does not lead to Amazon")
    _fresh(_iso(table.get("Timestamp")), now)


def _fresh(at: datetime | None, now: datetime) -> None:
    if at is None or not now - REPLAY_WINDOW <= at <= now + _FUTURE:
        raise WebhookError(401, "the request is too old, or its clock is wrong")


def _epoch(text: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(float(text), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _iso(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _last(value: Any) -> Any:
    return value[-1] if isinstance(value, list) and value else value
