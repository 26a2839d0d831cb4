"""Providers' webhooks: what they mean, and who is believed."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from mailer.audience.subscribers import get
from mailer.bounces.providers.signatures import Secrets, WebhookError
from mailer.bounces.providers.tables import TABLES, EventKind
from mailer.bounces.providers.webhooks import MAX_BODY_OCTETS, events_of, parse_webhook
from mailer.bounces.reclassify import reclassify
from mailer.bounces.record import Effect, Recorded, ReportOutcome, Rules, record_events
from mailer.database.models import StoredReport, SubscriberStatus
from mailer.database.session import Database
from tests.bounces.reports import SIGNER, subscribe, token
from tests.conftest import SHARED, missing

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
MAILGUN_KEY = "key-0123456789"
TOPIC = "arn:aws:sns:us-east-1:123456789012:mail"
CERTIFICATE_URL = "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0123abcd.pem"
BASIC = {"authorization": "Basic " + base64.b64encode(b"hook:word").decode()}
SENDGRID_KEY = ec.generate_private_key(ec.SECP256R1())
SNS_KEY = rsa.generate_private_key(65537, 2048)
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
SNS_PEM = (
    x509.CertificateBuilder()
    .subject_name(_NAME)
    .issuer_name(_NAME)
    .public_key(SNS_KEY.public_key())
    .serial_number(1)
    .not_valid_before(NOW - timedelta(days=1))
    .not_valid_after(NOW + timedelta(days=1))
    .sign(SNS_KEY, SHA256())
    .public_bytes(Encoding.PEM)
)
SECRETS = Secrets(
    ses_topics=(TOPIC,),
    sendgrid_public_key=base64.b64encode(
        SENDGRID_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).decode(),
    mailgun_signing_key=MAILGUN_KEY,
    basic={"postmark": "hook:word", "sparkpost": "hook:word", "mailjet": "hook:word"},
    certificate=lambda url: SNS_PEM,
)
Request = tuple[dict[str, str], bytes]


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
    signature = hmac.new(MAILGUN_KEY.encode(), f"{stamp}{nonce}".encode(), "sha256").hexdigest()
    payload = {
        "signature": {"timestamp": stamp, "token": nonce, "signature": signature},
        "event-data": {"event": "failed", "severity": "permanent", "recipient": "ana@example.com",
                       "delivery-status": {"code": 550, "message": "5.1.1 User unknown"}},
    }  # fmt: skip
    return {"content-type": "application/json"}, json.dumps(payload).encode()


def signed_ses(at: datetime = NOW, version: str = "2", **changed: str) -> Request:
    message = {"notificationType": "Bounce", "mail": {"messageId": "m"},
               "bounce": {"bounceType": "Permanent", "bounceSubType": "General", "bouncedRecipients": [
                   {"emailAddress": "ana@example.com", "status": "5.1.1",
                    "diagnosticCode": "smtp; 550 5.1.1 User unknown"}]}}  # fmt: skip
    payload = {
        "Type": "Notification", "MessageId": "1", "TopicArn": TOPIC, "Message": json.dumps(message),
        "Timestamp": at.isoformat().replace("+00:00", "Z"), "SignatureVersion": version,
        "SigningCertURL": CERTIFICATE_URL, **changed,
    }  # fmt: skip
    names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    signed = "".join(f"{name}\n{payload[name]}\n" for name in names if name in payload)
    digest = SHA256() if version == "2" else SHA1()
    signature = SNS_KEY.sign(signed.encode(), padding.PKCS1v15(), digest)
    payload["Signature"] = base64.b64encode(signature).decode()
    return {"content-type": "text/plain"}, json.dumps(payload).encode()


def basic(payload: Any) -> Request:
    return {"content-type": "application/json", **BASIC}, json.dumps(payload).encode()


REQUESTS: dict[str, Callable[[], Request]] = {
    "ses": signed_ses,
    "sendgrid": signed_sendgrid,
    "mailgun": signed_mailgun,
    "postmark": lambda: basic(
        {"RecordType": "Bounce", "Type": "HardBounce", "Email": "ana@example.com", "ID": 1,
         "Details": "smtp;550 5.1.1 User unknown"}
    ),
    "sparkpost": lambda: basic(
        [{"msys": {"message_event": {"type": "bounce", "bounce_class": "10", "rcpt_to": "ana@example.com",
                                     "raw_reason": "550 5.1.1 User unknown", "error_code": "550"}}}]
    ),
    "mailjet": lambda: basic(
        [{"event": "bounce", "email": "ana@example.com", "hard_bounce": True, "error": "user unknown"}]
    ),
}  # fmt: skip


def recorded(database: Database, provider: str, payload: Any) -> list[Recorded]:
    return record_events(database, SIGNER, events_of(provider, payload), at=NOW, rules=Rules())


def refusal(provider: str, headers: dict[str, str], body: bytes, now: datetime = NOW) -> int:
    with pytest.raises(WebhookError) as refused:
        parse_webhook(provider, headers, body, SECRETS, now)
    return refused.value.status


def corpus() -> list[dict[str, Any]]:
    path = SHARED / "corpus" / "webhooks" / "payloads.jsonl"
    if not path.exists():
        missing("../shared/corpus/webhooks/payloads.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_real_payloads_give_their_events() -> None:
    from mailer.bounces.providers import webhooks

    wrong = []
    for number, row in enumerate(corpus()):
        provider = {"amazon_ses": "ses"}.get(row["provider"], row["provider"])
        payload = webhooks._decoded(row["content_type"], row["body"].encode())
        found = [
            (event.kind.value, event.recipient or None, event.at and event.at.timestamp())
            for event in events_of(provider, payload)
        ]
        wanted = [
            (event["event_type"], event["recipient"],
             event["timestamp"] and datetime.fromisoformat(event["timestamp"]).timestamp())
            for event in row["events"]
        ]  # fmt: skip
        # One row wants `initial_open` counted as an opening; another row wants the same body unknown.
        if found != wanted and "initial_open" not in row["body"]:
            wrong.append((number, provider, wanted, found))
    assert wrong == []


@pytest.mark.parametrize("provider", list(TABLES))
def test_genuine_request_is_a_bounce_and_suppresses(database: Database, provider: str) -> None:
    ana = subscribe(database, NOW)
    events = parse_webhook(provider, *REQUESTS[provider](), SECRETS, NOW)
    (done,) = record_events(database, SIGNER, events, at=NOW, rules=Rules())
    assert (done.effect, done.hard) == (Effect.SUPPRESSED, True)
    with database.reading() as session:
        found = get(session, ana)
    assert found is not None
    assert found.status is SubscriberStatus.BOUNCED


@pytest.mark.parametrize("version", ["1", "2"])
def test_both_signature_versions_of_sns_are_read(version: str) -> None:
    headers, body = signed_ses(version=version)
    assert [event.kind for event in parse_webhook("ses", headers, body, SECRETS, NOW)] == [EventKind.BOUNCED]


@pytest.mark.parametrize("provider", ["ses", "sendgrid", "mailgun"])
@pytest.mark.parametrize("shift", [timedelta(days=2), timedelta(minutes=-10)])
def test_request_from_another_time_is_refused(provider: str, shift: timedelta) -> None:
    headers, body = REQUESTS[provider]()
    assert refusal(provider, headers, body, NOW + shift) == 401


@pytest.mark.parametrize("provider", ["ses", "sendgrid", "mailgun"])
def test_changed_request_is_refused(provider: str) -> None:
    headers, body = REQUESTS[provider]()
    changed = (
        body.replace(b'"ttttt', b'"xtttt') if provider == "mailgun" else body.replace(b"5.1.1", b"5.1.2")
    )
    assert refusal(provider, headers, changed) == 401


@pytest.mark.parametrize("provider", ["postmark", "sparkpost", "mailjet"])
@pytest.mark.parametrize("given", ["", "Basic aG9vazp4", "Bearer x", "Basic \u00e9"])
def test_wrong_password_is_refused(provider: str, given: str) -> None:
    headers, body = REQUESTS[provider]()
    assert refusal(provider, {**headers, "authorization": given}, body) == 401


@pytest.mark.parametrize("provider", list(TABLES))
def test_truncated_body_is_refused(provider: str) -> None:
    headers, body = REQUESTS[provider]()
    assert refusal(provider, headers, body[:-20]) == 400


@pytest.mark.parametrize("provider", list(TABLES))
def test_huge_body_is_refused_unread(provider: str) -> None:
    assert refusal(provider, {}, b"[" * (MAX_BODY_OCTETS + 1)) == 413


@pytest.mark.parametrize("provider", [*TABLES, "unheard-of"])
def test_provider_that_is_not_configured_is_not_found(provider: str) -> None:
    with pytest.raises(WebhookError) as refused:
        parse_webhook(provider, {}, b"{}", Secrets(), NOW)
    assert refused.value.status == 404


@pytest.mark.parametrize(
    "url",
    [
        "https://sns.us-east-1.amazonaws.com.evil.example/SimpleNotificationService-0123abcd.pem",
        "https://evil.example/SimpleNotificationService-0123abcd.pem",
        "http://sns.us-east-1.amazonaws.com/SimpleNotificationService-0123abcd.pem",
        "https://sns.us-east-1.amazonaws.com@evil.example/SimpleNotificationService-0123abcd.pem",
    ],
)
def test_certificate_from_elsewhere_is_never_fetched(url: str) -> None:
    assert refusal("ses", *signed_ses(SigningCertURL=url)) == 401


def test_topic_of_somebody_else_is_refused() -> None:
    assert refusal("ses", *signed_ses(TopicArn=TOPIC + "x")) == 401


def test_confirmation_leads_to_amazon_alone() -> None:
    good = f"https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=abc"
    kind = "SubscriptionConfirmation"
    genuine = signed_ses(SubscribeURL=good, Type=kind, Token="abc")
    (event,) = parse_webhook("ses", *genuine, SECRETS, NOW)
    assert (EventKind.CONFIRM, good) == (event.kind, event.url)
    bad = "https://127.0.0.1/?Action=ConfirmSubscription&Token=abc"
    assert refusal("ses", *signed_ses(SubscribeURL=bad, Type=kind, Token="abc")) == 401


def test_batch_is_recorded_whole_and_once(database: Database) -> None:
    ana, bo = subscribe(database, NOW), subscribe(database, NOW, "bo@example.com")
    batch = [
        {"event": "spamreport", "email": "ana@example.com", "sg_event_id": "1"},
        {"event": "group_unsubscribe", "email": "bo@example.com", "sg_event_id": "2"},
        {"event": "processed", "email": "bo@example.com", "sg_event_id": "3"},
        {"event": "something new", "email": "bo@example.com", "sg_event_id": "4"},
    ]
    first, again = recorded(database, "sendgrid", batch), recorded(database, "sendgrid", batch)
    assert [done.effect for done in first] == [Effect.COMPLAINED, Effect.UNSUBSCRIBED, Effect.NOTHING]
    assert all(done.duplicate for done in again)
    with database.reading() as session:
        views = [get(session, one) for one in (ana, bo)]
        assert [view and view.status.value for view in views] == ["complained", "unsubscribed"]
        assert session.scalar(select(func.count()).select_from(StoredReport)) == 3


def test_our_message_id_outranks_the_address(database: Database) -> None:
    ana = subscribe(database, NOW)
    subscribe(database, NOW, "bo@example.com")
    event = {"event": "bounce", "email": "bo@example.com", "reason": "550 5.1.1 User unknown",
             "smtp-id": f"<{token(ana)}@example.org>"}  # fmt: skip
    (done,) = recorded(database, "sendgrid", [event])
    assert done.outcome is ReportOutcome.FOREIGN


def test_providers_own_suppression_is_taken_over_and_tagged(database: Database) -> None:
    subscribe(database, NOW)
    event = {"event": "dropped", "email": "ana@example.com", "reason": "Bounced Address"}
    (done,) = recorded(database, "sendgrid", [event])
    assert (done.effect, done.bounce_class) == (Effect.SUPPRESSED, "invalid_mailbox")
    with database.reading() as session:
        details = session.scalars(select(StoredReport.details)).one()
    assert details["text"].startswith("sendgrid suppresses it")


def test_stored_events_are_judged_again_by_the_same_tables(database: Database) -> None:
    subscribe(database, NOW)
    recorded(database, "mailjet", [{"event": "bounce", "email": "ana@example.com", "hard_bounce": True}])
    assert list(reclassify(database, SIGNER, at=NOW, rules=Rules())) == []


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
flat = st.lists(leaves, max_size=3) | st.dictionaries(st.text(max_size=8), leaves, max_size=3)
_KEYS = [
    "event", "email", "Message", "msys", "event-data", "signature", "RecordType", "timestamp", "Type",
    "recipient", "message", "headers", "mail", "time", "error",
]  # fmt: skip


@given(st.sampled_from(list(TABLES)), st.dictionaries(st.sampled_from(_KEYS), leaves | flat, max_size=5))
def test_any_payload_is_read_or_refused(provider: str, payload: dict[str, Any]) -> None:
    assert all(event.kind in EventKind for event in events_of(provider, payload))


@given(st.sampled_from(list(TABLES)), st.binary(max_size=200), st.text(max_size=40))
def test_any_octets_are_refused_without_a_proof(provider: str, body: bytes, kind: str) -> None:
    assert refusal(provider, {"content-type": kind}, body) in (400, 401)
