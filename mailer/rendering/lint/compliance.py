"""Check the requirements of the law and of mailbox providers for bulk email."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mailer.rendering.lint.findings import Finding, Level
from mailer.rendering.lint.mail import Mail

_LIST_HEADERS: Final = ("List-Unsubscribe", "List-Unsubscribe-Post")


def unsubscribe_link(mail: Mail) -> Iterator[Finding]:
    """Find parts without an unsubscribe link."""
    url = f"{mail.public_url}/u/"
    if not any(link.href.startswith(url) for link in mail.links):
        yield mail.finding("unsubscribe-link", "the HTML has no unsubscribe link")
    if url not in mail.text:
        yield mail.finding("unsubscribe-link", "the text part has no unsubscribe link")


def postal_address(mail: Mail) -> Iterator[Finding]:
    """Find messages without the postal address of the sender (CAN-SPAM)."""
    address = " ".join(mail.newsletter.postal_address.split())
    level = Level.ERROR if mail.leaving else Level.WARNING
    if not address:
        yield mail.finding("postal-address", "config.toml has no postal address", level=level)
        return
    for part, text in (("HTML", mail.shown_text), ("text part", " ".join(mail.text.split()))):
        if address not in text:
            yield mail.finding("postal-address", f"the {part} does not show the postal address", level=level)


def one_click_header(mail: Mail) -> Iterator[Finding]:
    """Find headers that do not allow one-click unsubscribing (RFC 8058)."""
    unsubscribe = str(mail.headers["List-Unsubscribe"] or "")
    post = str(mail.headers["List-Unsubscribe-Post"] or "").strip()
    if post != "List-Unsubscribe=One-Click":
        yield mail.finding("one-click-header", "List-Unsubscribe-Post is missing")
    urls = re.findall(r"(?i)<\s*(https?:[^>]*)>", unsubscribe)
    if not urls:
        yield mail.finding("one-click-header", "List-Unsubscribe has no web address")
    elif mail.leaving and not any(url.lower().startswith("https:") for url in urls):
        yield mail.finding("one-click-header", f"List-Unsubscribe is not https: {urls[0][:80]}")


def view_online(mail: Mail) -> Iterator[Finding]:
    """Find messages without a link to the web version."""
    if not any(link.href.startswith(f"{mail.public_url}/archive/") for link in mail.links):
        yield mail.finding("view-online", "there is no link to the web version")


def unsigned_headers(mail: Mail) -> Iterator[Finding]:
    """Find signatures that do not cover the unsubscribe headers, and unsigned messages."""
    signatures = mail.headers.get_all("DKIM-Signature", [])
    if not signatures:
        if mail.leaving:
            # The relay may sign the message.
            yield mail.finding(
                "unsigned-headers", "messages leave without a DKIM signature of yours", level=Level.WARNING
            )
        return
    for signature in signatures:
        signed = re.search(r"(?:^|;)\s*h\s*=\s*([^;]+)", str(signature))
        names = {name.strip().lower() for name in signed[1].split(":")} if signed else set()
        if all(name.lower() in names for name in _LIST_HEADERS):
            return
    yield mail.finding("unsigned-headers", "no DKIM signature covers List-Unsubscribe and its -Post")


RULES: Final = (unsubscribe_link, postal_address, one_click_header, view_online, unsigned_headers)
