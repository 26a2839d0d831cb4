"""The pages of an issue that was amended: the newest edition, and links and images of all of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from lxml import etree
from sqlalchemy import insert, select, update

from mailer.config import Brand, Newsletter, Tracking
from mailer.database.tables import Delivery, DeliveryState, Event, IssueState
from mailer.delivery import amending, runs
from mailer.rendering.build import build_edition
from mailer.rendering.edition import Edition, InlineImage
from mailer.rendering.source import read_issue
from tests.web.conftest import AT, CROCUS, OpenSite, Site, edition

TULIP = InlineImage("tulip@example.org", "image/png", b"\x89PNG\r\n\x1a\nx")
FIRST = edition(images_published=True, links=("https://example.net/first",))
CORRECTED = replace(
    FIRST,
    title="Spring, corrected",
    page="<p>It is warm.</p>",
    images=(TULIP,),
    links=("https://example.net/first", "https://example.net/second"),
)
TEMPLATES = Path(__file__).parents[2] / "email_templates"


def amended(site: Site, issue: int, corrected: Edition = CORRECTED) -> None:
    with site.database.transaction() as connection:
        connection.execute(
            insert(Delivery),
            [
                {"issue_id": issue, "subscriber_id": 1001, "state": DeliveryState.SENT.value},
                {"issue_id": issue, "subscriber_id": 1002, "state": DeliveryState.QUEUED.value},
            ],
        )
        amending.amend(connection, issue, corrected, source_path="", at=AT + timedelta(hours=1))


def test_archive_and_feeds_show_the_newest_edition(site: Site) -> None:
    issue = site.issue(FIRST, state=IssueState.SENDING)
    assert "Spring, at last" in site.client.get("/archive/007-spring").text
    assert "Spring, at last" in site.client.get("/feed.xml").text
    amended(site, issue)
    for path in ("/archive/007-spring", "/archive/", "/feed.xml", "/rss.xml", "/feed.json", "/"):
        text = site.client.get(path).text
        assert "Spring, corrected" in text
        assert "Spring, at last" not in text
    feed = etree.fromstring(site.client.get("/feed.xml").content)
    found = [element.text for element in feed.iter("{http://www.w3.org/2005/Atom}updated")]
    assert found == ["2026-03-01T09:00:00+00:00"] * 2


def test_link_of_an_email_shows_the_edition_that_it_brought(site: Site) -> None:
    issue = site.issue(FIRST, state=IssueState.SENDING)
    with site.database.transaction() as connection:
        first = runs.begin(connection, issue, at=AT)
    amended(site, issue)
    with site.database.transaction() as connection:
        second = runs.begin(connection, issue, at=AT)
        connection.execute(update(Delivery).where(Delivery.c.subscriber_id == 1001).values(run_id=first))
        connection.execute(
            update(Delivery)
            .where(Delivery.c.subscriber_id == 1002)
            .values(run_id=second, state=DeliveryState.SENT.value)
        )
    for reader, words, image, other in (
        (1001, "Spring, at last", CROCUS, TULIP),
        (1002, "It is warm.", TULIP, CROCUS),
        (1003, "It is warm.", TULIP, CROCUS),
    ):
        path = f"/v/{site.link(reader, issue)}"
        assert words in site.client.get(path).text
        assert site.client.get(f"{path}/{image.name}").content == image.content
        assert site.client.get(f"{path}/{other.name}").status_code == 404


def test_images_of_every_edition_stay(site: Site) -> None:
    issue = site.issue(FIRST, state=IssueState.SENDING)
    amended(site, issue)
    for image in (CROCUS, TULIP):
        assert site.client.get(f"/archive/007-spring/{image.name}").content == image.content
    assert site.client.get("/archive/007-spring/other.png").status_code == 404


def test_links_of_every_edition_lead_on_and_count(open_site: OpenSite) -> None:
    with open_site(tracking=Tracking(opens=True, clicks=True)) as site:
        issue = site.issue(FIRST, state=IssueState.SENDING)
        token = site.link(1, issue)
        assert site.client.get(f"/c/{token}/0").headers["location"] == "https://example.net/first"
        assert site.client.get(f"/c/{token}/1").status_code == 404
        amended(site, issue)
        for number, link in enumerate(CORRECTED.links):
            assert site.client.get(f"/c/{token}/{number}").headers["location"] == link
        assert site.client.get(f"/c/{token}/2").status_code == 404
        site.client.post(f"/u/{site.link(999_999)}", data={"confirm": "yes"})
        with site.database.reading() as connection:
            counted = connection.execute(
                select(Event.c.issue_id, Event.c.details).where(Event.c.kind == "click").order_by(Event.c.id)
            ).all()
    assert [(of, details["link"]) for of, details in counted] == [(issue, 0), (issue, 0), (issue, 1)]


@pytest.mark.parametrize(
    ("body", "links"),
    [
        ("[b](https://example.org/b)", ("a", "b")),
        ("[c](https://example.org/c) [a](https://example.org/a)", ("a", "b", "c")),
        ("No link.", ("a", "b")),
    ],
)
def test_links_of_a_correction_keep_their_numbers(tmp_path: Path, body: str, links: tuple[str, ...]) -> None:
    path = tmp_path / "001-hello.md"
    path.write_text(f"---\ntitle: Hello\n---\n\n{body}\n", encoding="utf-8")
    known = ("https://example.org/a", "https://example.org/b")
    built = build_edition(read_issue(path), Newsletter(), Brand(), TEMPLATES, track_clicks=True, links=known)
    assert built.links == tuple(f"https://example.org/{link}" for link in links)
    for number, link in enumerate(built.links):
        assert (f"{{{{ urls.click }}}}/{number}" in built.html) == (f"({link})" in body)
