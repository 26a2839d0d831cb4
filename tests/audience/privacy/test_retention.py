"""Personal records go when their time is over; the books, the ledger's lines and the facts stay."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from mailer.address import parse_address
from mailer.audience.ledger import unsubscribe
from mailer.audience.privacy.retention import Pruned, Terms, prune
from mailer.audience.subscribers import add, history
from mailer.audience.transitions import Origin
from mailer.cli import run
from mailer.database.engine import Database
from mailer.database.tables import (
    Delivery,
    DeliveryState,
    Event,
    IssueState,
    StoredEdition,
    StoredIssue,
    StoredReport,
)
from mailer.errors import ExitCode

DAY = timedelta(days=1)
TERMS = Terms(events=10 * DAY, reports=20 * DAY, replies=30 * DAY, evidence=40 * DAY)
SECRET = b"s" * 32


def fill(database: Database, at: datetime) -> None:
    """Two of everything: one made at `at`, one a hundred days before."""
    with database.transaction() as connection:
        connection.execute(insert(StoredEdition).values(digest="e", content="{}", created_at=at))
        for number, then in enumerate((at - 100 * DAY, at), 1):
            made = add(
                connection,
                parse_address(f"r{number}@example.org"),
                secret=SECRET,
                origin=Origin("form", ip="192.0.2.7", form="footer", note="agreed"),
                at=then,
            )
            assert made.subscriber_id == number
            unsubscribe(connection, number, origin=Origin("one-click", ip="192.0.2.8"), at=then)
            connection.execute(insert(Event).values(at=then, kind="open", subscriber_id=number, details={}))
            connection.execute(
                insert(StoredReport).values(
                    received_at=then, source="lmtp", digest=str(number), raw=b"From: x", kind="dsn",
                    outcome="applied", recipient=f"r{number}@example.org", bounce_class="no_such_user",
                )
            )  # fmt: skip
            connection.execute(
                insert(StoredIssue).values(
                    id=number, slug=str(number), title="", source_path="", edition_digest="e",
                    state=IssueState.FINISHED, dated_at=then, created_at=then, finished_at=then,
                )
            )  # fmt: skip
            connection.execute(
                insert(Delivery).values(
                    issue_id=number, subscriber_id=number, state=DeliveryState.FAILED, attempts=1, code=550,
                    reply=f"no r{number}@example.org here",
                )
            )  # fmt: skip


def test_only_data_older_than_its_term_is_pruned(database: Database, at: datetime) -> None:
    fill(database, at)
    assert prune(database, TERMS, at=at) == Pruned(events=1, reports=1, replies=1, evidence=2)
    with database.reading() as connection:
        assert connection.scalars(select(Event.c.subscriber_id)).all() == [2]
        old, new = connection.execute(select(StoredReport).order_by(StoredReport.c.id))
        assert (old.raw, old.bounce_class, new.raw) == (b"", "no_such_user", b"From: x")
        first, second = connection.execute(select(Delivery).order_by(Delivery.c.issue_id))
        assert (first.reply, first.code, first.state) == (None, 550, "failed")
        assert second.reply == "no r2@example.org here"
        assert [(line.after, line.ip, line.form, line.note) for line in history(connection, 1)] == [
            ("active", "", "", ""),
            ("unsubscribed", "", "", ""),
        ]
        assert [line.ip for line in history(connection, 2)] == ["192.0.2.7", "192.0.2.8"]


def test_twice_changes_nothing_more(database: Database, at: datetime) -> None:
    fill(database, at)
    prune(database, TERMS, at=at)
    assert prune(database, TERMS, at=at) == Pruned(0, 0, 0, 0)
    assert prune(database, TERMS, at=at + 100 * DAY) == Pruned(events=1, reports=1, replies=1, evidence=2)


def test_evidence_of_active_subscribers_stays(database: Database, at: datetime) -> None:
    with database.transaction() as connection:
        add(
            connection,
            parse_address("ana@example.org"),
            secret=SECRET,
            origin=Origin("form", ip="192.0.2.7"),
            at=at - 1000 * DAY,
        )
    assert prune(database, TERMS, at=at).evidence == 0


def test_prune_command_prints_what_it_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text('[retention]\nevents = "P30D"\n', encoding="utf-8")
    assert run(["db", "prune"]) == ExitCode.DONE
    assert capsys.readouterr().out.startswith("deleted: 0 events, 0 raw reports, 0 replies, ")
