"""How long resolvers keep our records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from mailer.doctor.findings import Finding, ok, warning
from mailer.doctor.names import Lifetime

_LONG_SECONDS: Final = 86_400
_SHORT_SECONDS: Final = 300


def lifetimes(found: Sequence[Lifetime], domains: Sequence[str]) -> Iterator[Finding]:
    """Judge the lifetimes (TTL) of the answers about names at or below `domains`."""
    ours = dict.fromkeys(one for one in found if _below(one.name, domains))
    wrong = False
    for one in ours:
        if one.seconds > _LONG_SECONDS:
            wrong = True
            yield warning(
                "ttl",
                one.name,
                f"a correction of its {one.kind} record takes {one.seconds / 3600:.0f} hours to spread",
                remedy="lower the TTL to an hour, at most to a day",
            )
        elif one.authoritative and one.seconds < _SHORT_SECONDS:
            wrong = True
            yield warning(
                "ttl",
                one.name,
                f"its {one.kind} record is kept for {one.seconds} s only, so receivers ask again and again",
                remedy="raise the TTL to an hour",
            )
    if ours and not wrong:
        yield ok("ttl", domains[0], f"{len(ours)} records, each kept for at most a day")


def _below(name: str, domains: Sequence[str]) -> bool:
    return any(name == domain or name.endswith(f".{domain}") for domain in domains)
