"""Measure Markdown tables before they are drawn, to choose their look and where words may break."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from enum import Enum
from html import escape
from typing import Final

from markdown_it.token import Token
from msgspec import Struct

from mailer.rendering.source.markdown import visible_text
from mailer.rendering.templating.slots import SLOT, TAG

PHONE_WIDTH: Final = 256
"""The text column of a 320 px screen in a client without media queries."""
PAGE_WIDTH: Final = 536
_LONGEST_WORD: Final = 15
_LONGEST_ADDRESS: Final = 12
"""Words and addresses up to these lengths never break."""
_LONGEST_PIECE: Final = 10
_LONGEST_WHOLE: Final = 20
"""Pieces of a long word that still fit a phone."""
# An amount and its unit: 2.40 €, -3 %, 1,200 km, 2.5 ס״מ, 18:30, 2026-01-31.
_AMOUNT: Final = re.compile(
    r"[^\w\s]{0,2}\s?[+\-−±]?\d[\d.,:/’' \u00a0\u202f–-]*\s?"
    r"(?:[^\W\d_](?:[^\W\d_]|[.\u05f3\u05f4]){0,3})?[%‰€$£¥₽₹°]?"
    # 2026年11月25日, 2h 30m
    r"|(?:\d+\s?[^\W\d_]\s?){2,4}"
)
_LONGEST_AMOUNT: Final = 16
# East Asian and South-East Asian scripts, whose lines break without spaces.
_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u115f\u1780-\u17ff\u2e80-\ua4cf\uf900-\ufaff\uff00-\uff60"
    "\U00020000-\U0003fffd"
)
# A short word in such a script, which would otherwise be set in a column of single characters.
_SHORT_UNSPACED: Final = re.compile(rf"[{_UNSPACED}]{{1,4}}")
_RUN: Final = re.compile(rf"[^\s\u200b{_UNSPACED}]+|[{_UNSPACED}]")
_PIECE: Final = re.compile(r"[^/._@&?=-]*[/._@&?=-]+|[^/._@&?=-]+")
# Scripts whose letters stand alone: cutting between two of them changes neither.
_CUTTABLE: Final = re.compile("[!-\u02af\u0370-\u052f]+")
# Signs that no line breaks at by itself.
_SOLID: Final = re.compile(r"[\w.,:;'’@%€$£¥]+")
_NARROW: Final = frozenset("fijlrtI.,:;'’|!()[]/- ")
_WIDE: Final = frozenset("mwMWQ@%&")


class CellBreaks(Enum):
    """Where long words break on a screen that is wide enough for a table. Short words never do."""

    NOWHERE = 0
    AT_SIGNS = 1
    """After a slash, a dot, a hyphen and the like."""
    ANYWHERE = 2


class Shape(Struct, frozen=True):
    """How to draw a table. Cells are counted row by row, header cells first."""

    headings: tuple[str, ...]
    look: str
    """Class names. `stacks`: too wide for a phone, where each row becomes a list of its cells. `dense`: too
    wide for a page at the usual size. `breaks`: fits a page because long words break. `crowded`: too wide for
    a page even so, and always stacks."""
    amounts: frozenset[int]
    """The cells that hold an amount or a short word without spaces, which no line break may split."""
    long: frozenset[int]
    """The cells with a long word, such as an address."""
    breaks: CellBreaks

    @property
    def stacks(self) -> bool:
        """Whether its cells need labels."""
        return "stacks" in self.look


class _Setting(Struct, frozen=True):
    """Sizes in pixels, as in `inline.css.j2`, and where words break."""

    font: int
    code: int
    padding: int
    breaks: CellBreaks


_USUAL: Final = _Setting(16, 15, 16, CellBreaks.NOWHERE)
# From the best to the worst that can still be read as a table.
_SETTINGS: Final = (
    _USUAL,
    _Setting(16, 15, 16, CellBreaks.AT_SIGNS),
    _Setting(14, 14, 8, CellBreaks.AT_SIGNS),
    _Setting(14, 14, 8, CellBreaks.ANYWHERE),
)
_STACKED: Final = _Setting(16, 15, 16, CellBreaks.AT_SIGNS)


def shape_of(tokens: Sequence[Token]) -> Shape:
    """Return the shape of the table that `tokens` hold, from `table_open` to `table_close`."""
    cells = [token for token in tokens if token.type == "inline"]
    texts = [" ".join(visible_text([cell])) for cell in cells]
    columns = sum(token.type == "th_open" for token in tokens) or 1
    amounts = frozenset(at for at, text in enumerate(texts) if _is_amount(text))
    long = frozenset(
        at
        for at, text in enumerate(texts)
        if at not in amounts and any(not _is_short(run) for run in _RUN.findall(text))
    )
    fitting = (
        setting for setting in _SETTINGS if _least_width(cells, columns, amounts, setting) <= PAGE_WIDTH
    )
    setting = next(fitting, _STACKED)
    names = {
        "stacks": _least_width(cells, columns, amounts, _USUAL) > PHONE_WIDTH or (bool(long) and columns > 1),
        "dense": setting.font < _USUAL.font,
        "breaks": setting.breaks is not CellBreaks.NOWHERE,
        "crowded": setting is _STACKED,
    }
    look = " ".join(name for name, applies in names.items() if applies)
    return Shape(tuple(texts[:columns]), look, amounts, long, setting.breaks)


def breakable(text: str, breaks: CellBreaks, *, long: bool) -> str:
    """Return the text of a cell as HTML that says which of its words may break.

    `long`: in a cell with a long word, where a client may break any word that does not forbid it.
    Gmail removes `<wbr>`; there, lines break between the pieces.
    """
    out, end = [], 0
    for found in _RUN.finditer(text):
        out.append(escape(text[end : found.start()]))
        out.append("<wbr>".join(_whole(piece, long) for piece in _pieces(found[0], breaks)))
        end = found.end()
    return "".join(out) + escape(text[end:])


def _whole(piece: str, long: bool) -> str:
    """Return a piece of text as HTML, unbreakable if it has to be and fits a phone."""
    may_break = long or not _SOLID.fullmatch(piece)
    if not may_break or not 1 < len(piece) <= _LONGEST_WHOLE or SLOT.search(piece):
        return escape(piece)
    return f'<span class="whole">{escape(piece)}</span>'


def _least_width(cells: Sequence[Token], columns: int, amounts: frozenset[int], setting: _Setting) -> float:
    """Return the least width of a table in pixels, with `setting`."""
    widths = [0.0] * columns
    for at, cell in enumerate(cells):
        # Headings are bold.
        scale = 1.12 if at < columns else 1.0
        pieces = _measured(cell.children or [], setting, whole=at in amounts)
        widths[at % columns] = max(widths[at % columns], scale * max(pieces, default=0.0))
    return sum(widths) + setting.padding * columns


def _measured(children: Sequence[Token], setting: _Setting, *, whole: bool) -> Iterator[float]:
    """Yield the approximate width of each unbreakable piece."""
    for child in children:
        if child.type not in ("text", "code_inline"):
            continue
        text = TAG.sub("", child.content)
        runs = [text] if whole else _RUN.findall(text)
        for run in runs:
            for piece in [run] if whole else _pieces(run, setting.breaks):
                shown = SLOT.sub("0000000000", piece)
                if child.type == "code_inline":
                    yield 0.61 * setting.code * len(shown) + 8
                else:
                    yield setting.font * sum(map(_share, shown))


def _pieces(run: str, breaks: CellBreaks) -> list[str]:
    """Split a run of characters where a line may break."""
    if breaks is CellBreaks.NOWHERE or _is_short(run):
        return [run]
    pieces = _PIECE.findall(run)
    if breaks is CellBreaks.AT_SIGNS:
        return pieces
    return [part for piece in pieces for part in _parts(piece)]


def _parts(piece: str) -> list[str]:
    """Cut a piece that is still long into equal parts, unless cutting would change how it looks."""
    if len(piece) <= _LONGEST_PIECE or SLOT.search(piece) or not _CUTTABLE.fullmatch(piece):
        return [piece]
    size = -(-len(piece) // -(-len(piece) // _LONGEST_PIECE))
    return [piece[at : at + size] for at in range(0, len(piece), size)]


def _is_short(run: str) -> bool:
    return len(run) <= (_LONGEST_ADDRESS if "@" in run or "/" in run else _LONGEST_WORD)


def _is_amount(text: str) -> bool:
    if _SHORT_UNSPACED.fullmatch(text.strip()):
        return True
    return len(text) <= _LONGEST_AMOUNT and _AMOUNT.fullmatch(text.strip()) is not None


def _share(character: str) -> float:
    """Return the approximate width of a character in a wide font, as a share of the font size."""
    if character in _NARROW:
        return 0.4
    if character in _WIDE:
        return 0.97
    if unicodedata.east_asian_width(character) in "WF":
        return 2.0
    return 0.76 if character.isupper() else 0.63
