"""Clicks and opens: counted only when asked for, redirected only where the issue links."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from mailer.config import Tracking
from mailer.database.models import Event
from tests.web.conftest import OpenSite, Site, edition

ON = Tracking(opens=True, clicks=True)
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}


def events(site: Site) -> list[tuple[str, int | None, int | None, dict[str, Any]]]:
    with site.database.reading() as session:
        found = session.scalars(select(Event).order_by(Event.id))
        return [(event.kind, event.issue_id, event.subscriber_id, event.details) for event in found]


def written(site: Site) -> list[tuple[str, int | None, int | None, dict[str, Any]]]:
    """Return the events once what was handed to the writer before has been written."""
    token = site.link(999_999)
    assert site.client.post(f"/u/{token}", data={"confirm": "yes"}).status_code == 200
    return events(site)


def test_click_leads_to_the_stored_link_and_is_counted(open_site: OpenSite) -> None:
    with open_site(tracking=ON) as site:
        issue, subscriber = site.issue(edition()), site.subscribe()
        answer = site.client.get(f"/c/{site.link(subscriber, issue)}/0", headers=BROWSER)
        assert (answer.status_code, answer.headers["location"]) == (302, "https://example.net/news?a=1&b=2")
        assert written(site) == [("click", issue, subscriber, {"link": 0})]


def test_open_is_a_pixel_and_is_counted(open_site: OpenSite) -> None:
    with open_site(tracking=ON) as site:
        issue, subscriber = site.issue(edition()), site.subscribe()
        answer = site.client.get(f"/o/{site.link(subscriber, issue)}.gif", headers=BROWSER)
        assert (answer.headers["content-type"], answer.content[:6]) == ("image/gif", b"GIF89a")
        assert written(site) == [("open", issue, subscriber, {})]


def test_with_tracking_off_links_work_and_nothing_is_counted(site: Site) -> None:
    token = site.link(site.subscribe(), site.issue(edition()))
    assert site.client.get(f"/c/{token}/0").status_code == 302
    assert site.client.get(f"/o/{token}.gif").status_code == 200
    assert written(site) == []


def test_head_does_not_count(open_site: OpenSite) -> None:
    with open_site(tracking=ON) as site:
        token = site.link(site.subscribe(), site.issue(edition()))
        assert site.client.head(f"/c/{token}/0").status_code == 302
        assert site.client.head(f"/o/{token}.gif").status_code == 200
        assert written(site) == []


@pytest.mark.parametrize(
    "headers", [{"User-Agent": "LinkScanner/1.0 (bot)"}, BROWSER | {"Sec-Purpose": "prefetch;prerender"}]
)
def test_machines_are_counted_apart(open_site: OpenSite, headers: dict[str, str]) -> None:
    with open_site(tracking=ON) as site:
        issue, subscriber = site.issue(edition()), site.subscribe()
        site.client.get(f"/c/{site.link(subscriber, issue)}/0", headers=headers)
        assert written(site) == [("click", issue, subscriber, {"link": 0, "machine": True})]


@pytest.mark.parametrize(
    "place", ["1", "2", "-1", "x", "https://evil.example", "0?to=https://evil.example", "0/https:%2f%2fevil"]
)
def test_only_links_of_the_issue_are_followed(site: Site, place: str) -> None:
    token = site.link(site.subscribe(), site.issue(edition()))
    answer = site.client.get(f"/c/{token}/{place}")
    assert answer.headers.get("location", "") in ("", "https://example.net/news?a=1&b=2")
    assert answer.status_code == (302 if place.startswith("0?") else 404)


def test_forged_and_issueless_tokens_lead_nowhere(site: Site) -> None:
    site.issue(edition())
    for token in ("forged", site.link(1, 0), site.link(1, 99)):
        assert site.client.get(f"/c/{token}/0").status_code == 404
    assert site.client.get("/o/forged.gif").status_code == 404
