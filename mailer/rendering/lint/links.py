"""Check the destinations of links, and their texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from mailer.rendering.lint.findings import Finding
from mailer.rendering.lint.mail import Link, Mail

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

MAX_URL_CHARACTERS: Final = 2_000
# Hosts that only redirect.
SHORTENERS: Final = frozenset(
    [
        "bit.ly",
        "bitly.com",
        "buff.ly",
        "cutt.ly",
        "goo.gl",
        "is.gd",
        "lnkd.in",
        "ow.ly",
        "rb.gy",
        "rebrand.ly",
        "s.id",
        "shorturl.at",
        "t.co",
        "t.ly",
        "tiny.cc",
        "tinyurl.com",
        "trib.al",
        "v.gd",
        "wp.me",
    ]
)
VAGUE: Final = frozenset(
    [
        "here",
        "click",
        "click here",
        "click this",
        "this",
        "this link",
        "link",
        "more",
        "read more",
        "learn more",
        "read on",
        "see more",
        "go",
        "tap here",
        "hier",
        "hier klicken",
        "mehr",
        "weiterlesen",
        "ici",
        "cliquez ici",
        "lire la suite",
        "aquí",
        "haz clic aquí",
        "aici",
        "click aici",
        "citește mai mult",
    ]
)
# A text that is an address from its first to its last character.
_ADDRESS: Final = re.compile(
    r"(https?://|www\.)?((?:[\w-]+\.)+(?:[^\W\d_]{2,}|xn--[a-z0-9-]+))((?::\d+)?(?:[/?#]\S*)?)", re.IGNORECASE
)
# File extensions that are also top-level domains: README.md is rarely a site in Moldova.
_FILES: Final = frozenset(["cc", "java", "md", "ml", "mov", "pl", "ps", "py", "rs", "sh", "so", "zip"])


def empty_link(mail: Mail) -> Iterator[Finding]:
    """Find links without an address, or without anything to click on."""
    for link in mail.links:
        if link.href in ("", "#"):
            yield mail.finding("empty-link", f"'{_words(link)}' has no address", at=f"[{link.text}]")
        elif not link.text:
            yield mail.finding("empty-link", f"the link to {link.href[:80]} has no text", at=link.href)


def relative_link(mail: Mail) -> Iterator[Finding]:
    """Find links without a host. A browser would complete them, but a message has no address."""
    for link in mail.links:
        parts = _split(link)
        if link.href and not link.href.startswith("#") and not (parts and parts.scheme):
            yield mail.finding("relative-link", f"'{link.href}' has no host", at=link.href)


def script_link(mail: Mail) -> Iterator[Finding]:
    """Find links that mailbox providers remove, or mistake for an attack."""
    for link in mail.links:
        scheme = re.match(r"(?i)\s*(javascript|vbscript|data|file):", link.href)
        if scheme:
            yield mail.finding("script-link", f"a link begins with {scheme[1].lower()}:", at=link.href)


def insecure_link(mail: Mail) -> Iterator[Finding]:
    """Find links that are not encrypted."""
    for link in _foreign(mail):
        if link.href.lower().startswith("http://"):
            yield mail.finding("insecure-link", f"{link.href} is not encrypted", at=link.href)


def deceptive_link(mail: Mail) -> Iterator[Finding]:
    """Find links whose text is a different address: phishing does that, and filters punish it."""
    for link in _foreign(mail):
        shown, parts = _shown_host(link.text), _split(link)
        if shown is None or parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            continue
        if _owner(shown) != _owner(parts.hostname):
            yield mail.finding(
                "deceptive-link", f"'{link.text}' leads to {parts.hostname}", at=f"[{link.text}]"
            )


def _shown_host(text: str) -> str | None:
    """Return the host that a link's text shows, if it begins like an address or has a public suffix."""
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return None
    start, host, rest = found[1], found[2].lower(), found[3]
    if start:
        return host
    is_file = not rest and host.count(".") == 1 and host.rpartition(".")[2] in _FILES
    return host if not is_file and _suffixes().publicsuffix(host) else None


def shortened_link(mail: Mail) -> Iterator[Finding]:
    """Find addresses that hide their destination."""
    for link in _foreign(mail):
        parts = _split(link)
        if parts and (parts.hostname or "").removeprefix("www.") in SHORTENERS:
            yield mail.finding("shortened-link", f"{parts.hostname} hides where the link leads", at=link.href)


def idn_link(mail: Mail) -> Iterator[Finding]:
    """Find hosts that email clients would percent-encode, which breaks the link."""
    for link in mail.links:
        parts = _split(link)
        if parts and parts.netloc and (not parts.netloc.isascii() or "%" in parts.netloc):
            yield mail.finding("idn-link", f"the host '{parts.netloc}' is not in ASCII", at=link.href)


def vague_link(mail: Mail) -> Iterator[Finding]:
    """Find links whose text means nothing in a screen reader's list of links."""
    for link in _foreign(mail):
        words = link.text.casefold().strip(" .!…→»>:")
        if words in VAGUE:
            yield mail.finding(
                "vague-link", f"'{link.text}' does not say what it leads to", at=f"[{link.text}]"
            )


def long_link(mail: Mail) -> Iterator[Finding]:
    """Find addresses that some programs truncate."""
    for link in mail.links:
        if len(link.href) > MAX_URL_CHARACTERS:
            yield mail.finding(
                "long-link", f"a link has {len(link.href):,} characters", at=link.href.split("?")[0]
            )


def broken_fragment(mail: Mail) -> Iterator[Finding]:
    """Find links to a missing place within the message."""
    targets = {e.get("id") for e in mail.elements} | {e.get("name") for e in mail.elements if e.tag == "a"}
    for link in mail.links:
        if link.href.startswith("#") and len(link.href) > 1 and link.href[1:] not in targets:
            yield mail.finding("broken-fragment", f"nothing is named '{link.href[1:]}'", at=link.href)


def _foreign(mail: Mail) -> Iterator[Link]:
    return (link for link in mail.links if not link.own)


def _split(link: Link) -> SplitResult | None:
    try:
        return urlsplit(link.href)
    except ValueError:
        return None


def _words(link: Link) -> str:
    return link.text[:60] or "a link"


def _owner(host: str) -> str:
    """Return the part of a host name that one owner registered (by the Public Suffix List)."""
    host = host.lower().rstrip(".").removeprefix("www.")
    return _suffixes().privatesuffix(host) or ".".join(host.split(".")[-2:])


@cache
def _suffixes() -> PublicSuffixList:
    # Imported here because reading the list takes a while, and few issues need it.
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList(accept_unknown=False, only_icann=True)


RULES: Final = (
    empty_link, relative_link, script_link, insecure_link, deceptive_link, shortened_link, idn_link,
    vague_link, long_link, broken_fragment,
)  # fmt: skip
