"""The issue as it was written: front matter, Markdown, and the author's HTML."""

from __future__ import annotations

from mailer.rendering.source.issue import Issue, parse_issue, read_issue

__all__ = ["Issue", "parse_issue", "read_issue"]
