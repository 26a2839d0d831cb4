"""`/archive/`: the issues that were sent, each as a web page made from its frozen edition.

An issue is public once a message of it was sent and its canary, if it has one, has passed. A pause
changes nothing about that. A cancelled issue leaves the list and the feed; its page stays only if it was
public before, for the readers who have the link in their mailbox.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from urllib.parse import quote

from babel.dates import format_date
from fastapi import APIRouter
from feedgen.feed import FeedGenerator
from lxml import html
from sqlalchemy import ColumnElement, select
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mailer.config import Settings
from mailer.database.models import IssueState, StoredEdition, StoredIssue
from mailer.database.session import Database
from mailer.rendering.edition import Edition
from mailer.rendering.html.article import article
from mailer.web.theme import Theme

# Highlighted code carries its colours on its elements. There is no script, and none would run.
ISSUE_POLICY: Final = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' https:; font-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PUBLIC: Final = (StoredIssue.published_at.is_not(None), StoredIssue.segment == "")
"""Whose page everybody may see: an issue that went to everybody, and has gone out."""
_CACHED_EDITIONS: Final = 16
_FEED_ENTRIES: Final = 30
# XML 1.0 section 2.2; one such character would take the whole feed away.
_UNFIT_FOR_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_FOR_EVER: Final = {"cache-control": "public, max-age=31536000, immutable"}
_FRESH: Final = {"cache-control": "public, max-age=300"}


@dataclass(frozen=True, slots=True)
class ArchivedIssue:
    """An issue in the archive."""

    slug: str
    title: str
    at: datetime


def _absolute(body: str, address: str) -> str:
    """Return the HTML of an issue with addresses that hold anywhere; `address` is the issue's page."""
    inside = html.fragment_fromstring(_UNFIT_FOR_XML.sub("", body), create_parent="div")
    inside.make_links_absolute(address, resolve_base_href=False)
    return str(html.tostring(inside, encoding="unicode"))


class Editions:
    """The frozen editions of queued issues, public or not; the last few stay in memory.

    They never change, so nothing here has to be forgotten.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[int | str, Edition] = OrderedDict()
        self._lock = threading.Lock()

    def of_issue(self, issue_id: int) -> Edition | None:
        """Return the edition of an issue, or None when there is no such issue."""
        return self._get(issue_id, StoredIssue.id == issue_id)

    def called(self, slug: str) -> Edition | None:
        """Return the edition of the issue with this slug, or None if there is none."""
        # PostgreSQL refuses NUL in a text.
        return None if "\0" in slug else self._get(slug, StoredIssue.slug == slug)

    def _get(self, key: int | str, wanted: ColumnElement[bool]) -> Edition | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        with self._database.reading() as session:
            content = session.scalar(select(StoredEdition.content).join(StoredIssue).where(wanted))
        if content is None:
            return None
        edition = Edition.from_json(content)
        with self._lock:
            self._kept[key] = edition
            while len(self._kept) > _CACHED_EDITIONS:
                self._kept.popitem(last=False)
        return edition


class ArchiveRoutes:
    """The routes of the archive and its feed."""

    def __init__(
        self,
        database: Database,
        editions: Editions,
        theme: Theme,
        settings: Settings,
    ) -> None:
        newsletter = settings.newsletter
        self._database = database
        self._editions = editions
        self._theme = theme
        self._name = newsletter.name
        self._author = newsletter.author_name or newsletter.name
        self._language = newsletter.language
        self._public_url = settings.web.public_url.rstrip("/")
        # Editions are frozen, so the feed is the same until another issue is listed.
        self._made_feed: tuple[tuple[ArchivedIssue, ...], bytes] = ((), b"")

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()
        for path, answer in (
            ("/", self.index),
            ("/archive", self.index),
            ("/archive/", self.index),
            ("/archive/{slug}", self.issue),
            ("/archive/{slug}/{name}", self.image),
            ("/feed.xml", self.feed),
        ):
            router.add_api_route(path, answer, methods=["GET", "HEAD"])
        return router

    def index(self, request: Request) -> Response:
        """List the issues, newest first."""
        return self._theme.to(request).page("archive.html", issues=self._listed())

    def issue(self, request: Request, slug: str) -> Response:
        """Show an issue as every reader may see it: no name, no links of one subscriber's own."""
        edition = self._editions.called(slug) if self._is_public(slug) else None
        if edition is None:
            raise HTTPException(404)
        answer = self._theme.to(request).page(
            "issue.html",
            edition=edition,
            article=article(edition, public_url=self._public_url, language=self._language),
            number=self._shown_number(edition),
            date=self._shown_date(edition),
        )
        answer.headers.update(_FRESH | {"content-security-policy": ISSUE_POLICY})
        return answer

    def image(self, slug: str, name: str) -> Response:
        """Return an image of an issue; its name follows from its content, so it never changes.

        Messages load these images, so they are served before the issue is public.
        """
        edition = self._editions.called(slug)
        images = edition.images if edition is not None else ()
        image = next((image for image in images if image.name == name), None)
        if image is None:
            raise HTTPException(404)
        return Response(image.content, media_type=image.media_type, headers=_FOR_EVER)

    def _shown_number(self, edition: Edition) -> str:
        """Return the number as the issue itself would say it, whoever reads it."""
        texts = self._theme.speaking(self._language)
        return texts.say("No. %(number)s", number=str(edition.number)) if edition.number else ""

    def _shown_date(self, edition: Edition) -> str:
        if not edition.date:
            return ""
        return str(format_date(date.fromisoformat(edition.date), "long", self._language.replace("-", "_")))

    def feed(self) -> Response:
        """Return the newest issues, whole, as an Atom feed (RFC 4287)."""
        listed = tuple(self._listed()[:_FEED_ENTRIES])
        made_of, content = self._made_feed
        if made_of != listed or not content:
            content = self._written_feed(listed)
            self._made_feed = listed, content
        return Response(content, media_type="application/atom+xml", headers=_FRESH)

    def _written_feed(self, listed: tuple[ArchivedIssue, ...]) -> bytes:
        feed = FeedGenerator()
        feed.id(f"{self._public_url}/archive/")
        feed.title(self._name)
        feed.author(name=self._author)
        feed.language(self._language)
        feed.link(href=f"{self._public_url}/archive/", rel="alternate")
        feed.link(href=f"{self._public_url}/feed.xml", rel="self")
        if listed:
            feed.updated(listed[0].at)
        for issue in listed:
            at = f"{self._public_url}/archive/{quote(issue.slug, safe='')}"
            entry = feed.add_entry(order="append")
            entry.id(at)
            entry.title(_UNFIT_FOR_XML.sub("", issue.title))
            entry.link(href=at)
            entry.published(issue.at)
            entry.updated(issue.at)
            edition = self._editions.called(issue.slug)
            if edition is not None:
                shown = article(edition, public_url=self._public_url, language=self._language)
                entry.content(_absolute(shown.body, at), type="html")
                if shown.description:
                    entry.summary(_UNFIT_FOR_XML.sub("", shown.description))
        return bytes(feed.atom_str())

    def _is_public(self, slug: str) -> bool:
        if "\0" in slug:
            return False
        with self._database.reading() as session:
            return session.scalar(select(StoredIssue.id).where(StoredIssue.slug == slug, *PUBLIC)) is not None

    def _listed(self) -> list[ArchivedIssue]:
        """Return the issues that everybody got: what went to a segment is not for all to see."""
        with self._database.reading() as session:
            rows = session.execute(
                select(StoredIssue.slug, StoredIssue.title, StoredIssue.dated_at)
                .where(*PUBLIC, StoredIssue.state != IssueState.CANCELLED)
                .order_by(StoredIssue.dated_at.desc(), StoredIssue.id.desc())
            )
            return [ArchivedIssue(slug, title, at) for slug, title, at in rows]
