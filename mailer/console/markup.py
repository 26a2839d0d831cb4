"""Pieces of HTML. Everything that is not `Markup` already is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import quote

from markupsafe import Markup, escape
from nicegui import ui

Cell = str | Markup
_COLUMNS: Final = {"#": "num", "@": "short"}
_WIDTH: Final = 560
_HEIGHT: Final = 140
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
    return Markup('<a class="person" href="/subscribers/{}">{}</a>').format(subscriber_id, text)


def issue_path(slug: str) -> str:
    """Return the path of an issue's page."""
    return f"/issues/{quote(slug, safe='')}"


def when(at: datetime | None) -> str:
    """Return an instant in the machine's time zone."""
    return f"{at.astimezone():%Y-%m-%d %H:%M}" if at else "–"


def table(heads: Sequence[str], rows: Iterable[Sequence[Cell]], *, wide: Sequence[int] = ()) -> Markup:
    """Return a table. A heading that begins with `#` has numbers below it, and one with `@` short values.

    Short values, such as times, stay on one line where there is room. The columns whose indexes are in `wide`
    are left out on a phone.
    """

    def css(index: int) -> str:
        words = [_COLUMNS[heads[index][0]]] if heads[index][:1] in _COLUMNS else []
        words += ["wide"] * (index in wide)
        return f' class="{" ".join(words)}"' if words else ""

    head = Markup("").join(
        Markup("<th{} scope=col>{}</th>").format(Markup(css(i)), name.lstrip("#@"))  # noqa: S704 - ours
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
        '<div class="scroll" tabindex="0"><table class="t">'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(head, body)


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


def diff(lines: Iterable[str]) -> Markup:
    """Return the lines of a unified diff in colour."""

    def coloured(line: str) -> Markup:
        kind = {"+": "add", "-": "del"}.get(line[:1], "")
        return Markup('<span class="{}">{}</span>').format(kind, line) if kind else escape(line)

    return Markup('<pre class="diff" tabindex="0">{}</pre>').format(Markup("\n").join(map(coloured, lines)))


def chart(name: str, points: Sequence[tuple[str, int]]) -> Markup:
    """Return a line over time as SVG, with the numbers as a table for those who cannot see it."""
    if len(points) < 2:
        return Markup('<p class="empty">Not enough data for a chart yet.</p>')
    high, low = max(number for _, number in points), min(0, *(number for _, number in points))
    span = (high - low) or 1
    step = (_WIDTH - 60) / (len(points) - 1)
    places = [
        (50 + index * step, 12 + (high - number) / span * (_HEIGHT - 40))
        for index, (_, number) in enumerate(points)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    base = _HEIGHT - 28
    return Markup(
        '<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{label}">'
        '<line class="axis" x1="50" x2="{w}" y1="{base}" y2="{base}"/>'
        '<polygon class="area" points="50,{base} {path} {last:.1f},{base}"/>'
        '<polyline class="line" points="{path}"/>'
        '<text x="44" y="17" text-anchor="end">{high}</text>'
        '<text x="44" y="{base}" text-anchor="end">{low}</text>'
        '<text x="50" y="{below}">{first}</text>'
        '<text x="{edge}" y="{below}" text-anchor="end">{end}</text></svg>'
    ).format(
        w=_WIDTH, h=_HEIGHT, base=base, below=_HEIGHT - 8, edge=_WIDTH - 4, path=path, last=places[-1][0],
        high=f"{high:,}", low=f"{low:,}", first=points[0][0], end=points[-1][0],
        label=f"{name}, from {points[0][1]:,} on {points[0][0]} to {points[-1][1]:,} on {points[-1][0]}",
    )  # fmt: skip
