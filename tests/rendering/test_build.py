"""The whole way from an issue to its edition."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment
from msgspec.structs import replace

from mailer.config import Brand, Newsletter
from mailer.rendering.build import build_edition, build_letter
from mailer.rendering.edition import Edition
from mailer.rendering.source import parse_issue, read_issue

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "email_templates"
SAMPLE = ROOT / "issues" / "001-a-bean-in-a-jar.md"
SEED = ROOT.parent / "shared" / "seed" / "last-week-in-ai-1.md"
NEWSLETTER = Newsletter(name="Small Hours", postal_address="1 Garden Lane, 12345 Somewhere")


def edition_of(body: str, *, track_clicks: bool = False, front: str = "title: Hello") -> Edition:
    issue = parse_issue(f"---\n{front}\n---\n{body}", ROOT / "issues" / "002-test.md")
    return build_edition(issue, NEWSLETTER, Brand(), TEMPLATES, track_clicks=track_clicks)


def filled(template: str, **subscriber: str) -> str:
    urls = {
        name: f"https://r.example/{name}"
        for name in ("unsubscribe", "preferences", "view", "click", "confirm")
    }
    html = Environment(autoescape=True).from_string(template).render(subscriber=subscriber, urls=urls)
    return " ".join(html.split())


def test_seed_issue_states_its_own_reading_time() -> None:
    if not SEED.exists() and os.environ.get("CI") != "true":
        pytest.skip("the seed issue is not beside the project")
    newsletter = replace(NEWSLETTER, exact_reading_time=True)
    edition = build_edition(read_issue(SEED), newsletter, Brand(), TEMPLATES)
    line = "Estimated reading time: 4 minutes, 18 seconds (for real)"
    assert line in edition.text
    assert line in edition.html
    assert len(edition.html.encode()) < 102_000


def test_sample_issue_greets_by_name_and_without_one() -> None:
    edition = build_edition(read_issue(SAMPLE), NEWSLETTER, Brand(), TEMPLATES)
    for template in (edition.html, edition.text):
        assert "Hello Ada," in filled(template, name="Ada", country="")
        assert "Hello there," in filled(template, name="", country="")
        assert "in Iceland:" in filled(template, name="", country="Iceland")
        assert "in Iceland" not in filled(template, name="", country="")
        assert "https://r.example/unsubscribe" in filled(template, name="", country="")
        assert "1 Garden Lane" in template
    assert "xslot" not in edition.html + edition.text


def test_tracked_links_lead_through_click_and_stand_in_links() -> None:
    edition = edition_of(
        "[a](https://a.example/?x=1&y=2) [b](http://b.example) [a](https://a.example/?x=1&y=2)",
        track_clicks=True,
    )
    assert edition.links == ("https://a.example/?x=1&y=2", "http://b.example")
    assert edition.html.count('href="{{ urls.click }}/0"') == 2
    assert edition.html.count('href="{{ urls.click }}/1"') == 1
    assert "a.example" not in edition.html
    assert "https://a.example/?x=1&y=2" in edition.text


@pytest.mark.parametrize("kind", ["confirmation", "welcome", "goodbye"])
def test_letters_are_built_like_issues(kind: str) -> None:
    letter = build_letter(kind, NEWSLETTER, Brand(), TEMPLATES)  # type: ignore[arg-type]
    assert letter.slug == kind
    assert "Small Hours" in letter.subject
    assert "Small Hours" in filled(letter.html, name="")
    assert "xslot" not in letter.html + letter.text


def test_confirmation_holds_its_link_in_both_parts() -> None:
    letter = build_letter("confirmation", NEWSLETTER, Brand(), TEMPLATES)
    assert 'href="https://r.example/confirm"' in filled(letter.html)
    assert "https://r.example/confirm" in filled(letter.text)


@pytest.mark.parametrize("kind", ["confirmation", "welcome", "goodbye"])
@pytest.mark.parametrize(
    ("asked", "newsletters", "found"),
    [("de", "en", "de"), ("de-AT", "en", "de"), ("", "de-CH", "de"), ("sv", "de", "de"), ("sv", "en", "en"),
     ("../../etc/passwd", "en", "en"), ("", "sv", "sv")],
)  # fmt: skip
def test_letters_speak_the_readers_language_where_they_can(
    kind: Any, asked: str, newsletters: str, found: str
) -> None:
    newsletter = replace(NEWSLETTER, language=newsletters)
    letter = build_letter(kind, newsletter, Brand(), TEMPLATES, language=asked)
    assert f'<html lang="{found}"' in letter.html
    assert ("Sie" in letter.text) == (found == "de")
    plain = build_letter(kind, NEWSLETTER, Brand(), TEMPLATES)
    links = re.compile(r"\{\{ *urls\.\w+ *\}\}")
    assert Counter(links.findall(letter.text)) == Counter(links.findall(plain.text))


def test_german_newsletter_is_german_throughout() -> None:
    source = read_issue(SAMPLE)
    german = build_edition(source, replace(NEWSLETTER, language="de-AT"), Brand(), TEMPLATES)
    english = build_edition(source, NEWSLETTER, Brand(), TEMPLATES)
    for said, instead in (
        ("Unsubscribe", "Abmelden"),
        ("Preferences", "Einstellungen"),
        ("View in browser", "Im Browser ansehen"),
    ):
        for part in (german.html, german.text):
            assert (said in part, instead in part) == (False, True)
        assert said in english.html
    assert "weil Sie Small Hours abonniert haben" in german.html


def test_templates_say_it_in_words_of_ones_own(tmp_path: Path) -> None:
    templates = Path(shutil.copytree(TEMPLATES, tmp_path / "templates"))
    (templates / "texts").mkdir()
    (templates / "texts" / "sv.po").write_text(
        'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n'
        'msgid "Unsubscribe"\nmsgstr "Se d\u00e9sabonner"\n',
        encoding="utf-8",
    )
    edition = build_edition(read_issue(SAMPLE), replace(NEWSLETTER, language="sv"), Brand(), templates)
    assert "Se d\u00e9sabonner: {{ urls.unsubscribe }}" in edition.text
    assert "Preferences: " in edition.text
