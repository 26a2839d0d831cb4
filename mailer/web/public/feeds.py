"""The archive for programs: Atom, RSS and JSON feeds, and a sitemap."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from feedgen.feed import FeedGenerator
from lxml import etree, html

from mailer.config import Settings
from mailer.rendering.html.article import Article, article
from mailer.rendering.html.line_breaks import with_wbr, without_wbr
from mailer.web.public.editions import ArchivedIssue, Editions

FEED_ENTRIES: Final = 30
# XML 1.0 section 2.2; one such character would make the whole feed unreadable.
_UNFIT_FOR_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_SITEMAP: Final = "http://www.sitemaps.org/schemas/sitemap/0.9"
_MOST_IN_SITEMAP: Final = 50_000
_ATOM_LINK: Final = "{http://www.w3.org/2005/Atom}link"


class Feeds:
    """Writes the newest issues, whole, in three formats. Each format is cached until the issues change."""

    def __init__(self, editions: Editions, settings: Settings) -> None:
        newsletter = settings.newsletter
        self._editions = editions
        self._name = newsletter.name
        self._description = newsletter.description
        self._author = newsletter.author_name or newsletter.name
        self._language = newsletter.language
        self._public_url = settings.web.public_url.rstrip("/")
        self._hub = settings.web.hub
        self._written: dict[str, tuple[tuple[ArchivedIssue, ...], bytes]] = {}
        self._lock = threading.Lock()

    def atom(self) -> bytes:
        """Return an Atom feed (RFC 4287)."""
        return self._once("atom", lambda issues: bytes(self._feed(issues, "/feed.xml").atom_str()))

    def rss(self) -> bytes:
        """Return an RSS 2.0 feed."""
        return self._once("rss", self._rss)

    def json(self) -> bytes:
        """Return a JSON Feed (version 1.1)."""
        return self._once("json", self._json)

    def sitemap(self) -> bytes:
        """Return the URLs of all public pages, for search engines (sitemaps.org)."""
        root = etree.fromstring(f'<urlset xmlns="{_SITEMAP}"/>')
        issues = self._editions.listed()[: _MOST_IN_SITEMAP - 2]
        newest = max((issue.updated_at for issue in issues), default=None)
        pages = [("/archive/", newest.date().isoformat() if newest else ""), ("/subscribe", "")]
        pages += [(issue.path, issue.updated_at.date().isoformat()) for issue in issues]
        for path, modified in pages:
            page = etree.SubElement(root, f"{{{_SITEMAP}}}url")
            etree.SubElement(page, f"{{{_SITEMAP}}}loc").text = self._public_url + path
            if modified:
                etree.SubElement(page, f"{{{_SITEMAP}}}lastmod").text = modified
        return bytes(etree.tostring(root, xml_declaration=True, encoding="utf-8"))

    def _once(self, form: str, write: Callable[[Sequence[ArchivedIssue]], bytes]) -> bytes:
        issues = tuple(self._editions.listed()[:FEED_ENTRIES])
        with self._lock:
            made_of, content = self._written.get(form, ((), b""))
        if made_of != issues or not content:
            content = write(issues)
            with self._lock:
                self._written[form] = issues, content
        return content

    def _feed(self, issues: Sequence[ArchivedIssue], path: str) -> FeedGenerator:
        feed = FeedGenerator()
        feed.id(f"{self._public_url}/archive/")
        feed.title(self._name)
        feed.description(self._description or self._name)
        feed.author(name=self._author)
        feed.language(self._language)
        if self._hub:
            feed.link(href=self._hub, rel="hub")
        # RSS has a single link, which is the last one.
        feed.link(href=f"{self._public_url}{path}", rel="self")
        feed.link(href=f"{self._public_url}/archive/", rel="alternate")
        if issues:
            feed.updated(max(issue.updated_at for issue in issues))
        for issue in issues:
            at = self._public_url + issue.path
            entry = feed.add_entry(order="append")
            entry.id(at)
            entry.title(_UNFIT_FOR_XML.sub("", issue.title))
            entry.link(href=at)
            entry.published(issue.at)
            entry.updated(issue.updated_at)
            for tag in issue.tags:
                entry.category(term=_UNFIT_FOR_XML.sub("", tag))
            if (shown := self._article(issue)) is not None:
                entry.content(absolute(shown.body, at), type="html")
                if shown.description:
                    entry.summary(_UNFIT_FOR_XML.sub("", shown.description))
        return feed

    def _rss(self, issues: Sequence[ArchivedIssue]) -> bytes:
        written = bytes(self._feed(issues, "/rss.xml").rss_str())
        if not self._hub:
            return written
        # feedgen writes only the link to the feed itself; the hub's goes beside it (WebSub, section 4).
        root = etree.fromstring(written)
        own = root.find(f"channel/{_ATOM_LINK}")
        assert own is not None
        own.addnext(etree.Element(_ATOM_LINK, {"href": self._hub, "rel": "hub"}))
        return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8"))

    def _json(self, issues: Sequence[ArchivedIssue]) -> bytes:
        items = []
        for issue in issues:
            at = self._public_url + issue.path
            item: dict[str, Any] = {
                "id": at,
                "url": at,
                "title": issue.title,
                "date_published": issue.at.isoformat(),
                "date_modified": issue.updated_at.isoformat(),
                "tags": list(issue.tags),
            }
            if (shown := self._article(issue)) is not None:
                item["content_html"] = absolute(shown.body, at)
                item |= {"summary": shown.description} if shown.description else {}
                item |= {"image": shown.image} if shown.image else {}
            items.append(item)
        feed = {
            "version": "https://jsonfeed.org/version/1.1",
            "title": self._name,
            "home_page_url": f"{self._public_url}/archive/",
            "feed_url": f"{self._public_url}/feed.json",
            "language": self._language,
            "authors": [{"name": self._author}],
            **({"description": self._description} if self._description else {}),
            **({"hubs": [{"type": "WebSub", "url": self._hub}]} if self._hub else {}),
            "items": items,
        }
        return json.dumps(feed, ensure_ascii=False, indent=1).encode("utf-8", "replace")

    def _article(self, issue: ArchivedIssue) -> Article | None:
        edition = self._editions.called(issue.slug)
        if edition is None:
            return None
        return article(edition, public_url=self._public_url, language=self._language)


def absolute(body: str, address: str) -> str:
    """Return an issue's HTML with absolute URLs; `address` is the URL of its page."""
    inside = html.fragment_fromstring(without_wbr(_UNFIT_FOR_XML.sub("", body)), create_parent="div")
    inside.make_links_absolute(address, resolve_base_href=False)
    return with_wbr(str(html.tostring(inside, encoding="unicode")))
