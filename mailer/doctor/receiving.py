"""Mail to us: bounces, requests to unsubscribe, and replies must have a way back."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from mailer.doctor.fetching import HTTPS, FetchError, fetch
from mailer.doctor.findings import Finding, ok, problem, txt_record, warning
from mailer.doctor.names import Names

_DAY: Final = 86_400
_MOST_OCTETS: Final = 64_000
"""The largest policy that RFC 8461 section 3.3 suggests accepting."""


class _Record(msgspec.Struct):
    """The used part of checkdmarc's result for MTA-STS and TLS-RPT."""

    valid: bool
    error: str = ""
    warnings: list[str] = []


class Policy(msgspec.Struct):
    """An MTA-STS policy (RFC 8461 section 3.2), as far as it is used."""

    mode: str
    mx: list[str] = []
    max_age: int = _DAY * 7


def exchangers(names: Names, domain: str, purpose: str, *, host: str = "") -> Iterator[Finding]:
    """Check that a domain can receive mail. `purpose` says what mail; `host` is a server to suggest."""
    found = names.exchangers(domain)
    wanted = f"{domain}. IN MX 10 {host or f'mail.{domain}'}."
    if not found:
        if names.addresses(domain):
            yield warning(
                "mx",
                domain,
                f"no MX record; {purpose} go to the domain's own address",
                remedy="publish an MX record that names the mail server",
                record=wanted,
            )
        else:
            yield problem(
                "mx",
                domain,
                f"no MX record and no address, so {purpose} cannot arrive",
                remedy="publish an MX record",
                record=wanted,
            )
        return
    if "" in found:
        yield problem(
            "mx",
            domain,
            f"a null MX (RFC 7505) says that the domain takes no mail, so {purpose} cannot arrive",
            remedy="replace it",
            record=wanted,
        )
        return
    wrong = [finding for one in found for finding in _host(names, domain, one, wanted)]
    yield from wrong or [ok("mx", domain, f"{purpose} go to {', '.join(found)}")]


def _host(names: Names, domain: str, host: str, wanted: str) -> Iterator[Finding]:
    if _is_address(host):
        yield problem(
            "mx", domain, f"the MX record holds the address {host}, not a name", remedy="name the host"
        )
    elif target := names.alias(host):
        yield warning(
            "mx",
            domain,
            f"the MX host {host} is an alias (CNAME), which RFC 2181 section 10.3 forbids",
            remedy=f"name {target} in the MX record",
        )
    elif not names.addresses(host):
        yield problem(
            "mx", domain, f"the MX host {host} has no address", remedy="correct its name", record=wanted
        )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def transport_security(names: Names, domain: str) -> Iterator[Finding]:
    """Check the records of MTA-STS (RFC 8461) and TLS reports (RFC 8460), both optional."""
    from checkdmarc.mta_sts import MTASTSError, parse_mta_sts_record, query_mta_sts_record
    from checkdmarc.smtp_tls_reporting import check_smtp_tls_reporting

    if not publishes_sts(names, domain):
        yield ok("mta-sts", domain, "not published (optional: it protects mail on its way to you)")
    else:
        try:
            parse_mta_sts_record(query_mta_sts_record(domain, resolver=names.resolver)["record"])
        except MTASTSError as error:
            yield problem(
                "mta-sts",
                domain,
                f"the record is wrong: {str(error).rstrip('.')}",
                remedy="correct it, or remove it; servers that obey it may not deliver to you",
            )
    if not [text for text in names.texts(f"_smtp._tls.{domain}") if text.startswith("v=TLSRPTv1")]:
        yield ok(
            "tls-rpt",
            domain,
            "not published (optional: others report failures of TLS on the way to you)",
            record=txt_record(f"_smtp._tls.{domain}", f"v=TLSRPTv1; rua=mailto:tls@{domain}"),
        )
        return
    result = msgspec.convert(check_smtp_tls_reporting(domain, resolver=names.resolver), _Record)
    if result.valid:
        yield ok("tls-rpt", domain, "published")
    else:
        yield warning(
            "tls-rpt", domain, f"the record is invalid: {result.error.rstrip('.')}", remedy="correct it"
        )


def publishes_sts(names: Names, domain: str) -> bool:
    """Return whether a domain has a record for MTA-STS."""
    return any(text.startswith("v=STSv1") for text in names.texts(f"_mta-sts.{domain}"))


def published_policy(names: Names, domain: str, *, port: int = HTTPS) -> Iterator[Finding]:
    """Download the MTA-STS policy of a domain, as servers that send to it do, and check it.

    The certificate must be valid, and redirects are not followed (RFC 8461 section 3.3).
    """
    from checkdmarc.mta_sts import MTASTSPolicySyntaxError, parse_mta_sts_policy

    url = f"https://mta-sts.{domain}/.well-known/mta-sts.txt"
    try:
        file = fetch(names, url, most_octets=_MOST_OCTETS, port=port)
        parsed = parse_mta_sts_policy(file.content.decode("utf-8"))
    except FetchError as error:
        why = error.message
    except MTASTSPolicySyntaxError as error:
        why = str(error).rstrip(".")
    except UnicodeDecodeError:
        why = "it is not UTF-8"
    else:
        if file.media_type != "text/plain":
            yield warning(
                "mta-sts",
                url,
                f"its type is {file.media_type or 'missing'}, and some servers want text/plain",
                remedy="let the web server send Content-Type: text/plain",
            )
        policy = msgspec.convert(parsed["policy"], Policy)
        yield from sts_policy(names.exchangers(domain), domain, policy)
        return
    yield problem(
        "mta-sts",
        url,
        f"servers cannot use the policy: {why}",
        remedy="serve it there over https, or remove the record at _mta-sts",
    )


def sts_policy(hosts: Sequence[str], domain: str, policy: Policy) -> Iterator[Finding]:
    """Check that a policy names each MX host of its domain."""
    from checkdmarc.mta_sts import mx_in_mta_sts_patterns

    missing = [host for host in hosts if not mx_in_mta_sts_patterns(host, policy.mx)]
    if missing and policy.mode != "none":
        yield problem(
            "mta-sts",
            domain,
            f"the policy does not name {', '.join(missing)}, so servers that obey it will not deliver there",
            remedy="add the host to the policy, then change the id in the record",
        )
    elif policy.mode != "none" and policy.max_age < _DAY:
        yield warning(
            "mta-sts",
            domain,
            f"servers forget the policy after {policy.max_age} seconds (max_age), so it protects little",
            remedy="set max_age to some weeks, such as 2592000",
        )
    else:
        yield ok("mta-sts", domain, f"the policy is in mode {policy.mode} and names every MX host")
