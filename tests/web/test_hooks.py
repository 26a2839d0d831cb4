"""The address that providers call: what is answered, and what is kept."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
from sqlalchemy import func, select

from mailer.bounces.record import Rules
from mailer.bounces.webhook_signatures import Secrets
from mailer.config import Brand, Newsletter, Tracking
from mailer.database.models import StoredReport
from mailer.database.session import Database
from mailer.web.hooks import Hooks
from mailer.web.public import create_app
from tests.bounces.reports import SIGNER, subscribe
from tests.web.conftest import serving

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PROOF = {"authorization": "Basic " + base64.b64encode(b"hook:word").decode()}
BOUNCE = {"event": "bounce", "email": "ana@example.com", "hard_bounce": True, "error": "user unknown"}


@pytest.fixture
def client(database: Database) -> Iterator[httpx.Client]:
    hooks = Hooks(
        database, SIGNER, secrets=Secrets(basic={"mailjet": "hook:word"}), rules=Rules(), clock=lambda: NOW
    )
    app = create_app(
        database, SIGNER, newsletter=Newsletter(), brand=Brand(), public_url="http://127.0.0.1:8600",
        tracking=Tracking(), send_confirmation=lambda recipient: None, hooks=hooks,
    )  # fmt: skip
    with serving(app) as url, httpx.Client(base_url=url) as made:
        yield made


def kept(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(StoredReport)) or 0


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


def test_get_is_no_webhook(client: httpx.Client) -> None:
    assert client.get("/hooks/mailjet").status_code == 405
