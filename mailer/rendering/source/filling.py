"""The first stage of Jinja: fill in the values that are the same for every reader.

In the body, a value must stay a value: a date at the start of a line is not a list, and an asterisk in a
title is not emphasis. So each value passes through Markdown as a placeholder word, which is replaced
afterwards.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from html import escape
from typing import Any, Final
from urllib.parse import quote

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment
from markdown_it.common.normalize_url import normalizeLink
from markdown_it.token import Token
from markupsafe import Markup

from mailer.errors import SourceError
from mailer.rendering.source.issue import Issue
from mailer.rendering.source.prepass import UnclosedCommentError, prepare, unshield
from mailer.rendering.templating.filters import FILTERS, by_language
from mailer.rendering.templating.slots import LATE_NAMES, Slots

_TAGS: Final = frozenset({"if", "elif", "else", "endif", "for", "endfor"})
_WORD: Final = re.compile(r"xvalue([0-9]+)x")
_IN_ADDRESS: Final = re.compile(r"""(?i)\b(?:href|src)\s*=\s*(?:"[^"]*|'[^']*|[^\s"'>]*)\Z""")


class Values:
    """The values of one body, by the words that carry them through Markdown."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def word(self, value: object) -> str:
        """Return the word for a value."""
        self._texts.append(value if isinstance(value, _Encoded) else _text(value))
        return f"xvalue{len(self._texts) - 1}x"

    def put_back(self, tokens: Sequence[Token]) -> None:
        """Replace the words in `tokens` with their values, each escaped for its place."""
        if not self._texts:
            return
        for token in tokens:
            if "xvalue" in token.content:
                is_html = token.type.startswith("html_")
                token.content = _WORD.sub(self._in_html if is_html else self._as_text, token.content)
            token.info = _WORD.sub(self._as_text, token.info)
            for name, value in token.attrs.items():
                if isinstance(value, str) and "xvalue" in value:
                    is_address = name in ("href", "src")
                    token.attrs[name] = _WORD.sub(self._in_address if is_address else self._as_text, value)
            if token.children:
                self.put_back(token.children)

    def _as_text(self, found: re.Match[str]) -> str:
        return str(self._texts[int(found[1])])

    def _in_html(self, found: re.Match[str]) -> str:
        before = found.string[: found.start()]
        if address := _IN_ADDRESS.search(before):
            at_start = address[0][-1:] in ("=", '"', "'")
            return escape(self._encoded(found, at_start=at_start))
        return escape(self._as_text(found))

    def _in_address(self, found: re.Match[str]) -> str:
        return self._encoded(found, at_start=found.start() == 0)

    def _encoded(self, found: re.Match[str], *, at_start: bool) -> str:
        """Return a value as a part of an address, or as a whole address that is written as a value."""
        text = self._texts[int(found[1])]
        if isinstance(text, _Encoded):
            return text
        return str(normalizeLink(text)) if at_start else quote(text, safe="/")


class _Encoded(str):
    """The output of the `urlencode` filter, which goes into an address unchanged."""

    __slots__ = ()


def fill_body(issue: Issue, slots: Slots, values: Mapping[str, Any]) -> tuple[str, Values]:
    """Return the body as Markdown, with words for values and slots in it, and the values.

    Code is as the author wrote it, and HTML comments are gone. Raises `SourceError` with file and line.
    """
    kept = Values()
    try:
        source = prepare(issue.body)
    except UnclosedCommentError as error:
        place = f"{issue.path}:{issue.body_line + error.line}"
        raise SourceError(f"{place}: {error.message}", remedy=error.remedy) from error
    filled = _filled(issue, slots, source, {**values, _KEEPER: kept}, issue.body_line)
    return unshield(filled), kept


def fill_text(issue: Issue, slots: Slots, text: str, values: Mapping[str, Any], line: int) -> str:
    """Return a text of the front matter from line `line`, with words for slots in it."""
    return _filled(issue, slots, text, values, line)


_KEEPER: Final = "_values"


class _Missing(StrictUndefined):
    """An attribute that does not exist; its error names no Jinja internals."""

    @property
    def _undefined_message(self) -> str:
        name = str(self._undefined_name)
        known = [key for key in dir(self._undefined_obj) if not key.startswith("_")]
        near = get_close_matches(name, known, n=1)
        return f"there is no '.{name}' here" + (f"; did you mean '.{near[0]}'?" if near else "")


class _IssueEnvironment(SandboxedEnvironment):
    """Jinja for an issue, without multiplication, which could make a string grow without limit."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        raise SecurityError(f"'{operator}' is not available in an issue")


@cache
def _environment(language: str) -> _IssueEnvironment:
    environment = _IssueEnvironment(undefined=_Missing, keep_trailing_newline=True, finalize=_finalized)
    environment.globals.clear()
    filters = {**environment.filters, **by_language(language)}
    environment.filters = {name: filters[name] for name in FILTERS}
    environment.filters["urlencode"] = lambda value: _Encoded(quote(str(value), safe="/"))
    return environment


@pass_context
def _finalized(context: Context, value: Any) -> Any:
    """Return the output of `{{ … }}`: a word in the body, the value itself elsewhere."""
    if isinstance(value, _Missing):
        return value
    keeper = context.parent.get(_KEEPER)
    return keeper.word(value) if isinstance(keeper, Values) else _text(value)


def _text(value: object) -> str:
    # The `escape` filter returns markup, which is escaped again wherever it is used.
    return value.unescape() if isinstance(value, Markup) else str(value)


def _filled(issue: Issue, slots: Slots, text: str, values: Mapping[str, Any], first_line: int) -> str:
    if "{" not in text:
        return text
    environment = _environment(values["newsletter"].language)
    try:
        tree = environment.parse(slots.protect(environment, text, _TAGS))
        _check_names(tree, values)
        return environment.from_string(tree).render(values)
    except TemplateSyntaxError as error:
        problem, remedy = _explained(error.message or "")
        raise SourceError(
            f"{issue.path}:{first_line + error.lineno - 1}: {problem}", remedy=remedy
        ) from error
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        line = first_line + _template_line(error) - 1
        raise SourceError(f"{issue.path}:{line}: {error}", remedy="correct the expression") from error


_BRACES: Final = "to show braces as they are, write them as code or use {% raw %}…{% endraw %}"
_EXPLANATIONS: Final = (
    (r"Missing end of comment tag", r"'{#' begins a comment that never ends", f"end it with #}}; {_BRACES}"),
    (r"Missing end of raw directive", r"'{% raw %}' is never closed", "end it with {% endraw %}"),
    (
        r"No filter named '(\w+)'.*",
        r"No filter named '\1'",
        f"available filters: {', '.join(sorted(FILTERS))}",
    ),
    (
        r"unexpected end of template.*|expected token 'end of (?:print statement|statement block)'.*",
        r"an expression in braces is incomplete",
        f"close {{{{ with }}}} and {{% with %}}; {_BRACES}",
    ),
    (
        r"(?:unexpected|expected|Expected|tag name expected).*",
        r"the braces do not contain an expression (\g<0>)",
        _BRACES,
    ),
)


def _explained(message: str) -> tuple[str, str]:
    """Return Jinja's error in words that an author understands, and the remedy."""
    for pattern, problem, remedy in _EXPLANATIONS:
        if found := re.fullmatch(pattern, message, re.DOTALL):
            return found.expand(problem), remedy
    return message, _BRACES


def _template_line(error: BaseException) -> int:
    """Return the line of the template at which an error was raised, from 1."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<template>"
    ]
    return (lines[-1] if lines else None) or 1


def _check_names(tree: nodes.Template, values: Mapping[str, Any]) -> None:
    bound = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"} | {"loop"}
    for name in tree.find_all(nodes.Name):
        if name.name not in values and name.name not in bound:
            known = [*(known for known in values if known != _KEEPER), *LATE_NAMES]
            near = get_close_matches(name.name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known names: {', '.join(sorted(known))}"
            raise TemplateSyntaxError(f"unknown name '{name.name}'; {hint}", name.lineno)
