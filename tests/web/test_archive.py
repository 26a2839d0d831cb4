"""The archive: what everybody may read, as a page that runs nothing."""

from __future__ import annotations

import pytest
from lxml import etree, html

from mailer.config import Newsletter
from mailer.database.models import IssueState
from mailer.tokens import Subject
from tests.web.conftest import CROCUS, OpenSite, Site, edition

_ATOM = {"a": "http://www.w3.org/2005/Atom"}


def test_empty_archive_says_so(site: Site) -> None:
    for path in ("/", "/archive", "/archive/"):
        answer = site.client.get(path)
        assert (answer.status_code, "No issue has been sent yet." in answer.text) == (200, True)


def test_archive_lists_what_everybody_got(site: Site) -> None:
    site.issue(edition("007-spring"))
    site.issue(edition("008-for-some", title="For some"), segment="tag:vip")
    site.issue(edition("009-never", title="Never"), state=IssueState.CANCELLED)
    page = site.client.get("/archive/").text
    assert '<a href="/archive/007-spring" lang="en">Spring, at last</a>' in page
    assert "March 1, 2026" in page
    assert "For some" not in page
    assert "Never" not in page


def test_issue_is_shown_without_anybodys_name_or_links(site: Site) -> None:
    site.issue(edition())
    site.subscribe(name="Jordan")
    answer = site.client.get("/archive/007-spring")
    assert answer.status_code == 200
    assert "Dear reader" in answer.text
    assert 'href="https://example.net/news?a=1&amp;b=2"' in answer.text
    for leak in ("/u/", "/p/", "/c/", "/o/", "{{", "Jordan"):
        assert leak not in answer.text


def test_issue_is_a_page_that_tells_others_what_it_is(site: Site) -> None:
    site.issue(edition(preheader="For {{ subscriber.name | default('you & me') }}", subtitle="It thaws"))
    page = html.fromstring(site.client.get("/archive/007-spring").content)
    address = "https://news.example.org/archive/007-spring"
    assert page.xpath("//h1/text()") == ["Spring, at last"]
    assert page.xpath("//p[@class='subtitle']/text()") == ["It thaws"]
    assert page.xpath("//time/@datetime") == ["2026-03-01"]
    assert page.xpath("//link[@rel='canonical']/@href") == [address]
    told = {meta.get("property"): meta.get("content") for meta in page.iter("meta") if meta.get("property")}
    assert told == {
        "og:type": "article",
        "og:site_name": "The Weekly",
        "og:title": "Spring, at last",
        "og:url": address,
        "og:description": "For you & me",
        "og:image": f"{address}/{CROCUS.name}",
        "article:published_time": "2026-03-01",
    }


def test_images_of_an_issue_are_served_for_good(site: Site) -> None:
    site.issue(edition())
    answer = site.client.get(f"/archive/007-spring/{CROCUS.name}")
    assert (answer.content, answer.headers["content-type"]) == (CROCUS.content, "image/png")
    assert "immutable" in answer.headers["cache-control"]
    for path in ("/archive/007-spring/none.png", f"/archive/none/{CROCUS.name}"):
        assert site.client.get(path).status_code == 404


def test_issue_page_runs_no_script_and_allows_the_colours_of_code(site: Site) -> None:
    site.issue(edition())
    policy = site.client.get("/archive/007-spring").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "style-src 'self' 'unsafe-inline'" in policy


def test_unknown_page_is_a_page(site: Site) -> None:
    for path in ("/archive/none", "/none", "/archive/..%2f..%2fetc", "/archive/a%00b"):
        answer = site.client.get(path)
        assert (answer.status_code, "There is no page" in answer.text) == (404, True)
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_titles_are_escaped(site: Site) -> None:
    site.issue(edition(title="<script>alert(1)</script>"))
    for path in ("/archive/", "/feed.xml", "/archive/007-spring"):
        assert "<script" not in site.client.get(path).text


def test_feed_is_atom_with_the_newest_first(open_site: OpenSite) -> None:
    with open_site(newsletter=Newsletter(name="The Weekly & Co", language="de")) as site:
        site.issue(edition("007-spring"))
        site.issue(edition("008-summer", title="Summer"))
        answer = site.client.get("/feed.xml")
    assert answer.headers["content-type"] == "application/atom+xml"
    feed = etree.fromstring(answer.content)
    assert feed.findtext("a:title", namespaces=_ATOM) == "The Weekly & Co"
    assert [entry.findtext("a:id", namespaces=_ATOM) for entry in feed.findall("a:entry", _ATOM)] == [
        "https://news.example.org/archive/008-summer",
        "https://news.example.org/archive/007-spring",
    ]


def test_health_follows_the_database(site: Site) -> None:
    assert site.client.get("/healthz").status_code == 200
    with site.database.engine.connect() as connection:
        connection.exec_driver_sql("DROP TABLE instance")
        connection.commit()
    assert site.client.get("/healthz").status_code == 503


def test_robots_are_told_to_leave_the_token_pages(site: Site) -> None:
    told = site.client.get("/robots.txt").text
    for prefix in ("/u/", "/p/", "/c/", "/o/", "/confirm/"):
        assert f"Disallow: {prefix}\n" in told


def test_pages_hold_no_script_and_no_inline_style(site: Site) -> None:
    site.issue(edition())
    subscriber = site.subscribe()
    token = site.link(subscriber)
    confirm = site.signer.confirmation(Subject(0, subscriber))
    for path in ("/", f"/u/{token}", f"/p/{token}", "/none", "/subscribe", f"/confirm/{confirm}"):
        page = site.client.get(path).text
        assert "<script" not in page
        assert "style=" not in page
        assert 'lang="en"' in page


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_stylesheet_is_served(site: Site, method: str) -> None:
    answer = site.client.request(method, "/style.css")
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert (b"prefers-color-scheme: dark" in answer.content) is (method == "GET")
