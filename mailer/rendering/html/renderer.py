"""Render Markdown tokens as the HTML of the body."""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping, Sequence
from html import escape, unescape
from itertools import count
from types import MethodType
from typing import Any, Final, Protocol, cast

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup
from msgspec import Struct, field

from mailer.rendering.html.tables import Shape, breakable, shape_of
from mailer.rendering.source.markdown import (
    CALL_OUTS,
    VOICES,
    call_out_kind,
    call_out_title,
    footnote_number,
    is_button,
)
from mailer.rendering.templating.slots import SLOT

_LANGUAGE: Final = re.compile(r"[A-Za-z0-9_+#.-]{1,40}")
# Pygments' lexers are regular expressions; a long enough line makes some of them quadratic.
_MAX_HIGHLIGHTED_CHARACTERS: Final = 20_000


_TAGS: Final = re.compile(r"<[^>]*>")
_CODE_CHARACTER_PIXELS: Final = 8.4
_MOST_INDENT_PIXELS: Final = 100


class Drawing(Protocol):
    """How an email or a page draws the parts of a body."""

    def link(self, href: str) -> str:
        """Return the address of a link in the HTML: tracked, or with its slots made safe."""

    def image(self, token: Token, *, alone: bool) -> str:
        """Return the HTML of an image that stands alone, or within a line of text."""

    def button(self, href: str, label: str, quiet: bool) -> str:
        """Return the HTML of a button; `label` is HTML."""

    def piece(self, name: str, **values: object) -> str:
        """Return the HTML of `divider`, `code` or `footnote_mark`."""

    def label(self, heading: str) -> str:
        """Return the HTML that repeats a column's heading in a cell of a stacking table, or nothing."""

    def around(self, name: str, **values: object) -> tuple[str, str]:
        """Return the HTML before and after a block.

        The blocks are `quote`, `table`, `callout`, `question`, `answer`, `footnotes`, `footnote`.
        """


def render_html(tokens: Sequence[Token], drawing: Drawing) -> str:
    """Return the body's HTML: a fragment that still contains the words of slots."""
    return str(_RENDERER.render(tokens, _OPTIONS, {"drawing": drawing, "open": [], "tables": []}))


Env = MutableMapping[str, Any]


class _BodyRenderer(RendererHTML):
    """The render rules that differ from markdown-it's."""

    def __init__(self) -> None:
        super().__init__()
        for kind in (*CALL_OUTS, *VOICES):
            self.rules[f"container_{kind}_open"] = cast(MethodType, self.container_open)
            self.rules[f"container_{kind}_close"] = cast(MethodType, self.block_close)
        for rule in ("footnote_block_close", "footnote_close", "blockquote_close"):
            self.rules[rule] = cast(MethodType, self.block_close)

    def softbreak(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return " "

    def hardbreak(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return "<br>"

    def heading_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return f"<{tokens[idx].tag}{_direction(tokens[idx])}>"

    def ordered_list_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        """Return `<ol>`, with a class that makes room for numbers of three digits and more."""
        token = tokens[idx]
        items = 0
        for later in tokens[idx + 1 :]:
            if later.type == "ordered_list_close" and later.level == token.level:
                break
            items += later.type == "list_item_open" and later.level == token.level + 1
        digits = len(str(int(token.attrGet("start") or 1) + items - 1))
        if digits > 2:
            token.attrSet("class", f"digits{digits}")
        return self.renderToken(tokens, idx, options, env)

    def paragraph_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        token = tokens[idx]
        if token.hidden or _stands_alone(tokens[idx + 1]):
            return ""
        return f"<p{_class(token)}{_direction(token)}>"

    def paragraph_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        if tokens[idx].hidden:
            # A tight item has no paragraphs; keep the white space between its text and a nested block.
            return " " if tokens[idx + 1].type != "list_item_close" else ""
        return "" if _stands_alone(tokens[idx - 1]) else "</p>\n"

    def link_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        token = tokens[idx]
        drawing: Drawing = env["drawing"]
        href = drawing.link(str(token.attrGet("href") or ""))
        title = token.attrGet("title")
        shown = f' title="{escape(str(title))}"' if title else ""
        # An address reads from left to right in any language.
        bare = ' dir="ltr"' if token.markup == "autolink" or token.info == "auto" else ""
        return f'<a href="{escape(href)}"{shown}{_class(token)}{bare}>'

    def renderInline(self, tokens: Sequence[Token], options: OptionsDict, env: Env) -> str:  # noqa: N802
        drawing: Drawing = env["drawing"]
        if _all_buttons(tokens):
            return "".join(self._button(run, options, env) for run in _button_runs(tokens))
        if len(tokens) == 1 and tokens[0].type == "image":
            return drawing.image(tokens[0], alone=True)
        return super().renderInline(tokens, options, env)

    def _button(self, run: Sequence[Token], options: OptionsDict, env: Env) -> str:
        drawing: Drawing = env["drawing"]
        quiet = "quiet" in str(run[0].attrGet("class")).split()
        label = super().renderInline(run[1:-1], options, env)
        return drawing.button(drawing.link(str(run[0].attrGet("href") or "")), label, quiet)

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        drawing: Drawing = env["drawing"]
        return drawing.image(tokens[idx], alone=False)

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        token = tokens[idx]
        return self._code(env, highlighted(token.content, token.info))

    def code_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return self._code(env, escape(tokens[idx].content))

    @classmethod
    def _code(cls, env: Env, html: str) -> str:
        lines = [_CodeLine.of(line) for line in html.rstrip("\n").splitlines(keepends=True)]
        return cls._piece(env, "code", code=markup(html), lines=lines)

    def code_inline(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return f'<code dir="ltr">{_text(tokens[idx].content, env)}</code>'

    def text(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return _text(tokens[idx].content, env)

    def hr(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return self._piece(env, "divider")

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        depth, end = 1, idx
        while depth:
            end += 1
            depth += {"table_open": 1, "table_close": -1}.get(tokens[end].type, 0)
        shape = shape_of(tokens[idx : end + 1])
        env["tables"].append(_OpenTable(shape))
        return self._open(env, "table", look=shape.look, block_direction=_dir(tokens[idx]))

    def table_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        env["tables"].pop()
        return self.block_close(tokens, idx, options, env)

    def th_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return self._cell(tokens[idx], env)

    def td_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return self._cell(tokens[idx], env)

    @staticmethod
    def _cell(token: Token, env: Env) -> str:
        table: _OpenTable = env["tables"][-1]
        number, shape = next(table.cells), table.shape
        table.in_long = number in shape.long
        name = ' class="amount"' if number in shape.amounts else ' class="long"' if table.in_long else ""
        style = f' style="{escape(str(token.attrGet("style")))}"' if token.attrGet("style") else ""
        drawing: Drawing = env["drawing"]
        heading = shape.headings[number % len(shape.headings)]
        label = drawing.label(heading) if shape.stacks and token.tag == "td" and heading else ""
        return f"<{token.tag}{name}{style}>{label}"

    def blockquote_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return self._open(env, "quote", block_direction=_dir(tokens[idx]))

    def slot_line(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return "".join(f"<!--{word}-->" for word in SLOT.findall(tokens[idx].content))

    def container_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        token = tokens[idx]
        kind, title = call_out_kind(token), call_out_title(token)
        if kind in VOICES:
            return self._open(env, kind, who=title)
        return self._open(env, "callout", kind=kind, title=title)

    def footnote_ref(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return self._piece(env, "footnote_mark", number=footnote_number(tokens[idx]))

    def footnote_block_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return self._open(env, "footnotes")

    def footnote_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return self._open(env, "footnote", number=footnote_number(tokens[idx]))

    def block_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        closing: str = env["open"].pop()
        return closing

    @staticmethod
    def _piece(env: Env, name: str, **values: object) -> str:
        drawing: Drawing = env["drawing"]
        return drawing.piece(name, **values)

    @staticmethod
    def _open(env: Env, name: str, **values: object) -> str:
        drawing: Drawing = env["drawing"]
        opening, closing = drawing.around(name, **values)
        env["open"].append(closing)
        return opening


class _CodeLine(Struct, frozen=True):
    """A line of code. `indent` is the indent of its continuation lines, in pixels."""

    html: Markup
    indent: int

    @classmethod
    def of(cls, html: str) -> _CodeLine:
        shown = unescape(_TAGS.sub("", html)).expandtabs()
        blanks = len(shown) - len(shown.lstrip(" "))
        return cls(markup(html), min(round((blanks + 2) * _CODE_CHARACTER_PIXELS), _MOST_INDENT_PIXELS))


class _OpenTable(Struct):
    """A table that is being drawn, the number of its next cell, and whether this cell has a long word."""

    shape: Shape
    cells: Iterator[int] = field(default_factory=count)
    in_long: bool = False


def markup(html: str) -> Markup:
    """Return `html` marked as safe, so that templates do not escape it."""
    return Markup(html)  # noqa: S704 - escaped by the renderer


def _text(content: str, env: Env) -> str:
    """Return text as HTML; in a table, with its places to break."""
    tables: list[_OpenTable] = env["tables"]
    if not tables:
        return escape(content)
    return breakable(content, tables[-1].shape.breaks, long=tables[-1].in_long)


def _dir(token: Token) -> str:
    value = str(token.attrGet("dir") or "")
    return value if value in ("ltr", "rtl", "auto") else ""


def _direction(token: Token) -> str:
    value = _dir(token)
    return f' dir="{value}"' if value else ""


def _class(token: Token) -> str:
    value = token.attrGet("class")
    return f' class="{escape(str(value))}"' if value else ""


def _button_runs(children: Sequence[Token]) -> list[Sequence[Token]]:
    """Return the runs from `link_open` to `link_close`, both included."""
    runs, start = [], 0
    for index, child in enumerate(children):
        if child.type == "link_open":
            start = index
        elif child.type == "link_close":
            runs.append(children[start : index + 1])
    return runs


def _all_buttons(children: Sequence[Token]) -> bool:
    """Whether a line consists of buttons only, so that each can be a table that Outlook draws."""
    inside, any_button = False, False
    for child in children:
        if child.type == "link_open":
            if not is_button(child):
                return False
            inside = any_button = True
        elif child.type == "link_close":
            inside = False
        elif not inside and (child.type in ("image", "footnote_ref") or child.content.strip()):
            return False
    return any_button


def _stands_alone(inline: Token) -> bool:
    children = inline.children or []
    return _all_buttons(children) or (len(children) == 1 and children[0].type == "image")


def highlighted(code: str, info: str) -> str:
    """Return `code` as HTML, coloured by inline styles if Pygments knows the language."""
    language = info.split()[0] if info.split() else ""
    if not _LANGUAGE.fullmatch(language) or len(code) > _MAX_HIGHLIGHTED_CHARACTERS:
        return escape(code)
    # Imported here because few issues show code.
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return escape(code)
    return str(highlight(code, lexer, HtmlFormatter(nowrap=True, noclasses=True, style="github-dark")))


_RENDERER: Final = _BodyRenderer()
_OPTIONS: Final = MarkdownIt("commonmark").options
