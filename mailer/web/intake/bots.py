"""Which requests for links and pictures in a mail no person made, by what they say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_PREFETCH_HEADERS: Final = ("purpose", "x-purpose", "sec-purpose", "x-moz")
# Words of a User-Agent, first match counts. A picture proxy fetches for a person, but says nothing of
# when or whether that person looked.
_AGENTS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("proxy", ("googleimageproxy", "yahoomailproxy", "duckduckgo-email", "via ggpht.com")),
    (
        "scanner",
        (
            "barracuda",
            "proofpoint",
            "mimecast",
            "safelinks",
            "microsoft office existence discovery",
            "fireeye",
            "trendmicro",
            "sophos",
            "symantec",
            "messagelabs",
            "bitdefender",
            "checkpoint",
            "zscaler",
            "cloudmark",
            "virustotal",
            "urlscan",
            "scan",
        ),
    ),
    (
        "bot",
        (
            "bot",
            "crawl",
            "spider",
            "preview",
            "facebookexternalhit",
            "headless",
            "curl/",
            "wget/",
            "python",
            "go-http-client",
            "java/",
            "okhttp",
            "libwww",
        ),
    ),
)
# Apple's Mail Privacy Protection fetches every picture of every mail, seen or not, and calls itself
# by this and nothing more; no browser does.
_APPLE: Final = "mozilla/5.0"


def bot_kind(headers: Mapping[str, str]) -> str:
    """Return what kind of machine asks: apple, prefetch, proxy, scanner, bot; empty for a person."""
    if any("prefetch" in headers.get(name, "").lower() for name in _PREFETCH_HEADERS):
        return "prefetch"
    agent = headers.get("user-agent", "").strip().lower()
    if agent == _APPLE:
        return "apple"
    if not agent:
        return "bot"
    return next((kind for kind, words in _AGENTS if any(word in agent for word in words)), "")
