"""Render an issue or a letter once, into the `Edition` that every run sends."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache, partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

from markdown_it.token import Token
from msgspec.structs import replace

from mailer.catalogue import marked
from mailer.config import Brand, Newsletter
from mailer.rendering.edition import Edition
from mailer.rendering.html.body import Frame, MailBody, PageBody
from mailer.rendering.html.part import html_part
from mailer.rendering.source import Issue, parse_issue, read_issue
from mailer.rendering.source.content import read_content
from mailer.rendering.source.markdown import call_out_kind
from mailer.rendering.templates import Templates, templates_in
from mailer.rendering.templating.slots import Slots
from mailer.rendering.text.part import text_part

_CALL_OUT_TITLES: Final = {"note": marked("Note"), "tip": marked("Tip"), "warning": marked("Warning")}
Letter = Literal["confirmation", "welcome", "goodbye"]
_LIBRARIES: Final = (
    "jinja2",
    "markdown-it-py",
    "mdit-py-plugins",
    "mjml-python",
    "premailer",
    "pillow",
    "pygments",
    "resvg-py",
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
    links: Iterable[str] = (),
) -> Edition:
    """Return the edition of `issue`. The same input gives the same bytes on any machine.

    With `track_clicks`, web links in the HTML lead through `{{ urls.click }}/N`; the text part keeps the
    destinations, so that readers can see them. Local images must be below `image_root` (default: the issue's
    directory). With `publish_images`, the HTML loads them from `public_url` and messages do not carry them.
    `raw_html` keeps the HTML that the allow-list permits; otherwise HTML is shown as text. `links` are those
    of an earlier edition, which keep their numbers. Raises `SourceError` with file and line.
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
    return _build(issue, frame, image_root or issue.path.parent, links)


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

    If it exists, `KIND.LANGUAGE.md` is used: for `language` (BCP 47), a wider one (`de` for `de-AT`), or
    the newsletter's. Letters are never tracked; the confirmation's templates use `urls.confirm`.
    """
    path, found = _letter_file(templates / "letters", kind, (language, newsletter.language))
    newsletter = replace(newsletter, language=found or newsletter.language)
    return _build_letter(read_issue(path), newsletter, brand, templates, public_url)


def build_message(
    source: str, newsletter: Newsletter, brand: Brand, templates: Path, *, public_url: str = ""
) -> Edition:
    """Return the edition of a message whose text another program wrote, in the frame of letters."""
    issue = parse_issue(source, templates / "letters" / "message.md")
    return _build_letter(issue, newsletter, brand, templates, public_url)


def _build_letter(
    issue: Issue, newsletter: Newsletter, brand: Brand, templates: Path, public_url: str
) -> Edition:
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


def _build(issue: Issue, frame: Frame, image_root: Path, links: Iterable[str] = ()) -> Edition:
    slots = Slots(frame.templates.slots.late)
    content = read_content(issue, frame.newsletter, slots, raw_html=frame.raw_html)
    _name_call_outs(content.tokens, frame.templates.say)
    body = MailBody(issue, slots, frame, image_root, {link: number for number, link in enumerate(links)})
    html = html_part(frame, {**content.values, "preheader": content.preheader}, body.html(content.tokens))
    text = text_part(
        partial(frame.templates.render, f"{frame.name}.txt.j2"),
        content.values,
        content.tokens,
        slots,
        rtl=frame.direction == "rtl",
    )
    return Edition(
        slug=issue.slug,
        title=issue.title,
        subtitle=issue.subtitle,
        author=issue.author or frame.newsletter.author_name,
        date=issue.date.isoformat() if issue.date else "",
        number=issue.number,
        tags=issue.tags,
        subject=slots.restore(" ".join(content.subject.split())),
        preheader=slots.restore(" ".join(content.preheader.split())),
        html=slots.restore(html),
        text=slots.restore(text),
        links=tuple(body.links),
        images=tuple(body.images.values()),
        made_of=_made_of(issue, frame.templates),
        words=content.words,
        reading_time=content.reading_time,
        page=slots.restore(PageBody(body).html(content.tokens)),
        images_published=frame.publish_images,
        language=frame.newsletter.language,
        resend=issue.resend,
        step=issue.timing is not None,
    )


def _name_call_outs(tokens: Iterable[Token], say: Callable[[str], str]) -> None:
    """Give call-outs without a title the one of the newsletter's language."""
    for token in tokens:
        kind = call_out_kind(token)
        if token.nesting == 1 and kind in _CALL_OUT_TITLES and token.info.strip() == kind:
            token.info = f"{kind} {say(_CALL_OUT_TITLES[kind])}"


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
