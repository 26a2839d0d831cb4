"""The archive: what everybody may read, as a page that runs nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from lxml import etree, html

from mailer.config import Newsletter
from mailer.database.tables import IssueState
from mailer.tokens import Subject
from mailer.web.public.archive import ISSUE_POLICY
from tests.web.conftest import AT, CROCUS, OpenSite, Site, edition

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


@pytest.mark.parametrize(("published", "image"), [(False, 404), (True, 200)])
def test_issue_that_went_to_a_segment_has_no_page(site: Site, published: bool, image: int) -> None:
    site.issue(edition("007-spring"))
    some = edition("008-some", title="For some", images_published=published)
    secret = site.issue(some, segment="tag:vip")
    for method in ("GET", "HEAD"):
        assert site.client.request(method, "/archive/008-some").status_code == 404
    for path in (
        "/",
        "/archive/",
        "/feed.xml",
        "/rss.xml",
        "/feed.json",
        "/sitemap.xml",
        "/archive/007-spring",
    ):
        assert "For some" not in (text := site.client.get(path).text)
        assert "008-some" not in text
    # The emails that went out need their links, and their images if they load them from here.
    assert site.client.get(f"/c/{site.link(1, secret)}/0").status_code == 302
    assert site.client.get(f"/archive/008-some/{CROCUS.name}").status_code == image


def test_recipients_see_the_issue_of_their_own_link_as_the_archive_shows_it(site: Site) -> None:
    site.issue(edition("007-spring"))
    secret = site.issue(edition("008-some", title="For some"), segment="tag:vip")
    token = site.link(site.subscribe(name="Jordan"), secret)
    answer = site.client.get(f"/v/{token}")
    page = html.fromstring(answer.content)
    assert (answer.status_code, page.findtext(".//h1")) == (200, "For some")
    assert page.xpath("//time/@datetime") == ["2026-03-01"]
    assert page.xpath("//article//img/@src") == [f"/v/{token}/{CROCUS.name}"]
    assert "Dear reader" in answer.text
    assert 'href="https://example.net/news?a=1&amp;b=2"' in answer.text
    # Nothing personal, and nothing that leads others to the page or suggests passing it on.
    for leak in ("Jordan", "/u/", "/p/", "/c/", "{{", "canonical", "og:", "Share:", "/archive/008-some"):
        assert leak not in answer.text
    image = site.client.get(f"/v/{token}/{CROCUS.name}")
    assert (image.content, image.headers["content-type"]) == (CROCUS.content, "image/png")
    for one in (answer, image):
        assert (one.headers["cache-control"], one.headers["x-robots-tag"]) == (
            "no-store",
            "noindex, nofollow",
        )
    assert answer.headers["content-security-policy"] == ISSUE_POLICY


def test_link_of_one_issue_shows_no_other(site: Site) -> None:
    spring = site.link(1, site.issue(edition("007-spring", title="Spring")))
    some = edition("008-some", title="For some", images=(replace(CROCUS, content=b"another"),))
    secret = site.link(1, site.issue(some, segment="tag:vip"))
    assert "<h1>Spring</h1>" in site.client.get(f"/v/{spring}").text
    assert "For some" not in site.client.get(f"/v/{spring}").text
    assert site.client.get(f"/v/{secret}/{some.images[0].name}").status_code == 200
    for path in (f"/v/{spring}/{some.images[0].name}", f"/v/{secret}/{CROCUS.name}"):
        assert (path, site.client.get(path).status_code) == (path, 404)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_link_without_an_issue_shows_nothing(site: Site, method: str) -> None:
    issue = site.issue(edition())
    right = site.link(1, issue)
    forged = right[:-1] + ("1" if right[-1] == "0" else "0")
    for token in (forged, right[:-2], "none", site.link(1, 0), site.link(1, issue + 1)):
        assert (token, site.client.request(method, f"/v/{token}").status_code) == (token, 404)
    assert site.client.request(method, f"/v/{right}").status_code == 200


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


def test_images_of_an_issue_are_always_served(site: Site) -> None:
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


def test_feed_is_whole_and_holds_anywhere(open_site: OpenSite) -> None:
    page = (
        '<p>Dear {{ subscriber.name | default("reader") }} &amp; all<sup><a href="#fn1">1</a></sup></p>'
        f'<img alt="A crocus" src="/archive/007-spring/{CROCUS.name}">'
        '<a href="{{ urls.unsubscribe }}">leave</a>'
    )
    with open_site(newsletter=Newsletter(name="The Weekly", author_name="Ana")) as site:
        site.issue(edition(page=page, title="Spring & <b>all</b>", preheader="It thaws"))
        feed = etree.fromstring(site.client.get("/feed.xml").content)
    base = "https://news.example.org"
    links = {link.get("rel"): link.get("href") for link in feed.findall("a:link", _ATOM)}
    assert links == {"self": f"{base}/feed.xml", "alternate": f"{base}/archive/"}
    assert feed.findtext("a:id", namespaces=_ATOM) == f"{base}/archive/"
    assert feed.findtext("a:author/a:name", namespaces=_ATOM) == "Ana"
    (entry,) = feed.findall("a:entry", _ATOM)
    for one in (feed, entry):
        assert datetime.fromisoformat(str(one.findtext("a:updated", namespaces=_ATOM))) == AT
    assert entry.findtext("a:title", namespaces=_ATOM) == "Spring & <b>all</b>"
    assert entry.findtext("a:summary", namespaces=_ATOM) == "It thaws"
    content = entry.find("a:content", _ATOM)
    assert content is not None
    assert content.get("type") == "html"
    shown = html.fromstring(str(content.text))
    assert shown.xpath("string(.//p)") == "Dear reader & all1"
    assert shown.xpath(".//@href | .//@src") == [
        f"{base}/archive/007-spring#fn1",
        f"{base}/archive/007-spring/{CROCUS.name}",
        f"{base}/subscribe",
    ]


def test_feed_is_what_the_standard_asks_for(site: Site) -> None:
    schema = etree.RelaxNG(etree.parse(Path(__file__).with_name("atom.rng")))
    none = etree.fromstring(site.client.get("/feed.xml").content)
    assert schema.validate(none), schema.error_log
    for number, title in enumerate(("Plain", "A <b> & \u00fc", "\x0bOdd")):
        site.issue(edition(f"{number:03}-x", title=title))
    feed = etree.fromstring(site.client.get("/feed.xml").content)
    assert len(feed.findall("a:entry", _ATOM)) == 3
    assert schema.validate(feed), schema.error_log
    assert feed.findtext("a:updated", namespaces=_ATOM) is not None
    for missing in ("a:updated", "a:entry/a:id", "a:author", "a:entry/a:content"):
        broken = etree.fromstring(etree.tostring(feed))
        for element in broken.findall(missing, _ATOM):
            parent = element.getparent()
            assert parent is not None
            parent.remove(element)
        assert (missing, schema.validate(broken)) == (missing, False)


def test_feed_contains_the_listed_issues(site: Site) -> None:
    assert b"<entry>" not in site.client.get("/feed.xml").content
    for slug in ("007-spring", "008-summer"):
        site.issue(edition(slug))
        assert slug.encode() in site.client.get("/feed.xml").content


def test_no_character_of_an_issue_breaks_the_feed(site: Site) -> None:
    site.issue(edition(title="Bell\x07", preheader="Null\ufffe", page="<p>Es\x1bcape \U0001f331</p>"))
    answer = site.client.get("/feed.xml")
    feed = etree.fromstring(answer.content)
    assert feed.findtext("a:entry/a:title", namespaces=_ATOM) == "Bell"
    assert feed.findtext("a:entry/a:summary", namespaces=_ATOM) == "Null"
    assert "Escape \U0001f331" in str(feed.findtext("a:entry/a:content", namespaces=_ATOM))


def test_health_follows_the_database(site: Site) -> None:
    assert site.client.get("/healthz").status_code == 200
    with site.database.engine.connect() as connection:
        connection.exec_driver_sql("DROP TABLE instance")
        connection.commit()
    assert site.client.get("/healthz").status_code == 503


def test_robots_txt_excludes_the_token_pages(site: Site) -> None:
    told = site.client.get("/robots.txt").text
    for prefix in ("/u/", "/p/", "/v/", "/c/", "/o/", "/confirm/"):
        assert f"Disallow: {prefix}\n" in told


def test_search_engines_are_let_in_or_kept_out_as_configured(open_site: OpenSite) -> None:
    for index, told, header in ((True, "Disallow: /u/\n", None), (False, "Disallow: /\n", "noindex")):
        with open_site(index=index) as site:
            assert told in site.client.get("/robots.txt").text
            for path in ("/archive/", "/feed.xml", "/subscribe", "/none"):
                assert (path, site.client.get(path).headers.get("x-robots-tag")) == (path, header)
            assert site.client.get(f"/u/{site.link(1)}").headers["x-robots-tag"] == "noindex, nofollow"


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


def test_issue_in_a_language_of_its_own_is_marked_as_such(site: Site) -> None:
    site.issue(edition("006-before"))
    site.issue(edition("007-spring", title="אביב", language="he"))
    page = html.fromstring(site.client.get("/archive/007-spring").content)
    assert [(one.get("lang"), one.get("dir")) for one in page.iter("article")] == [("he", "rtl")]
    assert "1 במרץ 2026" in site.client.get("/archive/007-spring").text
    assert page.xpath("//html/@dir") == []
    assert '<a href="/archive/007-spring" lang="he" dir="rtl">אביב</a>' in site.client.get("/archive/").text
    other = html.fromstring(site.client.get("/archive/006-before").content)
    assert [(one.get("lang"), one.get("dir")) for one in other.iter("article")] == [("en", None)]
