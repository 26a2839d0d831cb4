"""An issue written in a test, and what one reader gets of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lxml import etree

from mailer.config import Brand, Newsletter
from mailer.rendering.build import build_edition
from mailer.rendering.edition import Edition
from mailer.rendering.message import Recipient
from mailer.rendering.source import parse_issue
from tests.conftest import PROJECT
from tests.rendering.message.test_composer import composer, parsed

NEWSLETTER = Newsletter(name="The Week", author_address="ada@example.org", postal_address="1 Road, Town")
ISSUE = PROJECT / "issues" / "002-test.md"


@dataclass(frozen=True, slots=True)
class Received:
    """The two parts of a message."""

    html: str
    text: str

    @property
    def body(self) -> etree._Element:
        """The element that holds the issue's body."""
        tree = etree.fromstring(self.html.encode(), etree.HTMLParser(encoding="utf-8"))
        found = tree.xpath("//div[contains(@class, 'body')] | //td[contains(@class, 'body')]")
        assert isinstance(found, list)
        element = found[0]
        assert isinstance(element, etree._Element)
        return element

    @property
    def words(self) -> str:
        """The words of the body, white space joined."""
        return " ".join("".join(map(str, self.body.itertext())).split())

    @property
    def links(self) -> list[str]:
        """Where the links of the body lead."""
        return [str(link.get("href")) for link in self.body.iter("a")]

    @property
    def above_signature(self) -> str:
        """The text part without its footer."""
        return self.text.partition("-- \n")[0].rstrip()


def issue_of(body: str, **front: object) -> str:
    """Return an issue file with a body and further front matter."""
    lines = {"title": '"A test"', "preheader": '"What it holds"', **front}
    return "---\n" + "".join(f"{key}: {value}\n" for key, value in lines.items()) + f"---\n{body}\n"


def edition(
    body: str,
    *,
    language: str = "en",
    raw_html: bool = False,
    brand: Brand | None = None,
    path: Path = ISSUE,
    **front: object,
) -> Edition:
    """Return the edition of an issue with this body."""
    newsletter = Newsletter(**{**_fields(NEWSLETTER), "language": language})  # type: ignore[arg-type]
    return build_edition(
        parse_issue(issue_of(body, **front), path),
        newsletter,
        brand or Brand(),
        PROJECT / "email_templates",
        public_url="https://news.example.org",
        raw_html=raw_html,
    )


def received(
    edition: Edition,
    *,
    tags: tuple[str, ...] = (),
    attributes: Mapping[str, object] | None = None,
    letter: bool = False,
) -> Received:
    """Return what a reader gets."""
    reader = Recipient(1, "ana@example.org", "Ana", attributes or {}, tags)
    message = parsed(
        composer(edition, letter=letter, issue_id=0 if letter else 7).compose(
            reader, datetime(2026, 1, 2, tzinfo=UTC)
        )
    )
    parts = [message.get_body((kind,)) for kind in ("html", "plain")]
    html, text = (part.get_content().replace("\r\n", "\n") if part is not None else "" for part in parts)
    return Received(html, text)


def _fields(newsletter: Newsletter) -> dict[str, object]:
    return {name: getattr(newsletter, name) for name in newsletter.__struct_fields__}
