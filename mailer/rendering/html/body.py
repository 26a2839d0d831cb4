"""Draw the body of an issue twice: for email with the operator's templates, and for the web."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from markdown_it.token import Token
from markupsafe import Markup
from msgspec import Struct, field

from mailer.config import Brand, Newsletter
from mailer.errors import SourceError
from mailer.rendering.edition import InlineImage
from mailer.rendering.html.images import MAX_WIDTH, Picture, prepared
from mailer.rendering.html.own_colours import with_marked_colours
from mailer.rendering.html.palette import palette
from mailer.rendering.html.renderer import markup, render_html
from mailer.rendering.source import Issue
from mailer.rendering.source.raw_html import Held, cleaned
from mailer.rendering.templates import Templates
from mailer.rendering.templating.filters import direction_of
from mailer.rendering.templating.slots import SLOT, Slots

_INSIDE: Final = "xcontentgoeshere"


class Frame(Struct, frozen=True):
    """Everything that the rendering of a body depends on, besides the issue."""

    name: str
    newsletter: Newsletter
    brand: Brand
    templates: Templates
    track_clicks: bool
    track_opens: bool
    public_url: str
    publish_images: bool
    raw_html: bool

    @property
    def direction(self) -> str:
        """`ltr` or `rtl`, depending on the newsletter's language."""
        return direction_of(self.newsletter.language)


class MailBody(Struct):
    """Draws the body for email, and collects tracked links and images."""

    issue: Issue
    slots: Slots
    frame: Frame
    image_root: Path
    links: dict[str, int] = field(default_factory=dict)
    """Tracked destinations, each with its number."""
    images: dict[str, InlineImage] = field(default_factory=dict)
    _found: dict[tuple[str, int | None], tuple[Picture, InlineImage]] = field(default_factory=dict)
    _held: Held = field(default_factory=Held)
    _wrappers: dict[tuple[object, ...], tuple[str, str]] = field(default_factory=dict)

    def html(self, tokens: list[Token]) -> str:
        """Return the HTML of the body, which still contains the words of slots."""
        body = render_html(tokens, self)
        if has_html(tokens):
            body = cleaned(body, self.address, str(self.issue.path))
            body = with_marked_colours(body, palette(self.frame.brand)["dark_surface"])
        return self._held.restored(body) if self.frame.raw_html else body

    def link(self, href: str) -> str:
        """Return the destination of a link, or of its click counter."""
        href = self.address(href)
        if not self.frame.track_clicks or SLOT.search(href) or urlsplit(href).scheme not in ("http", "https"):
            return href
        number = self.links.setdefault(href, len(self.links))
        return f"{self.slots.add('{{ urls.click }}')}/{number}"

    def address(self, href: str) -> str:
        """Return an address with its slots made safe; raise `SourceError` if it begins with one."""
        # Finding the place reads the issue once more: with hundreds of links, only for those that need it.
        return self.slots.in_address(href, place_of(self.issue, href)) if SLOT.search(href) else href

    def image(self, token: Token, *, alone: bool) -> str:
        """Return an image with its caption, drawn with its template."""
        picture, image = self.picture(token)
        if image is not None:
            self.images[image.content_id] = image
            published = self.frame.public_url.rstrip("/") + published_at(self.issue.slug, image)
            source = published if self.frame.publish_images else f"cid:{image.content_id}"
            picture = Picture(source, picture.width, picture.height)
        caption = str(token.attrGet("title") or "")
        return self.piece("image", picture=picture, alt=token.content, caption=caption, alone=alone)

    def picture(self, token: Token) -> tuple[Picture, InlineImage | None]:
        """Return an image's address and size, and its content if it is a local file."""
        source = str(token.attrGet("src") or "")
        width, height = (self._size(token, key) for key in ("width", "height"))
        if re.match(r"(?i)https?:|cid:", source) or SLOT.search(source):
            return Picture(self.address(source), min(width, MAX_WIDTH) if width else None, height), None
        if (source, width) not in self._found:
            place = place_of(self.issue, source)
            found = prepared(source, self.image_root, self.issue.path.parent, width, place)
            self._found[source, width] = found
        return self._found[source, width]

    def _size(self, token: Token, key: str) -> int | None:
        """Return a width or height in pixels; raise `SourceError` for anything else."""
        value = token.attrGet(key)
        if value is None:
            return None
        if found := re.fullmatch(r"([1-9][0-9]{0,3})(px)?", str(value)):
            return int(found[1])
        place = place_of(self.issue, f"{key}={value}")
        raise SourceError(
            f"{place}: an image cannot have {key}={value}", remedy=f"give it in pixels: {{{key}=200}}"
        )

    def button(self, href: str, label: str, quiet: bool) -> str:
        """Return a button, drawn with its template."""
        return self.piece("button", href=href, label=markup(label), quiet=quiet)

    def piece(self, name: str, **values: object) -> str:
        """Return `partials/NAME.html.j2`, filled in."""
        return self._hold(self._filled(name, values))

    def label(self, heading: str) -> str:
        """Return a column's heading, repeated in a cell of a table whose rows stack on phones."""
        return self.piece("table_label", heading=heading)

    def around(self, name: str, **values: object) -> tuple[str, str]:
        """Return the parts of `partials/NAME.html.j2` before and after `{{ content }}`."""
        key = (name, *values.items())
        if key not in self._wrappers:
            filled = self._filled(name, {**values, "content": markup(_INSIDE)})
            before, inside, after = filled.partition(_INSIDE)
            if not inside or _INSIDE in after:
                path = self.frame.templates.directory / "partials" / f"{name}.html.j2"
                raise SourceError(
                    f"{path}: {{{{ content }}}} appears {filled.count(_INSIDE)} times",
                    remedy="write it once",
                )
            self._wrappers[key] = (before, after + "\n")
        before, after = self._wrappers[key]
        if name == "table" and self.frame.raw_html:
            return self._held.hold_table(before, after)
        return self._hold(before), self._hold(after)

    def _filled(self, name: str, values: dict[str, object]) -> str:
        surroundings = {
            "direction": self.frame.direction,
            "colour": palette(self.frame.brand),
            "brand": self.frame.brand,
            "newsletter": self.frame.newsletter,
        }
        return self.frame.templates.render(f"partials/{name}.html.j2", {**surroundings, **values})

    def _hold(self, html: str) -> str:
        return self._held.hold(html) if self.frame.raw_html else html


class PageBody(Struct):
    """Draws the body for the web: semantic elements, and links without click counters."""

    mail: MailBody
    _held: Held = field(default_factory=Held)

    def html(self, tokens: list[Token]) -> str:
        """Return the HTML of the page, which still contains the words of slots."""
        page = render_html(tokens, self)
        if has_html(tokens):
            page = cleaned(page, self.mail.address, str(self.mail.issue.path))
        return self._held.restored(page)

    def link(self, href: str) -> str:
        """Return the destination of a link."""
        return self.mail.address(href)

    def image(self, token: Token, *, alone: bool) -> str:
        """Return a figure, or an image within a line, published under the name of its content."""
        picture, image = self.mail.picture(token)
        source = published_at(self.mail.issue.slug, image) if image is not None else picture.src
        sizes = (("width", picture.width), ("height", picture.height))
        size = "".join(f' {name}="{pixels}"' for name, pixels in sizes if pixels)
        shown = f'<img src="{escape(source)}" alt="{escape(token.content)}"{size} loading="lazy">'
        caption = str(token.attrGet("title") or "")
        if not alone and not caption:
            return self._held.hold(shown)
        if caption:
            shown += f"<figcaption>{escape(caption)}</figcaption>"
        return self._held.hold(f"<figure>{shown}</figure>\n")

    def button(self, href: str, label: str, quiet: bool) -> str:
        """Return a link that looks like a button."""
        look = "button quiet-button" if quiet else "button"
        return self._held.hold(f'<p><a class="{look}" href="{escape(href)}">{label}</a></p>\n')

    def piece(self, name: str, **values: object) -> str:
        """Return a divider, code, or the mark of a footnote."""
        if name == "divider":
            return self._held.hold("<hr>\n")
        if name == "code":
            code = Markup.escape(values["code"])
            return self._held.hold(f'<pre tabindex="0" dir="ltr"><code>{code}</code></pre>\n')
        number = values["number"]
        return self._held.hold(f'<sup><a href="#note-{number}" id="mark-{number}">{number}</a></sup>')

    def label(self, heading: str) -> str:
        """Return nothing: on the web a wide table scrolls."""
        return ""

    def around(self, name: str, **values: object) -> tuple[str, str]:
        """Return the HTML before and after a block."""
        before, after = _BLOCKS[name]
        shown = {key: escape(str(value)) for key, value in values.items()}
        shown["direction"] = f' dir="{shown["block_direction"]}"' if shown.get("block_direction") else ""
        label = shown.get("who") or shown.get("title")
        said = f'<p class="who">{label}</p>\n' if label else ""
        before, after = before.format(**shown, said=said), after.format(**shown)
        if name == "table":
            return self._held.hold_table(before, after)
        return self._held.hold(before), self._held.hold(after)


_BLOCKS: Final = {
    "quote": ("<blockquote{direction}>\n", "</blockquote>\n"),
    "table": ('<div class="scroll" tabindex="0"><table{direction}>\n', "</table></div>\n"),
    "callout": ('<aside class="{kind}">{said}', "</aside>\n"),
    "question": ('<section class="question">{said}', "</section>\n"),
    "answer": ('<section class="answer">{said}', "</section>\n"),
    "footnotes": ('<section class="footnotes" role="doc-endnotes"><hr><ol>\n', "</ol></section>\n"),
    "footnote": (
        '<li id="note-{number}">',
        '<p><a href="#mark-{number}" role="doc-backlink" aria-label="Back to the text">↩</a></p></li>\n',
    ),
}


def published_at(slug: str, image: InlineImage) -> str:
    """Return the path, below the public URL, at which the archive serves an image of an issue."""
    return f"/archive/{quote(slug, safe='')}/{image.name}"


def has_html(tokens: list[Token]) -> bool:
    """Whether the author wrote HTML that was not escaped."""
    return any(
        token.type == "html_block" or any(child.type == "html_inline" for child in token.children or ())
        for token in tokens
    )


def place_of(issue: Issue, fragment: str) -> str:
    """Return `file:line` of the first place where the author wrote `fragment`."""
    at = max(0, issue.body.find(fragment))
    return f"{issue.path}:{issue.body_line + issue.body.count(chr(10), 0, at)}"
