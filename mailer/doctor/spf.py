"""SPF: may the relays send with our envelope sender? (RFC 7208)"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from mailer.config import Relay, is_loopback
from mailer.doctor.findings import Finding, ok, problem, txt_record, warning
from mailer.doctor.names import Address, Names
from mailer.doctor.senders import include_of

_MOST_LOOKUPS: Final = 10
_CLOSE: Final = 9
"""From here on, a provider that adds one lookup to its own record can break ours."""


class _Host(msgspec.Struct):
    hostname: str


class _Mechanism(msgspec.Struct):
    action: str
    mechanism: str
    value: str | None = None
    addresses: list[str] = []
    hosts: list[_Host] = []
    parsed: _Parsed | None = None


class _Redirect(msgspec.Struct):
    domain: str
    parsed: _Parsed | None = None


class _Parsed(msgspec.Struct):
    mechanisms: list[_Mechanism]
    all: str
    redirect: _Redirect | None = None


class _Result(msgspec.Struct):
    """The used part of checkdmarc's result."""

    valid: bool
    error: str = ""
    dns_lookups: int | None = None
    warnings: list[str] = []
    parsed: _Parsed | None = None


def spf(names: Names, domain: str, relays: Sequence[Relay]) -> Iterator[Finding]:
    """Check the SPF record of the envelope sender's domain, and whether it includes each relay."""
    # Imported on use: it takes half a second.
    from checkdmarc.spf import check_spf

    records = [text for text in names.texts(domain) if text.lower().split(" ")[0] == "v=spf1"]
    wanted = _wanted(domain, relays)
    if not records:
        yield problem(
            "spf",
            domain,
            "no SPF record, so receivers cannot tell which servers may send for this domain",
            remedy="publish one that includes your relay",
            record=wanted,
        )
        return
    if len(records) > 1:
        yield problem(
            "spf",
            domain,
            f"{len(records)} SPF records; receivers treat more than one as an error (RFC 7208 section 3.2)",
            remedy="merge them into one",
        )
        return
    result = msgspec.convert(check_spf(domain, resolver=names.resolver), _Result)
    if result.dns_lookups is not None and result.dns_lookups > _MOST_LOOKUPS:
        yield problem(
            "spf",
            domain,
            f"the SPF record needs {result.dns_lookups} lookups; receivers stop after {_MOST_LOOKUPS}",
            remedy="remove includes that you no longer need, or send from a subdomain with its own record",
        )
    elif not result.valid or result.parsed is None:
        yield problem(
            "spf", domain, f"the SPF record is invalid: {result.error.rstrip('.')}", remedy="correct it"
        )
        return
    if result.parsed is not None:
        yield from _policy(domain, result, result.parsed)
        yield from _relays(names, domain, relays, result.parsed, wanted)
    for text in result.warnings:
        yield warning("spf", domain, text.rstrip("."))


def _policy(domain: str, result: _Result, parsed: _Parsed) -> Iterator[Finding]:
    last = parsed.redirect.parsed if parsed.redirect and parsed.redirect.parsed else parsed
    lookups = result.dns_lookups or 0
    if last.all == "pass":
        yield problem(
            "spf",
            domain,
            "the SPF record ends in +all: anyone may send in your name",
            remedy="end it in -all or ~all",
        )
    elif last.all == "neutral":
        yield warning(
            "spf",
            domain,
            "the SPF record does not end in -all or ~all, so it rules nobody out",
            remedy="end it in ~all, or in -all once you are sure",
        )
    elif _CLOSE <= lookups <= _MOST_LOOKUPS:
        yield warning(
            "spf",
            domain,
            f"the SPF record needs {lookups} of {_MOST_LOOKUPS} lookups",
            remedy="remove includes that you no longer need before a provider adds one",
        )
    elif lookups <= _MOST_LOOKUPS:
        yield ok("spf", domain, f"one valid record, {lookups} of {_MOST_LOOKUPS} lookups")


def _relays(
    names: Names, domain: str, relays: Sequence[Relay], parsed: _Parsed, wanted: str
) -> Iterator[Finding]:
    includes = set(_includes(parsed))
    networks = list(_networks(names, parsed))
    for relay in relays:
        include = include_of(relay.host)
        if include:
            if include in includes:
                yield ok("spf", domain, f"includes {include}, so {relay.host} may send")
            else:
                yield warning(
                    "spf",
                    domain,
                    f"does not include {include}, as customers of {relay.host} should",
                    remedy="add it, unless your provider replaces the envelope sender with its own",
                    record=wanted,
                )
            continue
        if is_loopback(relay.host):
            continue
        addresses = names.addresses(relay.host)
        outside = [one for one in addresses if not any(one in network for network in networks)]
        if outside:
            yield warning(
                "spf",
                domain,
                f"does not allow {', '.join(map(str, outside))}, the address of {relay.host}",
                remedy="add what the relay's operator says; it may send from other addresses",
                record=wanted,
            )
        elif addresses:
            yield ok("spf", domain, f"allows {relay.host} ({', '.join(map(str, addresses))})")


def _includes(parsed: _Parsed) -> Iterator[str]:
    for one in parsed.mechanisms:
        if one.mechanism == "include":
            yield (one.value or "").lower()
        if one.parsed is not None:
            yield from _includes(one.parsed)
    if parsed.redirect is not None:
        yield parsed.redirect.domain.lower()
        if parsed.redirect.parsed is not None:
            yield from _includes(parsed.redirect.parsed)


def _networks(names: Names, parsed: _Parsed) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Yield the networks that may send. A prefix length after the name of `a` and `mx` is left out."""
    for one in parsed.mechanisms:
        if one.action != "pass":
            continue
        if one.mechanism in ("ip4", "ip6"):
            yield ipaddress.ip_network(one.value or "", strict=False)
        found: list[Address] = [ipaddress.ip_address(text) for text in one.addresses]
        for host in one.hosts:
            found += names.addresses(host.hostname)
        yield from map(ipaddress.ip_network, found)
        if one.parsed is not None:
            yield from _networks(names, one.parsed)
    if parsed.redirect is not None and parsed.redirect.parsed is not None:
        yield from _networks(names, parsed.redirect.parsed)


def _wanted(domain: str, relays: Sequence[Relay]) -> str:
    """Return a record that allows these relays and nobody else."""
    parts = dict.fromkeys(_term(relay.host) for relay in relays)
    return txt_record(domain, " ".join(["v=spf1", *(parts or {"mx": None}), "~all"]))


def _term(host: str) -> str:
    if include := include_of(host):
        return f"include:{include}"
    if is_loopback(host):
        return "mx"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"a:{host}"
    return f"ip{address.version}:{address}"
