"""Check the frame of the document: required elements, and leftovers of earlier steps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from lxml import etree

from mailer.rendering.lint.findings import Finding, Level
from mailer.rendering.lint.mail import Mail

CLIPPED_BYTES: Final = 102_000
"""Gmail shows this much HTML and hides the rest behind a link."""
LARGE_BYTES: Final = 80_000
LONGEST_VALUE_BYTES: Final = 64
"""The assumed maximum length of a subscriber's field, for the size of the largest message."""
_TEMPLATE: Final = re.compile(
    r"xslot[0-9a-f]{12}[etu]|\{\{.*?\}\}|\{%.*?%\}|\{\{|\{%|\*?\|[A-Z][A-Z_:0-9]+\|\*?"
)
# A quote that became \" ends the attribute, and leaves its backslash in it.
_RESIDUE: Final = re.compile(r"\\u\{[0-9a-f]+\}?|\\\"|\\\Z")
_EXPRESSION: Final = re.compile(r"\{\{\s*(\(?)\s*(?:subscriber|[a-z]+)\b[^}]*\}\}")
_URL: Final = re.compile(r"\{\{\s*urls\.(\w+)\s*\}\}")
_TAG: Final = re.compile(r"\{%.*?%\}")


def unresolved_template(mail: Mail) -> Iterator[Finding]:
    """Find template syntax, ours or another service's, in the visible text."""
    subject = str(mail.headers["Subject"] or "")
    if found := _TEMPLATE.search(subject):
        yield mail.finding("unresolved-template", f"the subject reads '{found[0]}'", key="subject")
    seen: set[str] = set()
    attributes = (element.get(name) for element in mail.elements for name in ("href", "src", "alt", "title"))
    for text in (*mail.prose_texts, *(value for value in attributes if value)):
        for found in _TEMPLATE.finditer(text):
            if found[0] not in seen:
                seen.add(found[0])
                yield mail.finding("unresolved-template", f"readers see '{found[0]}'", at=found[0])


def escape_residue(mail: Mail) -> Iterator[Finding]:
    """Find escapes that the MJML converter left in attributes."""
    for element in mail.elements:
        for raw_name, raw_value in element.attrib.items():
            name, value = str(raw_name), str(raw_value)
            if '"' in name or "\\" in name or _RESIDUE.search(value):
                yield mail.finding("escape-residue", f"<{element.tag}> has {name}={value[:80]!r}")
                break
    for text in mail.prose_texts:
        if found := re.search(r"\\u\{[0-9a-f]+\}", text):
            yield mail.finding("escape-residue", f"readers see '{found[0]}'", at=found[0])


def leftover_mjml(mail: Mail) -> Iterator[Finding]:
    """Find elements that only MJML knows."""
    for tag in sorted({str(e.tag) for e in mail.elements if re.match(r"mjml$|mj-", str(e.tag))}):
        yield mail.finding("leftover-mjml", f"<{tag}> is in the HTML", at=f"<{tag}")


def doctype(mail: Mail) -> Iterator[Finding]:
    """Find a document that browsers would show in quirks mode."""
    if not re.match(r"\s*<!doctype html", mail.html, re.IGNORECASE):
        yield mail.finding("doctype", "the HTML does not begin with <!DOCTYPE html>")


def charset(mail: Mail) -> Iterator[Finding]:
    """Find a document whose characters webmail could misread."""
    for element in mail.elements:
        if element.tag == "meta" and (
            element.get("charset", "").lower() == "utf-8"
            or "charset=utf-8" in element.get("content", "").lower().replace(" ", "")
        ):
            return
    yield mail.finding("charset", "there is no <meta charset> of UTF-8")


def mso_comments(mail: Mail) -> Iterator[Finding]:
    """Find conditional comments that open or close without their other half."""
    open_comments = 0
    for found in re.finditer(r"<!--\[if\b|<!\[if\b|<!\[endif\]", mail.html):
        open_comments += -1 if found[0] == "<![endif]" else 1
        if open_comments not in (0, 1):
            break
    if open_comments:
        what = "closes nothing" if open_comments < 0 else "is not closed"
        yield mail.finding("mso-comments", f"a conditional comment {what}")


def largest_html_bytes(mail: Mail) -> int:
    """Return the size of the HTML with every branch taken and every field at its assumed maximum."""
    # `urls.view` may be the archive's address or a token link; the longest own link bounds both.
    longest = max((len(link.href) for link in mail.links if link.own), default=len(mail.public_url) + 40)
    html = _URL.sub("x" * longest, mail.edition.html)
    html = _TAG.sub("", html)
    html = re.sub(r"\{\{ '\{' \}\}", "{", html)
    html = _EXPRESSION.sub("x" * LONGEST_VALUE_BYTES, html)
    return len(html.encode())


def html_size(mail: Mail) -> Iterator[Finding]:
    """Find messages that Gmail clips, or almost clips."""
    largest = max(largest_html_bytes(mail), len(mail.html.encode()))
    if largest > CLIPPED_BYTES:
        yield mail.finding(
            "html-size", f"the HTML has up to {largest:,} bytes; Gmail clips it after {CLIPPED_BYTES:,}"
        )
    elif largest > LARGE_BYTES:
        yield mail.finding(
            "html-size",
            f"the HTML has up to {largest:,} bytes; at {CLIPPED_BYTES:,} Gmail clips it",
            level=Level.WARNING,
        )


def html_lang(mail: Mail) -> Iterator[Finding]:
    """Find a document that screen readers would read in the wrong voice."""
    if mail.root.get("lang", "").strip().lower() in ("", "und"):
        yield mail.finding("html-lang", "<html> has no lang")


def viewport(mail: Mail) -> Iterator[Finding]:
    """Find a document that phones would lay out for a large screen."""
    if not any(e.tag == "meta" and e.get("name", "").lower() == "viewport" for e in mail.elements):
        yield mail.finding("viewport", "there is no <meta name=viewport>")


def html_title(mail: Mail) -> Iterator[Finding]:
    """Find a document without a title."""
    titles = [element for element in mail.elements if element.tag == "title"]
    if not any("".join(map(str, title.itertext())).strip() for title in titles):
        yield mail.finding("html-title", "<title> is missing or empty")


def is_inside(element: etree._Element, tag: str) -> bool:
    """Whether `element` is inside an element of this tag."""
    return next(element.iterancestors(tag), None) is not None


RULES: Final = (
    unresolved_template, escape_residue, leftover_mjml, doctype, charset, mso_comments, html_size,
    html_lang, viewport, html_title,
)  # fmt: skip
