"""Compute how wide a screen a document needs, from its HTML and its styles.

A simplified layout: blocks, tables, inline boxes and the longest run of text that no line breaks inside. Text
is estimated rather too wide than too narrow. Positioned elements are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from lxml import etree
from msgspec import Struct

from mailer.rendering.lint.cascade import Breaks, Cascade, Style
from mailer.rendering.lint.glyphs import text_width, unbreakable

_TOLERANCE_PIXELS: Final = 1.0
_CELL_SPACING_PIXELS: Final = 2
_MAX_SPAN: Final = 100
_SCROLLS: Final = ("auto", "scroll")


class Overflow(Struct, frozen=True):
    """An element that reaches beyond the screen."""

    element: etree._Element
    """The element with the text, the table, or the element of fixed width."""
    text: str
    """The run of text that is too long; empty for an element of fixed width."""
    needs: float
    """The width in pixels of the narrowest screen that shows all of it."""


class _Run(Struct, frozen=True):
    """Something that no line breaks inside. `text` is its longest part from one text node."""

    width: float
    text: str = ""


class _Text(Struct, frozen=True):
    text: str
    style: Style


_Part = _Text | etree._Element | float | None
"""A part of a flow: text, a box, a horizontal gap in pixels, or (None) a possible line break."""


class Measurement:
    """A document laid out on a screen of one width."""

    def __init__(self, root: etree._Element, screen: int) -> None:
        self._cascade = Cascade(root, screen)
        self._least: dict[etree._Element, _Run] = {}
        self._screen = screen
        self._start, self._end = ("right", "left") if root.get("dir") == "rtl" else ("left", "right")
        self._found: list[Overflow] = []
        body = root.find("body")
        self._widest = 0.0
        if body is not None:
            self._lay_out(body, 0.0, float(screen))

    @property
    def width(self) -> float:
        """The width of the document in pixels, which is at least that of the screen."""
        return max(self._widest, float(self._screen))

    @property
    def overflows(self) -> tuple[Overflow, ...]:
        """The elements that reach beyond the screen, in document order, without the elements inside them."""
        kept: dict[etree._Element, Overflow] = {}
        for one in self._found:
            above = [kept[element] for element in one.element.iterancestors() if element in kept]
            if all(one.needs > other.needs + _TOLERANCE_PIXELS for other in above):
                kept.setdefault(one.element, one)
        return tuple(kept.values())

    def _note(self, element: etree._Element, edge: float, text: str = "") -> None:
        self._widest = max(self._widest, edge)
        if edge > self._screen + _TOLERANCE_PIXELS:
            self._found.append(Overflow(element, text, edge))

    def _lay_out(self, element: etree._Element, start: float, available: float) -> None:
        """Place an element whose margin begins at `start`, and note what reaches beyond the screen."""
        style = self._cascade.style(element)
        if style.display == "none":
            return
        if style.display in ("table", "inline-table"):
            self._lay_out_table(element, style, start, available)
            return
        sides = style.side("left", within=available) + style.side("right", within=available)
        outer = self._outer_width(element, style, sides, available)
        start += _offset(element, style, self._start, available - outer)
        if style.length("width") or style.length("min-width"):
            self._note(element, start + outer)
        if element.tag == "img" or style.own.get("overflow-x", style.own.get("overflow", "")) in _SCROLLS:
            return
        inside = start + style.side(self._start, within=available)
        for part in self._runs(element, style, soft=True):
            if isinstance(part, _Run):
                self._note(element, inside + part.width, part.text)
            else:
                self._lay_out(part, inside, max(0.0, outer - sides))

    def _outer_width(self, element: etree._Element, style: Style, sides: float, available: float) -> float:
        """Return the width of a block or image with padding and border."""
        width = style.length("width", within=available)
        if width is None:
            room = 0.0 if element.tag == "img" else available - style.margin("left") - style.margin("right")
            width, extra = room, 0.0
        else:
            extra = 0.0 if style.own.get("box-sizing") == "border-box" else sides
        most = style.length("max-width", within=available)
        if most is not None:
            width = min(width, most)
        return max(width, style.length("min-width", within=available) or 0.0) + extra

    def _lay_out_table(self, table: etree._Element, style: Style, start: float, available: float) -> None:
        width = style.length("width", within=available)
        most = style.length("max-width", within=available)
        if width is not None and most is not None:
            width = min(width, most)
        if style.own.get("table-layout") == "fixed" and width is not None:
            start += _offset(table, style, self._start, available - width)
            self._note(table, start + width)
            inside = start + style.side(self._start)
            width -= style.side("left") + style.side("right")
            for cell, offset, room in self._fixed_cells(table, width):
                self._lay_out(cell, inside + offset, room)
            return
        needed = self._least_of_table(table, style)
        least = style.length("min-width", within=available) or 0.0
        whole = max(needed.width, width or 0.0, least)
        start += _offset(table, style, self._start, available - whole)
        self._note(table, start + whole, needed.text)

    def _fixed_cells(
        self, table: etree._Element, width: float
    ) -> Iterator[tuple[etree._Element, float, float]]:
        """Yield each cell of a table of fixed layout, its offset and its width."""
        columns: list[float] = []
        for row in self._rows(table):
            cells = [cell for cell in row if isinstance(cell.tag, str) and self._is_shown(cell)]
            if not columns:
                asked = [self._cascade.style(cell).length("width", within=width) for cell in cells]
                rest = max(0.0, width - sum(one or 0.0 for one in asked))
                share = rest / max(1, sum(one is None for one in asked))
                columns = [share if one is None else one for one in asked]
            offset = 0.0
            for number, cell in enumerate(cells):
                room = columns[number] if number < len(columns) else 0.0
                if len(cells) < len(columns) and number == len(cells) - 1:
                    room = max(room, width - offset)
                yield cell, offset, room
                offset += room

    def _least_width(self, element: etree._Element) -> _Run:
        """Return the least width of an element with its margins, and the text responsible."""
        known = self._least.get(element)
        if known is None:
            known = self._least[element] = self._least_of(element)
        return known

    def _least_of(self, element: etree._Element) -> _Run:
        style = self._cascade.style(element)
        if style.display == "none":
            return _Run(0.0)
        margins = style.margin("left") + style.margin("right")
        if style.display in ("table", "inline-table"):
            whole = self._least_of_table(element, style)
            return _Run(max(whole.width, style.length("width") or 0.0) + margins, whole.text)
        sides = style.side("left") + style.side("right")
        # A cell can be narrower than its width, and so can an image that is limited to its container.
        width = None if style.display == "table-cell" else style.length("width")
        if element.tag == "img" and style.own.get("max-width", "").endswith("%"):
            width = 0.0
        content = _Run(width or 0.0)
        if width is None:
            for part in self._runs(element, style, soft=False):
                run = part if isinstance(part, _Run) else self._least_width(part)
                content = max(content, run, key=lambda run: run.width)
        elif style.own.get("box-sizing") == "border-box":
            sides = 0.0
        most = style.length("max-width")
        limited = content.width if most is None else min(content.width, most)
        return _Run(max(limited, style.length("min-width") or 0.0) + sides + margins, content.text)

    def _least_of_table(self, table: etree._Element, style: Style) -> _Run:
        """Return the least width of a table without its margins, and the widest text in it."""
        columns: dict[int, float] = {}
        spanning: list[tuple[int, int, float]] = []
        widest = _Run(0.0)
        taken: dict[int, int] = {}
        is_fixed = style.own.get("table-layout") == "fixed" and "width" in style.own
        for row in self._rows(table):
            column = 0
            for cell in row:
                if not isinstance(cell.tag, str) or not self._is_shown(cell):
                    continue
                while taken.get(column, 0):
                    taken[column] -= 1
                    column += 1
                run = self._asked_width(cell) if is_fixed else self._least_width(cell)
                widest = max(widest, run, key=lambda run: run.width)
                span, rows = _span(cell, "colspan"), _span(cell, "rowspan")
                if span > 1:
                    spanning.append((column, span, run.width))
                columns[column] = max(columns.get(column, 0.0), run.width if span == 1 else 0.0)
                for number in range(column, column + span):
                    columns.setdefault(number, 0.0)
                    if rows > 1:
                        taken[number] = rows - 1
                column += span
        for first, span, width in spanning:
            lacking = width - sum(columns[number] for number in range(first, first + span))
            columns[first] += max(0.0, lacking)
        whole = sum(columns.values()) + _spacing(table, style) * (len(columns) + 1)
        return _Run(whole + style.side("left") + style.side("right"), widest.text)

    def _asked_width(self, cell: etree._Element) -> _Run:
        return _Run(self._cascade.style(cell).length("width") or 0.0)

    def _rows(self, table: etree._Element) -> Iterator[etree._Element]:
        for child in table:
            if not isinstance(child.tag, str) or not self._is_shown(child):
                continue
            if child.tag == "tr":
                yield child
            elif child.tag in ("thead", "tbody", "tfoot"):
                yield from (row for row in child if row.tag == "tr" and self._is_shown(row))

    def _is_shown(self, element: etree._Element) -> bool:
        return self._cascade.style(element).display != "none"

    def _runs(self, element: etree._Element, style: Style, *, soft: bool) -> Iterator[_Run | etree._Element]:
        """Yield the unbreakable runs of an element, and the boxes in it.

        `soft`: words that break only in a line that is too narrow do break.
        """
        width, longest = 0.0, ""
        for part in self._flow(element, style):
            if isinstance(part, float):
                width += part
                continue
            pieces = list(_pieces(part, soft=soft)) if isinstance(part, _Text) else [None]
            for piece in pieces:
                if piece is None:
                    if width:
                        yield _Run(width, longest)
                    width, longest = 0.0, ""
                else:
                    width += piece.width
                    longest = max(longest, piece.text, key=len)
            if isinstance(part, etree._Element):
                yield part
        if width:
            yield _Run(width, longest)

    def _flow(self, element: etree._Element, style: Style) -> Iterator[_Part]:
        """Yield the texts and boxes inside a box; inline elements are replaced by their content."""
        if element.text:
            yield _Text(element.text, style)
        for child in element:
            if isinstance(child.tag, str):
                inner = self._cascade.style(child)
                if child.tag in ("br", "wbr"):
                    yield None
                    yield from self._flow(child, inner)
                elif inner.display == "none":
                    pass
                elif inner.display == "inline" and child.tag != "img" and not inner.own.get("float"):
                    yield inner.side("left") + inner.margin("left")
                    yield from self._flow(child, inner)
                    yield inner.side("right") + inner.margin("right")
                else:
                    yield child
            if child.tail:
                yield _Text(child.tail, style)


def _offset(element: etree._Element, style: Style, side: str, spare: float) -> float:
    """Return how far an element begins from the start of its container, which has `spare` pixels more."""
    is_centred = style.own.get(f"margin-{side}") == "auto" or (
        element.tag == "table" and element.get("align", "").lower() == "center"
    )
    return max(0.0, spare / 2) if is_centred else style.margin(side)


def _pieces(part: _Text, *, soft: bool) -> Iterator[_Run | None]:
    """Yield the pieces of a text, with None for each possible line break."""
    text, style = part.text, part.style
    if not style.wraps:
        lines = text.split("\n") if style.keeps_lines else [" ".join(text.split(" "))]
        for number, line in enumerate(lines):
            if number:
                yield None
            yield _Run(_width(line if style.keeps_lines else " ".join(line.split()), style), line.strip())
        return
    if style.breaks is Breaks.ANYWHERE or (soft and style.breaks is Breaks.IF_NEEDED):
        yield None
        if text.strip():
            yield _Run(style.font_pixels)
            yield None
        return
    end = 0
    for start, stop in unbreakable(text):
        if start:
            yield None
        yield _Run(_width(text[start:stop], style), text[start:stop])
        end = stop
    if end < len(text):
        yield None


def _width(text: str, style: Style) -> float:
    return text_width(
        text,
        style.font_pixels,
        monospace=style.is_monospace,
        bold=style.is_bold,
        spacing=style.letter_spacing,
    )


def _spacing(table: etree._Element, style: Style) -> float:
    """Return the distance between the cells of a table."""
    if style.own.get("border-collapse") == "collapse":
        return 0.0
    return float(_number(table.get("cellspacing"), _CELL_SPACING_PIXELS))


def _span(cell: etree._Element, name: str) -> int:
    return max(1, min(_MAX_SPAN, _number(cell.get(name), 1)))


def _number(value: str | None, default: int) -> int:
    return int(value) if value and re.fullmatch(r"[0-9]{1,4}", value) else default
