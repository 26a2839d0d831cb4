"""The parsed message that lint checks, and the places of its parts in the source."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Iterator, Sequence
from datetime import date
from email.message import EmailMessage
from functools import cached_property
from typing import Final

from lxml import etree
from msgspec import Struct

from mailer.config import Newsletter
from mailer.printable import whole_number
from mailer.rendering.edition import Edition
from mailer.rendering.html.line_breaks import parsed
from mailer.rendering.lint.places import Places
from mailer.rendering.source import Issue
from mailer.rendering.source.prepass import without_code

_NOT_SHOWN: Final = frozenset({"style", "script", "title", "head"})
_CODE: Final = frozenset({"code", "pre", "kbd", "samp", "tt"})


class Link(Struct, frozen=True):
    """An `<a>` that readers see."""

    href: str
    """The final destination: for a tracked link, the address that the author wrote."""
    text: str
    """Its words, including alternative texts, with white space collapsed."""
    own: bool
    """Whether it leads to the newsletter's own pages."""


class Mail:
    """One issue and its sample message, parsed once for all checks."""

    def __init__(
        self,
        issue: Issue,
        edition: Edition,
        message: bytes,
        newsletter: Newsletter,
        *,
        public_url: str,
        leaving: bool,
        clients: Sequence[str] = (),
        today: date | None = None,
    ) -> None:
        self.issue = issue
        self.edition = edition
        self.newsletter = newsletter
        self.public_url = public_url.rstrip("/")
        self.leaving = leaving
        self.clients = clients
        self.today = today
        read = email.message_from_bytes(message, policy=email.policy.default)
        assert isinstance(read, EmailMessage)
        self.headers = read
        self.html = _part(read, "html")
        self.text = _part(read, "plain")
        self.finding = Places(issue).finding

    @cached_property
    def root(self) -> etree._Element:
        """The HTML as a tree; comments stay in it."""
        root = parsed(self.html)
        return root if root is not None else etree.Element("html")

    @cached_property
    def prose(self) -> str:
        """The body as written, with spaces instead of code and HTML comments."""
        return without_code(self.issue.body)

    @cached_property
    def elements(self) -> tuple[etree._Element, ...]:
        """Every element in document order, without comments and processing instructions."""
        return tuple(element for element in self.root.iter() if isinstance(element.tag, str))

    @cached_property
    def hidden(self) -> frozenset[etree._Element]:
        """The elements that no reader sees: the head, the preheader and their contents."""
        out: set[etree._Element] = set()
        for element in self.elements:
            style = element.get("style", "").replace(" ", "")
            if element.getparent() in out or element.tag in _NOT_SHOWN or "display:none" in style:
                out.add(element)
        return frozenset(out)

    @cached_property
    def shown_text(self) -> str:
        """The visible text of the HTML, with white space collapsed."""
        return " ".join("".join(text for _, text in self.texts).split())

    @cached_property
    def texts(self) -> tuple[tuple[etree._Element, str], ...]:
        """Each run of visible text with the element that contains it."""
        return tuple(self._texts())

    @cached_property
    def prose_texts(self) -> tuple[str, ...]:
        """Each run of visible text that is not code."""
        coded: set[etree._Element] = set()
        for element in self.elements:
            if element.tag in _CODE or element.getparent() in coded:
                coded.add(element)
        return tuple(text for element, text in self.texts if element not in coded)

    def _texts(self) -> Iterator[tuple[etree._Element, str]]:
        for element in self.elements:
            if element.text and element not in self.hidden:
                yield element, element.text
            parent = element.getparent()
            if element.tail and parent is not None and parent not in self.hidden:
                yield parent, element.tail
        # Text may follow a comment as well.
        for comment in self.root.iter(etree.Comment):
            parent = comment.getparent()
            if comment.tail and parent is not None and parent not in self.hidden:
                yield parent, comment.tail

    @cached_property
    def links(self) -> tuple[Link, ...]:
        """The links of the HTML, in order."""
        return tuple(
            self._link(element)
            for element in self.elements
            if element.tag == "a" and element.get("href") is not None and element not in self.hidden
        )

    def _link(self, element: etree._Element) -> Link:
        href = (element.get("href") or "").strip()
        words = ["".join(map(str, element.itertext()))]
        words += [image.get("alt") or "" for image in element.iter("img")]
        text = " ".join(" ".join(words).split())
        path = href.removeprefix(self.public_url)
        own = path != href and path[:1] == "/"
        parts = path.split("/")
        number = whole_number(parts[-1]) if own and parts[1:2] == ["c"] else None
        if number is not None and number < len(self.edition.links):
            return Link(self.edition.links[number], text, own=False)
        return Link(href, text, own)

    @cached_property
    def addresses(self) -> tuple[str, ...]:
        """The web addresses that the message links to or loads from, except the newsletter's own pages."""
        found = [link.href for link in self.links if not link.own]
        found += [image.get("src") or "" for image in self.elements if image.tag == "img"]
        web = (url.partition("#")[0] for url in found if re.match(r"(?i)https?://", url))
        return tuple(dict.fromkeys(url for url in web if not url.startswith(f"{self.public_url}/")))


def _part(message: EmailMessage, kind: str) -> str:
    part = message.get_body(preferencelist=(kind,))
    if not isinstance(part, EmailMessage):
        return ""
    content: str = part.get_content()
    return content
