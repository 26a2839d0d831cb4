"""Questions to the DNS."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import cache
from typing import Final

import dns.exception
import dns.flags
import dns.rdatatype
import dns.resolver
import dns.reversename
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.TXT import TXT
from publicsuffixlist import PublicSuffixList

from mailer.errors import ConfigError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_SECONDS: Final = 6.0
"""How long to wait for one answer, all name servers and repetitions included."""
_MOST_RECORDS: Final = 100
"""Records of one answer that are looked at."""


class UnansweredError(ConfigError):
    """No name server answered, so nothing is known about a name."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long resolvers may keep an answer."""

    name: str
    kind: str
    seconds: int
    authoritative: bool
    """Whether the domain's own server answered, so that `seconds` is the whole time, not what is left."""


class Names:
    """A resolver that remembers how long each answer may be kept.

    `server` is the address of a name server, with `:PORT` if it is not 53; by default, the machine's.
    """

    def __init__(self, server: str = "") -> None:
        try:
            self.resolver = dns.resolver.Resolver(configure=not server)
            if server:
                host, port = _host_and_port(server)
                self.resolver.nameservers = [host]
                self.resolver.port = port
        except (dns.exception.DNSException, ValueError) as error:
            raise ConfigError(
                f"no name server to ask: {str(error).rstrip('.')}", remedy="name one with --dns ADDRESS"
            ) from error
        self.resolver.lifetime = _SECONDS
        self.lifetimes: list[Lifetime] = []

    def texts(self, name: str) -> list[str]:
        """Return the TXT records of a name; strings of one record are joined. Raises `UnansweredError`."""
        records = (b"".join(one.strings) for one in self._answer(name, "TXT") if isinstance(one, TXT))
        return [record.decode("ascii", "replace") for record in records]

    def addresses(self, host: str) -> list[Address]:
        """Return the addresses of a host; an address is returned as it is. Raises `UnansweredError`."""
        try:
            return [ipaddress.ip_address(host)]
        except ValueError:
            found = [*self._answer(host, "A"), *self._answer(host, "AAAA")]
            return [ipaddress.ip_address(str(one)) for one in found]

    def exchangers(self, domain: str) -> list[str]:
        """Return the MX hosts of a domain, the preferred ones first; "" is a null MX (RFC 7505)."""
        found = [one for one in self._answer(domain, "MX") if isinstance(one, MX)]
        found.sort(key=lambda one: one.preference)
        return [one.exchange.to_text(omit_final_dot=True).lower().removesuffix(".") for one in found]

    def alias(self, host: str) -> str:
        """Return the target of a CNAME record, or an empty string."""
        return next((str(one).removesuffix(".") for one in self._answer(host, "CNAME")), "")

    def names_of(self, address: Address) -> list[str]:
        """Return the names in the PTR records of an address, in lower case."""
        reverse = dns.reversename.from_address(str(address)).to_text()
        return [str(one).removesuffix(".").lower() for one in self._answer(reverse, "PTR")]

    def _answer(self, name: str, kind: str) -> list[dns.rdata.Rdata]:
        try:
            answer = self.resolver.resolve(f"{name.removesuffix('.')}.", kind)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except dns.exception.DNSException as error:
            reason = "no name server replied in time" if isinstance(error, dns.exception.Timeout) else ""
            raise UnansweredError(
                f"{name}: asking for {kind} failed: {reason or 'the name servers report an error'}",
                remedy="check the domain's name servers, or ask another resolver with --dns ADDRESS",
            ) from error
        if answer.rrset is None:
            return []
        own = bool(answer.response.flags & dns.flags.AA)
        self.lifetimes.append(Lifetime(name, kind, answer.rrset.ttl, own))
        return list(answer.rrset)[:_MOST_RECORDS]


def _host_and_port(server: str) -> tuple[str, int]:
    """Return address and port of `192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:5353`."""
    host, _, port = server.rpartition(":")
    if server.count(":") == 1 or (server.startswith("[") and not server.endswith("]")):
        return str(ipaddress.ip_address(host.strip("[]"))), int(port)
    return str(ipaddress.ip_address(server.strip("[]"))), 53


def organizational(domain: str) -> str:
    """Return the organizational domain that DMARC's relaxed alignment compares (RFC 7489 section 3.2)."""
    found: str | None = _suffixes().privatesuffix(domain)
    return found or domain


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()
