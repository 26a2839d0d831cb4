"""Clean the author's HTML: keep what email clients show, and nothing that runs, loads or hides.

The body is cleaned as a whole after Markdown was rendered, because an element may open in one block and close
in another. Template output is replaced with words beforehand, so that templates are not restricted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b
from html import unescape
from html.parser import HTMLParser
from typing import Final

import nh3

from mailer.errors import SourceError

MAX_DEPTH: Final = 100
"""The deepest nesting of elements; the inliner's parser drops content 255 levels deep."""

_TAGS: Final = frozenset(
    {
        "a", "abbr", "address", "b", "bdi", "bdo", "big", "blockquote", "br", "caption", "center", "cite",
        "code", "col", "colgroup", "dd", "del", "details", "dfn", "div", "dl", "dt", "em", "figcaption",
        "figure", "font", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd", "li", "mark",
        "ol", "p", "pre", "q", "rp", "rt", "ruby", "s", "samp", "section", "small", "span", "strike",
        "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "time", "tr",
        "tt", "u", "ul", "var", "wbr",
    }
)  # fmt: skip
REMOVED: Final = frozenset(
    {
        "acronym", "applet", "area", "article", "aside", "audio", "base", "basefont", "bgsound", "blink",
        "body", "button", "canvas", "data", "datalist", "dialog", "embed", "fieldset", "footer", "form",
        "frame", "frameset", "head", "header", "hgroup", "html", "iframe", "input", "keygen", "label",
        "legend", "link", "listing", "main", "map", "marquee", "math", "menu", "meta", "meter", "nav",
        "nobr", "noembed", "noframes", "noscript", "object", "optgroup", "option", "output", "param",
        "picture", "plaintext", "portal", "progress", "script", "search", "select", "slot", "source",
        "style", "svg", "template", "textarea", "title", "track", "video", "xmp",
    }
)  # fmt: skip
"""HTML elements that cleaning removes. Names that are neither here nor allowed are not HTML."""
_CELL: Final = frozenset({"align", "valign", "bgcolor", "width", "height"})
_ATTRIBUTES: Final[dict[str, set[str]]] = {
    "*": {"class", "style", "title", "lang", "dir", "align", "role", "aria-hidden", "aria-label"},
    "a": {"href", "name"},
    "col": {"span", *_CELL},
    "colgroup": {"span", *_CELL},
    "font": {"color", "face", "size"},
    "hr": {"width", "size", "color"},
    "img": {"src", "alt", "width", "height", "border", "hspace", "vspace"},
    "li": {"value"},
    "ol": {"start", "type", "reversed"},
    "table": {"border", "cellpadding", "cellspacing", "summary", *_CELL},
    "td": {"colspan", "rowspan", "nowrap", *_CELL},
    "th": {"colspan", "rowspan", "nowrap", "scope", *_CELL},
    "tr": {*_CELL},
    "ul": {"type"},
}
# No images, positions or visibility: they would load, cover or hide something.
_STYLES: Final = frozenset(
    {
        "background-color", "border", "border-bottom", "border-bottom-color", "border-bottom-style",
        "border-bottom-width", "border-collapse", "border-color", "border-left", "border-left-color",
        "border-left-style", "border-left-width", "border-radius", "border-right", "border-right-color",
        "border-right-style", "border-right-width", "border-spacing", "border-style", "border-top",
        "border-top-color", "border-top-style", "border-top-width", "border-width", "clear", "color",
        "direction", "float", "font", "font-family", "font-size", "font-style", "font-variant",
        "font-weight", "height", "letter-spacing", "line-height", "list-style-type", "margin",
        "margin-bottom", "margin-left", "margin-right", "margin-top", "max-height", "max-width",
        "min-height", "min-width", "padding", "padding-bottom", "padding-left", "padding-right",
        "padding-top", "table-layout", "text-align", "text-decoration", "text-indent", "text-transform",
        "vertical-align", "white-space", "width", "word-break", "word-spacing",
    }
)  # fmt: skip
_SCHEMES: Final = frozenset({"http", "https", "mailto", "tel", "sms", "cid"})
_SLOT_HOLDERS: Final = frozenset({"alt", "title", "aria-label"})
_ADDRESSES: Final = frozenset({"href", "src"})
_HELD: Final = re.compile(r"xheld[0-9a-f]{16}")
_HELD_TABLE: Final = re.compile(r'<table title="(xheld[0-9a-f]{16})">|</table>(xheld[0-9a-f]{16})')
_FOREIGN_COMMENT: Final = re.compile(r"<!--(?!xslot[0-9a-f]{12}t-->).*?-->", re.DOTALL)
_BLOCKS: Final = frozenset(
    {"address", "blockquote", "br", "caption", "dd", "details", "div", "dt", "figcaption", "figure", "h1",
     "h2", "h3", "h4", "h5", "h6", "hr", "li", "p", "pre", "section", "summary", "table", "tr"}
)  # fmt: skip


class Held:
    """Shields template output from cleaning by putting a word in place of each piece."""

    def __init__(self) -> None:
        self._pieces: dict[str, str] = {}

    def hold(self, html: str) -> str:
        """Return the word that takes the place of `html`."""
        word = "xheld" + blake2b(html.encode(), digest_size=8).hexdigest()
        self._pieces[word] = html
        return word

    def hold_table(self, before: str, after: str) -> tuple[str, str]:
        """Return tags for the start and end of a table. Without them, cleaning would drop its rows."""
        return f'<table title="{self.hold(before)}">', f"</table>{self.hold(after)}"

    def restored(self, html: str) -> str:
        """Return `html` with every piece restored, including nested ones."""
        html = _HELD_TABLE.sub(lambda found: found[1] or found[2], html)
        while (with_pieces := _HELD.sub(lambda found: self._pieces.get(found[0], ""), html)) != html:
            html = with_pieces
        return html


def is_element(name: str) -> bool:
    """Whether HTML has an element of this name; a leading slash does not matter."""
    return name.removeprefix("/").lower() in _TAGS | REMOVED


def cleaned(html: str, address: Callable[[str], str], place: str) -> str:
    """Return `html` with only allowed elements, attributes and styles, and with all elements closed.

    `address` makes slots in a link or image address safe, or raises `SourceError`. In other attributes,
    slots are text. Raises `SourceError` at `place`.
    """
    wrong: list[SourceError] = []

    def attribute(tag: str, name: str, value: str) -> str | None:
        if "xslot" not in value or name in _SLOT_HOLDERS:
            return value
        try:
            if name in _ADDRESSES:
                return address(value)
            raise SourceError(
                f"{place}: '{name}' of <{tag}> cannot differ per subscriber", remedy="write two elements"
            )
        except SourceError as error:
            # Exceptions do not pass through the cleaner.
            wrong.append(error)
            return None

    clean = nh3.clean(
        html,
        tags=set(_TAGS),
        attributes=_ATTRIBUTES,
        attribute_filter=attribute,
        strip_comments=False,
        link_rel=None,
        url_schemes=set(_SCHEMES),
        filter_style_properties=set(_STYLES),
    )
    if wrong:
        raise wrong[0]
    depth = _Depth()
    depth.feed(clean)
    if depth.deepest > MAX_DEPTH:
        raise SourceError(
            f"{place}: HTML elements are nested more than {MAX_DEPTH} deep", remedy="close them"
        )
    return _FOREIGN_COMMENT.sub("", clean)


def plain(html: str, number: Callable[[str], int] | None = None) -> str:
    """Return the text of a piece of HTML, one line for each block; `number` makes links `label [n]`."""
    words = _Words(number)
    words.feed(nh3.clean(html, tags=set(_TAGS), attributes={"a": {"href"}}, link_rel=None))
    words.close()
    lines = (" ".join(line.split()) for line in "".join(words.out).split("\n"))
    return "\n".join(line for line in lines if line)


def link_of(tag: str) -> str | None:
    """Return where an `<a …>` tag leads, decoded as HTML attributes are; None if it leads nowhere."""
    found = _HREF.search(nh3.clean(tag, tags={"a"}, attributes={"a": {"href"}}, link_rel=None))
    return unescape(found[1]) if found else None


_HREF: Final = re.compile(r'href="([^"]*)"')


def ends_line(tag: str) -> bool:
    """Whether a tag separates the text before and after it into lines."""
    name = re.match(r"</?([A-Za-z][A-Za-z0-9]*)", tag)
    return name is not None and name[1].lower() in _BLOCKS | {"td", "th"}


class _Depth(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.depth = self.deepest = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("br", "col", "hr", "img"):
            self.depth += 1
            self.deepest = max(self.deepest, self.depth)

    def handle_endtag(self, tag: str) -> None:
        self.depth = max(0, self.depth - 1)


class _Words(HTMLParser):
    def __init__(self, number: Callable[[str], int] | None) -> None:
        super().__init__()
        self.out: list[str] = []
        self._number = number
        self._leads_to = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _BLOCKS:
            self.out.append("\n")
        elif tag in ("td", "th"):
            self.out.append(" ")
        elif tag == "a":
            self._leads_to = dict(attrs).get("href") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag in _BLOCKS:
            self.out.append("\n")
        elif tag == "a" and self._leads_to and self._number is not None:
            self.out.append(f" [{self._number(self._leads_to)}]")
            self._leads_to = ""

    def handle_data(self, data: str) -> None:
        self.out.append(data)
