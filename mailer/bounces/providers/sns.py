"""Amazon SNS: check who signed a notification.

The certificate is fetched only from the host of the configured topic's own region, and it must be valid
now, name SNS, and lead to an authority of Amazon's that this machine trusts.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

from mailer.bounces.providers.events import Native, from_iso, table, text
from mailer.bounces.providers.proofs import Headers, Secrets, WebhookError, check_age
from mailer.bounces.providers.requests import Request

_ARN: Final = re.compile(r"arn:(aws|aws-cn|aws-us-gov):sns:([a-z]{2}(?:-[a-z]+)+-\d):\d{12}:[\w-]{1,256}")
_FIELDS: Final = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        "Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type",
    ),
}  # fmt: skip
# Amazon's certificate file holds one certificate; the one that issued it is published here.
_ISSUER: Final = re.compile(r"http://crt\.[a-z0-9.]{1,40}amazontrust\.com/[\w./-]{1,80}\.cer")
_LONGEST_CHAIN: Final = 4


def check_topic(headers: Headers, topics: Sequence[str]) -> None:
    """Check the headers that SNS sends with each request."""
    if headers.get("x-amz-sns-topic-arn") not in topics:
        raise WebhookError(401, "the topic is not one of ours")
    if headers.get("x-amz-sns-message-type") not in _FIELDS:
        raise WebhookError(400, "not a notification")


def verify(request: Request, payload: object, secrets: Secrets) -> None:
    """Check the signature of a notification or confirmation."""
    if secrets.fetch is None:
        raise WebhookError(404, "this provider is not configured")
    fields = table(payload)
    topic, kind = text(fields.get("TopicArn")), text(fields.get("Type"))
    if topic not in secrets.ses_topics:
        raise WebhookError(401, "the topic is not one of ours")
    if kind not in _FIELDS:
        raise WebhookError(400, "not a notification")
    host = _host(topic)
    url = text(fields.get("SigningCertURL"))
    if not re.fullmatch(
        re.escape(f"https://{host}/SimpleNotificationService-") + r"[0-9a-f]{1,64}\.pem", url
    ):
        raise WebhookError(401, "the certificate is not from Amazon's host for this topic")
    _check_signature(fields, kind, _certificate(url, topic, request.now, secrets))
    if kind == "SubscriptionConfirmation" and not re.fullmatch(
        re.escape(f"https://{host}/?Action=ConfirmSubscription&") + r"[\w&=:%.+-]{1,2000}",
        text(fields.get("SubscribeURL")),
    ):
        raise WebhookError(401, "the confirmation does not lead to Amazon's host for this topic")
    check_age(from_iso(fields.get("Timestamp")), request.now)


def _host(topic: str) -> str:
    """Return Amazon's SNS host for the region that a topic's ARN names."""
    found = _ARN.fullmatch(topic)
    if found is None:
        raise WebhookError(404, "webhooks.ses_topics: this is not the ARN of an SNS topic")
    return f"sns.{found[2]}.amazonaws.com" + (".cn" if found[1] == "aws-cn" else "")


def _names(topic: str) -> set[str]:
    """Return the names that Amazon's signing certificates carry, which differ between regions."""
    host = _host(topic)
    region = host.split(".")[1]
    return {host, "sns.amazonaws.com", f"sns-signing.{region}.amazonaws.com", f"sns-{host.partition('.')[2]}"}


def _certificate(url: str, topic: str, now: datetime, secrets: Secrets) -> x509.Certificate:
    """Return the certificate at a URL if it is Amazon's; see the module's docstring."""
    assert secrets.fetch is not None
    try:
        leaf, *issuers = x509.load_pem_x509_certificates(secrets.fetch(url))
    except ValueError as error:
        raise WebhookError(401, "the certificate cannot be read") from error
    if not _named(leaf) & _names(topic):
        raise WebhookError(401, "the certificate is not that of SNS")
    issuers += _missing_issuers([leaf, *issuers], secrets)
    try:
        policy = (
            PolicyBuilder()
            .store(Store(list(secrets.authorities())))
            .time(now)
            .max_chain_depth(_LONGEST_CHAIN)
            .extension_policies(
                ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=ExtensionPolicy.permit_all()
            )
        )
        policy.build_client_verifier().verify(leaf, issuers)
    except (VerificationError, ValueError) as error:
        raise WebhookError(401, "the certificate is expired or not issued by a trusted authority") from error
    return leaf


def _missing_issuers(known: Sequence[x509.Certificate], secrets: Secrets) -> list[x509.Certificate]:
    """Fetch the issuers that the file leaves out, up to one that this machine trusts."""
    assert secrets.fetch is not None
    trusted = {authority.subject for authority in secrets.authorities()}
    current, found = known[-1], list[x509.Certificate]()
    while current.issuer not in trusted and len(found) < _LONGEST_CHAIN:
        url = _issuer_url(current)
        if not url:
            break
        try:
            current = x509.load_der_x509_certificate(secrets.fetch(url))
        except ValueError:
            break
        found.append(current)
    return found


def _issuer_url(certificate: x509.Certificate) -> str:
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, ValueError):
        return ""
    for one in access:
        location = one.access_location.value
        if one.access_method == AuthorityInformationAccessOID.CA_ISSUERS and _ISSUER.fullmatch(str(location)):
            return str(location)
    return ""


def _named(certificate: x509.Certificate) -> set[str]:
    """Return the common name and the DNS names of a certificate."""
    names = {str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return names
    return names | set(found.get_values_for_type(x509.DNSName))


def _check_signature(fields: Native, kind: str, certificate: x509.Certificate) -> None:
    signed = "".join(f"{name}\n{fields[name]}\n" for name in _FIELDS[kind] if fields.get(name) is not None)
    algorithm: HashAlgorithm = SHA256() if fields.get("SignatureVersion") == "2" else SHA1()  # noqa: S303
    public = certificate.public_key()
    if not isinstance(public, rsa.RSAPublicKey):
        raise WebhookError(401, "the certificate holds another kind of key")
    try:
        signature = base64.b64decode(text(fields.get("Signature")), validate=True)
        public.verify(signature, signed.encode("utf-8", "surrogatepass"), padding.PKCS1v15(), algorithm)
    except (InvalidSignature, UnsupportedAlgorithm, binascii.Error, ValueError) as error:
        raise WebhookError(401, "the signature is wrong") from error
