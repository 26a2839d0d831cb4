"""Reports about all mail of a domain: DMARC (RFC 7489, appendix C) and TLS (RFC 8460).

Receivers send them as compressed attachments. Anybody can, so everything is bounded: what an attachment
unpacks to, and how many rows are kept. XML is read without entities, DTDs and network.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec
from lxml import etree

from mailer.bounces.reading.mime import Leaf

MAX_UNPACKED_OCTETS: Final = 8_388_608
MAX_ROWS: Final = 500
_MAX_TEXT: Final = 255
_MAX_TIME: Final = 4_102_444_800
"""The year 2100; later instants are mistakes."""


@dataclass(frozen=True, slots=True)
class Row:
    """Mail from one source with one result."""

    source: str
    """DMARC: the address that sent it. TLS: the policy's domain or the failing host."""
    number: int
    """Messages, or sessions."""
    result: str
    """DMARC: the action taken: none, quarantine or reject. TLS: success, or the type of failure."""
    dkim: bool = False
    """Whether an aligned DKIM signature passed."""
    spf: bool = False
    """Whether SPF passed and aligned."""
    author: str = ""
    """The domain in From:."""


@dataclass(frozen=True, slots=True)
class AuthenticationReport:
    """One report. `rows` has the largest first, at most `MAX_ROWS`."""

    kind: Literal["dmarc", "tls"]
    reporter: str
    report_id: str
    domain: str
    begin: int
    """Unix time."""
    end: int
    policy: str = ""
    rows: tuple[Row, ...] = ()


def find(leaves: Sequence[Leaf]) -> AuthenticationReport | None:
    """Return the first report among the parts of a message, or None."""
    for leaf in leaves:
        if not _may_be_one(leaf):
            continue
        octets = _unpacked(leaf.octets())
        start = octets.lstrip(b"\xef\xbb\xbf \r\n\t")[:1]
        found = _dmarc(octets) if start == b"<" else _tls(octets) if start == b"{" else None
        if found is not None:
            return found
    return None


def _may_be_one(leaf: Leaf) -> bool:
    described = f"{leaf.kind} {leaf.headers.get('content-type')} {leaf.headers.get('content-disposition')}"
    return any(word in described[:2_000].lower() for word in ("zip", "xml", "tlsrpt", ".json", ".gz"))


def _unpacked(octets: bytes) -> bytes:
    """Return the content of a gzip or zip file, other data as it is; empty if damaged or too large."""
    try:
        if octets.startswith(b"\x1f\x8b"):
            unpacked = zlib.decompressobj(wbits=31).decompress(octets, MAX_UNPACKED_OCTETS + 1)
        elif octets.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(io.BytesIO(octets)) as archive:
                first = archive.infolist()[0]
                with archive.open(first) as file:
                    unpacked = file.read(MAX_UNPACKED_OCTETS + 1)
        else:
            unpacked = octets
    except (zlib.error, zipfile.BadZipFile, EOFError, IndexError, OSError, RuntimeError, ValueError):
        return b""
    return unpacked if len(unpacked) <= MAX_UNPACKED_OCTETS else b""


def _dmarc(octets: bytes) -> AuthenticationReport | None:
    facts: dict[str, str] = {}
    rows: Counter[Row] = Counter()
    try:
        for path, record in _records(octets, facts):
            if path == "record" and (row := _row(record)) is not None:
                rows[row] += _number(record.get("row/count", ""))
    except etree.XMLSyntaxError:
        return None
    domain = facts.get("policy_published/domain", "")
    if not domain or "report_metadata/org_name" not in facts:
        return None
    return AuthenticationReport(
        "dmarc",
        facts["report_metadata/org_name"],
        facts.get("report_metadata/report_id", ""),
        domain.lower(),
        _number(facts.get("report_metadata/date_range/begin", "")),
        _number(facts.get("report_metadata/date_range/end", "")),
        facts.get("policy_published/p", ""),
        _largest(rows),
    )


def _records(octets: bytes, facts: dict[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each record as paths and texts; put the texts outside records into `facts`.

    Of elements that occur more than once, the first counts.
    """
    path: list[str] = []
    record: dict[str, str] = {}
    events = etree.iterparse(
        io.BytesIO(octets),
        events=("start", "end"),
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
    )
    for event, element in events:
        if event == "start":
            path.append(element.tag.rpartition("}")[2] if isinstance(element.tag, str) else "")
            continue
        inner = path[1:]
        text = (element.text or "").strip()[:_MAX_TEXT]
        if inner == ["record"]:
            yield "record", record
            record = {}
            element.clear()
        elif text and inner[:1] == ["record"]:
            record.setdefault("/".join(inner[1:]), text)
        elif text:
            facts.setdefault("/".join(inner), text)
        path.pop()


def _row(record: Mapping[str, str]) -> Row | None:
    source = record.get("row/source_ip", "")
    if not source:
        return None
    evaluated = "row/policy_evaluated/"
    return Row(
        source,
        0,
        record.get(f"{evaluated}disposition", "none").lower(),
        record.get(f"{evaluated}dkim", "").lower() == "pass",
        record.get(f"{evaluated}spf", "").lower() == "pass",
        record.get("identifiers/header_from", "").lower(),
    )


class _Failure(msgspec.Struct, rename="kebab"):
    result_type: str = ""
    receiving_mx_hostname: str = ""
    failed_session_count: int = 0


class _Summary(msgspec.Struct, rename="kebab"):
    total_successful_session_count: int = 0


class _PolicyName(msgspec.Struct, rename="kebab"):
    policy_type: str = ""
    policy_domain: str = ""


class _Policy(msgspec.Struct, rename="kebab"):
    policy: _PolicyName
    summary: _Summary = msgspec.field(default_factory=_Summary)
    failure_details: list[_Failure] = []


class _Range(msgspec.Struct, rename="kebab"):
    start_datetime: datetime
    end_datetime: datetime


class _TlsReport(msgspec.Struct, rename="kebab"):
    organization_name: str
    report_id: str
    date_range: _Range
    policies: list[_Policy]


def _tls(octets: bytes) -> AuthenticationReport | None:
    try:
        report = msgspec.json.decode(octets, type=_TlsReport)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not report.policies:
        return None
    rows: Counter[Row] = Counter()
    for one in report.policies:
        domain = one.policy.policy_domain.lower()[:_MAX_TEXT]
        rows[Row(domain, 0, "success")] += max(0, one.summary.total_successful_session_count)
        for failure in one.failure_details:
            host = failure.receiving_mx_hostname.lower()[:_MAX_TEXT] or domain
            rows[Row(host, 0, failure.result_type[:_MAX_TEXT])] += max(0, failure.failed_session_count)
    return AuthenticationReport(
        "tls",
        report.organization_name[:_MAX_TEXT],
        report.report_id[:_MAX_TEXT],
        report.policies[0].policy.policy_domain.lower()[:_MAX_TEXT],
        _unix(report.date_range.start_datetime),
        _unix(report.date_range.end_datetime),
        report.policies[0].policy.policy_type[:_MAX_TEXT],
        _largest(rows),
    )


def _unix(at: datetime) -> int:
    seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    return min(_MAX_TIME, max(0, int(seconds)))


def _largest(rows: Counter[Row]) -> tuple[Row, ...]:
    return tuple(
        Row(row.source, min(number, 2**53), row.result, row.dkim, row.spf, row.author)
        for row, number in rows.most_common(MAX_ROWS)
        if number
    )


def _number(text: str) -> int:
    return min(int(text), _MAX_TIME) if text.isascii() and text.isdigit() and len(text) < 16 else 0
