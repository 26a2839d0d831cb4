"""Render an issue or a letter once, into the `Edition` that every run sends."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

from babel import Locale
from babel.dates import format_date
from markdown_it.token import Token
from msgspec.structs import replace

from mailer.config import Brand, Newsletter
from mailer.errors import SourceError
from mailer.rendering.edition import Edition
from mailer.rendering.html.body import Frame, MailBody, PageBody, url_slots
from mailer.rendering.html.document import BODY, document
from mailer.rendering.html.palette import palette
from mailer.rendering.html.renderer import markup
from mailer.rendering.source import Issue, read_issue
from mailer.rendering.source.conditions import CrossingError
from mailer.rendering.source.filling import fill_body, fill_text
from mailer.rendering.source.markdown import NestingError, parse_markdown, visible_words
from mailer.rendering.source.reading_time import count_words, reading_time
from mailer.rendering.templates import Templates, templates_in
from mailer.rendering.templating.filters import locale_of
from mailer.rendering.templating.slots import Slots
from mailer.rendering.text.blocks import Links, render_text
from mailer.rendering.text.layout import safe_lines

Letter = Literal["confirmation", "welcome", "goodbye"]
_LIBRARIES: Final = (
    "jinja2",
    "markdown-it-py",
    "mdit-py-plugins",
    "mjml-python",
    "premailer",
    "pillow",
    "pygments",
)


def build_edition(
    issue: Issue,
    newsletter: Newsletter,
    brand: Brand,
    templates: Path,
    *,
    track_clicks: bool = False,
    track_opens: bool = False,
    public_url: str = "",
    image_root: Path | None = None,
    publish_images: bool = False,
    raw_html: bool = False,
) -> Edition:
    """Return the edition of `issue`. The same input gives the same bytes on any machine.

    With `track_clicks`, web links in the HTML lead through `{{ urls.click }}/N`; the text part keeps the
    destinations, so that readers can see them. Local images must be below `image_root` (default: the issue's
    directory). With `publish_images`, the HTML loads them from `public_url` and messages do not carry them.
    `raw_html` keeps the author's HTML as far as the allow-list permits; otherwise it is shown as text. Raises
    `SourceError` with file and line.
    """
    newsletter = replace(newsletter, language=issue.language or newsletter.language)
    frame = Frame(
        "issue",
        newsletter,
        brand,
        templates_in(templates, newsletter.language),
        track_clicks=track_clicks,
        track_opens=track_opens,
        public_url=public_url,
        publish_images=publish_images,
        raw_html=raw_html,
    )
    return _build(issue, frame, image_root or issue.path.parent)


def build_letter(
    kind: Letter,
    newsletter: Newsletter,
    brand: Brand,
    templates: Path,
    *,
    public_url: str = "",
    language: str = "",
) -> Edition:
    """Return the edition of a confirmation, welcome or goodbye message, from `templates/letters/KIND.md`.

    `KIND.LANGUAGE.md` is taken where there is one for `language` (BCP 47), a wider one (`de` for `de-AT`),
    or the newsletter's. Never tracked; the confirmation's templates use `urls.confirm`.
    """
    path, found = _letter_file(templates / "letters", kind, (language, newsletter.language))
    issue = read_issue(path)
    newsletter = replace(newsletter, language=found or newsletter.language)
    frame = Frame(
        "letter",
        newsletter,
        brand,
        templates_in(templates, newsletter.language),
        track_clicks=False,
        track_opens=False,
        public_url=public_url,
        publish_images=False,
        raw_html=False,
    )
    return _build(issue, frame, issue.path.parent)


def _letter_file(folder: Path, kind: Letter, languages: Iterable[str]) -> tuple[Path, str]:
    """Return the file of a letter in the first language available, and that language."""
    for language in languages:
        parts = language.split("-")
        for length in range(len(parts), 0, -1):
            tag = "-".join(parts[:length])
            # The tag may come from the database: only a valid one may become part of a path.
            if _LANGUAGE_TAG.fullmatch(tag) and (path := folder / f"{kind}.{tag}.md").is_file():
                return path, tag
    return folder / f"{kind}.md", ""


_LANGUAGE_TAG: Final = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")


def _build(issue: Issue, frame: Frame, image_root: Path) -> Edition:
    slots = Slots(frame.templates.slots.late)
    values = _issue_values(issue, frame)
    tokens, words, values["reading_time"] = _read_body(issue, values, slots, frame)
    subject, preheader = (
        fill_text(issue, slots, text, values, issue.line_of(key))
        for key, text in (("subject", issue.subject), ("preheader", issue.preheader))
    )
    body = MailBody(issue, slots, frame, image_root)
    html = _html(frame, {**values, "preheader": preheader}, body.html(tokens))
    text = _text(frame, values, tokens, slots)
    return Edition(
        slug=issue.slug,
        title=issue.title,
        subtitle=issue.subtitle,
        author=issue.author or frame.newsletter.author_name,
        date=issue.date.isoformat() if issue.date else "",
        number=issue.number,
        tags=issue.tags,
        subject=slots.restore(" ".join(subject.split())),
        preheader=slots.restore(" ".join(preheader.split())),
        html=slots.restore(html),
        text=slots.restore(text),
        links=tuple(body.links),
        images=tuple(body.images.values()),
        made_of=_made_of(issue, frame.templates),
        words=words,
        reading_time=values["reading_time"],
        page=slots.restore(PageBody(body).html(tokens)),
        images_published=frame.publish_images,
    )


def _made_of(issue: Issue, templates: Templates) -> dict[str, str]:
    source = "\0".join([issue.title, issue.subtitle, issue.subject, issue.preheader, issue.body])
    return {
        "source": sha256(source.encode()).hexdigest(),
        "templates": templates.digest(),
        **_versions(),
    }


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in _LIBRARIES}


def _issue_values(issue: Issue, frame: Frame) -> dict[str, Any]:
    locale = locale_of(frame.newsletter.language)
    return {
        "title": issue.title,
        "subtitle": issue.subtitle,
        "author": issue.author or frame.newsletter.author_name,
        "date": _shown_date(issue.date, locale),
        "number": issue.number if issue.number is not None else "",
        "tags": list(issue.tags),
        "newsletter": frame.newsletter,
        "reading_time": "",
    }


def _shown_date(date: datetime.date | None, locale: Locale) -> str:
    return str(format_date(date, format="long", locale=locale)) if date else ""


def _read_body(
    issue: Issue, values: Mapping[str, Any], slots: Slots, frame: Frame
) -> tuple[list[Token], int, str]:
    """Return the body's tokens, the issue's words, and the reading time, which counts its own words."""
    around = count_words(f"{issue.title} {issue.subtitle}")
    reading = _reading_time(around + count_words(issue.body), frame.newsletter)
    for _ in range(5):
        tokens = _tokens(issue, {**values, "reading_time": reading}, slots, frame)
        words = around + visible_words(tokens)
        assumed, reading = reading, _reading_time(words, frame.newsletter)
        if assumed == reading or "reading_time" not in issue.body:
            break
    return tokens, words, reading


def _reading_time(words: int, newsletter: Newsletter) -> str:
    return reading_time(words, newsletter.words_per_minute, language=newsletter.language)


def _tokens(issue: Issue, values: Mapping[str, Any], slots: Slots, frame: Frame) -> list[Token]:
    markdown, kept = fill_body(issue, slots, values)
    try:
        tokens = parse_markdown(markdown, raw_html=frame.raw_html, step=slots.step)
    except (NestingError, CrossingError) as error:
        place = f"{issue.path}:{issue.body_line + error.line}"
        raise SourceError(f"{place}: {error.message}", remedy=error.remedy) from error
    kept.put_back(tokens)
    return tokens


def _html(frame: Frame, values: Mapping[str, Any], body: str) -> str:
    colour = palette(frame.brand)
    values = {
        **values,
        "brand": frame.brand,
        "colour": colour,
        **_sides(frame.direction),
        "body": markup(BODY),
        "public_url": frame.public_url,
        "track_opens": frame.track_opens,
    }
    name = f"{frame.name}.mjml.j2"
    look = {
        "newsletter": frame.newsletter,
        "brand": frame.brand,
        "colour": colour,
        **_sides(frame.direction),
    }
    inline_css, head_css = (frame.templates.render(css, look) for css in ("inline.css.j2", "head.css.j2"))
    return document(
        frame.templates.render(name, values),
        body,
        inline_css,
        head_css,
        str(values["preheader"]),
        str(frame.templates.directory / name),
        locate=frame.templates.locate(name, values),
    )


def _sides(direction: str) -> dict[str, str]:
    """Return the direction, and the side at which lines start and end."""
    start, end = ("right", "left") if direction == "rtl" else ("left", "right")
    return {"direction": direction, "start": start, "end": end}


def _text(frame: Frame, values: Mapping[str, Any], tokens: list[Token], slots: Slots) -> str:
    links = Links(lambda url: url_slots(url, slots, ""), slots.step)
    body = render_text(tokens, links)
    values = {**values, "body": body, "links": links.listed()}
    return safe_lines(frame.templates.render(f"{frame.name}.txt.j2", values)).strip("\n") + "\n"
