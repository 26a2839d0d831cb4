"""Words, reading time and sizes: what lint says beforehand is what is sent, shown and archived."""

from __future__ import annotations

import email
import email.policy
import re
import shutil
from email.message import EmailMessage
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mailer.config import load
from mailer.delivery import editions
from mailer.rendering.html.article import article
from mailer.review import viewing
from tests.end_to_end.newsletter import PROJECT, Folder

_VOID = frozenset({"br", "hr", "img", "meta", "col"})
_APART = frozenset(
    {"p", "div", "li", "td", "th", "h1", "h2", "h3", "h4", "pre", "br", "table", "blockquote", "ul"}
)
_NO_WORDS = frozenset({"dateline", "footnote-number"})
_SOURCES = {
    "sample": PROJECT / "issues" / "001-a-bean-in-a-jar.md",
    "elements": PROJECT / "tests" / "oracle" / "elements.md",
}


class _Counted(HTMLParser):
    """The text of what is read: masthead and body, without date, marks of notes and buttons' frames."""

    def __init__(self, inside: frozenset[str]) -> None:
        super().__init__()
        self.text = ""
        self._inside = inside
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        classes = (dict(attrs).get("class") or "").split()
        if tag in _APART:
            self.text += " "
        if tag in _VOID:
            return
        if self._inside.intersection(classes):
            self._open.append("read")
        elif tag == "sup" or ("role", "doc-backlink") in attrs or _NO_WORDS.intersection(classes):
            self._open.append("left out")
        else:
            self._open.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            self._open.pop()
        if tag in _APART:
            self.text += " "

    def handle_data(self, data: str) -> None:
        if "read" in self._open and "left out" not in self._open:
            self.text += data


def words(html: str, *inside: str) -> int:
    reader = _Counted(frozenset(inside))
    reader.feed(html)
    return len(reader.text.split())


@pytest.mark.parametrize("source", list(_SOURCES))
def test_lint_measures_the_same_issue_as_is_sent_shown_and_archived(source: str, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "news")
    issue = folder.path / "issues" / "001-short.md"
    shutil.copy(_SOURCES[source], issue)
    shutil.copytree(PROJECT / "issues" / "images", issue.parent / "images")
    people = folder.path / "people.csv"
    people.write_text("email,name,country\nreader@example.org,Reader,Example\n")
    assert folder.mailer("subscribers", "import", str(people)).code == 0
    said = folder.mailer("lint", "1", "--format", "json").json
    assert folder.mailer("send", "1", "--yes").code == 0

    (kept,) = folder.kept()
    sent = email.message_from_bytes(kept, policy=email.policy.default)
    html, text = (sent.get_body((kind,)) for kind in ("html", "plain"))
    assert isinstance(html, EmailMessage)
    assert isinstance(text, EmailMessage)
    assert said["html_bytes"] == len(html.get_content().encode())
    assert said["text_bytes"] == len(text.get_content().encode())
    # The outbox adds the sender and the recipient to each message.
    assert said["message_bytes"] == len(re.sub(rb"\A(?:(?:Return-Path|X-Original-To): .*\r?\n)+", b"", kept))
    assert said["words"] == words(html.get_content(), "masthead", "body")

    settings = load(folder.path / "config.toml")
    shown = viewing.preview(settings, issue).report
    assert said["words"] == shown.words
    assert said["reading_time"] == shown.reading_time
    assert [said[f"{part}_bytes"] for part in ("html", "text", "message")] == [
        shown.html_bytes, shown.text_bytes, shown.message_bytes
    ]  # fmt: skip

    edition = editions.build(settings, issue)
    archived = article(edition, public_url="https://n.example").body
    around = len(f"{edition.title} {edition.subtitle}".split())
    # The page is nobody's, so it does not say "in Example" as the mail to a reader from there does.
    personal = 2 if source == "sample" else 0
    assert said["words"] - around - personal == words(f'<div class="body">{archived}</div>', "body")
    if source == "sample":
        assert f"Estimated reading time: {said['reading_time']}, or" in archived
        assert f"Estimated reading time: {said['reading_time']}, or" in html.get_content()
