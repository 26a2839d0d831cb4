"""Check an issue before it is sent.

`lint` reads the issue, its edition and one composed message, and returns a `LintReport`. Nothing here
opens a socket or a database: what needs them (dead links, every subscriber's fields, SpamAssassin)
adds findings of the same kind from the room that may.
"""

from __future__ import annotations

from mailer.rendering.lint.findings import Finding, Level, LintReport
from mailer.rendering.lint.linting import lint
from mailer.rendering.lint.table import CHECKS, Check

__all__ = ["CHECKS", "Check", "Finding", "Level", "LintReport", "lint"]
