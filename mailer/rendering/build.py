"""An issue, or one of the letters, rendered once: the `Edition` that every run sends."""

from __future__ import annotations

import datetime
import re
import traceback
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

from babel.dates import format_date
from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import SandboxedEnvironment
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
from mailer.rendering.source.markdown import NestingError, parse_markdown, visible_words
from mailer.rendering.source.reading_time import reading_time
from mailer.rendering.templates import Templates, templates_in
from mailer.rendering.templating.filters import FILTERS, by_language
from mailer.rendering.templating.slots import LATE_NAMES, Slots
from mailer.rendering.text.blocks import Links, render_text
from mailer.rendering.text.layout import safe_lines

Letter = Literal["confirmation", "welcome", "goodbye"]
_TAGS: Final = frozenset({"if", "elif", "else", "endif", "for", "endfor"})
_LIBRARIES: Final = (
    "jinja2",
    "markdown-it-py",
    "mdit-py-plugins",
    "mjml-python",
    "premailer",
    "pillow",
    "pygments",
)


class _IssueEnvironment(SandboxedEnvironment):
    """Jinja for the author's text: no loops over nothing, no strings that grow without end."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        raise SecurityError(f"'{operator}' is not available in an issue")


@cache
def _jinja(language: str) -> _IssueEnvironment:
    environment = _IssueEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.globals.clear()
    filters = {**environment.filters, **by_language(language)}
    environment.filters = {name: filters[name] for name in FILTERS}
    return environment


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
    """Return the edition of `issue`; the same input gives the same bytes, on any machine.

    With `track_clicks`, web links of the body lead through `{{ urls.click }}/N` in the HTML; the
    text part keeps the destinations, so that a reader can see them. `image_root` bounds where
    local images may lie (default: the issue's directory); with `publish_images` the HTML points at them
    below `public_url`, and messages leave them out. `raw_html` lets the author's HTML through an
    allow-list instead of showing it as text. Raises `SourceError` with file and line.
    """
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
    """Return the confirmation, welcome or goodbye mail: `templates/letters/KIND.md`, built alike.

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
    """Return the file of a letter in the first language that there is, and which language that is."""
    for language in languages:
        parts = language.split("-")
        for length in range(len(parts), 0, -1):
            tag = "-".join(parts[:length])
            # The tag may come from a row: what is no language tag names no file.
            if _LANGUAGE_TAG.fullmatch(tag) and (path := folder / f"{kind}.{tag}.md").is_file():
                return path, tag
    return folder / f"{kind}.md", ""


_LANGUAGE_TAG: Final = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")


def _build(issue: Issue, frame: Frame, image_root: Path) -> Edition:
    slots = Slots(frame.templates.slots.late)
    values = _issue_values(issue, frame)
    tokens, words, values["reading_time"] = _read_body(issue, values, slots, frame)
    subject, preheader = (
        _fill(issue, slots, text, values, issue.line_of(key))
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
    locale = frame.newsletter.language.replace("-", "_")
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


def _shown_date(date: datetime.date | None, locale: str) -> str:
    return str(format_date(date, format="long", locale=locale)) if date else ""


def _read_body(
    issue: Issue, values: Mapping[str, Any], slots: Slots, frame: Frame
) -> tuple[list[Token], int, str]:
    """Return the body's tokens, the issue's words, and the reading time, which counts its own words."""
    words_per_minute = frame.newsletter.words_per_minute
    around = len(f"{issue.title} {issue.subtitle}".split())
    reading = reading_time(around + len(issue.body.split()), words_per_minute)
    for _ in range(5):
        tokens = _tokens(issue, {**values, "reading_time": reading}, slots, frame)
        words = around + visible_words(tokens)
        assumed, reading = reading, reading_time(words, words_per_minute)
        if assumed == reading or "reading_time" not in issue.body:
            break
    return tokens, words, reading


def _tokens(issue: Issue, values: Mapping[str, Any], slots: Slots, frame: Frame) -> list[Token]:
    try:
        return parse_markdown(
            _fill(issue, slots, issue.body, values, issue.body_line), raw_html=frame.raw_html
        )
    except NestingError as error:
        place = f"{issue.path}:{issue.body_line + error.line}"
        raise SourceError(f"{place}: {error.message}", remedy=error.remedy) from error


def _fill(issue: Issue, slots: Slots, text: str, values: Mapping[str, Any], first_line: int) -> str:
    """Return `text` with what the issue knows filled in and what differs per subscriber as words."""
    if "{" not in text:
        return text
    language = values["newsletter"].language
    try:
        environment = _jinja(language)
        tree = environment.parse(slots.protect(environment, text, _TAGS))
        _check_names(tree, values)
        return environment.from_string(tree).render(values)
    except TemplateSyntaxError as error:
        place = f"{issue.path}:{first_line + error.lineno - 1}"
        raise SourceError(
            f"{place}: {error.message}", remedy="to show braces as they are, use {% raw %}…{% endraw %}"
        ) from error
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        line = first_line + _template_line(error) - 1
        raise SourceError(f"{issue.path}:{line}: {error}", remedy="correct the expression") from error


def _template_line(error: BaseException) -> int:
    """Return the line of the template at which an error was raised, from 1."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<template>"
    ]
    return (lines[-1] if lines else None) or 1


def _check_names(tree: nodes.Template, values: Mapping[str, Any]) -> None:
    bound = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"} | {"loop"}
    for name in tree.find_all(nodes.Name):
        if name.name not in values and name.name not in bound:
            known = [*values, *LATE_NAMES]
            near = get_close_matches(name.name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(sorted(known))}"
            raise TemplateSyntaxError(f"unknown name '{name.name}'; {hint}", name.lineno)


def _html(frame: Frame, values: Mapping[str, Any], body: str) -> str:
    colour = palette(frame.brand)
    values = {
        **values,
        "brand": frame.brand,
        "colour": colour,
        "body": markup(BODY),
        "public_url": frame.public_url,
        "track_opens": frame.track_opens,
    }
    name = f"{frame.name}.mjml.j2"
    look = {"newsletter": frame.newsletter, "brand": frame.brand, "colour": colour}
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


def _text(frame: Frame, values: Mapping[str, Any], tokens: list[Token], slots: Slots) -> str:
    links = Links(lambda url: url_slots(url, slots, ""), slots.step)
    body = render_text(tokens, links)
    values = {**values, "body": body, "links": links.listed()}
    return safe_lines(frame.templates.render(f"{frame.name}.txt.j2", values)).strip("\n") + "\n"
