"""Who sends mail in our name, as receivers report it (DMARC), and whether mail to us is encrypted (TLS)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec
from sqlalchemy import Connection, select

from mailer.database.tables import StoredReport

_KINDS: Final = ("dmarc", "tls")
_AT_A_TIME: Final = 100


class _Row(msgspec.Struct):
    source: str
    number: int
    result: str
    dkim: bool = False
    spf: bool = False
    author: str = ""


class _Report(msgspec.Struct):
    kind: str
    reporter: str
    report_id: str
    domain: str
    begin: int
    end: int
    rows: list[_Row] = []


@dataclass(frozen=True, slots=True)
class Source:
    """The mail that one address sent in our name. `passed` counts what passed DMARC, by DKIM or SPF."""

    address: str
    author: str
    """The domain in From:."""
    messages: int
    passed: int
    dkim: int
    spf: int
    quarantined: int
    rejected: int


@dataclass(frozen=True, slots=True)
class TlsResult:
    """Sessions of mail to us with one result."""

    host: str
    result: str
    sessions: int


@dataclass(frozen=True, slots=True)
class AuthenticationSummary:
    """The sums of a period's reports. Anyone can forge a report, so nothing acts on them."""

    reports: int
    reporters: tuple[str, ...]
    first_at: datetime | None
    last_at: datetime | None
    sources: tuple[Source, ...]
    """Those with the most failures first."""
    tls: tuple[TlsResult, ...]
    """Failures first."""


def authentication_summary(connection: Connection, *, since: datetime) -> AuthenticationSummary:
    """Add up the DMARC and TLS reports that arrived since then. A report that came twice counts once."""
    found: dict[tuple[str, str], Counter[str]] = {}
    sessions: Counter[tuple[str, str]] = Counter()
    seen: set[tuple[str, str, str]] = set()
    reporters: Counter[str] = Counter()
    begins: list[int] = []
    ends: list[int] = []
    for report in _reports(connection, since):
        key = (report.kind, report.reporter, report.report_id)
        if key in seen:
            continue
        seen.add(key)
        reporters[report.reporter] += 1
        begins.append(report.begin)
        ends.append(report.end)
        for row in report.rows:
            if report.kind == "tls":
                sessions[row.source, row.result] += row.number
            else:
                _add(found.setdefault((row.source, row.author or report.domain), Counter()), row)
    return AuthenticationSummary(
        len(seen),
        tuple(name for name, _ in reporters.most_common()),
        datetime.fromtimestamp(min(begins), UTC) if begins else None,
        datetime.fromtimestamp(max(ends), UTC) if ends else None,
        tuple(sorted((_source(*key, one) for key, one in found.items()), key=_worst)),
        tuple(
            TlsResult(host, result, number)
            for (host, result), number in sorted(
                sessions.items(), key=lambda item: (item[0][1] == "success", -item[1], item[0])
            )
        ),
    )


def _reports(connection: Connection, since: datetime) -> Iterator[_Report]:
    stored = (
        select(StoredReport.c.details)
        .where(StoredReport.c.kind.in_(_KINDS), StoredReport.c.received_at >= since)
        .order_by(StoredReport.c.id)
        .execution_options(yield_per=_AT_A_TIME)
    )
    for details in connection.scalars(stored):
        if "authentication" in details:
            yield msgspec.convert(details["authentication"], _Report)


def _add(so_far: Counter[str], row: _Row) -> None:
    so_far["messages"] += row.number
    for name, holds in (
        ("passed", row.dkim or row.spf),
        ("dkim", row.dkim),
        ("spf", row.spf),
        ("quarantined", row.result == "quarantine"),
        ("rejected", row.result == "reject"),
    ):
        so_far[name] += row.number * holds


def _source(address: str, author: str, one: Counter[str]) -> Source:
    return Source(
        address,
        author,
        one["messages"],
        one["passed"],
        one["dkim"],
        one["spf"],
        one["quarantined"],
        one["rejected"],
    )


def _worst(one: Source) -> tuple[int, int, str]:
    return (one.passed - one.messages, -one.messages, one.address)
