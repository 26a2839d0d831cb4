"""The plain-text part, written from the Markdown tokens and not from the HTML."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode
from msgspec import Struct, field

from mailer.rendering.source.markdown import VOICES, call_out_title, footnote_number, is_button
from mailer.rendering.source.raw_html import ends_line, link_of, plain
from mailer.rendering.templating.slots import SLOT, TAG
from mailer.rendering.text.directions import directed, isolated, isolated_cell
from mailer.rendering.text.layout import BLANKS, JOINT, WIDTH, columns, heading, safe_lines, wrap

# The minimum width of text inside quotes and lists.
_LEAST_WIDTH: Final = 30
# The number of columns by which a table may be wider than text.
_TABLE_EXCESS: Final = 4


class Links(Struct):
    """The destinations of a text, numbered from 1 in order of appearance.

    `shown` converts a destination to the form for the text.
    """

    shown: Callable[[str], str] = str
    step: Callable[[str], int] = lambda word: 0
    """Returns 1 for a block tag that opens a condition, -1 for one that closes it, else 0."""
    urls: dict[str, int] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    """Destinations of HTML links that are not closed yet."""
    depth: int = 0
    """How many conditions surround the current text."""
    rtl: bool = False
    """Whether the current block runs from right to left."""

    def number(self, url: str) -> int:
        """Return the number of `url`, the same each time."""
        return self.urls.setdefault(self.shown(url), len(self.urls) + 1)

    def joined(self, text: str) -> str:
        """Return `text` with the blanks inside conditions as joints.

        A line break there would disappear with the condition and join two lines.
        """
        out, at = [], 0
        for tag in TAG.finditer(text):
            out += [text[at : tag.start()].replace(" ", JOINT if self.depth else " "), tag[0]]
            self.depth = max(0, self.depth + self.step(tag[0]))
            at = tag.end()
        return "".join([*out, text[at:].replace(" ", JOINT if self.depth else " ")])

    def listed(self) -> str:
        """Return the list for the end: one line each, never broken."""
        return "\n".join(f"[{number}] {url}" for url, number in self.urls.items())


def render_text(tokens: Sequence[Token], links: Links) -> str:
    """Return the body as text: lines up to `WIDTH` columns where words allow, links as `label [n]`.

    URLs and words are never broken, except between wide characters (UAX 11), which count as two columns.
    """
    return safe_lines(_blocks(SyntaxTreeNode(tokens).children, WIDTH, links).replace(JOINT, " "))


def _blocks(nodes: Iterable[SyntaxTreeNode], width: int, links: Links, tight: bool = False) -> str:
    """Return blocks one below the other; a block tag is joined to the block that follows it."""
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
    outside = links.rtl
    links.rtl = {"rtl": True, "ltr": False}.get(str(node.attrs.get("dir", "")), outside)
    text = _written(node, width, links)
    if links.rtl and node.type in ("heading", "paragraph", "table"):
        text = directed(text)
    links.rtl = outside
    return text


def _written(node: SyntaxTreeNode, width: int, links: Links) -> str:
    if node.type == "heading":
        return heading(_inline(node.children[0], links), node.tag, width)
    if node.type == "paragraph":
        return "\n".join(wrap(_inline(node.children[0], links), width))
    if node.type in ("fence", "code_block"):
        return _code(node.content.rstrip("\n"), width)
    if node.type == "blockquote":
        return _within("> ", "> ", width, lambda room: _blocks(node.children, room, links), blank=">")
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
        return _within("| ", "| ", width, lambda room: _call_out(node, room, links), blank="|")
    if node.type == "footnote":
        mark = f"({footnote_number(_opening(node))}) "
        return _within(mark, " " * len(mark), width, lambda room: _blocks(node.children, room, links))
    return _blocks(node.children, width, links)


def _within(first: str, rest: str, width: int, body: Callable[[int], str], *, blank: str = "") -> str:
    """Return `body` for the remaining width, with the prefix `first` and, on later lines, `rest`.

    Where nesting leaves too little room for words, the prefix gets a line of its own.
    """
    if width - len(first) < _LEAST_WIDTH:
        return f"{first.rstrip()}\n{body(width)}"
    return _indented(body(width - len(first)), first, rest, blank=blank)


def _call_out(node: SyntaxTreeNode, width: int, links: Links) -> str:
    title = "\n".join(wrap(call_out_title(_opening(node)), width))
    return f"{title}\n\n{_blocks(node.children, width, links)}"


def _code(content: str, width: int) -> str:
    """Return code indented; lines that are too long are broken at spaces, with a hanging indent."""
    lines = []
    for line in content.split("\n"):
        lines += [line] if columns(line) <= width - 4 else _broken(line, width - 4)
    return _indented("\n".join(lines), "    ", "    ")


def _broken(line: str, width: int) -> list[str]:
    indent = len(line) - len(line.lstrip())
    room = max(0, width - _LEAST_WIDTH)
    lines = [" " * min(indent, room)]
    further = " " * min(indent + 4, room)
    for part in re.findall(r"\s*\S+", line[indent:]):
        if lines[-1].strip() and columns(lines[-1] + part) > width:
            lines.append(further + part.lstrip())
        else:
            lines[-1] += part
    return lines


def _voice(node: SyntaxTreeNode, width: int, links: Links) -> str:
    """Return a question or an answer: below the name, or a question after a dash."""
    if who := "\n".join(wrap(call_out_title(_opening(node)), width)):
        return f"{who}\n" + _within("  ", "  ", width, lambda room: _blocks(node.children, room, links))
    if node.type == "container_question":
        return _within("– ", "  ", width, lambda room: _blocks(node.children, room, links))
    return _blocks(node.children, width, links)


def _opening(node: SyntaxTreeNode) -> Token:
    assert node.nester_tokens is not None
    return node.nester_tokens.opening


def _list(node: SyntaxTreeNode, width: int, links: Links) -> str:
    number = int(node.attrs.get("start", 1))
    first = node.children[0].children if node.children else []
    tight = any(
        child.type == "paragraph" and child.hidden for item in node.children for child in item.children
    )
    # Numbers would be wrong for readers who do not get all of the items.
    numbered = node.type == "ordered_list" and all(item.type == "list_item" for item in node.children)
    items = []
    pending = ""
    for item in node.children:
        if item.type == "slot_line":
            pending += "".join(SLOT.findall(item.content))
            continue
        mark = f"{number}. " if numbered else "- "
        inside = partial(_blocks, item.children, links=links, tight=tight)
        items.append(pending + _within(mark, " " * len(mark), width, inside))
        pending = ""
        number += 1
    return ("\n" if tight or not first else "\n\n").join(items) + pending


def _indented(text: str, first: str, rest: str, *, blank: str = "") -> str:
    lines = text.split("\n")
    marked = [(rest + line if line else blank) for line in lines]
    marked[0] = first + lines[0] if lines[0] else first.rstrip()
    return "\n".join(marked)


def _table(node: SyntaxTreeNode, width: int, links: Links) -> str:
    """Return aligned columns if they fit, else each row as a line, else each row as a paragraph."""
    rows: list[_Row] = []
    pending = ""
    for row in (row for part in node.children for row in (part.children or [part])):
        if row.type == "slot_line":
            pending += "".join(SLOT.findall(row.content))
            continue
        cells = [BLANKS.sub(" ", _inline(cell.children[0], links)) for cell in row.children]
        if links.rtl:
            cells = list(map(isolated_cell, cells))
        sides = [str(cell.attrs.get("style", "")).removeprefix("text-align:") for cell in row.children]
        rows.append(_Row(pending, cells, sides))
        pending = ""
    sizes = [max(3, *(columns(row.cells[i]) for row in rows)) for i in range(len(rows[0].cells))]
    if sum(sizes) + 2 * (len(sizes) - 1) <= width + _TABLE_EXCESS:
        lines = [
            row.tags + "  ".join(map(_filled_up, row.cells, sizes, rows[0].sides)).rstrip() for row in rows
        ]
        lines.insert(1, "  ".join("-" * size for size in sizes))
        return "\n".join(lines) + pending
    joined = [" | ".join(filter(None, row.cells)) for row in rows]
    longest = max(map(columns, joined))
    if longest > width:
        wrapped = ("\n".join(wrap(line, width)) for line in joined)
        return "\n\n".join(row.tags + line for row, line in zip(rows, wrapped, strict=True)) + pending
    lines = [row.tags + line for row, line in zip(rows, joined, strict=True)]
    return "\n".join([lines[0], "-" * longest, *lines[1:]]) + pending


class _Row(Struct, frozen=True):
    """One row of a table; `tags` are the block tags before it."""

    tags: str
    cells: list[str]
    sides: list[str]


def _filled_up(cell: str, size: int, side: str) -> str:
    """Return `cell` as wide as its column, at the `side` that the author chose."""
    missing = size - columns(cell)
    before = {"right": missing, "center": missing // 2}.get(side, 0)
    return " " * before + cell + " " * (missing - before)


def _inline(node: SyntaxTreeNode, links: Links) -> str:
    match node.type:
        case "text":
            return links.joined(node.content.replace("\n", " "))
        case "softbreak":
            return links.joined(" ")
        case "hardbreak":
            return "\n"
        case "code_inline":
            return isolated(f"`{node.content}`") if links.rtl else f"`{node.content}`"
        case "image":
            shown = (f"[{node.content}]" if node.content else "", str(node.attrs.get("title") or ""))
            return "\n".join(filter(None, shown))
        case "html_inline":
            return _html_tag(node.content, links)
        case "footnote_ref":
            return f"{JOINT}({int(node.meta['id']) + 1})"
    return _with_children(node, links)


def _with_children(node: SyntaxTreeNode, links: Links) -> str:
    if node.type == "inline":
        links.depth = 0
        if _only_buttons(node):
            return "\n".join(_button(child, links) for child in node.children if child.type == "link")
    inner = "".join(_inline(child, links) for child in node.children)
    match node.type:
        case "em" | "strong":
            return f"*{inner}*" if inner.strip() else inner
        case "s":
            return f"~{inner}~"
        case "link":
            return _link(node, inner, links)
    return inner


def _only_buttons(node: SyntaxTreeNode) -> bool:
    """Whether a line consists of buttons, each of which gets lines of its own."""
    links = [child for child in node.children if child.type == "link"]
    others = (child for child in node.children if child.type not in ("link", "softbreak"))
    return (
        bool(links)
        and all(is_button(_opening(link)) for link in links)
        and all(child.type in ("hardbreak", "text") and not child.content.strip() for child in others)
    )


def _button(node: SyntaxTreeNode, links: Links) -> str:
    label = "".join(_inline(child, links) for child in node.children)
    return f"{label}:\n{links.shown(str(node.attrs.get('href', '')))}"


def _html_tag(tag: str, links: Links) -> str:
    """Return the text for one HTML tag: a line break, the number of a link, or nothing."""
    if ends_line(tag):
        return "\n"
    if tag.lower().startswith("</a") and links.open:
        return f"{JOINT}[{links.number(links.open.pop())}]"
    if tag.lower().startswith("<a") and (url := link_of(tag)) is not None:
        links.open.append(url)
    return ""


def _link(node: SyntaxTreeNode, label: str, links: Links) -> str:
    url = str(node.attrs.get("href", ""))
    if not url or url.startswith("#"):
        return label
    if label in (url, url.removeprefix("mailto:")):
        return links.shown(url).removeprefix("mailto:")
    return f"{label}{JOINT}[{links.number(url)}]"
