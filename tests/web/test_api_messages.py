"""Messages by the API: sent once to one subscriber, like a letter, and never to a suppressed address."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from mailer.api_tokens import Scope
from mailer.audience import ledger
from mailer.audience.transitions import Origin
from mailer.database.tables import SubscriberStatus, WaitingLetter
from mailer.delivery import letters
from tests.web.conftest import AT, OpenSite
from tests.web.test_api_issues import NEWSLETTER, TEMPLATES, Client


@pytest.fixture
def api(open_site: OpenSite) -> Iterator[Client]:
    with open_site(own=TEMPLATES, newsletter=NEWSLETTER) as opened:
        yield Client(opened, *Scope)


def send(api: Client, key: str = "k1", **changed: Any) -> httpx.Response:
    body = {"to": "jo@example.org", "subject": "Your order", "text": "Dear {{ subscriber.name }}, *sent*."}
    return api("POST", "/messages", json=body | changed, headers={"Idempotency-Key": key})


def test_message_is_sent_once_however_often_it_is_requested(api: Client) -> None:
    api.site.subscribe()
    first = send(api)
    assert (first.status_code, first.json()["status"]) == (202, "queued")
    assert send(api).json() == first.json()
    assert send(api, text="Another text").status_code == 409
    assert send(api, "k2", subject='Receipt: {x} "1"').status_code == 202
    found = {str(letter["Subject"]): letter for letter in api.site.letters(2)}
    assert set(found) == {"Your order", 'Receipt: {x} "1"'}
    assert found["Your order"]["To"] == "Jo <jo@example.org>"
    plain = found["Your order"].get_body(("plain",))
    assert plain is not None
    assert "Dear Jo, " in plain.get_content()


@pytest.mark.parametrize("to", [SubscriberStatus.BOUNCED, SubscriberStatus.COMPLAINED])
def test_suppressed_address_gets_none(api: Client, to: SubscriberStatus) -> None:
    jo = api.site.subscribe()
    with api.site.database.transaction() as connection:
        ledger.change_status(connection, jo, to, origin=Origin("bounce"), at=AT)
    assert send(api).status_code == 409
    with api.site.database.reading() as connection:
        assert connection.scalars(select(WaitingLetter.c.id)).all() == []


def test_address_that_is_suppressed_after_the_request_gets_none(open_site: OpenSite) -> None:
    with open_site(own=TEMPLATES, newsletter=NEWSLETTER) as site:
        jo = site.subscribe()
        with site.database.transaction() as connection:
            letters.put_message(connection, jo, "---\ntitle: x\n---\n", at=AT)
            ledger.suppress(connection, "jo@example.org", "manual", at=AT)
            assert letters.claim(connection, limit=5, at=AT, hold=timedelta(minutes=1)) == []
    with open_site(own=TEMPLATES, newsletter=NEWSLETTER) as site, site.database.reading() as connection:
        assert connection.scalars(select(WaitingLetter.c.id)).all() == []


def test_person_who_unsubscribed_gets_a_receipt(api: Client) -> None:
    jo = api.site.subscribe()
    with api.site.database.transaction() as connection:
        ledger.unsubscribe(connection, jo, origin=Origin("page"), at=AT)
    assert send(api).status_code == 202
    assert len(api.site.letters(1)) == 1


def test_unknown_address_and_broken_text_are_explained(api: Client) -> None:
    assert send(api).status_code == 404
    api.site.subscribe()
    assert send(api, text="{% if").status_code == 422
    assert send(api, to="nobody").status_code == 422
    assert send(api, subject="a\r\nBcc: b@example.org").status_code in (202, 422)
    for letter in api.site.letters(0):
        assert letter["Bcc"] is None


def test_message_needs_its_scope(api: Client) -> None:
    api.site.subscribe()
    assert send(Client(api.site, *(set(Scope) - {Scope.SEND_MESSAGES}))).status_code == 403
    assert send(Client(api.site, Scope.SEND_MESSAGES)).status_code == 202
