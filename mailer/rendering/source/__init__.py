"""The source of an issue: front matter, Markdown, and the author's HTML."""

from __future__ import annotations

from mailer.rendering.source.issue import Issue, parse_issue, read_issue

__all__ = ["Issue", "parse_issue", "read_issue"]
