"""DMARC reports that arrive in the bounce mailbox are added up, and shown with the worst source first."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailer.bounces.batch import record_batch
from mailer.bounces.record import Recorded, ReportOutcome, Rules
from mailer.cli import run
from mailer.database.engine import Database
from mailer.errors import ExitCode
from mailer.reports.authentication import Source, TlsResult, authentication_summary
from mailer.tokens import Signer
from tests.bounces.reading.test_authentication import TLS, TWO, mail, record, xml
from tests.databases import empty_database

NOW = datetime.now(UTC)


def reports() -> list[bytes]:
    other = xml(record("192.0.2.1", 8, dkim="fail")).replace(b"google.com", b"yahoo.com")
    return [
        mail(gzip.compress(xml(TWO)), "application/gzip", "a.xml.gz"),
        # The same report, packed again.
        mail(gzip.compress(xml(TWO), 1), "application/gzip", "b.xml.gz"),
        mail(gzip.compress(other), "application/gzip", "c.xml.gz"),
        mail(gzip.compress(json.dumps(TLS).encode()), "application/tlsrpt+gzip", "d.json.gz"),
    ]


def store(database: Database, at: datetime) -> None:
    signer = Signer(database.secrets())
    done = record_batch(database, signer, reports(), source="test", at=at, rules=Rules(trust_unsigned=True))
    assert [one.outcome for one in done if isinstance(one, Recorded)] == [ReportOutcome.IGNORED] * 4


def test_sources_are_added_up_over_reports(database: Database) -> None:
    store(database, NOW)
    with database.reading() as connection:
        found = authentication_summary(connection, since=NOW - timedelta(days=1))
        none = authentication_summary(connection, since=NOW + timedelta(days=1))
    assert found.sources == (
        Source("2001:db8::5", "example.org", 7, 0, 0, 0, 0, 7),
        Source("192.0.2.1", "example.org", 50, 50, 42, 50, 0, 0),
    )
    assert found.tls == (
        TlsResult("mx1.example.org", "certificate-expired", 3),
        TlsResult("example.org", "success", 5326),
    )
    assert (found.reports, found.reporters) == (3, ("google.com", "yahoo.com", "Company-X"))
    assert (none.reports, none.sources, none.first_at) == (0, (), None)


def test_command_shows_who_sends_as_us(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.toml").write_text("")
    here = ["-C", str(tmp_path)]
    with empty_database(tmp_path) as database:
        database.open()
        assert run(["dmarc", *here]) == ExitCode.DONE
        assert capsys.readouterr().out == "No DMARC or TLS report came in the last 30 days.\n"
        store(database, NOW)
    assert run(["dmarc", *here]) == ExitCode.DONE
    assert capsys.readouterr().out.splitlines() == [
        "3 reports about 2026-03-01 to 2026-03-01, from google.com, yahoo.com, Company-X",
        "",
        "SOURCE       FROM         MESSAGES  FAILED  DKIM  SPF  QUARANTINED  REJECTED",
        "2001:db8::5  example.org         7       7     0    0            0         7",
        "192.0.2.1    example.org        50       0    42   50            0         0",
        "",
        "HOST             TLS                  SESSIONS",
        "mx1.example.org  certificate-expired         3",
        "example.org      success                 5,326",
    ]
    assert run(["dmarc", "--json", *here]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["sources"][0]["rejected"] == 7
