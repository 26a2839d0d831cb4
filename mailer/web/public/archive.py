"""The public site: the home page, the sent issues, their tags and years, and feeds.

`/v/TOKEN` shows an issue to its recipients, whether it is public or not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import date
from typing import Any, Final
from urllib.parse import quote, urlencode

from babel.dates import format_date
from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mailer.catalogue import marked
from mailer.config import Settings
from mailer.printable import whole_number
from mailer.rendering.edition import Edition
from mailer.rendering.html.article import Article, article
from mailer.rendering.templating.filters import locale_of
from mailer.tokens import Signer
from mailer.web.public.editions import ArchivedIssue, Editions
from mailer.web.public.feeds import Feeds
from mailer.web.theme import Theme

# Highlighted code has inline colours. There are no scripts, and none would run.
ISSUE_POLICY: Final = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' https:; font-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
PAGE_SIZE: Final = 20
_MAX_QUERY: Final = 100
_FOR_EVER: Final = {"cache-control": "public, max-age=31536000, immutable"}
_FRESH: Final = {"cache-control": "public, max-age=300"}


class ArchiveRoutes:
    """The routes of the public site, and of issues for their recipients."""

    def __init__(self, signer: Signer, editions: Editions, theme: Theme, settings: Settings) -> None:
        self._signer = signer
        self._editions = editions
        self._theme = theme
        self._newsletter = settings.newsletter
        self._language = settings.newsletter.language
        self._public_url = settings.web.public_url.rstrip("/")
        self._feeds = Feeds(editions, settings)

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()
        for path, answer in (
            ("/", self.index),
            ("/archive", self.index),
            ("/archive/", self.index),
            ("/archive/{slug}", self.issue),
            ("/archive/{slug}/{name}", self.image),
            ("/v/{token}", self.recipients_issue),
            ("/v/{token}/{name}", self.recipients_image),
            ("/tags/{tag}", self.tag),
            ("/years/{year}", self.year),
            ("/feed.xml", _feed(self._feeds.atom, "application/atom+xml")),
            ("/rss.xml", _feed(self._feeds.rss, "application/rss+xml")),
            ("/feed.json", _feed(self._feeds.json, "application/feed+json")),
            ("/sitemap.xml", _feed(self._feeds.sitemap, "application/xml")),
        ):
            router.add_api_route(path, answer, methods=["GET", "HEAD"], response_model=None)
        return router

    def index(self, request: Request) -> Response:
        """Show the newsletter, its latest issue and the list of others; with `?q=`, search them."""
        issues = self._editions.listed()
        query = " ".join(request.query_params.get("q", "")[:_MAX_QUERY].split())
        if query:
            found = [issue for issue in issues if issue.matches(query)]
            return self._list(request, issues, found, query=query)
        return self._list(request, issues, issues, first=True)

    def tag(self, request: Request, tag: str) -> Response:
        """List the issues with a tag."""
        issues = self._editions.listed()
        found = [issue for issue in issues if tag in issue.tags]
        if not found:
            raise HTTPException(404)
        return self._list(request, issues, found, tag=tag)

    def year(self, request: Request, year: str) -> Response:
        """List the issues of a year."""
        issues = self._editions.listed()
        found = [issue for issue in issues if str(issue.day.year) == year]
        if not found:
            raise HTTPException(404)
        return self._list(request, issues, found, year=year)

    def _list(
        self,
        request: Request,
        issues: list[ArchivedIssue],
        found: list[ArchivedIssue],
        *,
        first: bool = False,
        query: str = "",
        tag: str = "",
        year: str = "",
    ) -> Response:
        """Return a page of a list; without a query, tag or year it is the home page."""
        asked = request.query_params.get("page", "1")
        number = whole_number(asked, digits=5)
        number = 1 if number is None else number
        pages = max(1, -(-len(found) // PAGE_SIZE))
        if not 1 <= number <= pages:
            raise HTTPException(404)
        shown = found[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]
        counted = Counter(one for issue in issues for one in issue.tags)

        def link(page: int) -> str:
            asking = {"q": query} if query else {}
            return f"{request.url.path}?{urlencode(asking | {'page': page})}"

        return self._theme.to(request).page(
            "archive.html",
            site=self._newsletter,
            public_url=self._public_url,
            first=first and number == 1,
            query=query,
            tag=tag,
            year=year,
            issues=shown,
            any_issue=bool(issues),
            count=len(found),
            tags=[(name, _tag_path(name)) for name, _ in counted.most_common(20)],
            years=sorted({issue.day.year for issue in issues}, reverse=True),
            newer=link(number - 1) if number > 1 else "",
            older=link(number + 1) if number < pages else "",
        )

    def issue(self, request: Request, slug: str) -> Response:
        """Show an issue as the public sees it: without a subscriber's name or personal links."""
        edition = self._editions.called(slug) if self._editions.is_public(slug) else None
        if edition is None:
            raise HTTPException(404)
        shown = article(edition, public_url=self._public_url, language=self._language)
        answer = self._theme.to(request).page(
            "issue.html",
            public=True,
            edition=edition,
            article=shown,
            number=self._number(edition),
            tags=[(tag, _tag_path(tag)) for tag in edition.tags],
            shares=_shares(shown, edition),
            **self._around(slug, shown.language),
        )
        answer.headers.update(_FRESH | {"content-security-policy": ISSUE_POLICY})
        return answer

    def image(self, slug: str, name: str) -> Response:
        """Return an image of an issue; its name is a hash of its content, so it never changes.

        Messages may load their images from here, even if their issue is not public.
        """
        edition = self._editions.called(slug)
        if edition is None or not (edition.images_published or self._editions.is_public(slug)):
            raise HTTPException(404)
        answer = _image(name, edition, *self._editions.replaced(slug))
        answer.headers.update(_FOR_EVER)
        return answer

    def recipients_issue(self, request: Request, token: str) -> Response:
        """Show the issue that an email brought, as the archive would, and without links to share it."""
        edition = self._received(token)
        day = date.fromisoformat(edition.date) if edition.date else None
        shown = article(edition, public_url=self._public_url, path=f"/v/{token}", language=self._language)
        answer = self._theme.to(request).page(
            "issue.html",
            public=False,
            edition=edition,
            article=shown,
            number=self._number(edition),
            tags=[],
            shares=[],
            day=day.isoformat() if day else "",
            date=_written(day, shown.language) if day else "",
            newer=None,
            older=None,
        )
        answer.headers["content-security-policy"] = ISSUE_POLICY
        return answer

    def recipients_image(self, token: str, name: str) -> Response:
        """Return an image of the issue that an email brought."""
        return _image(name, self._received(token))

    def _received(self, token: str) -> Edition:
        """Return the edition that a link token's reader got; raise `TokenError`, or 404 without an issue."""
        subject = self._signer.read_link(token)
        edition = self._editions.received(subject.issue_id, subject.subscriber_id)
        if edition is None:
            raise HTTPException(404)
        return edition

    def _around(self, slug: str, language: str) -> dict[str, Any]:
        """Return an issue's date, and the issues before and after it, for its page."""
        issues = self._editions.listed()
        place = next((at for at, issue in enumerate(issues) if issue.slug == slug), None)
        if place is None:
            # Cancelled after it was sent: its page stays for people who have the link.
            return {"day": "", "date": "", "newer": None, "older": None}
        day = issues[place].day
        return {
            "day": day.isoformat(),
            "date": _written(day, language),
            "newer": issues[place - 1] if place else None,
            "older": issues[place + 1] if place + 1 < len(issues) else None,
        }

    def _number(self, edition: Edition) -> str:
        """Return the number as the issue itself shows it, in its language."""
        texts = self._theme.speaking(edition.language or self._language)
        return texts.say("No. %(number)s", number=str(edition.number)) if edition.number else ""


def _written(day: date, language: str) -> str:
    return str(format_date(day, "long", locale_of(language)))


def _feed(write: Callable[[], bytes], media_type: str) -> Callable[[], Response]:
    def answer() -> Response:
        return Response(write(), media_type=media_type, headers=_FRESH)

    return answer


def _image(name: str, *editions: Edition) -> Response:
    image = next((image for one in editions for image in one.images if image.name == name), None)
    if image is None:
        raise HTTPException(404)
    return Response(image.content, media_type=image.media_type)


def _tag_path(tag: str) -> str:
    return f"/tags/{quote(tag, safe='')}"


def _shares(shown: Article, edition: Edition) -> list[tuple[str, str]]:
    """Return labels (to be translated) and links that share an issue: plain links that load nothing."""
    at, title = quote(shown.address, safe=""), quote(edition.title, safe="")
    return [
        (marked("Email"), f"mailto:?subject={title}&body={at}"),
        ("Bluesky", f"https://bsky.app/intent/compose?text={title}%20{at}"),
        ("LinkedIn", f"https://www.linkedin.com/sharing/share-offsite/?url={at}"),
        ("X", f"https://x.com/intent/post?text={title}&url={at}"),
    ]
