"""Issues made from feeds: the new items since the last issue, as Markdown.

A feed is foreign input: its size and time are bounded, its addresses are checked like links, and its text
becomes plain text, without HTML, Markdown or template syntax of its own.
"""

from __future__ import annotations

import calendar
import hashlib
import html
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import feedparser
import nh3
from sqlalchemy import Connection, insert, select, update

from mailer.database.rows import insert_rows
from mailer.database.tables import Feed, FeedItem
from mailer.errors import SourceError
from mailer.review.links import Address, Resolve, UrlError, read_page

MAX_FEED_OCTETS: Final = 5_000_000
_MAX_ITEMS: Final = 1_000
"""How many items of a feed are looked at."""
_MAX_TITLE: Final = 200
_MAX_SUMMARY: Final = 400
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&])")


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a feed, as plain text."""

    title: str
    link: str
    """An http or https address, or empty."""
    summary: str
    at: datetime | None
    """When it was published; None if the feed does not say, or says something that lies ahead."""
    keys: frozenset[str]
    """What identifies it: its id, its address and its text."""


@dataclass(frozen=True, slots=True)
class Read:
    """The new items of a feed, the newest first, and what to record about it."""

    url: str
    items: tuple[Item, ...]
    etag: str
    modified: str


def read_feed(
    connection: Connection,
    url: str,
    *,
    at: datetime,
    resolve: Resolve | None = None,
    permitted: Callable[[Address], bool] | None = None,
) -> Read:
    """Return the items of a feed that were never used; none if it has not changed.

    Raises `SourceError` if the feed cannot be read.
    """
    known = connection.execute(select(Feed).where(Feed.c.url == url)).one_or_none()
    try:
        page = read_page(
            url,
            etag=known.etag if known else "",
            modified=known.modified if known else "",
            max_octets=MAX_FEED_OCTETS,
            resolve=resolve,
            permitted=permitted,
        )
    except UrlError as error:
        raise SourceError(f"{url}: {error}", remedy="check the address of the feed in a browser") from error
    if page.status == 304:
        return Read(url, (), page.etag, page.modified)
    used = set(connection.scalars(select(FeedItem.c.key).where(FeedItem.c.url == url)))
    new: list[Item] = []
    for item in parse_feed(page.content, url, at=at):
        if not item.keys & used:
            new.append(item)
            # Of two copies in one feed, the first counts.
            used |= item.keys
    oldest = datetime.min.replace(tzinfo=UTC)
    new.sort(key=lambda item: item.at or oldest, reverse=True)
    return Read(url, tuple(new), page.etag, page.modified)


def remember(connection: Connection, read: Read, *, at: datetime) -> None:
    """Record that all items of a feed were used or skipped."""
    values = {"etag": read.etag, "modified": read.modified}
    if not connection.execute(update(Feed).where(Feed.c.url == read.url).values(values)).rowcount:
        connection.execute(insert(Feed).values(url=read.url, **values))
    used = [{"url": read.url, "key": key, "at": at} for item in read.items for key in item.keys]
    insert_rows(connection, FeedItem, used)


def parse_feed(content: bytes, url: str, *, at: datetime) -> list[Item]:
    """Return the items of a feed in RSS, Atom or JSON Feed; raise `SourceError` if it is none of these.

    Items without a title and a summary are left out.
    """
    if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        entries: Sequence[Any] = _json_entries(content)
        is_feed = bool(entries) or b"jsonfeed.org" in content
    else:
        parsed = feedparser.parse(content, response_headers={"content-location": url}, sanitize_html=True)
        entries = parsed.get("entries", [])[:_MAX_ITEMS]
        is_feed = bool(entries or parsed.get("version"))
    if not is_feed:
        raise SourceError(
            f"{url}: this is not a feed in RSS, Atom or JSON Feed", remedy="give the address of the feed"
        )
    return [item for entry in entries if (item := _item(entry, url, at)) is not None]


def markdown(items: Iterable[Item]) -> str:
    """Return items as the body of an issue."""
    parts = []
    for item in items:
        title = escaped(item.title or item.link)
        heading = f"## [{title}](<{item.link}>)" if item.link else f"## {title}"
        parts.append(f"{heading}\n\n{escaped(item.summary)}\n" if item.summary else f"{heading}\n")
    return "\n".join(parts)


def escaped(text: str) -> str:
    """Return plain text as Markdown that shows exactly that, and that templates leave alone."""
    # Each brace is an entity, so that no template syntax is left.
    marked = _MARKDOWN.sub(r"\\\1", text)
    return marked.replace(r"\{", "&#123;").replace(r"\}", "&#125;").replace(r"\#", "&#35;")


def _item(entry: Any, url: str, at: datetime) -> Item | None:
    title = _plain(entry.get("title"), _MAX_TITLE)
    content = entry.get("content") or [{}]
    summary = _plain(entry.get("summary") or content[0].get("value"), _MAX_SUMMARY)
    link = _address(entry.get("link"), url)
    if not (title or summary):
        return None
    published = _published(entry)
    keys = {_key("text", f"{title}\n{summary}")}
    if identity := str(entry.get("id") or ""):
        keys.add(_key("id", identity))
    if link:
        keys.add(_key("link", link))
    return Item(title, link, summary, published if published and published <= at else None, frozenset(keys))


def _json_entries(content: bytes) -> list[dict[str, object]]:
    """Return the items of a JSON Feed (version 1.1) with the names that feedparser uses."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return []
    items = found.get("items") if isinstance(found, dict) else None
    entries = []
    for one in (items if isinstance(items, list) else [])[:_MAX_ITEMS]:
        if not isinstance(one, dict):
            continue
        try:
            written = datetime.fromisoformat(str(one.get("date_published", ""))).utctimetuple()
        except (ValueError, OverflowError):
            written = None
        text = html.escape(str(one.get("content_text") or ""))
        said = one.get("summary") or one.get("content_html") or text
        entries.append(
            {
                "title": one.get("title"),
                "summary": said,
                "link": one.get("url"),
                "id": one.get("id"),
                "published_parsed": written,
            }
        )
    return entries


def _published(entry: Any) -> datetime | None:
    # Not by the method of feedparser's dictionary, which warns of a name that it will drop.
    written = dict.get(entry, "published_parsed") or dict.get(entry, "updated_parsed")
    try:
        return datetime.fromtimestamp(calendar.timegm(written), UTC) if written else None
    except (TypeError, ValueError, OverflowError):
        return None


def _plain(text: object, longest: int) -> str:
    """Return HTML as one line of plain text."""
    found = html.unescape(nh3.clean(str(text or "")[:100_000], tags=set()))
    # Titles are often escaped twice.
    found = html.unescape(nh3.clean(found, tags=set()))
    line = " ".join("".join(c if c.isprintable() else " " for c in found).split())
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def _address(link: object, base: str) -> str:
    try:
        whole = urljoin(base, str(link or "").strip())
        parts = urlsplit(whole)
    except ValueError:
        return ""
    odd = any(c.isspace() or c in '<>{}\\"' or not c.isprintable() for c in whole)
    fits = parts.scheme in ("http", "https") and parts.hostname and not odd and len(whole) <= 2_000
    return whole if link and fits else ""


def _key(kind: str, value: str) -> str:
    return hashlib.sha256(f"{kind}:{value}".encode("utf-8", "replace")).hexdigest()
