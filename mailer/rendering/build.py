"""An issue, or one of the letters, rendered once: the `Edition` that every run sends."""

from __future__ import annotations

import datetime
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from babel.dates import format_date
from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import SandboxedEnvironment
from markdown_it.token import Token

from mailer.config import Brand, Newsletter
from mailer.errors import SourceError
from mailer.rendering.edition import Edition, InlineImage
from mailer.rendering.html import BODY, Templates, document, markup, palette, templates_in
from mailer.rendering.images import MAX_WIDTH, Picture, embed
from mailer.rendering.markdown import Drawing, NestingError, parse_markdown, render_html, visible_words
from mailer.rendering.reading import reading_time
from mailer.rendering.slots import LATE_NAMES, SLOT, Slots
from mailer.rendering.source import Issue, read_issue
from mailer.rendering.text import Links, render_text, safe_lines

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


_JINJA: Final = _IssueEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
_JINJA.globals.clear()


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
) -> Edition:
    """Return the edition of `issue`; the same input gives the same bytes, on any machine.

    With `track_clicks`, web links of the body lead through `{{ urls.click }}/N` in the HTML; the
    text part keeps the destinations, so that a reader can see them. `image_root` bounds where
    local images may lie (default: the issue's directory). Raises `SourceError` with file and line.
    """
    frame = _Frame("issue", newsletter, brand, templates_in(templates), track_clicks, track_opens, public_url)
    return _build(issue, frame, image_root or issue.path.parent)


def build_letter(
    kind: Letter, newsletter: Newsletter, brand: Brand, templates: Path, *, public_url: str = ""
) -> Edition:
    """Return the confirmation, welcome or goodbye mail: `templates/letters/KIND.md`, built alike.

    Never tracked; the confirmation's templates use `urls.confirm`.
    """
    issue = read_issue(templates / "letters" / f"{kind}.md")
    frame = _Frame("letter", newsletter, brand, templates_in(templates), False, False, public_url)
    return _build(issue, frame, issue.path.parent)


@dataclass(frozen=True, slots=True)
class _Frame:
    """What surrounds a body."""

    name: str
    newsletter: Newsletter
    brand: Brand
    templates: Templates
    track_clicks: bool
    track_opens: bool
    public_url: str


def _build(issue: Issue, frame: _Frame, image_root: Path) -> Edition:
    slots = Slots(frame.templates.slots.late)
    values = _issue_values(issue, frame)
    tokens, words, values["reading_time"] = _read_body(
        issue, values, slots, frame.newsletter.words_per_minute
    )
    subject, preheader = (
        _fill(issue, slots, text, values, issue.line_of(key))
        for key, text in (("subject", issue.subject), ("preheader", issue.preheader))
    )
    body = _Body(issue, slots, frame, image_root)
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


def _issue_values(issue: Issue, frame: _Frame) -> dict[str, Any]:
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
    issue: Issue, values: Mapping[str, Any], slots: Slots, words_per_minute: int
) -> tuple[list[Token], int, str]:
    """Return the body's tokens, the words of the issue and the reading time, which counts its own words.

    The time is guessed, the words counted with the guess in place, until both agree.
    """
    around = len(f"{issue.title} {issue.subtitle}".split())
    reading = reading_time(around + len(issue.body.split()), words_per_minute)
    for _ in range(5):
        source = _fill(issue, slots, issue.body, {**values, "reading_time": reading}, issue.body_line)
        try:
            tokens = parse_markdown(source)
        except NestingError as error:
            place = f"{issue.path}:{issue.body_line + error.line}"
            raise SourceError(f"{place}: {error.message}", remedy=error.remedy) from error
        words = around + visible_words(tokens)
        counted = reading_time(words, words_per_minute)
        if counted == reading or "reading_time" not in issue.body:
            return tokens, words, counted
        reading = counted
    return tokens, words, reading


def _fill(issue: Issue, slots: Slots, text: str, values: Mapping[str, Any], first_line: int) -> str:
    """Return `text` with what the issue knows filled in and what differs per subscriber as words."""
    if "{" not in text:
        return text
    try:
        protected = slots.protect(_JINJA, text, _TAGS)
        _check_names(protected, values)
        return _JINJA.from_string(protected).render(values)
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


def _check_names(protected: str, values: Mapping[str, Any]) -> None:
    tree = _JINJA.parse(protected)
    bound = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"} | {"loop"}
    for name in tree.find_all(nodes.Name):
        if name.name not in values and name.name not in bound:
            known = [*values, *LATE_NAMES]
            near = get_close_matches(name.name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(sorted(known))}"
            raise TemplateSyntaxError(f"unknown name '{name.name}'; {hint}", name.lineno)


@dataclass(slots=True)
class _Body:
    """The body on its way to HTML; gathers its tracked links and its images."""

    issue: Issue
    slots: Slots
    frame: _Frame
    image_root: Path
    links: list[str] = field(default_factory=list)
    images: dict[str, InlineImage] = field(default_factory=dict)

    def html(self, tokens: list[Token]) -> str:
        return render_html(tokens, Drawing(self.link, self.image, self.button))

    def link(self, href: str) -> str:
        href = self.with_slots(href)
        if not self.frame.track_clicks or SLOT.search(href) or urlsplit(href).scheme not in ("http", "https"):
            return href
        if href not in self.links:
            self.links.append(href)
        return f"{self.slots.add('{{ urls.click }}')}/{self.links.index(href)}"

    def with_slots(self, href: str) -> str:
        return url_slots(href, self.slots, self.place(href))

    def image(self, token: Token) -> str:
        source = str(token.attrGet("src") or "")
        alt = token.content
        caption = str(token.attrGet("title") or "")
        picture = self.picture(source, token)
        values = {"picture": picture, "alt": alt, "caption": caption}
        return self.frame.templates.render("partials/image.html.j2", values)

    def picture(self, source: str, token: Token) -> Picture:
        width, height = (_whole(token.attrGet(key)) for key in ("width", "height"))
        if re.match(r"(?i)https?:|cid:", source) or SLOT.search(source):
            return Picture(self.with_slots(source), min(width or MAX_WIDTH, MAX_WIDTH), height)
        picture, image = embed(source, self.image_root, self.issue.path.parent, width, self.place(source))
        self.images[image.content_id] = image
        return picture

    def button(self, href: str, label: str, quiet: bool) -> str:
        values = {"href": href, "label": markup(label), "quiet": quiet, "colour": palette(self.frame.brand)}
        return self.frame.templates.render("partials/button.html.j2", values)

    def place(self, fragment: str) -> str:
        """Return `file:line` of the first place where the author wrote `fragment`."""
        at = max(0, self.issue.body.find(fragment))
        return f"{self.issue.path}:{self.issue.body_line + self.issue.body.count(chr(10), 0, at)}"


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,3}", value) else None


def url_slots(href: str, slots: Slots, place: str) -> str:
    """Return `href` with each slot made safe for its place in the address."""
    words = list(SLOT.finditer(href))
    for word in reversed(words):
        if slots.is_url(word[0]) and word.start() == 0:
            continue
        if word[0].endswith("e"):
            if word.start() == 0:
                raise SourceError(
                    f"{place}: a link cannot begin with what differs per subscriber",
                    remedy="begin it with https:// and your own address",
                )
            href = href[: word.end() - 1] + "u" + href[word.end() :]
    return href


def _html(frame: _Frame, values: Mapping[str, Any], body: str) -> str:
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
    return document(
        frame.templates.render(name, values),
        body,
        frame.templates.render("inline.css.j2", values),
        frame.templates.render("head.css.j2", values),
        str(values["preheader"]),
        str(frame.templates.directory / name),
    )


def _text(frame: _Frame, values: Mapping[str, Any], tokens: list[Token], slots: Slots) -> str:
    links = Links()
    body = render_text(tokens, links)
    listed = "\n".join(url_slots(line, slots, "") for line in links.listed().split("\n"))
    values = {**values, "body": body, "links": listed}
    return safe_lines(frame.templates.render(f"{frame.name}.txt.j2", values)).strip("\n") + "\n"
