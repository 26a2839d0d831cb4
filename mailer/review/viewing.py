"""The contents of `mailer preview`: an issue as one reader receives it, and its lint report."""

from __future__ import annotations

import base64
import email
import email.policy
import re
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lxml import etree

from mailer.config import Settings
from mailer.delivery import editions
from mailer.rendering.edition import Edition
from mailer.rendering.html.body import published_at
from mailer.rendering.lint import LintReport
from mailer.rendering.recipient import Recipient
from mailer.rendering.source import parse_issue, read_issue
from mailer.review import linting

if TYPE_CHECKING:
    from mailer.review.linting import Measure

_NOTHING: Final = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="

# The frame keeps its origin, so that the page can measure its content; nothing in it can run.
SANDBOX: Final = "allow-same-origin allow-popups allow-popups-to-escape-sandbox"
"""The sandbox of a frame that shows an email."""

# Padding after a preheader, which keeps inboxes from showing the first words of the message.
_FILLER: Final = " \t\r\n\u00a0\u00ad\u034f\u200b\u200c\u200d\u2007\u2060\ufeff"


@dataclass(frozen=True, slots=True)
class Rendered:
    """An issue rendered for one reader: the message and its parts."""

    slug: str
    html: str
    """For a browser: attached images are inlined as data URLs."""
    source: str
    """The decoded HTML part, as sent."""
    text: str
    headers: tuple[tuple[str, str], ...]
    """Names and unfolded values, otherwise as sent."""
    message: bytes


@dataclass(frozen=True, slots=True)
class Preview:
    """An issue rendered for one reader."""

    edition: Edition
    reader: str
    """The reader's address."""
    sender: str
    subject: str
    preheader: str
    """The text that inboxes show after the subject; may be empty."""
    rendered: Rendered
    report: LintReport


def preview(
    settings: Settings,
    path: Path,
    reader: Recipient | None = None,
    measure: Measure | None = None,
    *,
    text: str | None = None,
) -> Preview:
    """Render an issue for a reader; by default, for one who has every field. Links lead nowhere.

    `measure` is a browser that also finds what is too wide. While the issue is being edited,
    `text` is used instead of its file. Raises `SourceError` for errors in the issue or its templates, and
    `RecipientError` if the reader lacks a field.
    """
    edition = editions.build(settings, path, text=text)
    message = linting.sample_message(settings, edition, reader)
    issue = read_issue(path) if text is None else parse_issue(text, path)
    report = linting.examine(settings, issue, edition, message)
    parts = rendered(edition, message, public_url=settings.web.public_url)
    if measure is not None:
        report = linting.with_browser(report, issue, parts.html, measure)
    header = email.message_from_bytes(message, policy=email.policy.default)
    return Preview(
        edition,
        reader=reader.email if reader else linting.READER.email,
        sender=str(header["From"]),
        subject=str(header["Subject"]),
        preheader=_preheader(parts.source),
        rendered=parts,
        report=report,
    )


def mail_policy(*, images: bool) -> str:
    """Return the Content-Security-Policy of an email: no scripts, no forms, and images only if asked for."""
    sources = "data: http: https:" if images else "'none'"
    return (
        f"sandbox {SANDBOX}; default-src 'none'; style-src 'unsafe-inline'; img-src {sources}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )


def rendered(edition: Edition, message: bytes, *, public_url: str) -> Rendered:
    """Parse a composed message. Its HTML makes no requests to our own server."""
    parsed = email.message_from_bytes(message, policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    source, base = _part(parsed, "html"), public_url.rstrip("/")
    html = source
    for image in edition.images:
        # In the message images are separate parts, which a browser would not find.
        data = f"data:{image.media_type};base64,{base64.b64encode(image.content).decode('ascii')}"
        html = html.replace(f"cid:{image.content_id}", data)
        html = html.replace(base + published_at(edition.slug, image), data)
    html = re.sub(re.escape(base) + r"/o/[\w.-]+\.gif", _NOTHING, html)
    plain = email.message_from_bytes(message, policy=email.policy.compat32)
    headers = tuple((name, re.sub(r"\r?\n[ \t]", " ", str(value))) for name, value in plain.items())
    return Rendered(edition.slug, html, source, _part(parsed, "plain"), headers, message)


def _preheader(html: str) -> str:
    root: etree._Element | None = etree.fromstring(html.encode(), etree.HTMLParser(encoding="utf-8"))
    for element in [] if root is None else root.iterfind("body/*"):
        if "display:none" in element.get("style", "").replace(" ", ""):
            return " ".join("".join(map(str, element.itertext())).strip(_FILLER).split())
    return ""


def _part(message: EmailMessage, kind: str) -> str:
    part = message.get_body(preferencelist=(kind,))
    assert isinstance(part, EmailMessage)
    content: str = part.get_content()
    return content
