"""Bot detection: recognise requests for links and images that no person made, by their headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_PREFETCH_HEADERS: Final = ("purpose", "x-purpose", "sec-purpose", "x-moz")
# Words of a User-Agent; the first match counts. An image proxy fetches for a person, but does not show
# when that person looked, or whether.
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
# Apple's Mail Privacy Protection fetches every image of every email, seen or not, under this name
# alone; no browser does.
_APPLE: Final = "mozilla/5.0"


def bot_kind(headers: Mapping[str, str]) -> str:
    """Return the kind of bot: apple, prefetch, proxy, scanner or bot; empty for a person."""
    if any("prefetch" in headers.get(name, "").lower() for name in _PREFETCH_HEADERS):
        return "prefetch"
    agent = headers.get("user-agent", "").strip().lower()
    if agent == _APPLE:
        return "apple"
    if not agent:
        return "bot"
    return next((kind for kind, words in _AGENTS if any(word in agent for word in words)), "")
