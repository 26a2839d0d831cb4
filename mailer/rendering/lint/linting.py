"""Run all checks, and apply the waivers of the issue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Final

from mailer.config import Newsletter
from mailer.rendering.edition import Edition
from mailer.rendering.lint import (
    compliance,
    document,
    envelope,
    images,
    layout,
    links,
    residue,
    style,
    written,
)
from mailer.rendering.lint.findings import Finding, LintReport
from mailer.rendering.lint.mail import Mail
from mailer.rendering.lint.table import CHECKS
from mailer.rendering.source import Issue

# The hundredth finding of a check says no more than the first.
MAX_FINDINGS_OF_A_CHECK: Final = 20
_RULES: Final[tuple[Callable[[Mail], Iterator[Finding]], ...]] = (
    *document.RULES,
    *residue.RULES,
    *written.RULES,
    *links.RULES,
    *compliance.RULES,
    *images.RULES,
    *style.RULES,
    *layout.RULES,
    *envelope.RULES,
)


def lint(
    issue: Issue,
    edition: Edition,
    message: bytes,
    newsletter: Newsletter,
    *,
    public_url: str,
    leaving: bool,
    clients: Sequence[str] = (),
    today: date | None = None,
) -> LintReport:
    """Return the findings for `issue` that need neither network nor database.

    `message` is the edition composed for one reader, who should have a value for every field.
    `leaving` says whether messages leave this machine; otherwise some errors count as warnings.
    `clients` are the email clients to check for, each with its platform (`gmail/ios`); by default, the main
    ones. `today` is what the issue's date is compared with.
    """
    mail = Mail(
        issue,
        edition,
        message,
        newsletter,
        public_url=public_url,
        leaving=leaving,
        clients=clients,
        today=today,
    )
    found: list[Finding] = []
    for rule in _RULES:
        found += list(rule(mail))
    counts: dict[str, int] = {}
    kept = []
    for finding in found:
        counts[finding.check] = counts.get(finding.check, 0) + 1
        if counts[finding.check] <= MAX_FINDINGS_OF_A_CHECK or finding.check == "client-support":
            kept.append(finding)
    report = LintReport(
        slug=issue.slug,
        findings=(),
        ignored=(),
        words=edition.words,
        reading_time=edition.reading_time,
        html_bytes=len(mail.html.encode()),
        text_bytes=len(mail.text.encode()),
        message_bytes=len(message),
        addresses=mail.addresses,
    )
    return report.with_findings(kept, waived(issue)).with_findings(_broken_waivers(mail), {})


def waived(issue: Issue) -> dict[str, str]:
    """Return the checks that the author waives with a reason, and the reasons."""
    return {check: reason for check, reason in issue.lint_ignores if check in CHECKS and reason.strip()}


def _broken_waivers(mail: Mail) -> Iterator[Finding]:
    from difflib import get_close_matches

    for check, reason in mail.issue.lint_ignores:
        if check not in CHECKS:
            near = get_close_matches(check, CHECKS, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            yield mail.finding("lint-ignore", f"there is no check '{check}'{hint}", key="lint")
        elif not reason.strip():
            yield mail.finding(
                "lint-ignore", f"'{check}' is waived without a reason, so it is not waived", key="lint"
            )
