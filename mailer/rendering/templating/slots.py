"""Two-stage Jinja rendering: issue values are filled in first, per-subscriber values later.

A construct that names `subscriber` or `urls` becomes a slot: an inert word that passes through Markdown, MJML
and the inliner unchanged. Afterwards the construct is put back. The word is a hash of the
construct, so the same source gives the same words in any process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

from jinja2 import Environment, TemplateSyntaxError, nodes
from msgspec import Struct, field

from mailer.errors import SourceError
from mailer.rendering.templating.sandbox import check_construct

LATE_NAMES: Final = frozenset({"subscriber", "urls"})
URL_NAMES: Final = ("unsubscribe", "preferences", "view", "click", "open", "confirm")
# The last letter says how the slot is put back: e(xpression), t(ag), u(rl-encoded expression).
SLOT: Final = re.compile(r"xslot[0-9a-f]{12}[etu]")
TAG: Final = re.compile(r"xslot[0-9a-f]{12}t")
TAG_LINE: Final = re.compile(r"(?:xslot[0-9a-f]{12}t[ \t]*)+")
_TAG_COMMENT: Final = re.compile(r"<!--(xslot[0-9a-f]{12}t)-->")
_OPENING: Final = {"if": "endif", "for": "endfor"}

Piece = tuple[int, str, str]


class Slots(Struct):
    """The per-subscriber constructs, by the stems of their words."""

    late: dict[str, str] = field(default_factory=dict)

    def add(self, construct: str, kind: str = "e") -> str:
        """Return the word for a construct, and remember the construct."""
        stem = "xslot" + blake2b(construct.encode(), digest_size=6).hexdigest()
        self.late[stem] = construct
        return stem + kind

    def protect(self, environment: Environment, source: str, tags: frozenset[str] | None = None) -> str:
        """Return `source` with each per-subscriber construct replaced with its word; line numbers are kept.

        `tags` are the block tags that `source` may use (None: all of Jinja's). Raises
        `TemplateSyntaxError` with the line of a construct that is broken, unknown, or mixes both stages.
        """
        if "{" not in source or (tags is None and not _may_be_late(source, LATE_NAMES)):
            return source
        out: list[str] = []
        open_tags: list[_OpenTag] = []
        for pieces in _constructs(environment, source):
            line, kind, _ = pieces[0]
            text = "".join(value for _, _, value in pieces)
            late_names = LATE_NAMES.union(*(tag.names for tag in open_tags))
            if kind == "variable_begin":
                late = _is_late(environment, text, late_names, line)
                out.append(self.add(_lenient_default(pieces)) if late else text)
            elif kind == "block_begin":
                late = _tag(environment, pieces, text, tags, open_tags, late_names)
                out.append(self.add(_lenient_default(pieces), "t") if late else text)
            else:
                out.append(text)
        if open_tags:
            raise TemplateSyntaxError(
                f"'{{% {open_tags[-1].name} %}}' is never closed; "
                f"write {{% {_OPENING[open_tags[-1].name]} %}} where it ends",
                open_tags[-1].line,
            )
        return "".join(out)

    def restore(self, text: str) -> str:
        """Return `text` as a Jinja template: words become constructs, and other braces are escaped."""
        text = _TAG_COMMENT.sub(r"\1", text)
        out: list[str] = []
        at = 0
        for found in SLOT.finditer(text):
            construct = self.late.get(found[0][:-1])
            if construct is None:
                continue
            out.append(_literal(text[at : found.start()]))
            if found[0][-1] == "u" and construct.startswith("{{"):
                construct = f"{{{{ ({construct[2:-2].strip()}) | string | urlencode }}}}"
            out.append(construct)
            at = found.end()
        out.append(_literal(text[at:]))
        return "".join(out)

    def in_address(self, href: str, place: str) -> str:
        """Return `href` with each slot encoded for its place in the address.

        Raises `SourceError` at `place` if the address begins with anything but one of the reader's own links.
        """
        for word in reversed(list(SLOT.finditer(href))):
            if (self.is_url(word[0]) and word.start() == 0) or not word[0].endswith("e"):
                continue
            if word.start() == 0:
                raise SourceError(
                    f"{place}: a link cannot begin with a value that differs per subscriber",
                    remedy="begin it with https:// and your own address",
                )
            href = href[: word.end() - 1] + "u" + href[word.end() :]
        return href

    def is_url(self, word: str) -> bool:
        """Whether `word` is the slot of one of the reader's own links, which need no encoding."""
        return bool(re.fullmatch(r"\{\{\s*urls\.\w+\s*\}\}", self.late.get(word[:-1], "")))

    def step(self, word: str) -> int:
        """Return 1 if `word` is the slot of a tag that opens a block, -1 if it closes one, else 0."""
        tag = re.match(r"\{%[-+]?\s*(end)?(\w+)", self.late.get(word[:-1], ""))
        if tag is None:
            return 0
        return -1 if tag[1] else int(tag[2] in _OPENING)


class _OpenTag(Struct, frozen=True):
    """A block tag that is not closed yet."""

    name: str
    late: bool
    names: frozenset[str]
    """The variables that a loop binds."""
    line: int


def _literal(text: str) -> str:
    return re.sub(r"\{(?=[{%#]|\Z)", "{{ '{' }}", text)


def _constructs(environment: Environment, source: str) -> Iterator[list[Piece]]:
    """Yield the lexer's pieces grouped into constructs and stretches of plain text."""
    run: list[Piece] = []
    ends = {"variable_begin": "variable_end", "block_begin": "block_end", "raw_begin": "raw_end"}
    until = ""
    for line, kind, value in environment.lex(source):
        run.append((line, kind, value))
        if not until:
            until = ends.get(kind, "")
        if not until or kind == until:
            yield run
            run, until = [], ""
    if run:
        yield run


def _may_be_late(text: str, late_names: frozenset[str]) -> bool:
    """Whether `text` contains a late name at all; only parsing, which is slow, can tell for sure."""
    return any(name in text for name in late_names)


def _is_late(environment: Environment, text: str, late_names: frozenset[str], line: int) -> bool:
    if not _may_be_late(text, late_names):
        return False
    try:
        tree = environment.parse(text)
    except TemplateSyntaxError as error:
        raise TemplateSyntaxError(error.message or "broken expression", line) from error
    found = list(tree.find_all(nodes.Name))
    names = {name.name for name in found} - {name.name for name in found if name.ctx == "store"}
    late = names & late_names
    if not late:
        return False
    if early := names - late_names:
        raise TemplateSyntaxError(
            f"'{min(late)}' differs per subscriber and '{min(early)}' does not: "
            "one expression cannot use both",
            line,
        )
    (loop_variable,) = late_names - LATE_NAMES - {"loop"} or {None}
    try:
        check_construct(tree, URL_NAMES, loop_variable)
    except TemplateSyntaxError as error:
        raise TemplateSyntaxError(error.message or "broken expression", line + error.lineno - 1) from error
    return True


def _tag(
    environment: Environment,
    pieces: list[Piece],
    text: str,
    tags: frozenset[str] | None,
    open_tags: list[_OpenTag],
    late_names: frozenset[str],
) -> bool:
    """Whether this block tag is per subscriber; updates `open_tags`."""
    line = pieces[0][0]
    tag = next((value for _, kind, value in pieces if kind == "name"), "")
    if tags is not None and tag not in tags:
        raise TemplateSyntaxError(
            f"'{tag}' cannot be used here; available tags: {', '.join(sorted(tags))}", line
        )
    if tag in ("endif", "endfor"):
        return _closed(tag, open_tags, line).late
    if tag in ("else", "elif"):
        if not open_tags:
            raise TemplateSyntaxError(f"'{tag}' is outside of any {{% if %}}", line)
        late = open_tags[-1].late
        if tag == "elif":
            _check_elif(environment, text, late, late_names, line)
        return late
    if tag in _OPENING:
        late = _is_late(environment, text + "{% " + _OPENING[tag] + " %}", late_names, line)
        bound = _loop_variables(pieces) if late and tag == "for" else frozenset[str]()
        open_tags.append(_OpenTag(tag, late, bound, line))
        return late
    if any(kind == "name" and value in late_names for _, kind, value in pieces):
        raise TemplateSyntaxError(f"'{tag}' cannot use values that differ per subscriber", line)
    return False


def _closed(tag: str, open_tags: list[_OpenTag], line: int) -> _OpenTag:
    """Take the block that `tag` closes from `open_tags`."""
    if not open_tags or _OPENING[open_tags[-1].name] != tag:
        raise TemplateSyntaxError(f"'{tag}' closes nothing", line)
    return open_tags.pop()


def _check_elif(
    environment: Environment, text: str, late: bool, late_names: frozenset[str], line: int
) -> None:
    """Raise `TemplateSyntaxError` unless an `elif` is per subscriber exactly if its `if` is."""
    whole = re.sub(r"elif", "if", text, count=1) + "{% endif %}"
    if _is_late(environment, whole, late_names, line) != late:
        raise TemplateSyntaxError("'if' and its 'elif' must both be about the subscriber, or neither", line)


def _loop_variables(pieces: list[Piece]) -> frozenset[str]:
    """Return the names that a `for` tag binds."""
    names = [value for _, kind, value in pieces if kind == "name"]
    return frozenset({"loop", *names[1 : names.index("in")]}) if "in" in names else frozenset()


def _lenient_default(pieces: list[Piece]) -> str:
    """Return the construct's source with `default(x)` replaced by `default(x, true)`.

    Subscribers without a name have an empty one, and `default("friend")` is meant for them too.
    """
    out: list[str] = []
    calls: list[bool] = []
    significant: list[str] = []
    for _, kind, value in pieces:
        if kind in ("variable_begin", "block_begin"):
            value = value[:2]
        elif kind in ("variable_end", "block_end"):
            value = value.strip()[-2:]
        elif value == "(":
            is_default = significant[-2:] in (["|", "default"], ["|", "d"])
            calls.append(is_default)
        elif value == ")" and calls and calls.pop() and significant[-1] != "(":
            value = ", true)" if not _has_second(significant) else ")"
        if kind != "whitespace":
            significant.append(value)
        out.append(" " if kind == "whitespace" else value)
    return "".join(out)


def _has_second(significant: list[str]) -> bool:
    """Whether the call that is about to close already has a second argument."""
    depth = 0
    for value in reversed(significant):
        if value in (")", "]", "}"):
            depth += 1
        elif value in ("(", "[", "{"):
            if depth == 0:
                return False
            depth -= 1
        elif value == "," and depth == 0:
            return True
    return False
