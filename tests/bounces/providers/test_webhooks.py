"""Providers' webhooks: which requests are believed."""

from __future__ import annotations

import base64
import json
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from mailer.audience.subscribers import get
from mailer.bounces.providers.events import EventKind, Reason, WebhookEvent
from mailer.bounces.providers.proofs import Secrets, WebhookError
from mailer.bounces.providers.requests import MAX_BODY_OCTETS, MAX_DEPTH, MAX_EVENTS, Request, decode
from mailer.bounces.providers.webhooks import PROVIDERS, events_of, parse_webhook
from mailer.bounces.reclassify import reclassify
from mailer.bounces.record import Effect, Recorded, ReportOutcome, Rules, record_events
from mailer.database.engine import Database
from mailer.database.tables import StoredReport, SubscriberStatus
from mailer.delivery.candidates import still_mailable
from tests.bounces.providers.signing import (
    BASIC,
    BOUNCES,
    NOW,
    PASSWORDS,
    REQUESTS,
    SECRETS,
    SES_BOUNCE,
    SNS,
    TOPIC,
    signed_mailgun,
    signed_mandrill,
    signed_postal,
    signed_resend,
    signed_sendgrid,
    signed_ses,
    with_password,
)
from tests.bounces.reports import SIGNER, subscribe, token
from tests.conftest import SHARED, missing

# Where the time is part of what is signed.
DATED = {"ses": signed_ses, "sendgrid": signed_sendgrid, "mailgun": signed_mailgun, "resend": signed_resend}
SIGNED = sorted(set(PROVIDERS) - set(PASSWORDS))


def parsed(
    provider: str, headers: dict[str, str], body: bytes, secrets: Secrets = SECRETS, now: datetime = NOW
) -> list[WebhookEvent]:
    return parse_webhook(provider, Request(headers, body, now), secrets)


def recorded(database: Database, provider: str, payload: Any) -> list[Recorded]:
    return record_events(database, SIGNER, events_of(provider, payload), at=NOW, rules=Rules())


def refusal(
    provider: str, headers: dict[str, str], body: bytes, *, secrets: Secrets = SECRETS, now: datetime = NOW
) -> int:
    with pytest.raises(WebhookError) as refused:
        parsed(provider, headers, body, secrets, now)
    return refused.value.status


def corpus() -> list[dict[str, Any]]:
    path = SHARED / "corpus" / "webhooks" / "payloads.jsonl"
    if not path.exists():
        missing("../shared/corpus/webhooks/payloads.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_real_payloads_give_their_events() -> None:
    wrong = []
    for number, row in enumerate(corpus()):
        provider = {"amazon_ses": "ses"}.get(row["provider"], row["provider"])
        payload = decode(Request({"content-type": row["content_type"]}, row["body"].encode(), NOW))
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


@pytest.mark.parametrize("provider", list(PROVIDERS))
def test_genuine_request_is_a_bounce_and_suppresses(database: Database, provider: str) -> None:
    ana = subscribe(database, NOW - timedelta(days=9))
    events = parsed(provider, *REQUESTS[provider]())
    (done,) = record_events(database, SIGNER, events, at=NOW, rules=Rules())
    assert (done.effect, done.hard) == (Effect.SUPPRESSED, True)
    with database.reading() as connection:
        found = get(connection, ana)
    assert found is not None
    assert found.status is SubscriberStatus.BOUNCED


STOPPED_BY = {
    Reason.NONE: SubscriberStatus.ACTIVE,
    Reason.OTHER: SubscriberStatus.ACTIVE,
    Reason.INVALID: SubscriberStatus.BOUNCED,
    Reason.BOUNCED: SubscriberStatus.BOUNCED,
    Reason.UNSUBSCRIBED: SubscriberStatus.UNSUBSCRIBED,
    Reason.SPAM: SubscriberStatus.COMPLAINED,
}


@pytest.mark.parametrize("reason", Reason)
def test_suppression_by_the_provider_stops_mail_and_a_refusal_of_us_does_not(
    database: Database, reason: Reason
) -> None:
    ana = subscribe(database, NOW - timedelta(days=9))
    event = WebhookEvent(
        "mandrill", EventKind.REJECTED, recipient="ana@example.com", reason=reason, at=NOW,
        payload={"event": "reject", "msg": {"email": "ana@example.com"}},
    )  # fmt: skip
    record_events(database, SIGNER, [event], at=NOW, rules=Rules())
    with database.reading() as connection:
        found = get(connection, ana)
        assert still_mailable(connection, [ana], at=NOW) == (
            {ana} if STOPPED_BY[reason] is SubscriberStatus.ACTIVE else set()
        )
    assert found is not None
    assert found.status is STOPPED_BY[reason]


@pytest.mark.parametrize("version", ["1", "2"])
def test_both_signature_versions_of_sns_are_read(version: str) -> None:
    assert [event.kind for event in parsed("ses", *signed_ses(version=version))] == [EventKind.BOUNCED]


@pytest.mark.parametrize("version", ["1", "256"])
def test_both_signatures_of_postal_are_read(version: str) -> None:
    assert [event.kind for event in parsed("postal", *signed_postal(version))] == [EventKind.BOUNCED]


@pytest.mark.parametrize("provider", list(DATED))
@pytest.mark.parametrize("shift", [timedelta(days=2), timedelta(minutes=-10)])
def test_request_from_another_time_is_refused(provider: str, shift: timedelta) -> None:
    assert refusal(provider, *REQUESTS[provider](), now=NOW + shift) == 401


@pytest.mark.parametrize("provider", SIGNED)
def test_changed_request_is_refused(provider: str) -> None:
    headers, body = REQUESTS[provider]()
    changed = body.replace(b'"ttttt', b'"xtttt').replace(b"example.com", b"example.net")
    if provider == "mailgun":
        changed = body.replace(b'"ttttt', b'"xtttt')
    assert changed != body
    assert refusal(provider, headers, changed) == 401


@pytest.mark.parametrize("provider", PASSWORDS)
@pytest.mark.parametrize("given", ["", "Basic aG9vazp4", "Bearer x", "Bearer hook:word", "Basic \u00e9"])
def test_wrong_password_is_refused(provider: str, given: str) -> None:
    headers, body = REQUESTS[provider]()
    assert refusal(provider, {**headers, "authorization": given}, body) == 401


def test_secret_without_a_colon_is_a_bearer_token() -> None:
    secrets = Secrets(values={"brevo": "a-token"})
    headers, body = REQUESTS["brevo"]()
    good = {**headers, "authorization": "Bearer a-token"}
    assert [event.kind for event in parsed("brevo", good, body, secrets)] == [EventKind.BOUNCED]
    assert refusal("brevo", {**headers, "authorization": "Bearer other"}, body, secrets=secrets) == 401


@pytest.mark.parametrize("provider", sorted({*PASSWORDS, "mailgun", "ses"}))
def test_truncated_body_is_refused(provider: str) -> None:
    headers, body = REQUESTS[provider]()
    assert refusal(provider, headers, body[:-20]) == 400


@pytest.mark.parametrize("provider", list(PROVIDERS))
def test_huge_body_is_refused_unread(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailer.bounces.providers.webhooks.decode", lambda _: pytest.fail("decoded"))
    headers, _ = REQUESTS[provider]()
    assert PROVIDERS[provider].max_octets <= MAX_BODY_OCTETS
    assert refusal(provider, headers, b"[" * (PROVIDERS[provider].max_octets + 1)) == 413


@pytest.mark.parametrize("provider", [*PROVIDERS, "unheard-of"])
def test_provider_that_is_not_configured_is_not_found(provider: str) -> None:
    headers, body = REQUESTS.get(provider, REQUESTS["ses"])()
    assert refusal(provider, headers, body, secrets=Secrets()) == 404


@pytest.mark.parametrize("provider", [*PROVIDERS, "unheard-of"])
@pytest.mark.parametrize("secrets", [Secrets(), SECRETS])
def test_nothing_is_decoded_without_a_proof(
    provider: str, secrets: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(_: Request) -> Any:
        raise AssertionError("decoded before the proof was checked")

    monkeypatch.setattr("mailer.bounces.providers.webhooks.decode", decoded)
    headers = {"content-type": "multipart/form-data; boundary=b"}
    if provider == "mailgun":  # Its proof is inside the body; the bounds of that have a test below.
        secrets = Secrets()
    assert refusal(provider, headers, b"--b\r\n", secrets=secrets) in (401, 404)


@pytest.mark.parametrize("provider", ["mailersend", "mailtrap", "postal", "resend", "sendgrid"])
def test_nothing_is_decoded_under_a_wrong_signature(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(_: Request) -> Any:
        raise AssertionError("decoded before the signature was checked")

    monkeypatch.setattr("mailer.bounces.providers.webhooks.decode", decoded)
    headers, body = REQUESTS[provider]()
    assert refusal(provider, headers, body + b" ") == 401


def nested(levels: int) -> Any:
    found: Any = "x"
    for level in range(levels):
        found = {"a": found} if level % 2 else [found]
    return found


def deep_request(provider: str, levels: int) -> tuple[dict[str, str], bytes]:
    """Return a genuine request with an event nested that deeply."""
    match provider:
        case "mailgun":
            headers, body = signed_mailgun()
            return headers, json.dumps({**json.loads(body), "user-variables": nested(levels - 1)}).encode()
        case "mandrill":
            return signed_mandrill([{"event": "open", "a": nested(levels - 2)}])
        case "ses":
            headers, body = signed_ses()
            return headers, json.dumps({**json.loads(body), "unsigned": nested(levels - 1)}).encode()
        case _:
            return with_password({"event": "opened", "a": nested(levels - 1)})


@pytest.mark.parametrize("provider", ["mailgun", "mandrill", "ses", "brevo"])
def test_nesting_is_bounded_even_in_genuine_requests(provider: str) -> None:
    assert len(parsed(provider, *deep_request(provider, MAX_DEPTH))) == 1
    for levels in (MAX_DEPTH + 1, 900):
        assert refusal(provider, *deep_request(provider, levels)) == 400


def test_deep_message_inside_a_notification_means_nothing() -> None:
    events = parsed("ses", *signed_ses(Message=json.dumps(nested(200))))
    assert [event.kind for event in events] == [EventKind.UNKNOWN]


@pytest.mark.parametrize("provider", ["mailgun", "mandrill"])
def test_forms_have_a_bounded_number_of_fields(provider: str) -> None:
    headers = {**REQUESTS[provider]()[0], "content-type": "application/x-www-form-urlencoded"}
    assert refusal(provider, headers, b"&".join([b"a=b"] * 200)) == 401
    assert refusal(provider, headers, b"&".join([b"a=b"] * 201)) == 400


@pytest.mark.parametrize("provider", ["brevo", "mandrill"])
def test_requests_have_a_bounded_number_of_events(provider: str) -> None:
    def request(number: int) -> tuple[dict[str, str], bytes]:
        events = [{"event": "open"}] * number
        return signed_mandrill(events) if provider == "mandrill" else with_password(events)

    assert len(parsed(provider, *request(MAX_EVENTS))) == MAX_EVENTS
    assert refusal(provider, *request(MAX_EVENTS + 1)) == 413


def filled(provider: str, start: bytes, unit: bytes) -> bytes:
    octets = PROVIDERS[provider].max_octets
    return (start + unit * (octets // len(unit)))[:octets]


@pytest.mark.parametrize(
    ("provider", "start", "unit"),
    [
        ("mandrill", b"mandrill_events=", b"%5B"),
        ("mandrill", b"mandrill_events=", b"%"),
        ("mandrill", b"", b"a=b&"),
        ("mandrill", b"", b";"),
        ("ses", b"", b"["),
        ("ses", b"", b'{"a":'),
        ("ses", b'{"Message":"', b"\\u005b"),
        ("ses", b"[", b"{},"),
        ("ses", b"[", b"[],"),
    ],
)
def test_largest_bodies_without_a_proof_take_little_time(provider: str, start: bytes, unit: bytes) -> None:
    headers, _ = REQUESTS[provider]()
    begun = time.process_time()
    assert refusal(provider, headers, filled(provider, start, unit)) in (400, 401)
    assert time.process_time() - begun < 1.5


PART = b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n"


def nested_multipart(depth: int, octets: int) -> bytes:
    opened = b"".join(
        b"--b%d\r\nContent-Disposition: form-data; name=a\r\n"
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n" % (level, level + 1)
        for level in range(depth)
    )
    return (opened * (octets // len(opened) + 1))[:octets]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data; boundary=b0", nested_multipart(1000, 250_000)),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n" * 4000,
        ),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"A: b\r\n" * 40_000),
        ("multipart/form-data; boundary=b", b"--b\r\nA: " + b" " * 250_000),
        ("multipart/form-data; boundary=b", b"\r\n--" * 60_000),
        ("multipart/form-data", b"x" * 250_000),
        ("application/x-www-form-urlencoded", b"a=b&" * 60_000),
        ("application/x-www-form-urlencoded", b"%" * 250_000),
        ("application/json", b"[" * 250_000),
        ("application/json", b'{"a":' * 50_000),
        ("application/json", b"9" * 250_000),
    ],
)
def test_bodies_decoded_before_their_proof_take_little_time(kind: str, body: bytes) -> None:
    start = time.process_time()
    assert refusal("mailgun", {"content-type": kind}, body) in (400, 401)
    assert time.process_time() - start < 0.5


def test_multipart_form_is_read() -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="event"\r\n\r\nbounced\r\n'
        b'--b\r\nContent-Disposition: form-data; name="event"\r\n\r\nagain \xc3\xa9\r\n--b--\r\n'
    )
    found = decode(Request({"content-type": "multipart/form-data; boundary=b"}, body, NOW))
    assert found == {"event": ["bounced", "again \u00e9"]}


def test_raw_sns_and_eventbridge_need_a_password() -> None:
    raw = {"content-type": "text/plain", "x-amz-sns-topic-arn": TOPIC, "x-amz-sns-rawdelivery": "true",
           "x-amz-sns-message-type": "Notification"}  # fmt: skip
    event = {"version": "0", "id": "e", "detail-type": "Email Bounced", "source": "aws.ses",
             "time": "2026-03-02T09:00:00Z", "detail": {**SES_BOUNCE, "eventType": "Bounce"}}  # fmt: skip
    both = Secrets(values={"ses": "hook:word"}, ses_topics=(TOPIC,))
    for headers, body in ((raw, json.dumps(SES_BOUNCE)), ({}, json.dumps(event))):
        found = parsed("ses", {**headers, **BASIC}, body.encode(), both)
        assert [(one.kind, one.recipient) for one in found] == [(EventKind.BOUNCED, "ana@example.com")]
        assert refusal("ses", headers, body.encode(), secrets=both) == 401
        assert refusal("ses", headers, body.encode()) == 401
    # The password does not replace the signature of a notification that should have one.
    headers, forged = signed_ses()
    assert refusal("ses", {**headers, **BASIC}, forged.replace(b"ana@", b"bob@"), secrets=both) == 404


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
    with database.reading() as connection:
        views = [get(connection, one) for one in (ana, bo)]
        assert [view and view.status.value for view in views] == ["complained", "unsubscribed"]
        assert connection.scalar(select(func.count()).select_from(StoredReport)) == 3


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
    with database.reading() as connection:
        details = connection.scalars(select(StoredReport.c.details)).one()
    assert details["text"].startswith("sendgrid suppresses the address")


@pytest.mark.parametrize("provider", sorted(BOUNCES))
def test_stored_events_are_judged_again_by_the_same_tables(database: Database, provider: str) -> None:
    subscribe(database, NOW - timedelta(days=9))
    payload = BOUNCES[provider]
    recorded(database, provider, payload["events"] if provider == "mailtrap" else payload)
    assert list(reclassify(database, SIGNER, at=NOW, rules=Rules())) == []


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
flat = st.lists(leaves, max_size=3) | st.dictionaries(st.text(max_size=8), leaves, max_size=3)
_KEYS = [
    "event", "email", "Message", "msys", "event-data", "signature", "RecordType", "timestamp", "Type",
    "recipient", "message", "headers", "mail", "time", "error", "data", "type", "payload", "msg", "detail",
    "ts_epoch", "bounce", "eventType",
]  # fmt: skip


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(list(PROVIDERS)), st.dictionaries(st.sampled_from(_KEYS), leaves | flat, max_size=5))
def test_any_payload_is_read_or_refused(provider: str, payload: dict[str, Any]) -> None:
    assert all(event.kind in EventKind for event in events_of(provider, payload))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(list(PROVIDERS)), st.binary(max_size=200), st.text(max_size=40))
def test_any_octets_are_refused_without_a_proof(provider: str, body: bytes, kind: str) -> None:
    assert refusal(provider, {"content-type": kind}, body) in (400, 401)


def test_confirmation_leads_to_the_topics_host_alone() -> None:
    kind = "SubscriptionConfirmation"
    good = f"{SNS}?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=abc"
    (event,) = parsed("ses", *signed_ses(SubscribeURL=good, Type=kind, Token="abc"))
    assert (EventKind.CONFIRM, good) == (event.kind, event.url)
    for bad in (
        "https://127.0.0.1/?Action=ConfirmSubscription&Token=abc",
        "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=abc",
        "https://sns.us-east-1.amazonaws.com/?Action=Publish&Token=abc",
    ):
        assert refusal("ses", *signed_ses(SubscribeURL=bad, Type=kind, Token="abc")) == 401


def test_confirmation_of_scaleway_leads_to_scaleway_alone() -> None:
    good = "https://sns.mnq.fr-par.scaleway.com?Action=ConfirmSubscription&Token=abc"
    payload = {"Type": "SubscriptionConfirmation", "SubscribeURL": good}
    (event,) = parsed("scaleway", *with_password(payload))
    assert (EventKind.CONFIRM, good) == (event.kind, event.url)
    for bad in ("https://127.0.0.1/", "https://sns.mnq.fr-par.scaleway.com.evil.example/?a=b"):
        assert refusal("scaleway", *with_password({**payload, "SubscribeURL": bad})) == 401


def test_password_may_hold_any_character() -> None:
    secrets = Secrets(values={"postmark": "hook:w\u00f6rd:x"})
    proof = "Basic " + base64.b64encode("hook:w\u00f6rd:x".encode()).decode()
    headers, body = REQUESTS["postmark"]()
    assert parsed("postmark", {**headers, "authorization": proof}, body, secrets)
