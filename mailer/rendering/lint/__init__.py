"""Check an issue before it is sent.

`lint` reads the issue, its edition and one composed message, and returns a `LintReport`. Nothing here
uses the network or the database: the checks that do (dead links, every subscriber's fields,
SpamAssassin) are in `mailer.review` and add findings of the same kind.
"""

from __future__ import annotations

from mailer.rendering.lint.findings import Finding, Level, LintReport
from mailer.rendering.lint.linting import lint
from mailer.rendering.lint.table import CHECKS, Check

__all__ = ["CHECKS", "Check", "Finding", "Level", "LintReport", "lint"]
