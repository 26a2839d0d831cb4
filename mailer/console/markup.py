"""Pieces of HTML. Everything that is not `Markup` already is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import quote

from markupsafe import Markup, escape
from nicegui import ui

Cell = str | Markup
_COLUMNS: Final = {"#": "num", "@": "short", "*": "main"}
_WIDTH: Final = 1000
_HEIGHT: Final = 100
"""Of a chart, in units of its own."""
_TONES: Final = {
    "sending": "live", "scheduled": "live", "seeding": "live", "waiting": "warn",
    "finished": "good", "sent": "good", "active": "good", "applied": "good", "passed": "good",
    "paused": "warn", "deferred": "warn", "uncertain": "warn", "pending": "warn", "unmatched": "warn",
    "warning": "warn",
    "cancelled": "bad", "failed": "bad", "bounced": "bad", "complained": "bad", "error": "bad",
    "missed": "bad", "problem": "bad", "ok": "good",
}  # fmt: skip


def show(content: Markup) -> ui.html:
    """Add HTML to the page."""
    return ui.html(content, sanitize=False)


def link(target: str, text: str) -> Markup:
    """Return a link within the console."""
    return Markup('<a href="{}">{}</a>').format(target, text)


def tag(word: str) -> Markup:
    """Return a state as a coloured word."""
    return Markup('<span class="tag {}">{}</span>').format(_TONES.get(word, ""), word)


def person(subscriber_id: int, text: str) -> Markup:
    """Return a link to a subscriber's page."""
    return Markup('<a class="person" href="/subscribers/{}">{}</a>').format(subscriber_id, breakable(text))


def breakable(address: str) -> Markup:
    """Return an email or web address that continues on the next line after an at sign or a slash."""
    return Markup("<wbr>").join(re.split("(?<=[@/])(?=[^/])", address))


def issue_path(slug: str) -> str:
    """Return the path of an issue's page."""
    return f"/issues/{quote(slug, safe='')}"


def when(at: datetime | None) -> str:
    """Return an instant in the machine's time zone."""
    return f"{at.astimezone():%Y-%m-%d %H:%M}" if at else "–"


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    wide: Sequence[int] = (),
    stacked: bool = False,
) -> Markup:
    """Return a table. A heading that begins with `#` has numbers below it, and one with `@` short values.

    Short values, such as times, stay on one line where there is room. On a phone, a column with `*`
    gets the width that the others leave, and those whose indexes are in `wide` are left out; if `stacked`,
    the values of a row are below each other.
    """

    def css(index: int) -> str:
        words = [_COLUMNS[heads[index][0]]] if heads[index][:1] in _COLUMNS else []
        words += ["wide"] * (index in wide)
        return f' class="{" ".join(words)}"' if words else ""

    head = Markup("").join(
        Markup("<th{} scope=col>{}</th>").format(Markup(css(i)), name.lstrip("#@*"))  # noqa: S704 - ours
        for i, name in enumerate(heads)
    )
    body = Markup("").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(
                Markup("<td{}>{}</td>").format(Markup(css(i)), cell)  # noqa: S704 - ours
                for i, cell in enumerate(row)
            )
        )
        for row in rows
    )
    return Markup(
        '<div class="scroll" tabindex="0"><table class="t{}">'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(" stacked" if stacked else "", head, body)


def facts(pairs: Iterable[tuple[str, Cell]]) -> Markup:
    """Return names with values."""
    lines = Markup("").join(Markup("<dt>{}</dt><dd>{}</dd>").format(*pair) for pair in pairs)
    return Markup('<dl class="facts">{}</dl>').format(lines)


def figure(number: str, label: str, target: str = "") -> Markup:
    """Return a number with its name, linked to what is behind it."""
    if not target:
        return Markup('<div class="figure"><b>{}</b><span>{}</span></div>').format(number, label)
    return Markup('<a class="figure" href="{}"><b>{}</b><span>{}</span></a>').format(target, number, label)


def figures(items: Iterable[Markup]) -> Markup:
    """Return figures beside each other."""
    return Markup('<div class="figures">{}</div>').format(Markup("").join(items))


def note(text: Cell, tone: str = "", remedy: Cell = "") -> Markup:
    """Return a note; `tone` is good, warn, bad or empty."""
    following = remedy if isinstance(remedy, Markup) else sentence(remedy)
    more = Markup('<p class="soft small">{}</p>').format(following) if remedy else ""
    if not isinstance(text, Markup):
        # Some errors point at a place in their following lines.
        first, _, place = text.partition("\n")
        text = escape(sentence(first)) + (Markup("<pre>{}</pre>").format(place) if place else "")
    return Markup('<div class="note {}">{}{}</div>').format(tone, text, more)


def sentence(text: str) -> str:
    """Return a message with a capital letter, unless it begins with a command or the name of something."""
    first = text.partition(" ")[0].rstrip(",")
    return text[:1].upper() + text[1:] if first.isalpha() and first != "mailer" else text


def nav(name: str, pairs: Iterable[tuple[str, str]], here: str) -> Markup:
    """Return links to pages beside this one, given their targets and words; `here` is this one's word."""
    links = Markup(" · ").join(
        Markup('<b aria-current="page">{}</b>').format(word) if word == here else link(target, word)
        for target, word in pairs
    )
    return Markup('<nav aria-label="{}">{}</nav>').format(name, links)


def limited(limits: Mapping[str, str], everything: str) -> Markup:
    """Return what limits a list, and a link to everything. `limits` has words by the part of the address."""
    words = Markup(", ").join(map(tag, limits.values()))
    return Markup("<p>Only {}. {}</p>").format(words, link(everything, "Show all"))


def pages(here: str, after: int, following: int | None) -> Markup:
    """Return links through a list that is shown page by page.

    `here` is its address, `after` the id after which this page begins, and `following` that of the next page;
    None on the last.
    """
    links = [link(here, "First page")] if after else []
    links += [link(f"{here}&after={following}", "Next page")] if following is not None else []
    return Markup("<p>{}</p>").format(Markup(" · ").join(links)) if links else Markup("")


def diff(lines: Iterable[str]) -> Markup:
    """Return the lines of a unified diff in colour."""

    def coloured(line: str) -> Markup:
        kind = {"+": "add", "-": "del"}.get(line[:1], "")
        return Markup('<span class="{}">{}</span>').format(kind, line) if kind else escape(line)

    return Markup('<pre class="diff" tabindex="0">{}</pre>').format(Markup("\n").join(map(coloured, lines)))


def chart(name: str, times: Sequence[str], curves: Mapping[str, Sequence[int]]) -> Markup:
    """Return curves over time as SVG, with a legend if there are several.

    The label for those who cannot see them says where each begins, how high it comes and where it ends.
    """
    if len(times) < 2:
        return Markup('<p class="empty">Not enough data for a chart yet.</p>')
    numbers = [number for curve in curves.values() for number in curve]
    high, low = max(numbers), min(0, *numbers)
    span, step = (high - low) or 1, _WIDTH / (len(times) - 1)

    def points(curve: Sequence[int]) -> str:
        return " ".join(
            f"{index * step:.1f},{(high - number) / span * _HEIGHT:.1f}" for index, number in enumerate(curve)
        )

    first, *others = map(points, curves.values())
    lines = [Markup('<polyline class="line other" points="{}"/>').format(one) for one in others]
    said = "; ".join(
        f"{label}: {curve[0]:,}, at most {max(curve):,}, at last {curve[-1]:,}"
        for label, curve in curves.items()
    )
    # Only the curves are stretched to the width of the page, not the words.
    return Markup(
        '<div class="chart" role="img" aria-label="{label}">'
        '<p class="y"><span>{high}</span><span>{low}</span></p>'
        '<svg viewBox="0 0 {w} {h}" preserveAspectRatio="none">'
        '<polygon class="area" points="0,{h} {first} {w},{h}"/>'
        '<polyline class="line" points="{first}"/>{lines}</svg>'
        '<p class="x"><span>{begin}</span><span>{end}</span></p>{legend}</div>'
    ).format(
        w=_WIDTH, h=_HEIGHT, first=first, lines=Markup("").join(lines), high=f"{high:,}", low=f"{low:,}",
        begin=times[0], end=times[-1], label=f"{name}, from {times[0]} to {times[-1]}: {said}",
        legend=_legend(list(curves)) if others else "",
    )  # fmt: skip


def _legend(labels: Sequence[str]) -> Markup:
    keys = (
        Markup('<span><i class="{}"></i>{}</span>').format("other" if index else "", label)
        for index, label in enumerate(labels)
    )
    return Markup('<p class="legend">{}</p>').format(Markup("").join(keys))
