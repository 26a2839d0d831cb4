"""Read an issue completely: values filled in, Markdown parsed, words counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from babel.dates import format_date
from markdown_it.token import Token
from msgspec import Struct

from mailer.config import Newsletter
from mailer.errors import SourceError
from mailer.rendering.source.conditions import CrossingError
from mailer.rendering.source.directions import mark_directions
from mailer.rendering.source.filling import fill_body, fill_text
from mailer.rendering.source.issue import Issue
from mailer.rendering.source.markdown import NestingError, parse_markdown, visible_words
from mailer.rendering.source.reading_time import count_words, reading_time
from mailer.rendering.templating.filters import direction_of, locale_of
from mailer.rendering.templating.slots import Slots


class Content(Struct, frozen=True):
    """An issue after the first stage of Jinja. Its texts and tokens contain the words of slots."""

    subject: str
    preheader: str
    tokens: list[Token]
    """The body."""
    values: dict[str, Any]
    """The values that templates can use."""
    words: int
    """The number of words in title, subtitle and body."""
    reading_time: str


def read_content(issue: Issue, newsletter: Newsletter, slots: Slots, *, raw_html: bool = False) -> Content:
    """Return the content of an issue; raise `SourceError` with file and line."""
    values = _values(issue, newsletter)
    tokens, words, values["reading_time"] = _read_body(issue, values, slots, newsletter, raw_html)
    return Content(
        subject=fill_text(issue, slots, issue.subject, values, issue.line_of("subject")),
        preheader=fill_text(issue, slots, issue.preheader, values, issue.line_of("preheader")),
        tokens=tokens,
        values=values,
        words=words,
        reading_time=values["reading_time"],
    )


def _values(issue: Issue, newsletter: Newsletter) -> dict[str, Any]:
    locale = locale_of(newsletter.language)
    return {
        "title": issue.title,
        "subtitle": issue.subtitle,
        "author": issue.author or newsletter.author_name,
        "date": str(format_date(issue.date, format="long", locale=locale)) if issue.date else "",
        "number": issue.number if issue.number is not None else "",
        "tags": list(issue.tags),
        "newsletter": newsletter,
        "reading_time": "",
    }


def _read_body(
    issue: Issue, values: Mapping[str, Any], slots: Slots, newsletter: Newsletter, raw_html: bool
) -> tuple[list[Token], int, str]:
    """Return the body's tokens, the issue's words, and the reading time, which counts its own words."""
    around = count_words(f"{issue.title} {issue.subtitle}")
    reading = _reading_time(around + count_words(issue.body), newsletter)
    # The reading time may be shown in the text and so counts its own words: repeat until both agree.
    for _ in range(5):
        tokens = _tokens(issue, {**values, "reading_time": reading}, slots, newsletter, raw_html)
        words = around + visible_words(tokens)
        assumed, reading = reading, _reading_time(words, newsletter)
        if assumed == reading or "reading_time" not in issue.body:
            break
    return tokens, words, reading


def _reading_time(words: int, newsletter: Newsletter) -> str:
    return reading_time(
        words,
        newsletter.words_per_minute,
        language=newsletter.language,
        exact=newsletter.exact_reading_time,
    )


def _tokens(
    issue: Issue, values: Mapping[str, Any], slots: Slots, newsletter: Newsletter, raw_html: bool
) -> list[Token]:
    markdown, kept = fill_body(issue, slots, values)
    try:
        tokens = parse_markdown(markdown, raw_html=raw_html, step=slots.step)
    except (NestingError, CrossingError) as error:
        place = f"{issue.path}:{issue.body_line + error.line}"
        raise SourceError(f"{place}: {error.message}", remedy=error.remedy) from error
    kept.put_back(tokens)
    mark_directions(tokens, rtl=direction_of(issue.language or newsletter.language) == "rtl")
    return tokens
