"""The site as a stranger sees it: what it is, what there was, how to find it, and how to get it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime

import pytest
from lxml import etree, html
from sqlalchemy import select, update

from mailer.config import Newsletter
from mailer.database.tables import Consent, StoredIssue
from tests.web.conftest import AT, CROCUS, OpenSite, Site, edition

BASE = "https://news.example.org"
ABOUT = Newsletter(
    name="The Weekly", description="Beans & more.", frequency="every Friday", author_name="Robin Vale"
)


@pytest.fixture
def site(open_site: OpenSite) -> Iterator[Site]:
    """A site with three issues of two years, the newest first in its lists."""
    with open_site(newsletter=ABOUT) as opened:
        for number, (title, tags, date) in enumerate(
            [
                ("A bean in a jar", ("beans", "light & shade"), "2025-12-24"),
                ("Spring, at last", ("sowing",), "2026-03-01"),
                ("Größe <b>", ("beans",), ""),
            ]
        ):
            issue = opened.issue(
                edition(
                    f"00{number}-x",
                    title=title,
                    subtitle=f"Subtitle {number}",
                    tags=tags,
                    date=date,
                    images=(CROCUS,) if number else (),
                )
            )
            with opened.database.transaction() as connection:
                dated = update(StoredIssue).where(StoredIssue.c.id == issue)
                connection.execute(dated.values(dated_at=AT.replace(month=3 + number)))
        yield opened


def page(site: Site, path: str, **headers: str) -> html.HtmlElement:
    answer = site.client.get(path, headers=headers)
    assert answer.status_code == 200
    return html.fromstring(answer.content)


def titles(shown: html.HtmlElement) -> list[str]:
    return [str(title) for title in shown.xpath("//ul[contains(@class, 'issues')]//a/text()")]


@pytest.mark.parametrize("path", ["/", "/archive", "/archive/"])
def test_first_page_says_what_the_newsletter_is_and_takes_an_address(site: Site, path: str) -> None:
    shown = page(site, path)
    assert shown.xpath("string(//h1)") == "The Weekly"
    assert shown.xpath("string(//p[@class='description'])") == "Beans & more."
    assert "By Robin Vale · every Friday" in shown.text_content()
    (form,) = shown.xpath("//form[@method='post']")
    assert form.get("action") == "/subscribe"
    assert form.xpath("string(.//label)") == "Email address"
    assert titles(shown) == ["Größe <b>", "Spring, at last", "A bean in a jar"]
    assert shown.xpath("//ul//li//p/text()") == ["Subtitle 2", "Subtitle 1", "Subtitle 0"]
    assert shown.xpath("//ul//img/@src") == [f"/archive/00{n}-x/{CROCUS.name}" for n in (2, 1)]
    told = {meta.get("property"): meta.get("content") for meta in shown.iter("meta") if meta.get("property")}
    assert told == {
        "og:type": "website",
        "og:title": "The Weekly",
        "og:url": f"{BASE}/archive/",
        "og:description": "Beans & more.",
        "og:image": f"{BASE}/archive/002-x/{CROCUS.name}",
    }


def test_date_is_that_of_the_issue_or_else_of_its_messages(site: Site) -> None:
    assert page(site, "/").xpath("//ul//time/@datetime") == ["2026-05-01", "2026-03-01", "2025-12-24"]
    assert page(site, "/archive/002-x").xpath("//article//time/@datetime") == ["2026-05-01"]
    assert page(site, "/archive/000-x").xpath("//article//time/@datetime") == ["2025-12-24"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("bean", ["Größe <b>", "A bean in a jar"]),
        ("JAR a", ["A bean in a jar"]),
        ("GRÖSSE", ["Größe <b>"]),
        ("light shade", ["A bean in a jar"]),
        ("Subtitle 1", ["Spring, at last"]),
        ("<script>alert(1)</script>", []),
        ("%", []),
        ("x" * 10_000, []),
        ("\0", []),
    ],
)
def test_search_looks_into_titles_subtitles_and_tags(site: Site, query: str, found: list[str]) -> None:
    answer = site.client.get("/archive/", params={"q": query})
    shown = html.fromstring(answer.content)
    assert (answer.status_code, titles(shown)) == (200, found)
    assert "<script" not in answer.text
    assert shown.xpath("//meta[@name='robots']/@content") == ["noindex"]
    assert shown.xpath("//input[@name='q']/@value") == [" ".join(query.replace("\0", "\ufffd")[:100].split())]


def test_tags_and_years_have_pages(site: Site) -> None:
    first = page(site, "/")
    links = {str(link.text): str(link.get("href")) for link in first.xpath("//section//a")}
    assert titles(page(site, links["beans"])) == ["Größe <b>", "A bean in a jar"]
    assert titles(page(site, links["light & shade"])) == ["A bean in a jar"]
    assert titles(page(site, links["2026"])) == ["Größe <b>", "Spring, at last"]
    assert titles(page(site, links["2025"])) == ["A bean in a jar"]
    for path in ("/tags/none", "/tags/%00", "/years/2024", "/years/x", "/years/" + "9" * 5_000):
        assert (path, site.client.get(path).status_code) == (path, 404)


def test_long_lists_have_pages(open_site: OpenSite) -> None:
    with open_site() as site:
        for number in range(45):
            site.issue(edition(f"{number:03}-x", title=f"No {number}", tags=("all",)))
        for start in ("/archive/", "/tags/all", "/archive/?q=no"):
            seen, path = [], start
            while path:
                shown = page(site, path)
                seen += titles(shown)
                path = "".join(str(link) for link in shown.xpath("//a[@rel='next']/@href"))
            assert seen == [f"No {number}" for number in reversed(range(45))]
        for wrong in ("0", "4", "99999"):
            assert site.client.get("/archive/", params={"page": wrong}).status_code == 404
        for odd in ("", "x", "-1", "٣", "9" * 5_000):
            assert titles(page(site, f"/archive/?page={odd}"))[0] == "No 44"


def test_issue_leads_to_others_can_be_shared_and_subscribed_to(site: Site) -> None:
    shown = page(site, "/archive/001-x")
    assert shown.xpath("//a[@rel='prev']/@href") == ["/archive/000-x"]
    assert shown.xpath("//a[@rel='next']/@href") == ["/archive/002-x"]
    assert shown.xpath("//ul[@class='facets']//a/@href") == ["/tags/sowing"]
    at = "https%3A%2F%2Fnews.example.org%2Farchive%2F001-x"
    shares = shown.xpath("//p[contains(@class, 'share')]//a/@href")
    assert len(shares) == 4
    assert all(at in str(link) for link in shares)
    assert shown.xpath("//form/@action") == ["/subscribe"]
    assert shown.xpath("//script") == []
    policy = site.client.get("/archive/001-x").headers["content-security-policy"]
    assert "form-action 'self'" in policy
    assert page(site, "/archive/002-x").xpath("//a[@rel='next']") == []
    assert page(site, "/archive/000-x").xpath("//a[@rel='prev']") == []


def test_box_subscribes_and_the_ledger_keeps_its_words(site: Site) -> None:
    fields = {
        str(one.get("name")): str(one.get("value", "")) for one in page(site, "/").xpath("//form//input")
    }
    assert fields == {"form": "box", "email": "", "website": "", "q": ""}
    answer = site.client.post("/subscribe", data={"form": "box", "email": "jo@example.org"})
    assert "Check your inbox" in answer.text
    assert site.letters(1)[0]["To"] == "jo@example.org"
    with site.database.reading() as connection:
        assert connection.scalars(select(Consent.c.form)).all() == ["box"]


def test_feeds_say_the_same_in_three_formats(site: Site) -> None:
    atom = etree.fromstring(site.client.get("/feed.xml").content)
    rss_answer = site.client.get("/rss.xml")
    rss = etree.fromstring(rss_answer.content)
    json_answer = site.client.get("/feed.json")
    feed = json.loads(json_answer.text)
    assert rss_answer.headers["content-type"] == "application/rss+xml"
    assert json_answer.headers["content-type"] == "application/feed+json"
    assert (feed["version"], feed["title"], feed["description"], feed["authors"]) == (
        "https://jsonfeed.org/version/1.1",
        "The Weekly",
        "Beans & more.",
        [{"name": "Robin Vale"}],
    )
    links = [f"{BASE}/archive/00{number}-x" for number in (2, 1, 0)]
    assert [item["url"] for item in feed["items"]] == links
    assert [str(item.findtext("link")) for item in rss.iter("item")] == links
    assert rss.findtext("channel/link") == f"{BASE}/archive/"
    space = {"a": "http://www.w3.org/2005/Atom"}
    assert [entry.findtext("a:id", namespaces=space) for entry in atom.findall("a:entry", space)] == links
    first = feed["items"][0]
    assert (first["title"], first["tags"], datetime.fromisoformat(first["date_published"])) == (
        "Größe <b>",
        ["beans"],
        AT.replace(month=5),
    )
    assert first["image"] == f"{links[0]}/{CROCUS.name}"
    assert f'src="{BASE}/archive/' in first["content_html"]


def test_sitemap_lists_every_public_page_and_robots_name_it(site: Site) -> None:
    root = etree.fromstring(site.client.get("/sitemap.xml").content)
    space = {"s": "http://www.sitemaps.org/schemas/sitemap/0.9"}
    found = [str(one.text) for one in root.findall("s:url/s:loc", space)]
    assert found == [f"{BASE}/archive/", f"{BASE}/subscribe", *(f"{BASE}/archive/00{n}-x" for n in (2, 1, 0))]
    assert f"Sitemap: {BASE}/sitemap.xml\n" in site.client.get("/robots.txt").text
    for address in found:
        assert site.client.get(address.removeprefix(BASE)).status_code == 200


def test_every_dead_end_leads_on(site: Site) -> None:
    token = site.link(site.subscribe())
    for path in ("/none", "/u/forged", f"/u/{token}", f"/p/{token}", "/subscribe"):
        shown = html.fromstring(site.client.get(path).content)
        assert shown.xpath("count(//footer//a[@href='/archive/'])") == 1
    done = html.fromstring(site.client.post(f"/u/{token}", data={"confirm": "yes"}).content)
    assert done.xpath("count(//main//a[@href='/archive/'])") == 1


def test_sign_up_has_the_cursor_in_the_address(site: Site) -> None:
    shown = page(site, "/subscribe")
    assert shown.xpath("//input[@autofocus]/@name") == ["email"]
    assert shown.xpath("string(//label[@for='email'])") == "Email address"


def test_pause_is_said_at_the_top(site: Site) -> None:
    path = f"/p/{site.link(site.subscribe())}"
    site.client.post(f"{path}/pause", data={"weeks": "4"})
    shown = page(site, path)
    (banner,) = shown.xpath("//p[@role='status']")
    assert str(banner.text).startswith("Paused: no emails until ")
    assert banner.getprevious().tag == "h1"


def test_deleting_keeps_what_was_typed_and_looks_like_what_it_is(site: Site) -> None:
    path = f"/p/{site.link(site.subscribe())}/erase"
    assert page(site, path).xpath("//input[@name='email']/@value") == [""]
    shown = html.fromstring(site.client.post(path, data={"email": 'typo"@example.org'}).content)
    assert shown.xpath("//input[@name='email']/@value") == ['typo"@example.org']
    assert shown.xpath("//input[@name='email']/@autocomplete") == ["off"]
    assert shown.xpath("//button/@class") == ["danger"]
