"""RFC 8058 to the letter, and the page where a subscriber decides."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from mailer.audience.ledger import change_status
from mailer.audience.subscribers import history
from mailer.audience.transitions import Origin
from mailer.config import Newsletter, Tracking
from mailer.database.tables import Event, Subscriber, SubscriberStatus
from mailer.tokens import Signer, Subject
from tests.web.conftest import CROCUS, SECRET, OpenSite, Site, edition

ONE_CLICK = {"List-Unsubscribe": "One-Click"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_looking_at_the_link_changes_nothing(site: Site, method: str) -> None:
    subscriber = site.subscribe()
    for _ in range(10):
        answer = site.client.request(method, f"/u/{site.link(subscriber)}")
        assert answer.status_code == 200
    assert site.status(subscriber) == "active"


def test_options_names_the_methods_and_changes_nothing(site: Site) -> None:
    subscriber = site.subscribe()
    answer = site.client.options(f"/u/{site.link(subscriber)}")
    assert (answer.status_code, answer.headers["allow"]) == (204, "GET, HEAD, POST, OPTIONS")
    assert site.status(subscriber) == "active"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused(site: Site, method: str) -> None:
    subscriber = site.subscribe()
    assert site.client.request(method, f"/u/{site.link(subscriber)}").status_code == 405
    assert site.status(subscriber) == "active"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"data": ONE_CLICK}, id="urlencoded"),
        pytest.param({"files": {"List-Unsubscribe": (None, "One-Click")}}, id="multipart"),
        pytest.param({"data": ONE_CLICK, "headers": {"Cookie": "session=1"}}, id="with a cookie"),
        pytest.param(
            {"content": "List-Unsubscribe=One-Click", "headers": {"Content-Type": ""}}, id="without a type"
        ),
        pytest.param({"data": {"confirm": "yes"}}, id="the page's own button"),
    ],
)
def test_post_unsubscribes_immediately_and_can_be_repeated(site: Site, body: dict[str, Any]) -> None:
    subscriber, other = site.subscribe(), site.subscribe("al@example.org")
    for _ in range(2):
        answer = site.client.post(f"/u/{site.link(subscriber, 3)}", **body)
        assert (answer.status_code, site.status(subscriber)) == (200, "unsubscribed")
        assert "set-cookie" not in answer.headers
    assert site.status(other) == "active"


def test_ledger_says_which_way_and_which_issue(site: Site) -> None:
    subscriber = site.subscribe()
    site.client.post(f"/u/{site.link(subscriber, 3)}", data=ONE_CLICK)
    with site.database.reading() as connection:
        lines = history(connection, subscriber)
    assert [(line.after, line.way, line.ip) for line in lines[1:]] == [
        ("unsubscribed", "one-click", "127.0.0.1")
    ]


def test_200_means_that_it_is_on_the_disk(site: Site) -> None:
    subscriber = site.subscribe()
    assert site.client.post(f"/u/{site.link(subscriber)}", data=ONE_CLICK).status_code == 200
    assert site.database.path is not None
    with sqlite3.connect(site.database.path) as connection:
        assert connection.execute("SELECT status FROM subscribers").fetchall() == [("unsubscribed",)]
    connection.close()


@pytest.mark.parametrize("data", [{}, {"List-Unsubscribe": "No"}, {"confirm": "no"}, {"other": "yes"}])
def test_post_that_does_not_ask_changes_nothing(site: Site, data: dict[str, str]) -> None:
    subscriber = site.subscribe()
    assert site.client.post(f"/u/{site.link(subscriber)}", data=data).status_code == 400
    assert site.status(subscriber) == "active"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_tokens_change_nothing(site: Site, data: st.DataObject) -> None:
    subscriber = site.subscribe()
    token = site.link(subscriber)
    place = data.draw(st.integers(0, len(token) - 1))
    damaged = data.draw(
        st.sampled_from(
            [
                token[:place] or "x",
                token + "A",
                token[:place] + ("a" if token[place] != "a" else "b") + token[place + 1 :],
            ]
        )
    )
    assert site.client.post(f"/u/{damaged}", data=ONE_CLICK).status_code == 404
    assert site.client.get(f"/u/{damaged}").status_code == 404
    assert site.status(subscriber) == "active"


def test_tokens_of_other_purposes_and_other_installations_are_refused(site: Site) -> None:
    subscriber = site.subscribe()
    subject = Subject(3, subscriber)
    for token in (
        site.signer.confirmation(subject),
        site.signer.return_path(subject),
        Signer([b"another secret of another place"]).link(subject),
    ):
        assert site.client.post(f"/u/{token}", data=ONE_CLICK).status_code == 404
    assert site.status(subscriber) == "active"


def test_link_signed_before_the_key_was_rotated_still_works(open_site: OpenSite) -> None:
    with open_site(secrets=(SECRET, b"a newer secret, which signs now!")) as site:
        subscriber = site.subscribe()
        old = Signer([SECRET]).link(Subject(3, subscriber))
        assert old != site.link(subscriber, 3)
        assert site.client.post(f"/u/{old}", data=ONE_CLICK).status_code == 200
        assert site.status(subscriber) == "unsubscribed"


@pytest.mark.parametrize("status", [SubscriberStatus.BOUNCED, SubscriberStatus.COMPLAINED])
def test_bounced_and_complained_people_can_still_unsubscribe(site: Site, status: SubscriberStatus) -> None:
    subscriber = site.subscribe()
    with site.database.transaction() as connection:
        change_status(connection, subscriber, status, origin=Origin("bounce"), at=datetime.now(UTC))
    assert site.client.post(f"/u/{site.link(subscriber)}", data=ONE_CLICK).status_code == 200
    assert site.status(subscriber) == "unsubscribed"


def test_erased_and_unknown_subscribers_get_an_answer_all_the_same(site: Site) -> None:
    erased = site.subscribe()
    with site.database.transaction() as connection:
        change_status(
            connection, erased, SubscriberStatus.ERASED, origin=Origin("command"), at=datetime.now(UTC)
        )
    for subscriber in (erased, 999_999):
        path = site.link(subscriber)
        assert site.client.post(f"/u/{path}", data=ONE_CLICK).status_code == 200
        assert "We have no address" in site.client.get(f"/u/{path}").text
        assert "We have no address" in site.client.get(f"/p/{path}").text
    assert site.status(erased) == "erased"


def test_long_bodies_are_refused(site: Site) -> None:
    subscriber = site.subscribe()
    answer = site.client.post(f"/u/{site.link(subscriber)}", content=b"x" * 100_000)
    assert (answer.status_code, site.status(subscriber)) == (413, "active")


def test_broken_multipart_is_a_bad_request(site: Site) -> None:
    subscriber = site.subscribe()
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=x"):
        answer = site.client.post(
            f"/u/{site.link(subscriber)}", content=b"--y\r\nnothing", headers={"Content-Type": content_type}
        )
        assert (answer.status_code, site.status(subscriber)) == (400, "active")


def test_database_that_refuses_never_gets_a_200(site: Site) -> None:
    subscriber = site.subscribe()
    assert site.database.path is not None
    with site.database.engine.connect() as connection:
        connection.exec_driver_sql("DROP TABLE consents")
        connection.commit()
    answer = site.client.post(f"/u/{site.link(subscriber)}", data=ONE_CLICK)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    assert site.status(subscriber) == "active"


def test_token_pages_are_neither_kept_nor_indexed_nor_told_on(site: Site) -> None:
    subscriber = site.subscribe()
    for path in (f"/u/{site.link(subscriber)}", f"/p/{site.link(subscriber)}", "/u/forged"):
        headers = site.client.get(path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-robots-tag"] == "noindex, nofollow"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["strict-transport-security"] == "max-age=31536000"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe-inline" not in headers["content-security-policy"]


def test_plain_http_on_this_machine_claims_no_strict_transport(open_site: OpenSite) -> None:
    with open_site(public_url="http://127.0.0.1:8600") as site:
        assert "strict-transport-security" not in site.client.get("/").headers


def test_page_shows_the_address_to_its_owner_and_not_to_a_stranger(site: Site) -> None:
    page = site.client.get(f"/u/{site.link(site.subscribe('jordan@example.org'))}").text
    assert "j•••@example.org" in page
    assert "jordan" not in page


def test_person_can_come_back_alone_and_only_by_post(site: Site) -> None:
    subscriber = site.subscribe()
    path = f"/p/{site.link(subscriber)}"
    site.client.post(path, data={"action": "unsubscribe"})
    assert site.status(subscriber) == "unsubscribed"
    assert "Subscribe again" in site.client.get(path).text
    assert site.status(subscriber) == "unsubscribed"
    assert "You are subscribed again." in site.client.post(path, data={"action": "subscribe"}).text
    assert site.status(subscriber) == "active"


def test_bounced_address_does_not_come_back_by_the_page(site: Site) -> None:
    subscriber = site.subscribe()
    with site.database.transaction() as connection:
        change_status(
            connection, subscriber, SubscriberStatus.BOUNCED, origin=Origin("bounce"), at=datetime.now(UTC)
        )
    answer = site.client.post(f"/p/{site.link(subscriber)}", data={"action": "subscribe"})
    assert (answer.status_code, site.status(subscriber)) == (409, "bounced")


def test_name_is_changed_and_written_out_as_text(site: Site) -> None:
    subscriber = site.subscribe()
    page = site.client.post(
        f"/p/{site.link(subscriber)}", data={"action": "name", "name": '"><script>alert(1)</script>'}
    ).text
    assert "<script" not in page
    assert "&#34;&gt;&lt;script&gt;" in page
    with site.database.reading() as connection:
        stored = connection.scalars(select(Subscriber.c.name).where(Subscriber.c.id == subscriber)).one()
        assert stored == '"><script>alert(1)</script>'


@pytest.mark.parametrize("name", ["Jo\r\nBcc: all@example.org", "Jo\u202eoJ", "=?utf-8?q?Jo?=", "J" * 101])
def test_names_that_must_not_reach_a_header_are_refused(site: Site, name: str) -> None:
    subscriber = site.subscribe(name="Jo")
    answer = site.client.post(f"/p/{site.link(subscriber)}", data={"action": "name", "name": name})
    assert answer.status_code == 400
    with site.database.reading() as connection:
        stored = connection.scalars(select(Subscriber.c.name).where(Subscriber.c.id == subscriber)).one()
        assert stored == "Jo"


def test_newsletter_name_is_escaped(open_site: OpenSite) -> None:
    with open_site(newsletter=Newsletter(name="<b>Bold</b> & Co")) as site:
        page = site.client.get(f"/u/{site.link(site.subscribe())}").text
    assert "<b>" not in page
    assert "&lt;b&gt;Bold&lt;/b&gt; &amp; Co" in page


def test_scanner_that_follows_every_link_ten_times_changes_nothing(site: Site) -> None:
    subscriber, asked = site.subscribe(), site.subscribe("al@example.org")
    with site.database.transaction() as connection:
        connection.execute(
            update(Subscriber).where(Subscriber.c.id == asked).values(status=SubscriberStatus.PENDING)
        )
    issue = site.issue(edition())
    token = site.link(subscriber, issue)
    confirm = site.signer.confirmation(Subject(0, asked))
    paths = [
        f"/u/{token}",
        f"/p/{token}",
        f"/p/{token}/data",
        f"/p/{token}/erase",
        f"/confirm/{confirm}",
        f"/c/{token}/0",
        f"/o/{token}.gif",
        "/archive/007-spring",
        f"/archive/007-spring/{CROCUS.name}",
        "/subscribe",
    ]
    before = everything_in(site)
    for path in paths * 10:
        for method in ("HEAD", "GET"):
            answer = site.client.request(method, path)
            assert (path, answer.status_code in (200, 302)) == (path, True)
    # What only a form changes, a GET of its address does not even find.
    for path in (f"/p/{token}/pause", f"/p/{token}/tracking"):
        assert site.client.get(path).status_code == 405
    assert everything_in(site) == before


def test_scanner_is_counted_as_a_machine_and_changes_nothing_where_opens_and_clicks_are_noted(
    open_site: OpenSite,
) -> None:
    with open_site(tracking=Tracking(opens=True, clicks=True)) as site:
        subscriber = site.subscribe()
        with site.database.transaction() as connection:
            connection.execute(
                update(Subscriber).where(Subscriber.c.id == subscriber).values(tracking_consent=True)
            )
        token = site.link(subscriber, site.issue(edition()))
        before = [line for line in everything_in(site) if '"events"' not in line]
        for path in [f"/c/{token}/0", f"/o/{token}.gif", f"/u/{token}", f"/p/{token}"] * 10:
            for method in ("HEAD", "GET"):
                answer = site.client.request(method, path, headers={"User-Agent": "LinkScanner/1.0 (bot)"})
                assert (path, answer.status_code in (200, 302)) == (path, True)
        # What was handed to the writer before this has been written after it.
        assert site.client.post(f"/u/{site.link(999_999)}", data={"confirm": "yes"}).status_code == 200
        with site.database.reading() as connection:
            events = connection.execute(select(Event.c.kind, Event.c.details)).all()
        assert Counter(kind for kind, _ in events) == {"click": 10, "open": 10}
        assert {details.get("machine") for _, details in events} == {"scanner"}
        assert [line for line in everything_in(site) if '"events"' not in line] == before


def everything_in(site: Site) -> list[str]:
    """Return the whole database as SQL."""
    assert site.database.path is not None
    with contextlib.closing(sqlite3.connect(site.database.path)) as connection:
        return list(connection.iterdump())
