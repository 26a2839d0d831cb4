"""Blocklists: what receivers may hold against the relays and the domain. Asked only on request."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Final

from mailer.doctor.findings import Finding, ok, problem, warning
from mailer.doctor.names import Address, Names

_OF_ADDRESSES: Final = ("zen.spamhaus.org", "bl.spamcop.net", "b.barracudacentral.org")
_OF_DOMAINS: Final = ("dbl.spamhaus.org", "multi.surbl.org")
_REFUSED: Final = ipaddress.ip_network("127.255.255.0/24")
"""Spamhaus answers so to resolvers that it does not serve, such as large public ones."""


def blocklists(names: Names, addresses: Iterable[Address], domains: Iterable[str]) -> Iterator[Finding]:
    """Look up addresses and domains in well-known blocklists (RFC 5782)."""
    for address in addresses:
        reversed_octets = address.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")
        for zone in _OF_ADDRESSES:
            yield _listed(names, str(address), reversed_octets, zone)
    for domain in domains:
        for zone in _OF_DOMAINS:
            yield _listed(names, domain, domain, zone)


def _listed(names: Names, subject: str, key: str, zone: str) -> Finding:
    answers = names.addresses(f"{key}.{zone}")
    if not answers:
        return ok("blocklist", subject, f"not on {zone}")
    if any(one in _REFUSED for one in answers):
        return warning(
            "blocklist",
            subject,
            f"{zone} does not answer this resolver",
            remedy="ask your own resolver, for example with --dns 127.0.0.1",
        )
    why = next(iter(names.texts(f"{key}.{zone}")), "")
    reason = f": {why}" if why else ""
    return problem(
        "blocklist",
        subject,
        f"listed on {zone}{reason}",
        remedy="find the cause, then ask the list to remove it",
    )
