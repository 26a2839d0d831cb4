"""Clicks and opens: counted only when asked for, redirected only where the issue links."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.event import listen

from mailer.audience.segments import parse_segment
from mailer.audience.transfer import exporting
from mailer.config import Tracking
from mailer.database.tables import Event, Subscriber
from mailer.web.intake.bots import bot_kind
from tests.web.conftest import OpenSite, Site, edition

ON = Tracking(opens=True, clicks=True)
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}


def events(site: Site) -> list[tuple[str, int | None, int | None, dict[str, Any]]]:
    with site.database.reading() as connection:
        found = connection.execute(select(Event).order_by(Event.c.id))
        return [(event.kind, event.issue_id, event.subscriber_id, event.details) for event in found]


def written(site: Site) -> list[tuple[str, int | None, int | None, dict[str, Any]]]:
    """Return the events once what was handed to the writer before has been written."""
    token = site.link(999_999)
    assert site.client.post(f"/u/{token}", data={"confirm": "yes"}).status_code == 200
    return events(site)


def agree(site: Site, subscriber_id: int) -> int:
    with site.database.transaction() as connection:
        connection.execute(
            update(Subscriber).where(Subscriber.c.id == subscriber_id).values(tracking_consent=True)
        )
    return subscriber_id


def test_click_leads_to_the_stored_link_and_is_counted(open_site: OpenSite) -> None:
    with open_site(tracking=ON) as site:
        issue, subscriber = site.issue(edition()), agree(site, site.subscribe())
        answer = site.client.get(f"/c/{site.link(subscriber, issue)}/0", headers=BROWSER)
        assert (answer.status_code, answer.headers["location"]) == (302, "https://example.net/news?a=1&b=2")
        assert written(site) == [("click", issue, subscriber, {"link": 0})]


def test_open_is_a_pixel_and_is_counted(open_site: OpenSite) -> None:
    with open_site(tracking=ON) as site:
        issue, subscriber = site.issue(edition()), agree(site, site.subscribe())
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


def test_without_the_persons_consent_only_the_issue_is_noted(open_site: OpenSite) -> None:
    with open_site(tracking=ON) as site:
        issue, subscriber = site.issue(edition()), site.subscribe()
        assert site.client.get(f"/c/{site.link(subscriber, issue)}/0", headers=BROWSER).status_code == 302
        assert site.client.get(f"/o/{site.link(subscriber, issue)}.gif", headers=BROWSER).status_code == 200
        assert written(site) == [("click", issue, None, {"link": 0}), ("open", issue, None, {})]


def test_tracking_is_off_unless_asked_for() -> None:
    assert (Tracking().opens, Tracking().clicks) == (False, False)


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ({"User-Agent": "LinkScanner/1.0 (bot)"}, "scanner"),
        ({"User-Agent": "Mozilla/5.0"}, "apple"),
        (
            {"User-Agent": "Mozilla/5.0 (Windows NT 5.1) Firefox/11.0 (via ggpht.com GoogleImageProxy)"},
            "proxy",
        ),
        ({"User-Agent": "YahooMailProxy; https://help.yahoo.com/kb/"}, "proxy"),
        ({"User-Agent": "Mozilla/5.0 (compatible; Barracuda Sentinel)"}, "scanner"),
        ({"User-Agent": "Microsoft Office Existence Discovery"}, "scanner"),
        ({"User-Agent": "Slackbot-LinkExpanding 1.0"}, "bot"),
        ({"User-Agent": "python-requests/2.32"}, "bot"),
        ({"User-Agent": ""}, "bot"),
        (BROWSER | {"Sec-Purpose": "prefetch;prerender"}, "prefetch"),
    ],
)
def test_machines_are_counted_apart(open_site: OpenSite, headers: dict[str, str], kind: str) -> None:
    with open_site(tracking=ON) as site:
        issue, subscriber = site.issue(edition()), agree(site, site.subscribe())
        site.client.get(f"/o/{site.link(subscriber, issue)}.gif", headers=headers)
        assert written(site) == [("open", issue, subscriber, {"machine": kind})]
        with site.database.reading() as connection:
            by_people = parse_segment("opened:007-spring", {}).condition
            assert exporting.count(connection, by_people) == 0
        site.client.get(f"/o/{site.link(subscriber, issue)}.gif", headers=BROWSER)
        assert len(written(site)) == 2
        with site.database.reading() as connection:
            assert exporting.count(connection, by_people) == 1


@pytest.mark.parametrize(
    "agent",
    [
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari",
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.0",
        "Mozilla/4.0 (compatible; ms-office; MSOffice 16)",
    ],
)
def test_programs_that_people_read_with_are_people(agent: str) -> None:
    assert bot_kind({"user-agent": agent}) == ""


@pytest.mark.parametrize("path", ["/c/{}/0", "/o/{}.gif"])
def test_other_methods_are_refused_by_name(site: Site, path: str) -> None:
    for method in ("POST", "PUT", "DELETE"):
        answer = site.client.request(method, path.format(site.link(site.subscribe(), 1)))
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_burst_of_clicks_costs_few_transactions(open_site: OpenSite) -> None:
    with open_site(tracking=ON) as site:
        token = site.link(agree(site, site.subscribe()), site.issue(edition()))
        begun: list[int] = []
        listen(site.database.engine, "commit", lambda connection: begun.append(1))
        with ThreadPoolExecutor(8) as threads:
            codes = threads.map(
                lambda number: site.client.get(f"/c/{token}/0", headers=BROWSER).status_code, range(200)
            )
        assert set(codes) == {302}
        assert len(written(site)) == 200
        assert len(begun) < 150


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
