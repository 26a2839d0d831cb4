"""Double opt-in: who asks gets a letter, who confirms is subscribed, and nobody learns who is."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any

import lxml.html
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.event import listen

from mailer.address import parse_address
from mailer.audience.ledger import change_status
from mailer.audience.privacy.personal_data import personal_data
from mailer.audience.subscribers import find
from mailer.audience.transitions import Origin
from mailer.config import Brand
from mailer.database.tables import Consent, Event, Subscriber, SubscriberStatus, Wording
from mailer.delivery.sign_up import NewSignUp, store_requests
from mailer.tokens import Subject
from mailer.web.public.subscribe import embedded_form
from mailer.web.theme import Theme
from tests.web.conftest import OpenSite, Site

JO = "jo@example.org"


def ask(site: Site, address: str = JO, **fields: str) -> str:
    answer = site.client.post("/subscribe", data={"email": address} | fields)
    assert answer.status_code == 200
    return answer.text


def status_of(site: Site, address: str = JO) -> str | None:
    with site.database.reading() as connection:
        view = find(connection, parse_address(address))
    return None if view is None else view.status.value


def link_in(letter: EmailMessage) -> str:
    body = letter.get_body(("plain",))
    assert isinstance(body, EmailMessage)
    found = re.search(r"https://news\.example\.org(/confirm/[\w-]+)", body.get_content())
    assert found is not None
    return found[1]


def test_asking_brings_a_letter_and_its_button_subscribes(site: Site) -> None:
    ask(site, name="Jo")
    (letter,) = site.letters(1)
    assert letter["To"] == "jo@example.org"
    assert letter["Auto-Submitted"] == "auto-generated"
    assert status_of(site) == "pending"
    link = link_in(letter)
    for method in ("HEAD", "GET", "GET"):
        assert site.client.request(method, link).status_code == 200
    assert status_of(site) == "pending"
    for _ in range(2):
        assert "You are subscribed" in site.client.post(link, data={"confirm": "yes"}).text
    assert status_of(site) == "active"


def test_ledger_keeps_who_asked_where_and_what_the_form_said(site: Site) -> None:
    site.client.post("/subscribe", data={"email": JO}, headers={"accept-language": "de"})
    link = link_in(site.letters(1)[0])
    site.client.post(link, data={"confirm": "yes"})
    site.client.post("/subscribe", data={"email": "another@example.org"}, headers={"accept-language": "de"})
    site.letters(2)
    with site.database.reading() as connection:
        view = find(connection, parse_address(JO))
        assert view is not None
        told = personal_data(connection, view.id)
        assert connection.scalar(select(func.count()).select_from(Wording)) == 2
    assert told is not None
    lines = told["consents"]
    assert [(line["after"], line["way"], line["ip"], line["form"]) for line in lines] == [
        ("pending", "form", "127.0.0.1", "subscribe"),
        ("active", "form", "127.0.0.1", "confirm"),
    ]
    assert lines[0]["wording"].splitlines() == [
        "Abonnieren",
        "Lesen Sie The Weekly per E-Mail. Zuerst schicken wir Ihnen einen Link zur Bestätigung; "
        "abmelden können Sie sich mit einem Link in jeder Ausgabe.",
        "E-Mail-Adresse",
        "Name (freiwillig)",
        "Abonnieren",
    ]
    assert lines[1]["wording"].splitlines() == [
        "One more click",
        "Do you want to get The Weekly by email?",
        "Yes, subscribe me",
        "If you did not ask for it, just close this page.",
    ]


def test_answer_is_the_same_for_known_and_unknown_and_for_programs(site: Site) -> None:
    site.subscribe("known@example.org")
    pages = {ask(site, "known@example.org"), ask(site, "new@example.org"), ask(site, JO, website="x")}
    assert len(pages) == 1
    assert [letter["To"] for letter in site.letters(1)] == ["new@example.org"]
    assert status_of(site) is None


def test_answer_waits_for_the_same_statements_whatever_the_address(site: Site) -> None:
    """So its timing tells no more than its words: the request is stored, and nothing is looked up."""
    site.subscribe("known@example.org")
    executed: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if threading.current_thread().name == "mailer-writer":
            executed.append(statement)

    listen(site.database.engine, "before_cursor_execute", note)
    seen = []
    for address in ("known@example.org", "new@example.org"):
        executed.clear()
        ask(site, address)
        seen.append(list(executed))
    assert seen[0] == seen[1]
    assert [statement.split("(")[0] for statement in seen[0]] == [
        "BEGIN IMMEDIATE",
        "INSERT INTO sign_up_requests ",
    ]
    assert site.letters(1)[0]["To"] == "new@example.org"


def test_request_that_cannot_be_stored_is_never_answered_200(site: Site) -> None:
    with site.database.engine.connect() as connection:
        connection.exec_driver_sql("ALTER TABLE sign_up_requests RENAME TO away")
        connection.commit()
        answer = site.client.post("/subscribe", data={"email": JO, "name": "Jo <3"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
        assert "try again in a minute" in answer.text
        # The form still has what was typed.
        assert f'value="{JO}"' in answer.text
        assert 'value="Jo &lt;3"' in answer.text
        connection.exec_driver_sql("ALTER TABLE away RENAME TO sign_up_requests")
        connection.commit()
    assert site.client.post("/subscribe", data={"email": JO, "name": "Jo <3"}).status_code == 200
    assert [letter["To"] for letter in site.letters(1)] == [JO]


def test_request_that_a_stopped_server_left_behind_is_answered_at_the_next_start(open_site: OpenSite) -> None:
    with open_site() as site:
        stored = NewSignUp(parse_address(JO), Origin("form", form="subscribe"), datetime.now(UTC))
        with site.database.transaction() as connection:
            store_requests(connection, [stored])
    with open_site() as site:
        assert [letter["To"] for letter in site.letters(1)] == [JO]
        assert status_of(site) == "pending"


def test_one_letter_a_day_for_an_address(site: Site) -> None:
    ask(site)
    ask(site)
    ask(site, "after@example.org")
    assert sorted(letter["To"] for letter in site.letters(2)) == ["after@example.org", JO]
    with site.database.transaction() as connection:
        connection.execute(update(Event).values(at=datetime.now(UTC) - timedelta(hours=25)))
    ask(site)
    assert len(site.letters(3)) == 3


@pytest.mark.parametrize("status", [SubscriberStatus.UNSUBSCRIBED, SubscriberStatus.BOUNCED])
def test_who_left_comes_back_by_confirming_and_keeps_the_name(site: Site, status: SubscriberStatus) -> None:
    subscriber = site.subscribe(JO, name="Jo")
    with site.database.transaction() as connection:
        change_status(connection, subscriber, status, origin=Origin("command"), at=datetime.now(UTC))
    ask(site, "JO@example.org", name="A stranger")
    link = link_in(site.letters(1)[0])
    assert status_of(site) == status.value
    site.client.post(link, data={"confirm": "yes"})
    assert status_of(site) == "active"
    with site.database.reading() as connection:
        assert connection.scalar(select(Subscriber.c.name)) == "Jo"


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "should look like"),
        ({"email": "nobody"}, "should look like"),
        ({"email": "jo@example.org\r\nBcc: all@example.org"}, "should look like"),
        ({"email": JO, "name": "Jo\nBcc: all@example.org"}, "are not allowed in an email"),
        ({"email": JO, "name": "J" * 101}, "longer than 100"),
        ({"email": '"<script>"@example.org <b>'}, "should look like"),
    ],
)
def test_form_shows_the_error_and_keeps_the_input(site: Site, fields: dict[str, str], complaint: str) -> None:
    answer = site.client.post("/subscribe", data=fields)
    assert answer.status_code == 400
    assert "<script>" not in answer.text
    assert "<b>" not in answer.text
    page = lxml.html.fromstring(answer.text)
    assert complaint in str(page.xpath("string(//*[@id='problem'])"))
    typed = {field: page.xpath(f"string(//input[@name='{field}']/@value)") for field in ("email", "name")}
    assert typed == {field: fields.get(field, "").replace("\r\n", "\n") for field in typed}
    assert status_of(site) is None


def test_one_client_cannot_write_to_many(site: Site) -> None:
    answers = [
        site.client.post("/subscribe", data={"email": f"n{n}@example.org", "website": "x"}).status_code
        for n in range(12)
    ]
    assert answers == [200] * 10 + [429] * 2


def test_confirmation_needs_its_own_token_and_its_button(site: Site) -> None:
    subscriber = site.subscribe()
    with site.database.transaction() as connection:
        gone = Origin("command")
        change_status(
            connection, subscriber, SubscriberStatus.UNSUBSCRIBED, origin=gone, at=datetime.now(UTC)
        )
    right = site.signer.confirmation(Subject(0, subscriber))
    wrong = (site.link(subscriber), site.signer.return_path(Subject(0, subscriber)), right[:-1], "x")
    for token in wrong:
        assert site.client.get(f"/confirm/{token}").status_code == 404
        assert site.client.post(f"/confirm/{token}", data={"confirm": "yes"}).status_code == 404
    assert site.client.post(f"/confirm/{right}").status_code == 400
    assert site.status(subscriber) == "unsubscribed"


def test_erased_person_is_not_brought_back_by_an_old_letter(site: Site) -> None:
    subscriber = site.subscribe()
    with site.database.transaction() as connection:
        erased = SubscriberStatus.ERASED
        change_status(connection, subscriber, erased, origin=Origin("command"), at=datetime.now(UTC))
    path = f"/confirm/{site.signer.confirmation(Subject(0, subscriber))}"
    assert site.client.get(path).status_code == 404
    assert site.client.post(path, data={"confirm": "yes"}).status_code == 404
    assert site.status(subscriber) == "erased"


@pytest.mark.parametrize(
    ("origin", "note"),
    [
        ("https://robin.example.net", "on a page of https://robin.example.net"),
        ("null", ""),
        ("https://x.example/<script>", ""),
        ("", ""),
    ],
)
def test_ledger_distinguishes_forms_on_other_websites(site: Site, origin: str, note: str) -> None:
    form = embedded_form(
        Theme(Brand(), name="The Weekly", language="en").speaking("de-AT"), "https://x.example/"
    )
    assert form.startswith('<form method="post" action="https://x.example/subscribe"')
    page = lxml.html.fromstring(form)
    fields = {str(one.get("name")): str(one.get("value", "")) for one in page.iter("input")}
    assert fields == {"email": "", "name": "", "website": "", "form": "embedded-de"}
    ours = site.client.post("/subscribe", data={"email": "our@example.org"})
    theirs = site.client.post("/subscribe", data=fields | {"email": JO}, headers={"origin": origin})
    assert theirs.text == ours.text
    assert len(site.letters(2)) == 2
    with site.database.reading() as connection:
        lines = connection.execute(select(Consent).order_by(Consent.c.id)).all()
        assert [(line.form, line.note) for line in lines] == [("subscribe", ""), ("embedded", note)]
        assert lines[0].form_version != lines[1].form_version


def test_form_of_an_unknown_language_does_no_harm(site: Site) -> None:
    ask(site, form="embedded-" + "x-" * 10_000)
    assert len(site.letters(1)) == 1
