"""Issues and messages to lint: good ones, to which each test does one bad thing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from email.message import EmailMessage
from pathlib import Path

from mailer.config import Brand, Newsletter
from mailer.rendering.build import build_edition
from mailer.rendering.edition import Edition, InlineImage
from mailer.rendering.lint import LintReport, lint
from mailer.rendering.message import Recipient
from mailer.rendering.source import Issue, parse_issue
from tests.rendering.message.test_composer import composer

PROJECT = Path(__file__).parents[3]
TODAY = date(2026, 11, 26)
PUBLIC_URL = "https://news.example.org"
NEWSLETTER = Newsletter(name="Letters", author_address="ana@example.org", postal_address="1 Example Street")
PROSE = "A bean wants almost nothing: a jar, some paper, a little water, and somebody who looks. " * 8
SOURCE = f"""\
---
title: A bean in a jar
preheader: Five questions about growing things
---

{PROSE}

Read more at [the society of gardeners](https://example.com/beans).
"""
HTML = f"""\
<!DOCTYPE html>
<html lang="en"><head><title>A bean</title><meta http-equiv="Content-Type" content="text/html; charset=UTF-8">
<meta name="viewport" content="width=device-width"><style>p {{ margin: 0 }}</style></head>
<body style="background-color:#ffffff"><!--[if mso]><table><tr><td><![endif]-->
<table role="presentation" style="table-layout:fixed;width:100%"><tr><td style="color:#222222;font-size:16px">
<h2>One</h2><p>{PROSE}</p>
<p><a href="https://example.com/beans">the society of gardeners</a></p>
<img src="cid:bean@images.invalid" alt="A bean" width="536" style="max-width:100%"><!-- more -->
<p><a href="https://news.example.org/u/T">Unsubscribe</a> <a href="https://news.example.org/archive/001">View</a></p>
<p>1 Example Street</p></td></tr></table><!--[if mso]></td></tr></table><![endif]--></body></html>
"""
TEXT = f"{PROSE}\n\nUnsubscribe: https://news.example.org/u/T\n1 Example Street\n"
HEADERS = {
    "Subject": "A bean in a jar",
    "List-Unsubscribe": "<https://news.example.org/u/T>",
    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    "DKIM-Signature": "v=1; a=rsa-sha256; h=from:list-unsubscribe:list-unsubscribe-post; b=AAAA",
}


def issue(source: str = SOURCE) -> Issue:
    """Return an issue as the author wrote it."""
    return parse_issue(source, Path("issues/001.md"))


def edition(source: str = SOURCE) -> Edition:
    """Return the edition of an issue, made with the project's own templates."""
    made = build_edition(
        issue(source), NEWSLETTER, Brand(), PROJECT / "email_templates", public_url=PUBLIC_URL
    )
    picture = InlineImage("bean@images.invalid", "image/png", b"")
    return replace(made, images=(*made.images, picture))


def linted(
    html: str = HTML,
    text: str = TEXT,
    *,
    source: str = SOURCE,
    newsletter: Newsletter = NEWSLETTER,
    leaving: bool = True,
    clients: tuple[str, ...] = (),
    of: Edition | None = None,
    **headers: str,
) -> LintReport:
    """Return the report on a message of these parts; a header set to nothing is left out."""
    message = EmailMessage()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    for name, value in {**HEADERS, **named}.items():
        if value or name == "Subject":
            message[name] = value
    message.set_content(text)
    message.add_alternative(html, subtype="html")
    return lint(
        issue(source),
        of or edition(source),
        message.as_bytes(),
        newsletter,
        public_url=PUBLIC_URL,
        leaving=leaving,
        clients=clients,
        today=TODAY,
    )


def reported(source: str, *, raw_html: bool = False) -> LintReport:
    """Return the report on an issue, which is rendered and composed as for sending."""
    made = build_edition(
        issue(source),
        NEWSLETTER,
        Brand(),
        PROJECT / "email_templates",
        public_url=PUBLIC_URL,
        raw_html=raw_html,
    )
    message = composer(made).compose(Recipient(1, "ana@example.com", "Ana"), datetime(2026, 1, 2, tzinfo=UTC))
    return lint(issue(source), made, message.content, NEWSLETTER, public_url=PUBLIC_URL, leaving=False)


def found(report: LintReport) -> dict[str, str]:
    """Return the ids of what was found, each with its level."""
    return {finding.check: finding.level.value for finding in report.findings}
