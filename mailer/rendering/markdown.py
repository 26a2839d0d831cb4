"""Markdown to tokens, and tokens to the HTML of the body."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from html import escape
from typing import Any, Final, Protocol
from urllib.parse import quote

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup
from mdit_py_plugins.attrs import attrs_plugin
from mdit_py_plugins.container import container_plugin
from mdit_py_plugins.footnote import footnote_plugin

from mailer.errors import SourceError
from mailer.rendering.raw_html import ends_line, plain
from mailer.rendering.slots import SLOT, TAG, TAG_LINE

MAX_NESTING: Final = 50
MAX_EMPHASIS: Final = 30
CALL_OUTS: Final = ("note", "tip", "warning")
VOICES: Final = ("question", "answer")
_ATTRIBUTES: Final = ("class", "width", "height", "alt", "title")
_LANGUAGE: Final = re.compile(r"[A-Za-z0-9_+#.-]{1,40}")
# Pygments' lexers are regular expressions; a long enough line makes some of them quadratic.
_MAX_HIGHLIGHTED_CHARACTERS: Final = 20_000


class Drawing(Protocol):
    """What the renderer asks of who builds a mail or a page: where things lead, and how they look."""

    def link(self, href: str) -> str:
        """Return the destination in the HTML of one as written: tracked, or slots made URL-safe."""

    def image(self, token: Token, *, alone: bool) -> str:
        """Return the HTML of an image that stands alone, or within a line of text."""

    def button(self, href: str, label: str, quiet: bool) -> str:
        """Return the HTML of a button; `label` is HTML."""

    def piece(self, name: str, **values: object) -> str:
        """Return the HTML of `divider`, `code` or `footnote_mark`."""

    def around(self, name: str, **values: object) -> tuple[str, str]:
        """Return what stands before and after a block.

        The blocks are `quote`, `table`, `callout`, `question`, `answer`, `footnotes`, `footnote`.
        """


def parse_markdown(source: str, *, raw_html: bool = False) -> list[Token]:
    """Return the tokens of `source`; raise `SourceError` without a place if it nests too deep.

    With `raw_html`, HTML is passed on to be cleaned (`raw_html.cleaned`); without, it is text.
    """
    parser = _WITH_HTML if raw_html else _MARKDOWN
    tokens = [token for token in parser.parse(source) if token.type != "footnote_anchor"]
    # Beyond its bound the parser drops content without a word.
    for token in tokens:
        inside = max((child.level for child in token.children or ()), default=0)
        if token.level >= MAX_NESTING - 2 or inside > MAX_EMPHASIS:
            line = token.map[0] if token.map else 0
            raise NestingError(line)
    return tokens


class NestingError(SourceError):
    """Quotes, lists or emphasis stand in one another too deep; `line` counts from 0."""

    def __init__(self, line: int) -> None:
        super().__init__(
            f"nested deeper than {MAX_NESTING // 2} quotes or lists, or {MAX_EMPHASIS} emphases",
            remedy="flatten it",
        )
        self.line = line


def render_html(tokens: Sequence[Token], drawing: Drawing) -> str:
    """Return the body's HTML: a fragment, tokens of `slots` still in it."""
    return str(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {"drawing": drawing, "open": []}))


def visible_words(tokens: Sequence[Token]) -> int:
    """Return how many words the reader sees: runs of anything between white space.

    Words inside alternative texts and addresses do not count, captions do.
    """
    return sum(len(text.split()) for text in visible_text(tokens))


def times_seen(tokens: Sequence[Token], word: str) -> int:
    """Return how often the reader sees `word`."""
    return sum(text.count(word) for text in visible_text(tokens))


def fill_word(tokens: Sequence[Token], word: str, text: str) -> None:
    """Put `text`, which is no Markdown, in place of `word` wherever it stands in the tokens."""
    for token in tokens:
        if word in token.content:
            token.content = token.content.replace(word, text)
        for name, value in token.attrs.items():
            if isinstance(value, str) and word in value:
                token.attrs[name] = value.replace(word, quote(text) if name in ("href", "src") else text)
        if token.children:
            fill_word(token.children, word, text)


def visible_text(tokens: Sequence[Token]) -> Iterator[str]:
    """Yield what the reader sees, block by block."""
    for token in tokens:
        if token.type == "inline":
            yield "".join(_inline_text(token.children or []))
        elif token.type in ("fence", "code_block"):
            yield token.content
        elif token.type == "html_block":
            yield plain(token.content)
        elif token.type.startswith("container_") and token.nesting == 1:
            yield call_out_title(token)


def _inline_text(children: Sequence[Token]) -> Iterator[str]:
    for child in children:
        if child.type in ("text", "code_inline"):
            yield TAG.sub("", child.content) if "xslot" in child.content else child.content
        elif child.type in ("softbreak", "hardbreak") or (
            child.type == "html_inline" and ends_line(child.content)
        ):
            yield " "
        elif child.type == "image":
            yield f" {child.attrGet('title') or ''} "


def call_out_kind(token: Token) -> str:
    """Return `note`, `tip`, `warning`, `question` or `answer` of a container token."""
    return token.type.removeprefix("container_").removesuffix("_open").removesuffix("_close")


def call_out_title(token: Token) -> str:
    """Return what follows the kind: a call-out's heading (else the kind), or who asks or answers."""
    kind = call_out_kind(token)
    title = token.info.strip().removeprefix(kind).strip()
    return title or ("" if kind in VOICES else kind.capitalize())


def is_button(token: Token) -> bool:
    """Whether a `link_open` token was given the class `button`."""
    return "button" in str(token.attrGet("class") or "").split()


def footnote_number(token: Token) -> int:
    """Return the number that a footnote's mark and text carry, from 1."""
    return int(token.meta["id"]) + 1


Env = MutableMapping[str, Any]


class _BodyRenderer(RendererHTML):
    """The rules where mail differs from the web."""

    def softbreak(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return " "

    def hardbreak(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return "<br>"

    def heading_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return f"<{tokens[idx].tag}>"

    def paragraph_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        token = tokens[idx]
        if token.hidden or _stands_alone(tokens[idx + 1]):
            return ""
        return f"<p{_class(token)}>"

    def paragraph_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        if tokens[idx].hidden:
            # Only the white space between a tight item's text and what follows in it.
            return " " if tokens[idx + 1].type != "list_item_close" else ""
        return "" if _stands_alone(tokens[idx - 1]) else "</p>\n"

    def link_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        token = tokens[idx]
        drawing: Drawing = env["drawing"]
        href = drawing.link(str(token.attrGet("href") or ""))
        title = token.attrGet("title")
        shown = f' title="{escape(str(title))}"' if title else ""
        return f'<a href="{escape(href)}"{shown}{_class(token)}>'

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
        return self._piece(env, "code", code=markup(highlighted(token.content, token.info)))

    def code_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return self._piece(env, "code", code=tokens[idx].content)

    def code_inline(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return f"<code>{escape(tokens[idx].content)}</code>"

    def hr(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return self._piece(env, "divider")

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return self._open(env, "table")

    def blockquote_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return self._open(env, "quote")

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


def markup(html: str) -> Markup:
    """Return `html`, which this room made, as something that templates do not escape."""
    return Markup(html)  # noqa: S704 - escaped by the renderer


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
    # Loaded for issues that show code.
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return escape(code)
    return str(highlight(code, lexer, HtmlFormatter(nowrap=True, noclasses=True, style="github-dark")))


def _slot_line(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Take a line of nothing but block tags, which belongs to no paragraph."""
    line = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    if state.is_code_block(start) or not TAG_LINE.fullmatch(line.rstrip()):
        return False
    if silent:
        return True
    token = state.push("slot_line", "", 0)
    token.content = line.strip()
    token.map = [start, start + 1]
    state.line = start + 1
    return True


def _html_lines(state: StateCore) -> None:
    """Take what stands between `<script>` or `<style>` and its end out of a paragraph, as cleaning does."""
    for token in state.tokens:
        children = token.children
        if token.type != "inline" or not children:
            continue
        kept: list[Token] = []
        until = ""
        for child in children:
            tag = _HTML_TAG.match(child.content) if child.type == "html_inline" else None
            if until:
                until = "" if tag is not None and tag[1].lower() == until else until
            elif tag is not None and tag[1].lower() in ("script", "style"):
                until = "/" + tag[1].lower()
            else:
                kept.append(child)
        token.children = kept


_HTML_TAG: Final = re.compile(r"<(/?[A-Za-z][A-Za-z0-9]*)")


def _make(*, html: bool) -> MarkdownIt:
    # What the rules would else miss, by an exception, in every line.
    asked_for = {"strikethrough_single_tilde": False, "store_labels": False}
    options = {"html": html, "maxNesting": MAX_NESTING, **asked_for}
    markdown = MarkdownIt("commonmark", options, renderer_cls=_BodyRenderer)
    markdown.enable(["table", "strikethrough"])
    markdown.use(footnote_plugin).use(attrs_plugin, allowed=_ATTRIBUTES)
    for kind in (*CALL_OUTS, *VOICES):
        markdown.use(container_plugin, kind)
    markdown.block.ruler.before(
        "fence", "slot_line", _slot_line, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )
    if html:
        markdown.core.ruler.push("html_lines", _html_lines)
    # The plugins have put their own rules over the renderer's.
    renderer = markdown.renderer
    assert isinstance(renderer, _BodyRenderer)
    rules: dict[str, Callable[..., str]] = renderer.rules  # type: ignore[assignment]
    for kind in (*CALL_OUTS, *VOICES):
        rules[f"container_{kind}_open"] = renderer.container_open
        rules[f"container_{kind}_close"] = renderer.block_close
    for rule in ("footnote_ref", "footnote_block_open", "footnote_open"):
        rules[rule] = getattr(renderer, rule)
    for rule in ("footnote_block_close", "footnote_close", "table_close", "blockquote_close"):
        rules[rule] = renderer.block_close
    return markdown


_MARKDOWN: Final = _make(html=False)
_WITH_HTML: Final = _make(html=True)
