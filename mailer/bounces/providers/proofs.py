"""Check that a provider sent a request: passwords, keyed hashes and the age of a request."""

from __future__ import annotations

import base64
import binascii
import hmac
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from mailer.errors import MailerError

# Providers retry for hours with the signature of the first attempt; a repeated event changes nothing.
REPLAY_WINDOW: Final = timedelta(hours=24)
_FUTURE: Final = timedelta(minutes=5)
Headers = Mapping[str, str]
"""A request's headers by lower-case name."""


class WebhookError(MailerError):
    """A refused webhook; `status` is the HTTP status to answer with."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def amazon_authorities() -> Sequence[x509.Certificate]:
    """Return the certificate authorities of Amazon that this machine trusts."""
    known = ssl.create_default_context().get_ca_certs(binary_form=True)
    return [x509.load_der_x509_certificate(one) for one in known if b"Amazon Root" in one]


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets that prove who sent a request. A provider without one is refused.

    `values` holds a password, key or signing secret by provider. `url` is the address of our webhooks
    without the provider's name; Mandrill signs it. `fetch` returns the octets at a URL that has been
    checked, and `authorities` the certificates to trust (both for SNS).
    """

    values: Mapping[str, str] = field(default_factory=dict)
    ses_topics: tuple[str, ...] = ()
    url: str = ""
    fetch: Callable[[str], bytes] | None = None
    authorities: Callable[[], Sequence[x509.Certificate]] = amazon_authorities

    def value(self, provider: str) -> str:
        """Return a provider's secret. Raises `WebhookError` 404 if none is configured."""
        if not (found := self.values.get(provider, "")):
            raise WebhookError(404, "this provider is not configured")
        return found


def check_password(headers: Headers, expected: str) -> None:
    """Check HTTP Basic authentication (`user:password`), or a bearer token if there is no colon."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if ":" in expected:
        wanted_scheme, wanted = "basic", base64.b64encode(expected.encode())
    else:
        wanted_scheme, wanted = "bearer", expected.encode()
    if scheme.lower() != wanted_scheme or not hmac.compare_digest(given.strip().encode(), wanted):
        raise WebhookError(401, "the user, password or token is wrong")


def required(headers: Headers, name: str) -> str:
    """Return a header that a genuine request always has."""
    if not (value := headers.get(name, "")):
        raise WebhookError(401, f"{name} is missing")
    return value


def check_hash(given: str, key: str, signed: bytes) -> None:
    """Check a hexadecimal HMAC-SHA256."""
    expected = hmac.new(key.encode(), signed, "sha256").hexdigest()
    if not hmac.compare_digest(expected.encode(), given.strip().lower().encode()):
        raise WebhookError(401, "the signature is wrong")


def from_base64(given: str) -> bytes:
    """Return decoded base64. Raises `WebhookError` 401 for anything else."""
    try:
        return base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError) as error:
        raise WebhookError(401, "the signature is not base64") from error


def check_age(at: datetime | None, now: datetime) -> None:
    """Refuse a request from another time."""
    if at is None or not now - REPLAY_WINDOW <= at <= now + _FUTURE:
        raise WebhookError(401, "the request is too old, or its clock is wrong")
