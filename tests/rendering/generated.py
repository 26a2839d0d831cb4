"""Markdown made up by hypothesis: every construct, in one another, each word known by its number."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from hypothesis import strategies as st

_STEMS: Final = ("bean", "Ägypten", "straße", "naïve", "in", "extraordinarily", "überübermorgenländisch")
WORD: Final = re.compile(rf"(?<!\w)(?:{'|'.join(_STEMS)})\d+(?!\w)")
_STARTS: Final = ("", "", "", "From ", "... ", "-- ", "1986\\. ", "\\- ")
_LANGUAGES: Final = ("", "python", "text", "no-such-language")
_DEEPEST: Final = 3

Lines = list[str]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Document:
    """A body, its words in the order in which a reader meets them, and where its links lead."""

    body: str
    words: tuple[str, ...]
    urls: tuple[str, ...]


@dataclass(slots=True)
class _Writer:
    draw: st.DrawFn
    raw_html: bool
    words: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    notes: int = 0
    definitions: Lines = field(default_factory=list)
    inside_note: bool = False

    def number(self, least: int, most: int) -> int:
        return self.draw(st.integers(least, most))

    def one_of(self, options: Sequence[_T]) -> _T:
        return self.draw(st.sampled_from(options))

    def word(self) -> str:
        self.words.append(f"{self.one_of(_STEMS)}{len(self.words)}")
        return self.words[-1]

    def some_words(self, most: int = 6) -> str:
        return " ".join(self.word() for _ in range(self.number(1, most)))

    def url(self) -> str:
        self.urls.append(f"https://example.org/at/{len(self.urls)}?q=1&r=2" + "/far" * self.number(0, 30))
        return self.urls[-1]

    # Within a line.

    def line(self, *, breaks: bool = True, most: int = 5) -> str:
        """Return inline elements; without `breaks`, all on one line."""
        glue = (" ", " ", "\n", "  \n", "\\\n") if breaks else (" ",)
        text = self.inline()
        for _ in range(self.number(0, most - 1)):
            text += self.one_of(glue) + self.inline()
        return text

    def inline(self) -> str:
        kinds: list[Callable[[], str]] = [
            self.some_words,
            self.some_words,
            lambda: f"*{self.some_words(3)}*",
            lambda: f"**{self.some_words(3)}**",
            lambda: f"~~{self.some_words(3)}~~",
            lambda: f"***{self.word()} ~~{self.word()}~~***",
            lambda: f"`{self.some_words(3)}`",
            lambda: f"[{self.some_words(3)}]({self.url()})",
            lambda: f'[**{self.word()}** `{self.word()}`](<{self.url()}> "a title")',
            lambda: f"[{self.some_words(3)}](#a-place)",
            lambda: f"[{self.word()}](mailto:ana@example.org)",
            lambda: f"<{self.url()}>",
            lambda: "<ana@example.org>",
            lambda: f"[{self.word()}]({self.url()}){{.button}}",
            lambda: f'![{self.word()}](https://example.org/i.png "{self.some_words(2)}")',
            lambda: f"![{self.some_words(2)}](https://example.org/i.png)",
            lambda: f"**[{self.word()}]({self.url()}){{.button}}**",
            lambda: f"[![{self.word()}](https://example.org/i.png)]({self.url()})",
            self.footnote,
        ]
        if self.raw_html:
            kinds += [
                lambda: f"<b>{self.word()}</b>",
                lambda: f"{self.word()}<br>{self.word()}",
                lambda: f'<a href="{self.url()}">{self.some_words(2)}</a>',
                lambda: f"{self.word()}<!-- unseen -->",
                lambda: f"{self.word()}<p>{self.word()}</p>{self.word()}",
            ]
        return self.one_of(kinds)()

    def footnote(self) -> str:
        word = self.word()
        if self.inside_note:
            return word
        self.notes += 1
        return f"{word}[^{self.notes}]"

    # Blocks.

    def blocks(self, depth: int, most: int) -> Lines:
        lines: Lines = []
        for _ in range(self.number(1, most)):
            lines += ["", *self.block(depth)]
        return lines[1:]

    def block(self, depth: int) -> Lines:
        kinds: list[Callable[[], Lines]] = [
            self.paragraph,
            self.paragraph,
            lambda: ["#" * self.number(1, 6) + " " + self.line(breaks=False)],
            lambda: [*self.line().split("\n"), self.one_of(("===", "---"))],
            self.code,
            self.table,
            lambda: ["---"],
            lambda: [f'![{self.some_words()}](https://example.org/i.png "{self.some_words()}")'],
            lambda: [f"[{self.some_words(3)}]({self.url()}){{.button}}" for _ in range(self.number(1, 3))],
            lambda: [f"[{self.word()}]({self.url()}){{.button .quiet}} {self.inline()}"],
        ]
        if depth < _DEEPEST:
            kinds += [
                lambda: self.listing(depth),
                lambda: self.listing(depth),
                lambda: [f"> {line}".rstrip() for line in self.blocks(depth + 1, 2)],
                lambda: self.container(depth),
            ]
        if self.raw_html:
            kinds.append(lambda: ["<div>", f"<h2>{self.word()}</h2>{self.some_words()}", "</div>"])
            kinds.append(lambda: ["<div>", "", *self.paragraph(), "", "</div>"])
        return self.one_of(kinds)()

    def paragraph(self) -> Lines:
        return (self.one_of(_STARTS) + self.line()).split("\n")

    def listing(self, depth: int, *, starts: tuple[int, ...] = (0, 0, 1, 9, 120)) -> Lines:
        number, loose = self.one_of(starts), self.one_of((True, False))
        lines: Lines = []
        for item in range(self.number(1, 3)):
            mark = f"{number + item}. " if number else "- "
            inside = self.blocks(depth + 1, 2) if loose else [self.line(breaks=False)]
            if not loose and depth + 1 < _DEEPEST and self.one_of((True, False, False)):
                # Only a list that starts at 1 may follow a paragraph's line.
                inside += self.listing(depth + 1, starts=(0, 1))
            lines += [mark + inside[0], *(" " * len(mark) + line for line in inside[1:])]
            lines += [""] if loose else []
        return lines

    def code(self) -> Lines:
        lines = [
            " " * self.number(0, 12) + self.one_of((" ", "  ", ", ")).join(self.word() for _ in range(words))
            for words in self.draw(st.lists(st.integers(0, 12), min_size=1, max_size=4))
        ]
        if self.one_of((True, False)):
            lines.append(f"curl {self.url()} {self.word()}")
        return ["```" + self.one_of(_LANGUAGES), *lines, "```"]

    def table(self) -> Lines:
        width = self.number(1, 4)
        rows = [
            "| " + " | ".join(self.line(breaks=False, most=2) for _ in range(width)) + " |"
            for _ in range(self.number(1, 3))
        ]
        return [rows[0], "|" + "---|" * width, *rows[1:]]

    def container(self, depth: int) -> Lines:
        fence = ":" * (3 + _DEEPEST - depth)
        kind = self.one_of(("note", "tip", "warning", "question", "answer"))
        title = " " + self.some_words(9) if self.one_of((True, False)) else ""
        return [f"{fence} {kind}{title}", *self.blocks(depth + 1, 2), fence]

    def document(self) -> Document:
        lines = self.blocks(0, 5)
        self.inside_note = True
        for note in range(1, self.notes + 1):
            first, *rest = [
                line for at in range(self.number(1, 2)) for line in ["", *self.paragraph()][not at :]
            ]
            lines += ["", f"[^{note}]: {first}", *(f"    {line}".rstrip() for line in rest)]
        return Document("\n".join(lines) + "\n", tuple(self.words), tuple(self.urls))


@st.composite
def documents(draw: st.DrawFn, *, raw_html: bool = False) -> Document:
    """Draw a document; with `raw_html`, some of it is written as HTML."""
    return _Writer(draw, raw_html).document()
