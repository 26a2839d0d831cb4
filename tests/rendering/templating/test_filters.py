"""What is said per subscriber, in each place where it can stand."""

from __future__ import annotations

import re
from html import unescape

import pytest

from mailer.errors import RecipientError, SourceError
from mailer.rendering.edition import Edition
from mailer.rendering.html.article import article
from mailer.rendering.message import Recipient
from mailer.rendering.templating.filters import FILTERS, by_language
from tests.rendering.test_build import edition_of
from tests.rendering.test_composed_editions import content, read

READER = Recipient(
    6,
    "ada@example.net",
    "ada lovelace",
    {"since": "2026-03-04", "points": 1234567.5, "debt": "12.5", "city": "Bergen & Oslo", "empty": ""},
    ("plants", "poems"),
)


def said(edition: Edition, reader: Recipient = READER) -> dict[str, str]:
    """Return the places of a composed message: subject, HTML's words, its first link, text, preheader."""
    message = read(edition, reader)
    html = content(message, "html")
    hidden = re.search(r'<div class="preheader"[^>]*>(.*?)(?:&#847;|\u034f)', html)
    links = re.findall(r'href="(https://a\.example[^"]*)"', html)
    words = re.sub(r"<style.*?</style>|<!--.*?-->|<[^>]+>", " ", html, flags=re.DOTALL)
    return {
        "subject": str(message["subject"]),
        "preheader": unescape(hidden[1]) if hidden else "",
        "html": " ".join(unescape(words).replace("\u202f", " ").replace("\xa0", " ").split()),
        "url": unescape(links[0]) if links else "",
        "text": " ".join(content(message, "plain").replace("\u202f", " ").replace("\xa0", " ").split()),
    }


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ("subscriber.name | title", "Ada Lovelace"),
        ("subscriber.none | default('friend')", "friend"),
        ("subscriber.empty | default('friend')", "friend"),
        ("subscriber.since | date", "March 4, 2026"),
        ("subscriber.since | date('short')", "3/4/26"),
        ("subscriber.points | number", "1,234,567.5"),
        ("subscriber.points | number(0)", "1,234,568"),
        ("subscriber.debt | money('EUR')", "€12.50"),
        ("subscriber.tags | join(', ')", "plants, poems"),
        ("subscriber.city", "Bergen & Oslo"),
        ("'yes' if 'poems' in subscriber.tags else 'no'", "yes"),
    ],
)
def test_expression_is_filled_in_every_place(expression: str, shown: str) -> None:
    edition = edition_of(
        f"Body: {{{{ {expression} }}}}.\n\n[Go](https://a.example/?x={{{{ {expression} }}}}&y=1){{.button}}",
        front=f'title: T\nsubject: "S {{{{ {expression} }}}}"\npreheader: "P {{{{ {expression} }}}}"',
    )
    found = said(edition)
    assert found["subject"] == f"S {shown}"
    assert found["preheader"] == f"P {shown}"
    assert f"Body: {shown}." in found["html"]
    assert f"Body: {shown}." in found["text"]
    encoded = by_language("en")["urlencode"](shown)
    assert found["url"] == f"https://a.example/?x={encoded}&y=1"
    assert f"https://a.example/?x={encoded}&y=1" in found["text"]


def test_condition_chooses_in_every_place() -> None:
    edition = edition_of(
        "{% if subscriber.plan == 'pro' %}\nThank you.\n{% else %}\nJoin [here](https://a.example/j).\n"
        "{% endif %}\n",
        front="title: T\nsubject: \"{% if subscriber.plan == 'pro' %}For you{% else %}For all{% endif %}\"",
    )
    pro, free = (
        said(edition, Recipient(1, "a@b.example", attributes={"plan": plan})) for plan in ("pro", "x")
    )
    assert (pro["subject"], free["subject"]) == ("For you", "For all")
    assert "Thank you." in pro["html"]
    assert "Thank you." in pro["text"]
    assert "Join" not in pro["html"] + pro["text"].split("[1]")[0]
    assert (free["url"], pro["url"]) == ("https://a.example/j", "")


def test_what_a_subscriber_is_called_can_add_nothing() -> None:
    name = '<img src=x onerror="y">{{ 7*7 }}"'
    found = read(edition_of("Hi {{ subscriber.name }} [a](https://a.example/{{ subscriber.name }})"),
                 Recipient(1, "a@b.example", name))  # fmt: skip
    html = content(found, "html")
    assert "&lt;img src=x onerror=&#34;y&#34;&gt;{{ 7*7 }}" in html
    assert "https://a.example/%3Cimg%20src%3Dx%20onerror%3D%22y%22%3E%7B%7B%207%2A7%20%7D%7D%22" in html


def test_numbers_of_the_issue_follow_the_same_filters() -> None:
    text = edition_of(
        '{{ 12345.678 | number(1) }} {{ "2026-03-04" | date("short") }} {{ title | upper }}'
    ).text
    assert "12,345.7 3/4/26 HELLO" in text


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("subscriber.x | nmber", "no filter 'nmber' per subscriber; did you mean 'number'?"),
        ("subscriber.x | money", "'money' takes the code of a currency"),
        ("subscriber.x | money('XXQ')", "'money' takes the code of a currency"),
        ("subscriber.x | date('yyyy')", "'date' knows short, medium, long, full"),
        ("subscriber.x | number(99)", "'number' takes the number of decimals"),
        ("subscriber.x.upper()", "'call' cannot be used per subscriber"),
        ("subscriber.x + title", "'subscriber' differs per subscriber and 'title' does not"),
        ("urls.home", "'urls' has unsubscribe, preferences, view, click, open, confirm here"),
        ("titel", "unknown name 'titel'; did you mean 'title'?"),
        ("title | frobnicate", "No filter named 'frobnicate'"),
    ],
)
def test_mistake_is_reported_with_the_line_of_the_issue(expression: str, problem: str) -> None:
    with pytest.raises(SourceError) as caught:
        edition_of(f"One.\n\n{{{{ {expression} }}}}\n")
    assert caught.value.message.startswith(str(caught.value.message.split(":6:")[0]) + ":6:")
    assert problem in caught.value.message


def test_missing_field_is_an_error_of_that_subscriber() -> None:
    with pytest.raises(RecipientError, match=r"'subscriber.city' is missing"):
        said(edition_of("{{ subscriber.city | upper }}"), Recipient(1, "a@b.example"))
    with pytest.raises(RecipientError, match=r"subscriber 6 does not fit: 'Bergen & Oslo' is not a number"):
        said(edition_of("{{ subscriber.city | number }}"))
    with pytest.raises(RecipientError, match=r"subscriber 6 does not fit: 'Bergen & Oslo' is not a date"):
        said(edition_of("{{ subscriber.city | date }}"))


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_archive_shows_every_filter_of_an_empty_field(name: str) -> None:
    argument = {"money": "('EUR')", "join": "(', ')", "default": "('')", "d": "('')"}.get(name, "")
    edition = edition_of(f"a{{{{ subscriber.x | {name}{argument} }}}}z")
    assert re.search("a(0|0.0)?z", article(edition, public_url="https://n.example").body)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e99999", "x", "--", True])
def test_number_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        by_language("en")["number"](value)
