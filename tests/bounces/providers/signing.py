"""A genuine request of each provider: a hard bounce of ana@example.com, signed or with a password."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from mailer.bounces.providers.proofs import Secrets

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
KEY = "key-0123456789"
SVIX_KEY = "whsec_" + base64.b64encode(b"0123456789abcdef").decode()
TOPIC = "arn:aws:sns:us-east-1:123456789012:mail"
SNS = "https://sns.us-east-1.amazonaws.com/"
CERTIFICATE_URL = SNS + "SimpleNotificationService-0123abcd.pem"
ISSUER_URL = "http://crt.r2m01.amazontrust.com/r2m01.cer"
BASIC = {"authorization": "Basic " + base64.b64encode(b"hook:word").decode()}
HOOKS = "https://news.example.org/hooks/"
SENDGRID_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)
CA_KEY = rsa.generate_private_key(65537, 2048)
ROOT_KEY = rsa.generate_private_key(65537, 2048)
PASSWORDS = ("brevo", "mailjet", "postmark", "scaleway", "sparkpost")
Request = tuple[dict[str, str], bytes]


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def certificate(
    name: str,
    key: rsa.RSAPrivateKey,
    issuer: str,
    issuer_key: rsa.RSAPrivateKey,
    *,
    is_authority: bool,
    begins: datetime = NOW - timedelta(days=1),
    ends: datetime = NOW + timedelta(days=1),
) -> x509.Certificate:
    """Issue a certificate; one that is no authority says where its issuer's certificate is."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    if is_authority:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        access = x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(ISSUER_URL)
        )
        builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key, SHA256())


ROOT = certificate("Root", ROOT_KEY, "Root", ROOT_KEY, is_authority=True)
AUTHORITY = certificate("Amazon RSA 2048 M01", CA_KEY, "Root", ROOT_KEY, is_authority=True)
LEAF = certificate("sns.amazonaws.com", RSA_KEY, "Amazon RSA 2048 M01", CA_KEY, is_authority=False)


def sns_secrets(leaf: x509.Certificate = LEAF, roots: Sequence[x509.Certificate] = (ROOT,)) -> Secrets:
    """Return secrets with which SNS is checked by this certificate and these authorities."""
    files = {
        CERTIFICATE_URL: leaf.public_bytes(Encoding.PEM),
        ISSUER_URL: AUTHORITY.public_bytes(Encoding.DER),
    }
    return Secrets(ses_topics=(TOPIC,), fetch=files.__getitem__, authorities=lambda: roots)


SECRETS = Secrets(
    values={
        **dict.fromkeys(PASSWORDS, "hook:word"),
        "mailersend": KEY,
        "mailgun": KEY,
        "mailtrap": KEY,
        "mandrill": KEY,
        "resend": SVIX_KEY,
        "postal": base64.b64encode(
            RSA_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).decode(),
        "sendgrid": base64.b64encode(
            SENDGRID_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).decode(),
    },
    ses_topics=(TOPIC,),
    url=HOOKS,
    fetch=sns_secrets().fetch,
    authorities=lambda: (ROOT,),
)
BOUNCES: dict[str, Any] = {
    "brevo": {"event": "hard_bounce", "email": "ana@example.com", "ts_epoch": 1772442000000,
              "message-id": "<1@relay.example>", "reason": "550 5.1.1 User unknown"},
    "mailersend": {"type": "activity.hard_bounced", "created_at": "2026-03-02T09:00:00Z",
                   "data": {"id": "1", "type": "hard_bounced", "recipient": "ana@example.com",
                            "meta": {"bounce_code": 550, "bounce_reason": "5.1.1 User unknown"}}},
    "mailjet": [{"event": "bounce", "email": "ana@example.com", "hard_bounce": True,
                 "error": "user unknown"}],
    "mailtrap": {"events": [{"event": "bounce", "email": "ana@example.com", "event_id": "1",
                             "timestamp": 1772442000, "message_id": "m",
                             "response": "550 5.1.1 User unknown", "response_code": 550}]},
    "mandrill": [{"event": "hard_bounce", "_id": "1", "ts": 1772442000,
                  "msg": {"email": "ana@example.com", "diag": "smtp;550 5.1.1 User unknown",
                          "bounce_description": "bad_mailbox"}}],
    "postal": {"event": "MessageDeliveryFailed", "timestamp": 1772442000.5, "uuid": "1",
               "payload": {"status": "HardFail", "output": "550 5.1.1 User unknown",
                           "message": {"to": "ana@example.com", "direction": "outgoing"}}},
    "postmark": {"RecordType": "Bounce", "Type": "HardBounce", "Email": "ana@example.com", "ID": 1,
                 "Details": "smtp;550 5.1.1 User unknown"},
    "resend": {"type": "email.bounced", "created_at": "2026-03-02T09:00:00.000Z",
               "data": {"email_id": "1", "to": ["ana@example.com"],
                        "bounce": {"type": "Permanent", "subType": "General", "message": "It bounced."}}},
    "scaleway": {"Type": "Notification", "Message": json.dumps(
        {"id": "1", "type": "email_mailbox_not_found", "email_to": "ana@example.com",
         "created_at": "2026-03-02T09:00:00Z", "email_response_code": 550,
         "email_response_message": "5.1.1 User unknown"})},
    "sparkpost": [{"msys": {"message_event": {"type": "bounce", "bounce_class": "10",
                                              "rcpt_to": "ana@example.com",
                                              "raw_reason": "550 5.1.1 User unknown", "error_code": "550"}}}],
}  # fmt: skip


def with_password(payload: Any) -> Request:
    return {"content-type": "application/json", **BASIC}, json.dumps(payload).encode()


def with_hash(header: str, payload: Any) -> Request:
    body = json.dumps(payload).encode()
    return {
        "content-type": "application/json",
        header: hmac.new(KEY.encode(), body, "sha256").hexdigest(),
    }, body


def signed_sendgrid(at: datetime = NOW) -> Request:
    body = json.dumps([{"event": "bounce", "email": "ana@example.com", "sg_event_id": "1",
                        "reason": "550 5.1.1 User unknown", "status": "5.1.1"}]).encode()  # fmt: skip
    stamp = str(int(at.timestamp()))
    signature = SENDGRID_KEY.sign(stamp.encode() + body, ec.ECDSA(SHA256()))
    return {
        "content-type": "application/json",
        "x-twilio-email-event-webhook-timestamp": stamp,
        "x-twilio-email-event-webhook-signature": base64.b64encode(signature).decode(),
    }, body


def signed_mailgun(at: datetime = NOW) -> Request:
    stamp, nonce = str(int(at.timestamp())), "t" * 50
    signature = hmac.new(KEY.encode(), f"{stamp}{nonce}".encode(), "sha256").hexdigest()
    payload = {
        "signature": {"timestamp": stamp, "token": nonce, "signature": signature},
        "event-data": {"event": "failed", "severity": "permanent", "recipient": "ana@example.com",
                       "delivery-status": {"code": 550, "message": "5.1.1 User unknown"}},
    }  # fmt: skip
    return {"content-type": "application/json"}, json.dumps(payload).encode()


def signed_resend(at: datetime = NOW) -> Request:
    body, stamp = json.dumps(BOUNCES["resend"]).encode(), str(int(at.timestamp()))
    digest = hmac.new(b"0123456789abcdef", f"msg_1.{stamp}.".encode() + body, "sha256").digest()
    signature = f"v1,{base64.b64encode(b'old').decode()} v1,{base64.b64encode(digest).decode()}"
    headers = {"svix-id": "msg_1", "svix-timestamp": stamp, "svix-signature": signature}
    return {"content-type": "application/json", **headers}, body


def signed_mandrill(events: Any = None) -> Request:
    text = json.dumps(BOUNCES["mandrill"] if events is None else events)
    digest = hmac.new(KEY.encode(), f"{HOOKS}mandrillmandrill_events{text}".encode(), "sha1").digest()
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "x-mandrill-signature": base64.b64encode(digest).decode(),
    }
    return headers, urlencode({"mandrill_events": text}).encode()


def signed_postal(version: str = "256") -> Request:
    body = json.dumps(BOUNCES["postal"]).encode()
    algorithm = SHA256() if version == "256" else SHA1()
    signature = base64.b64encode(RSA_KEY.sign(body, padding.PKCS1v15(), algorithm)).decode()
    name = "x-postal-signature-256" if version == "256" else "x-postal-signature"
    return {"content-type": "application/json", name: signature}, body


SES_BOUNCE = {
    "notificationType": "Bounce", "mail": {"messageId": "m"},
    "bounce": {"bounceType": "Permanent", "bounceSubType": "General", "bouncedRecipients": [
        {"emailAddress": "ana@example.com", "status": "5.1.1",
         "diagnosticCode": "smtp; 550 5.1.1 User unknown"}]},
}  # fmt: skip


def signed_ses(
    at: datetime = NOW, version: str = "2", key: rsa.RSAPrivateKey = RSA_KEY, **changed: str
) -> Request:
    payload = {
        "Type": "Notification", "MessageId": "1", "TopicArn": TOPIC, "Message": json.dumps(SES_BOUNCE),
        "Timestamp": at.isoformat().replace("+00:00", "Z"), "SignatureVersion": version,
        "SigningCertURL": CERTIFICATE_URL, **changed,
    }  # fmt: skip
    names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    signed = "".join(f"{name}\n{payload[name]}\n" for name in names if name in payload)
    digest = SHA256() if version == "2" else SHA1()
    payload["Signature"] = base64.b64encode(
        RSA_KEY.sign(signed.encode(), padding.PKCS1v15(), digest)
    ).decode()
    headers = {
        "content-type": "text/plain; charset=UTF-8",
        "x-amz-sns-topic-arn": payload["TopicArn"],
        "x-amz-sns-message-type": payload["Type"],
    }
    return headers, json.dumps(payload).encode()


REQUESTS: dict[str, Callable[[], Request]] = {
    **{name: partial(with_password, BOUNCES[name]) for name in PASSWORDS},
    "mailersend": lambda: with_hash("signature", BOUNCES["mailersend"]),
    "mailgun": signed_mailgun,
    "mailtrap": lambda: with_hash("mailtrap-signature", BOUNCES["mailtrap"]),
    "mandrill": signed_mandrill,
    "postal": signed_postal,
    "resend": signed_resend,
    "sendgrid": signed_sendgrid,
    "ses": signed_ses,
}
