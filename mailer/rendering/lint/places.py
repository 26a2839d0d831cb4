"""Find the place in the source where the author wrote a part of the message."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from mailer.rendering.lint.findings import Finding, Level
from mailer.rendering.lint.table import CHECKS
from mailer.rendering.source import Issue

MAX_SNIPPET_CHARACTERS: Final = 160


class Places:
    """The source of one issue; each search for a fragment continues after its last occurrence."""

    def __init__(self, issue: Issue) -> None:
        self._issue = issue
        self._lines = issue.body.split("\n")
        self._used: dict[str, int] = {}

    def finding(
        self,
        check: str,
        message: str,
        *,
        at: str = "",
        key: str = "",
        level: Level | None = None,
        remedy: str = "",
    ) -> Finding:
        """Return a finding of `check`, placed where the author wrote `at`, or at front-matter `key`."""
        table = CHECKS[check]
        line, column, width = self._find(at) if at else (None, None, 0)
        if line is None and key:
            line = self._issue.line_of(key)
        snippet = at[:MAX_SNIPPET_CHARACTERS]
        if line is not None:
            in_body = line - self._issue.body_line
            snippet = self._lines[in_body] if in_body >= 0 else ""
        return Finding(
            check,
            level or table.level,
            message,
            remedy or table.remedy,
            str(self._issue.path),
            line,
            column,
            snippet,
            width,
        )

    def _find(self, fragment: str) -> tuple[int | None, int | None, int]:
        """Return line, column and width of the next place where the body has `fragment`."""
        body = self._issue.body
        for written in _spellings(fragment):
            start = body.find(written, self._used.get(written, 0))
            if start < 0:
                start = body.find(written)
            if start >= 0:
                self._used[written] = start + len(written)
                line = self._issue.body_line + body.count("\n", 0, start)
                column = start - body.rfind("\n", 0, start)
                return line, column, len(written.split("\n")[0])
        return None, None, 0


def _spellings(fragment: str) -> Iterator[str]:
    """Yield the spellings by which the author may have written a fragment of the HTML."""
    yield fragment
    yield unquote(fragment)
    yield quote(fragment, safe=":/?#[]@!$&'()*+,;=%")
    yield escape(fragment)
    try:
        host = urlsplit(fragment).hostname if "://" in fragment else None
        if host and "xn--" in host:
            yield unquote(fragment.replace(host, host.encode("ascii").decode("idna")))
    except (UnicodeError, ValueError):
        return
