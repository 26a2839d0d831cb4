"""Block tags on lines of their own: conditions around the rows of a table or the items of a list.

A line such as `{% if subscriber.tags %}` would end a table or list, and the rows after it would be plain
text. This rearranges the tokens so that the tag is between two rows or two items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markdown_it.token import Token

from mailer.errors import SourceError
from mailer.rendering.templating.slots import TAG, TAG_LINE

Step = Callable[[str], int]
"""Returns 1 for the word of a tag that opens a condition or loop, -1 for one that closes it, else 0."""


class CrossingError(SourceError):
    """A condition begins in a table and ends outside; `line` counts from 0."""

    def __init__(self, line: int) -> None:
        super().__init__(
            "a condition begins inside a table and ends outside, or the other way round",
            remedy="put {% if %} and {% endif %} both around the whole table or both between its rows",
        )
        self.line = line


def settle_conditions(tokens: list[Token], step: Step) -> list[Token]:
    """Return `tokens` with the tags inside tables and lists between rows and items.

    Raises `CrossingError` for a condition that would cut a table in two.
    """
    if not any("xslot" in token.content and TAG.search(token.content) for token in tokens):
        return tokens
    return _lists_joined(_rows_settled(tokens, step), step)


def _rows_settled(tokens: list[Token], step: Step) -> list[Token]:
    out: list[Token] = []
    at = 0
    while at < len(tokens):
        if tokens[at].type != "table_open":
            out.append(tokens[at])
            at += 1
            continue
        end = _closing(tokens, at)
        out += _table(tokens[at : end + 1], step)
        at = end + 1
    return out


def _table(tokens: list[Token], step: Step) -> list[Token]:
    """Return a table with its tag-only rows turned into tags; those after the last row follow the table."""
    out: list[Token] = []
    last_row = at = 0
    while at < len(tokens):
        if tokens[at].type == "tr_open" and (tag := _tag_row(tokens, at)):
            out.append(tag)
            at = _closing(tokens, at) + 1
            continue
        out.append(tokens[at])
        at += 1
        if tokens[at - 1].type == "tr_close":
            last_row = len(out)
    depth = 0
    for token in out[:last_row]:
        depth += _total(token, step)
        if depth < 0:
            raise CrossingError(token.map[0] if token.map else 0)
    # Directly below the last row: tags that close what was opened between the rows belong to the table.
    inside, after = out[:last_row], []
    for token in out[last_row:]:
        if token.type == "slot_line":
            if depth > 0:
                depth += _total(token, step)
                inside.append(token)
            else:
                after.append(token)
        else:
            inside.append(token)
    if depth:
        raise CrossingError(tokens[0].map[0] if tokens[0].map else 0)
    for token in after:
        token.level = tokens[0].level
    return _without_empty_body(inside) + after


def _without_empty_body(tokens: list[Token]) -> list[Token]:
    opened = next((i for i, token in enumerate(tokens) if token.type == "tbody_open"), None)
    if opened is not None and tokens[opened + 1].type == "tbody_close":
        return tokens[:opened] + tokens[opened + 2 :]
    return tokens


def _tag_row(tokens: Sequence[Token], at: int) -> Token | None:
    """Return the tag that makes up a row, or None for a row of cells."""
    row = tokens[at : _closing(tokens, at)]
    written = [token.content.strip() for token in row if token.type == "inline" and token.content.strip()]
    if len(written) != 1 or not TAG_LINE.fullmatch(written[0]):
        return None
    return Token("slot_line", "", 0, content=written[0], map=tokens[at].map, level=tokens[at].level)


def _lists_joined(tokens: list[Token], step: Step) -> list[Token]:
    """Return `tokens` with lists that are separated only by tags joined into one."""
    out: list[Token] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token.type not in ("bullet_list_open", "ordered_list_open"):
            out.append(token)
            at += 1
            continue
        spans, end = _joinable(tokens, at, step)
        inside: list[Token] = []
        for first, last in spans:
            inside += tokens[first + 1 : last]
            following = next((span[0] for span in spans if span[0] > last), None)
            between = tokens[last + 1 : following] if following else tokens[last + 1 : end]
            inside += between
        out += [token, *_lists_joined(inside, step), tokens[spans[-1][1]]]
        at = end
    return out


def _joinable(tokens: Sequence[Token], at: int, step: Step) -> tuple[list[tuple[int, int]], int]:
    """Return where the lists to join begin and end, and where to continue after them."""
    spans = [(at, _closing(tokens, at))]
    best, end = 1, spans[0][1] + 1
    depth, here = 0, end
    while here < len(tokens):
        token = tokens[here]
        if token.type == "slot_line":
            depth += _total(token, step)
            here += 1
            if depth < 0:
                break
            if depth == 0 and len(spans) > 1:
                best, end = len(spans), here
        elif token.type == tokens[at].type and token.markup == tokens[at].markup:
            spans.append((here, _closing(tokens, here)))
            here = spans[-1][1] + 1
            if depth == 0:
                best, end = len(spans), here
        else:
            break
    return spans[:best], end


def _total(token: Token, step: Step) -> int:
    """Return how many more conditions are open after the tags of a line."""
    return sum(step(tag) for tag in TAG.findall(token.content)) if token.type == "slot_line" else 0


def _closing(tokens: Sequence[Token], at: int) -> int:
    """Return the index of the token that closes the one at `at`."""
    depth = 0
    for index in range(at, len(tokens)):
        depth += tokens[index].nesting
        if depth == 0:
            return index
    raise AssertionError("Markdown's tokens are balanced")
