"""The plain-text part, written from the Markdown tokens and not from the HTML."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from html import unescape
from typing import Final

from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode
from wcwidth import wcswidth

from mailer.rendering.markdown import VOICES, call_out_title, footnote_number, is_button
from mailer.rendering.raw_html import plain
from mailer.rendering.slots import SLOT

WIDTH: Final = 72
# How wide a slot is taken to be when lines are broken: about a first name.
_SLOT_WIDTH: Final = 8
_BLANKS: Final = re.compile(r"[ \t\n]+")
# mbox readers take "From " for the start of the next mail; SMTP doubles a leading dot.
_UNSAFE_START: Final = re.compile(r"^(?=From |\.)", re.MULTILINE)
# Closing marks that must not begin a line, opening ones that must not end it.
_NOT_FIRST: Final = frozenset("、。，．・：；？！）］｝」』】〉》〕ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ")
_NOT_LAST: Final = frozenset("（［｛「『【〈《〔")
_UNDERLINES: Final = {"h1": "=", "h2": "-"}


@dataclass(slots=True)
class Links:
    """The destinations of a text, numbered from 1 in order of appearance.

    `shown` makes of a destination what stands in the text.
    """

    shown: Callable[[str], str] = str
    urls: dict[str, int] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    """Destinations of links, written as HTML, that have begun and not ended."""

    def number(self, url: str) -> int:
        """Return the number of `url`, the same each time."""
        return self.urls.setdefault(self.shown(url), len(self.urls) + 1)

    def listed(self) -> str:
        """Return the list for the end: one line each, never broken."""
        return "\n".join(f"[{number}] {url}" for url, number in self.urls.items())


def render_text(tokens: Sequence[Token], links: Links) -> str:
    """Return the body as text: lines up to `WIDTH` columns where words allow, links as `label [n]`.

    A URL is never broken, nor a word, except between wide characters (UAX 11), which count two.
    """
    return safe_lines(_blocks(SyntaxTreeNode(tokens).children, WIDTH, links))


def heading(text: str, tag: str = "h1") -> str:
    """Return `text` wrapped and underlined as wide as its longest line."""
    lines = wrap(text, WIDTH)
    rule = _UNDERLINES.get(tag)
    if rule is None or not lines:
        return "\n".join(lines)
    return "\n".join([*lines, rule * max(3, *(columns(line) for line in lines))])


def safe_lines(text: str) -> str:
    """Return `text` with no line that begins with `From ` or a dot, and no blanks at line ends."""
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    return _UNSAFE_START.sub(" ", text)


@lru_cache(maxsize=4096)
def _wide_columns(text: str) -> int:
    width = wcswidth(text)
    return width if width >= 0 else len(text)


def columns(text: str) -> int:
    """Return how many columns `text` takes; block tags none, other slots about a name."""
    if "xslot" in text:
        slots = SLOT.findall(text)
        text = SLOT.sub("", text)
        return columns(text) + _SLOT_WIDTH * sum(not slot.endswith("t") for slot in slots)
    return len(text) if text.isascii() else _wide_columns(text)


def wrap(text: str, width: int) -> list[str]:
    """Return `text` as lines of at most `width` columns, broken at blanks or between wide characters."""
    lines: list[str] = []
    for part in text.split("\n"):
        line, used = "", 0
        for glue, word, size in _words(part):
            if line and used + len(glue) + size > width:
                lines.append(line)
                line, used = word, size
            else:
                line, used = line + glue + word if line else word, used + (len(glue) if line else 0) + size
        lines.append(line)
    return lines if any(lines) else []


def _words(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield what may not be broken, with the blank before it and its columns."""
    for word in _BLANKS.split(text):
        if not word:
            continue
        size = columns(word)
        if size == len(word) or "://" in word:
            yield " ", word, size
            continue
        glue = " "
        for piece in _wide_pieces(word):
            yield glue, piece, columns(piece)
            glue = ""


def _wide_pieces(word: str) -> Iterator[str]:
    start = 0
    for at in range(1, len(word)):
        before, after = word[at - 1], word[at]
        wide = _wide_columns(before) == 2 and _wide_columns(after) == 2 and before.isalnum() | after.isalnum()
        if wide and before not in _NOT_LAST and after not in _NOT_FIRST:
            yield word[start:at]
            start = at
    yield word[start:]


def _blocks(nodes: Iterable[SyntaxTreeNode], width: int, links: Links, *, tight: bool = False) -> str:
    """Return blocks one under the other; a block tag clings to what follows it."""
    out: list[str] = []
    pending = ""
    for node in nodes:
        if node.type == "slot_line":
            pending += "".join(SLOT.findall(node.content))
            continue
        block = _block(node, width, links)
        if not block.strip():
            continue
        out.append(pending + block)
        out.append("\n" if tight else "\n\n")
        pending = ""
    text = "".join(out)
    return text + pending if pending else text.rstrip("\n")


def _block(node: SyntaxTreeNode, width: int, links: Links) -> str:
    if node.type == "heading":
        return heading(_inline(node.children[0], links), node.tag)
    if node.type == "paragraph":
        return "\n".join(wrap(_inline(node.children[0], links), width))
    if node.type in ("fence", "code_block"):
        return _indented(node.content.rstrip("\n"), "    ", "    ")
    if node.type == "blockquote":
        return _indented(_blocks(node.children, max(20, width - 2), links), "> ", "> ", blank=">")
    if node.type in ("bullet_list", "ordered_list"):
        return _list(node, width, links)
    if node.type == "hr":
        return "* * *"
    if node.type == "table":
        return _table(node, width, links)
    if node.type == "html_block":
        return "\n".join(wrap(plain(node.content, links.number), width))
    if node.type.removeprefix("container_") in VOICES:
        return _voice(node, width, links)
    if node.type.startswith("container_"):
        title = call_out_title(_opening(node))
        body = _blocks(node.children, max(20, width - 2), links)
        return _indented(f"{title}\n\n{body}", "| ", "| ", blank="|")
    if node.type == "footnote":
        mark = f"({footnote_number(_opening(node))}) "
        body = _blocks(node.children, max(20, width - len(mark)), links)
        return _indented(body, mark, " " * len(mark))
    return _blocks(node.children, width, links)


def _voice(node: SyntaxTreeNode, width: int, links: Links) -> str:
    """Return what somebody asks or answers: below the name, or a question after a dash."""
    body = _blocks(node.children, width - 2, links)
    if who := call_out_title(_opening(node)):
        return f"{who}\n{_indented(body, '  ', '  ')}"
    return _indented(body, "– ", "  ") if node.type == "container_question" else body


def _opening(node: SyntaxTreeNode) -> Token:
    assert node.nester_tokens is not None
    return node.nester_tokens.opening


def _list(node: SyntaxTreeNode, width: int, links: Links) -> str:
    number = int(node.attrs.get("start", 1))
    first = node.children[0].children if node.children else []
    tight = any(
        child.type == "paragraph" and child.hidden for item in node.children for child in item.children
    )
    items = []
    pending = ""
    for item in node.children:
        mark = "- " if node.type == "bullet_list" else f"{number}. "
        body = _blocks(item.children, max(20, width - len(mark)), links, tight=tight)
        items.append(pending + _indented(body, mark, " " * len(mark)))
        number += 1
    return ("\n" if tight or not first else "\n\n").join(items)


def _indented(text: str, first: str, rest: str, *, blank: str = "") -> str:
    lines = text.split("\n")
    marked = [(rest + line if line else blank) for line in lines]
    marked[0] = first + lines[0] if lines[0] else first.rstrip()
    return "\n".join(marked)


def _table(node: SyntaxTreeNode, width: int, links: Links) -> str:
    """Return aligned columns if they fit, else each row as one paragraph."""
    rows = [
        [_BLANKS.sub(" ", _inline(cell.children[0], links)) for cell in row.children]
        for part in node.children
        for row in part.children
    ]
    sizes = [max(columns(row[i]) for row in rows) for i in range(len(rows[0]))]
    if sum(sizes) + 2 * (len(sizes) - 1) > width:
        return "\n\n".join("\n".join(wrap(" | ".join(filter(None, row)), width)) for row in rows)
    lines = [
        "  ".join(cell + " " * (size - columns(cell)) for cell, size in zip(row, sizes, strict=True))
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * max(3, size) for size in sizes))
    return "\n".join(line.rstrip() for line in lines)


def _inline(node: SyntaxTreeNode, links: Links) -> str:
    if node.type == "text":
        return node.content.replace("\n", " ")
    if node.type == "softbreak":
        return " "
    if node.type == "hardbreak":
        return "\n"
    if node.type == "code_inline":
        return f"`{node.content}`"
    if node.type == "image":
        return str(node.attrs.get("title") or f"[{node.content}]" if node.content else "")
    if node.type == "html_inline":
        return _html_tag(node.content, links)
    if node.type == "footnote_ref":
        return f" ({int(node.meta['id']) + 1})"
    inner = "".join(_inline(child, links) for child in node.children)
    if node.type == "em" or node.type == "strong":
        return f"*{inner}*" if inner.strip() else inner
    if node.type == "s":
        return f"~{inner}~"
    if node.type == "link":
        return _link(node, inner, links)
    return inner


def _html_tag(tag: str, links: Links) -> str:
    """Return what one tag of the author's HTML is in text: a line end, the number of a link, or nothing."""
    if _LINE_END_TAG.match(tag):
        return "\n"
    if tag.lower().startswith("</a") and links.open:
        return f" [{links.number(links.open.pop())}]"
    if found := _LINK_TAG.search(tag):
        links.open.append(unescape(found[1] or found[2]))
    return ""


_LINE_END_TAG: Final = re.compile(r"(?i)<br\b")
_LINK_TAG: Final = re.compile(r"""(?i)<a\s[^>]*?href\s*=\s*(?:"([^"]*)"|'([^']*)')""")


def _link(node: SyntaxTreeNode, label: str, links: Links) -> str:
    url = str(node.attrs.get("href", ""))
    if is_button(_opening(node)):
        return f"{label}:\n{links.shown(url)}"
    if not url or url.startswith("#"):
        return label
    if url.removeprefix("mailto:") == label or url == label:
        return links.shown(url)
    return f"{label} [{links.number(url)}]"
