"""The operator's first issue, from its file to the message that a reader gets."""

from __future__ import annotations

import email
import email.policy
import re
from email.message import EmailMessage
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.end_to_end.newsletter import Folder


class _Text(HTMLParser):
    """Collects what a reader sees of an HTML document, and the text in `<em>`."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.emphasised: list[str] = []
        self._hidden = 0
        self._em = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("style", "title")
        self._em += tag == "em"

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "title")
        self._em -= tag == "em"

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.seen.append(data)
            if self._em:
                self.emphasised.append(data)


@pytest.fixture
def message(seed: Path, tmp_path: Path) -> EmailMessage:
    folder = Folder(tmp_path / "news", "exact_reading_time = true\n")
    assert folder.mailer("render", str(seed), "--out", str(tmp_path)).code == 0
    parsed = email.message_from_bytes(
        (tmp_path / f"{seed.stem}.eml").read_bytes(), policy=email.policy.default
    )
    assert isinstance(parsed, EmailMessage)
    return parsed


def part(message: EmailMessage, kind: str) -> str:
    found = message.get_body(preferencelist=(kind,))
    assert isinstance(found, EmailMessage)
    content: str = found.get_content()
    return content


def joined(text: str) -> str:
    return " ".join(text.split())


def paragraphs(seed: Path) -> list[str]:
    """Return the seed's paragraphs and headings as a reader sees them."""
    body = seed.read_text(encoding="utf-8").split("---", 2)[2]
    body = body.replace("{{ reading_time }}", "4 minutes, 18 seconds").replace("*", "")
    return [joined(block.lstrip("# ")) for block in re.split(r"\n\s*\n", body.strip())]


def test_html_holds_every_paragraph_and_heading(message: EmailMessage, seed: Path) -> None:
    reader = _Text()
    reader.feed(part(message, "html"))
    seen = joined("".join(reader.seen))
    assert [block for block in paragraphs(seed) if block not in seen] == []
    assert "loved" in reader.emphasised


def test_text_holds_every_paragraph_and_heading(message: EmailMessage, seed: Path) -> None:
    seen = joined(part(message, "plain")).replace("*", "")
    assert [block for block in paragraphs(seed) if block not in seen] == []
    assert "*loved*" in part(message, "plain")


@pytest.mark.parametrize("kind", ["html", "plain"])
def test_reading_time_and_characters_come_through(message: EmailMessage, kind: str) -> None:
    content = part(message, kind)
    assert "Estimated reading time: 4 minutes, 18 seconds (for real)" in joined(content)
    for character in "’…🤞😶“”–":
        assert character in content


def test_html_is_not_clipped_by_gmail(message: EmailMessage) -> None:
    assert len(part(message, "html").encode()) < 102_000


def test_rendering_is_the_same_octets_each_time(seed: Path, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "news", "exact_reading_time = true\n")
    first = folder.mailer("render", str(seed), "--out", "-", PYTHONHASHSEED="1")
    second = folder.mailer("render", str(seed), "--out", "-", PYTHONHASHSEED="2")
    assert first.code == 0
    assert first.out == second.out
