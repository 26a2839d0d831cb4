"""DMARC: policy, reports, and alignment with From: (RFC 7489)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from mailer.doctor.findings import Finding, ok, problem, txt_record, warning
from mailer.doctor.names import Names, organizational

_SAID_HERE: Final = ("A p tag value of none", "rua tag (destination")
"""Warnings of checkdmarc that `_policy` gives as well, with a remedy."""


class _Tag(msgspec.Struct):
    value: Any = None


class _Result(msgspec.Struct):
    """The used part of checkdmarc's result."""

    valid: bool
    record: str | None = None
    location: str | None = None
    error: str = ""
    warnings: list[str] = []
    tags: dict[str, _Tag] = {}

    def tag(self, name: str, default: str) -> str:
        found = self.tags.get(name)
        return default if found is None or found.value is None else str(found.value)


def dmarc(
    names: Names, author: str, *, envelope: str, signing: Sequence[str], policies: list[str]
) -> Iterator[Finding]:
    """Check the policy of the author's domain, and that SPF or DKIM aligns with it.

    `envelope` is the domain of the envelope sender; `signing` are the domains of the DKIM keys. Appends the
    policy in force to `policies`, if there is one.
    """
    from checkdmarc.dmarc import check_dmarc

    wanted = txt_record(f"_dmarc.{author}", f"v=DMARC1; p=none; rua=mailto:dmarc@{author}")
    # Raises if there is no answer. checkdmarc does not distinguish that from no record.
    names.texts(f"_dmarc.{author}")
    result = msgspec.convert(check_dmarc(author, resolver=names.resolver), _Result)
    if result.record is None:
        yield problem(
            "dmarc",
            author,
            "no DMARC record; Gmail, Yahoo and Microsoft refuse newsletters without one",
            remedy="publish one; p=none is enough to begin with",
            record=wanted,
        )
    elif not result.valid:
        yield problem(
            "dmarc",
            author,
            f"the DMARC record is invalid: {result.error.rstrip('.')}",
            remedy="correct it",
            record=wanted,
        )
    else:
        yield from _policy(author, result, policies)
        for text in result.warnings:
            if not text.startswith(_SAID_HERE):
                yield warning("dmarc", author, text.rstrip("."))
    yield from _alignment(author, result, envelope=envelope, signing=signing)


def _policy(author: str, result: _Result, policies: list[str]) -> Iterator[Finding]:
    inherited = result.location is not None and result.location != author
    policy = result.tag("sp" if inherited else "p", "none")
    policies.append(policy)
    where = f" (from {result.location})" if inherited else ""
    if policy == "none":
        yield warning(
            "dmarc",
            author,
            f"the policy is none{where}: receivers let others send in your name",
            remedy="when the reports show nothing unexpected, change it to quarantine, then to reject",
        )
    else:
        yield ok("dmarc", author, f"the policy is {policy}{where}")
    if "rua" not in result.tags:
        yield warning(
            "dmarc",
            author,
            "nobody receives reports (no rua=)",
            remedy=f"add rua=mailto:dmarc@{author}, an address that exists",
        )


def _alignment(author: str, result: _Result, *, envelope: str, signing: Sequence[str]) -> Iterator[Finding]:
    by_spf = _aligned(author, envelope, strict=result.tag("aspf", "r") == "s")
    strict = result.tag("adkim", "r") == "s"
    by_dkim = [domain for domain in signing if _aligned(author, domain, strict=strict)]
    if by_dkim:
        spf = (
            f"and so does SPF (envelope {envelope})"
            if by_spf
            else (f"which is enough; SPF (envelope {envelope}) does not")
        )
        yield ok("alignment", author, f"DKIM (d={by_dkim[0]}) aligns with From:, {spf}")
    elif by_spf and not signing:
        yield warning(
            "alignment",
            author,
            "only SPF aligns with From:, and it fails when mail is forwarded",
            remedy=f"sign for {author}: mailer dkim keygen {author}",
        )
    elif by_spf:
        yield warning(
            "alignment",
            author,
            f"DKIM signs for {', '.join(signing)}, which does not align with From:; SPF does",
            remedy=f"sign for {author}: mailer dkim keygen {author}",
        )
    else:
        yield problem(
            "alignment",
            author,
            f"neither the envelope's domain ({envelope}) nor a DKIM key aligns with From:, so DMARC fails",
            remedy=f"sign for {author}: mailer dkim keygen {author}; or set bounces.domain to a subdomain",
        )


def _aligned(author: str, domain: str, *, strict: bool) -> bool:
    """Return whether a domain aligns with From: (RFC 7489 section 3.1)."""
    return domain == author if strict else organizational(domain) == organizational(author)
