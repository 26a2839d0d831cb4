"""Parse Markdown to tokens, and read the tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from mdit_py_plugins.attrs import attrs_block_plugin, attrs_plugin
from mdit_py_plugins.container import container_plugin
from mdit_py_plugins.footnote import footnote_plugin
from mdit_py_plugins.gfm_autolink import gfm_autolink_plugin

from mailer.errors import SourceError
from mailer.rendering.source.conditions import Step, settle_conditions
from mailer.rendering.source.emphasis import wide_emphasis_plugin
from mailer.rendering.source.raw_html import ends_line, is_element, plain
from mailer.rendering.source.reading_time import count_words
from mailer.rendering.templating.slots import TAG, TAG_LINE

MAX_NESTING: Final = 50
MAX_EMPHASIS: Final = 30
CALL_OUTS: Final = ("note", "tip", "warning")
VOICES: Final = ("question", "answer")
_ATTRIBUTES: Final = ("class", "width", "height", "alt", "title", "dir", "lang")
_BLOCK_ATTRIBUTES: Final = ("dir", "lang")


def parse_markdown(source: str, *, raw_html: bool = False, step: Step = lambda word: 0) -> list[Token]:
    """Return the tokens of `source`.

    With `raw_html`, HTML is kept for cleaning (`raw_html.cleaned`); otherwise it is text. `step` says which
    slots open and close conditions. Raises `NestingError` and `CrossingError`, which know the line.
    """
    parser = _WITH_HTML if raw_html else _MARKDOWN
    tokens = [token for token in parser.parse(source) if token.type != "footnote_anchor"]
    # Beyond its limit the parser silently drops content.
    for token in tokens:
        inside = max((child.level for child in token.children or ()), default=0)
        if token.level >= MAX_NESTING - 2 or inside > MAX_EMPHASIS:
            line = token.map[0] if token.map else 0
            raise NestingError(line)
    for token in tokens:
        for child in token.children or ():
            if child.type == "image":
                child.content = _alt_text(child.children or [])
    return settle_conditions(tokens, step)


def _alt_text(children: Sequence[Token]) -> str:
    """Return an alternative text without its Markdown."""
    words = (
        " " if child.type in ("softbreak", "hardbreak") else _alt_text(child.children or []) or child.content
        for child in children
        if child.type != "html_inline"
    )
    return "".join(words)


class NestingError(SourceError):
    """Quotes, lists or emphasis are nested too deeply; `line` counts from 0."""

    def __init__(self, line: int) -> None:
        super().__init__(
            f"nested deeper than {MAX_NESTING // 2} quotes or lists, or {MAX_EMPHASIS} levels of emphasis",
            remedy="flatten it",
        )
        self.line = line


def visible_words(tokens: Sequence[Token]) -> int:
    """Return the number of words that readers see.

    Words inside alternative texts and addresses do not count, captions do.
    """
    return sum(count_words(text) for text in visible_text(tokens))


def visible_text(tokens: Sequence[Token]) -> Iterator[str]:
    """Yield the visible text, block by block."""
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
    """Return the heading of a call-out (by default its kind), or the name of the speaker."""
    kind = call_out_kind(token)
    title = token.info.strip().removeprefix(kind).strip()
    return title or ("" if kind in VOICES else kind.capitalize())


def is_button(token: Token) -> bool:
    """Whether a `link_open` token was given the class `button`."""
    return "button" in str(token.attrGet("class") or "").split()


def footnote_number(token: Token) -> int:
    """Return the number that a footnote's mark and text carry, from 1."""
    return int(token.meta["id"]) + 1


def _slot_line(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Parse a line of nothing but block tags, which is not part of any paragraph."""
    line = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    if state.is_code_block(start) or not TAG_LINE.fullmatch(line.rstrip()):
        return False
    if silent and state.parentType == "table":
        # A row, for now: `settle_conditions` turns it into a tag.
        return False
    if silent:
        return True
    token = state.push("slot_line", "", 0)
    token.content = line.strip()
    token.map = [start, start + 1]
    state.line = start + 1
    return True


def _html_lines(state: StateCore) -> None:
    """Remove the content of `<script>` and `<style>` from paragraphs, as cleaning does."""
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


def _unknown_tags(state: StateCore) -> None:
    """Turn what only looks like a tag, such as the `<T>` of `Vec<T>`, into text."""
    for token in state.tokens:
        if token.type == "html_block":
            token.content = _HTML_TAG.sub(
                lambda found: found[0] if is_element(found[1]) else "&lt;" + found[0][1:], token.content
            )
        for child in token.children or ():
            if child.type == "html_inline" and (tag := _HTML_TAG.match(child.content)):
                child.type = "html_inline" if is_element(tag[1]) else "text"


_HTML_TAG: Final = re.compile(r"<(/?[A-Za-z][A-Za-z0-9]*)")


def _make(*, html: bool) -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": html, "maxNesting": MAX_NESTING})
    markdown.enable(["table", "strikethrough"])
    markdown.use(wide_emphasis_plugin).use(footnote_plugin).use(attrs_plugin, allowed=_ATTRIBUTES)
    markdown.use(attrs_block_plugin, allowed=_BLOCK_ATTRIBUTES)
    for kind in (*CALL_OUTS, *VOICES):
        markdown.use(container_plugin, kind)
    markdown.block.ruler.before(
        "fence", "slot_line", _slot_line, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )
    markdown.use(gfm_autolink_plugin)
    if html:
        markdown.core.ruler.push("html_lines", _html_lines)
        markdown.core.ruler.push("unknown_tags", _unknown_tags)
    return markdown


_MARKDOWN: Final = _make(html=False)
_WITH_HTML: Final = _make(html=True)
