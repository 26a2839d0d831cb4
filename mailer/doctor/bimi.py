"""BIMI: the logo that mailbox providers show beside a message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mailer.doctor.dkim import tags_of
from mailer.doctor.fetching import HTTPS, FetchError, fetch
from mailer.doctor.findings import Finding, ok, warning
from mailer.doctor.logo import MOST_OCTETS, faults
from mailer.doctor.names import Names


def bimi(names: Names, author: str, policies: Sequence[str]) -> Iterator[Finding]:
    """Check the BIMI record of the author's domain. `policies` is what DMARC found; BIMI depends on it."""
    name = f"default._bimi.{author}"
    records = _records(names, name)
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


def logo(names: Names, author: str, *, port: int = HTTPS) -> Iterator[Finding]:
    """Download the logo of the author's domain, and check that mailbox providers will show it."""
    records = _records(names, f"default._bimi.{author}")
    url = tags_of(records[0]).get("l", "") if len(records) == 1 else ""
    if not url.startswith("https://"):
        # The record is missing or wrong, which `bimi` reports.
        return
    try:
        file = fetch(names, url, most_octets=MOST_OCTETS, port=port)
    except FetchError as error:
        yield warning("bimi", url, f"no provider can load the logo: {error.message}", remedy="serve it there")
        return
    found = list(faults(file.content))
    if file.media_type != "image/svg+xml":
        found.append(f"its type is {file.media_type or 'missing'}, not image/svg+xml")
    if found:
        yield warning(
            "bimi",
            url,
            f"providers may not show the logo: {'; '.join(found)}",
            remedy="export it as SVG Tiny PS (SVG Portable/Secure)",
        )
    else:
        yield ok("bimi", url, f"the logo is a square SVG Tiny PS file of {len(file.content):,} octets")


def _records(names: Names, name: str) -> list[str]:
    return [text for text in names.texts(name) if text.lower().startswith("v=bimi1")]
