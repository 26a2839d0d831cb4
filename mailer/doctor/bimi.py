"""BIMI: the logo that mailbox providers show beside a message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mailer.doctor.dkim import tags_of
from mailer.doctor.findings import Finding, ok, warning
from mailer.doctor.names import Names


def bimi(names: Names, author: str, policies: Sequence[str]) -> Iterator[Finding]:
    """Check the BIMI record of the author's domain. `policies` is what DMARC found; BIMI depends on it."""
    name = f"default._bimi.{author}"
    records = [text for text in names.texts(name) if text.lower().startswith("v=bimi1")]
    if not records:
        yield ok("bimi", author, "not published (optional: a logo beside your messages)")
        return
    tags = tags_of(records[0])
    logo, certificate = tags.get("l", ""), tags.get("a", "")
    if len(records) > 1:
        yield warning("bimi", name, f"{len(records)} records; receivers ignore them all", remedy="keep one")
    elif not (logo.startswith("https://") and logo.lower().endswith((".svg", ".svgz"))):
        yield warning(
            "bimi",
            name,
            f"the logo must be an SVG file under https, not {logo or 'empty'}",
            remedy="set l= to such an address",
        )
    elif not {"quarantine", "reject"} & set(policies):
        yield warning(
            "bimi",
            name,
            "without a DMARC policy of quarantine or reject, no provider shows the logo",
            remedy="raise the DMARC policy",
        )
    elif not certificate:
        yield warning(
            "bimi",
            name,
            "there is no certificate (a=), so Gmail and Apple do not show the logo",
            remedy="get a Verified Mark or Common Mark Certificate, or accept it",
        )
    else:
        yield ok("bimi", name, f"the logo is {logo}, with a certificate")
