"""The address that providers call: what is answered, and what is kept."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import func, select

from mailer.bounces.providers.proofs import Secrets, WebhookError
from mailer.bounces.record import Rules
from mailer.config import Settings
from mailer.database.engine import Database
from mailer.database.tables import StoredReport
from mailer.web.app import create_app
from mailer.web.intake.hooks import RefusalLog, WebhookRoutes
from tests.bounces.providers.signing import (
    PASSWORDS,
    REQUESTS,
    SECRETS,
    Request,
    signed_mailgun,
    signed_resend,
    signed_sendgrid,
    signed_ses,
)
from tests.bounces.reports import SIGNER, subscribe
from tests.web.conftest import NO_TLS, serving

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PROOF = {"authorization": "Basic " + base64.b64encode(b"hook:word").decode()}
BOUNCE = {"event": "bounce", "email": "ana@example.com", "hard_bounce": True, "error": "user unknown"}


@contextmanager
def listening(database: Database, secrets: Secrets) -> Iterator[httpx.Client]:
    hooks = WebhookRoutes(database, SIGNER, secrets=secrets, rules=Rules(), clock=lambda: NOW)
    app = create_app(database, SIGNER, Settings(), hooks=hooks)
    with serving(app) as url, httpx.Client(base_url=url, timeout=60, verify=NO_TLS) as made:
        yield made


@pytest.fixture
def client(database: Database) -> Iterator[httpx.Client]:
    with listening(database, Secrets(values={"mailjet": "hook:word"})) as made:
        yield made


@pytest.fixture
def every_client(database: Database) -> Iterator[httpx.Client]:
    """A client of hooks that every provider is configured for."""
    with listening(database, SECRETS) as made:
        yield made


def kept(database: Database) -> int:
    with database.reading() as connection:
        return connection.scalar(select(func.count()).select_from(StoredReport)) or 0


def test_genuine_event_is_kept_before_the_answer(client: httpx.Client, database: Database) -> None:
    subscribe(database, NOW)
    answer = client.post("/hooks/mailjet", headers=PROOF, content=json.dumps([BOUNCE]))
    assert (answer.status_code, kept(database)) == (200, 1)


def test_batch_larger_than_a_pages_form_is_taken(client: httpx.Client, database: Database) -> None:
    batch = [{**BOUNCE, "email": f"r{number}@example.com", "comment": "x" * 500} for number in range(400)]
    assert client.post("/hooks/mailjet", headers=PROOF, content=json.dumps(batch)).status_code == 200
    assert kept(database) == 400


@pytest.mark.parametrize(
    ("provider", "headers", "body", "status"),
    [
        ("mailjet", {}, b"[]", 401),
        ("mailjet", PROOF, b'[{"event": "bou', 400),
        ("mailjet", PROOF, b" " * 10_000_000, 413),
        ("sendgrid", PROOF, b"[]", 404),
        ("nobody", PROOF, b"[]", 404),
    ],
)
def test_refused_request_is_stored_nowhere(
    client: httpx.Client,
    database: Database,
    provider: str,
    headers: dict[str, str],
    body: bytes,
    status: int,
) -> None:
    answer = client.post(f"/hooks/{provider}", headers=headers, content=body)
    assert (status, 0) == (answer.status_code, kept(database))


DATED = {"ses": signed_ses, "sendgrid": signed_sendgrid, "mailgun": signed_mailgun, "resend": signed_resend}


def fault_names(provider: str) -> list[str]:
    return ["cut", "ten megabytes", "no proof", "wrong proof", *(["old"] if provider in DATED else [])]


def faults(provider: str) -> dict[str, tuple[int, Request]]:
    """Return a provider's request with each fault, and the status that answers it."""
    headers, body = REQUESTS[provider]()
    # A signature of the whole body is checked before the body is decoded.
    is_read_first = provider in (*PASSWORDS, "mailgun", "ses")
    found: dict[str, tuple[int, Request]] = {
        "cut": (400 if is_read_first else 401, (headers, body[:-20])),
        "ten megabytes": (413, (headers, body + b" " * 10_000_000)),
        "no proof": (401, ({"content-type": headers["content-type"]}, body)),
    }
    if provider in PASSWORDS:
        found["wrong proof"] = (401, ({**headers, "authorization": "Basic aG9vazp4"}, body))
    else:
        changed = body.replace(b'"ttttt', b'"xtttt').replace(b"5.1.1", b"5.1.2").replace(b"ana", b"bob")
        found["wrong proof"] = (401, (headers, changed))
    if provider == "mailgun":
        found["no proof"] = found["wrong proof"]
    if provider in DATED:
        found["old"] = (401, DATED[provider](NOW - timedelta(days=2)))
    return found


@pytest.mark.parametrize(
    ("provider", "fault"),
    [(provider, fault) for provider in sorted(REQUESTS) for fault in fault_names(provider)],
)
def test_request_with_a_fault_is_stored_nowhere(
    every_client: httpx.Client, database: Database, provider: str, fault: str
) -> None:
    status, (headers, body) = faults(provider)[fault]
    answer = every_client.post(f"/hooks/{provider}", headers=headers, content=body)
    assert (status, 0) == (answer.status_code, kept(database))


@pytest.mark.parametrize("provider", sorted(REQUESTS))
def test_request_without_a_fault_is_taken(every_client: httpx.Client, provider: str) -> None:
    headers, body = REQUESTS[provider]()
    assert every_client.post(f"/hooks/{provider}", headers=headers, content=body).status_code == 200


def test_get_is_no_webhook(client: httpx.Client) -> None:
    assert client.get("/hooks/mailjet").status_code == 405


def test_pages_answer_while_a_client_floods_the_hooks(database: Database) -> None:
    """Nested multipart without a secret, from ten connections, and a reader meanwhile."""
    nested = b"".join(
        b'--x%d\r\nContent-Type: multipart/mixed; boundary="x%d"\r\n\r\n' % (n, n + 1) for n in range(1_000)
    )
    headers = {"content-type": 'multipart/form-data; boundary="x0"'}
    with listening(database, SECRETS) as client:
        codes: Counter[int] = Counter()

        def flood(_: int) -> None:
            with httpx.Client(base_url=client.base_url, timeout=60, verify=NO_TLS) as other:
                for _ in range(8):
                    codes[other.post("/hooks/mailgun", headers=headers, content=nested).status_code] += 1

        with ThreadPoolExecutor(10) as threads:
            flooding = [threads.submit(flood, number) for number in range(10)]
            waits: list[float] = []
            while not all(one.done() for one in flooding) or not waits:
                begun = time.monotonic()
                assert client.get("/subscribe").status_code == 200
                waits.append(time.monotonic() - begun)
        assert max(waits) < 5
        assert sum(codes.values()) == 80
        assert codes[429] >= 10
        refused = client.post("/hooks/mailgun", headers=headers, content=nested)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")


def test_providers_own_requests_are_never_limited(client: httpx.Client) -> None:
    codes = {client.post("/hooks/mailjet", headers=PROOF, content=b"[]").status_code for _ in range(80)}
    assert codes == {200}


def test_refused_requests_are_limited_for_each_client_alone(client: httpx.Client) -> None:
    def ask(ip: str) -> int:
        headers = PROOF | {"authorization": "Basic eDp5", "x-forwarded-for": ip}
        return client.post("/hooks/mailjet", headers=headers, content=b"[]").status_code

    assert [ask("192.0.2.1") for _ in range(61)] == [401] * 60 + [429]
    assert ask("192.0.2.2") == 401


def test_flood_of_refused_requests_is_one_line_in_the_log(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(100):
        client.post(f"/hooks/{'mailjet' if number % 2 else f'nobody{number}'}", content=b"[]")
    assert [record.getMessage() for record in caplog.records if record.name == "mailer.web.intake.hooks"] == [
        "webhook of an unknown provider refused with 404: no such provider",
        "webhook of mailjet refused with 401: the user, password or token is wrong",
    ]


def test_refusals_are_logged_once_a_minute_with_the_number_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = RefusalLog()
    seconds = [0, 1, 30, 59.9, 60, 61, 200, 10]
    with caplog.at_level(logging.WARNING, "mailer.web.intake.hooks"):
        for second in seconds:
            log.add("ses", WebhookError(401, f"second {second}"), at=NOW + timedelta(seconds=second))
    assert caplog.messages == [
        "webhook of ses refused with 401: second 0",
        "webhook of ses refused with 401: second 60 (3 more since the last line)",
        "webhook of ses refused with 401: second 200 (1 more since the last line)",
        # The clock was set back.
        "webhook of ses refused with 401: second 10",
    ]
