"""Erasure: nothing personal is left, the books balance, and no import brings the address back."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from sqlalchemy import insert, select, text

from mailer.address import parse_address
from mailer.audience import ledger, suppression
from mailer.audience.privacy.erasing import Erased, erase
from mailer.audience.subscribers import AddResult, add, find
from mailer.audience.transfer import exporting
from mailer.audience.transfer.importing import import_file
from mailer.audience.transitions import Origin
from mailer.database.engine import Database
from mailer.database.tables import (
    Consent,
    Delivery,
    Event,
    StoredEdition,
    StoredIssue,
    StoredReport,
    Subscriber,
    Suppression,
    every_table,
)

SECRET = b"s" * 32
ANA = parse_address("Ana.Pop@Example.org")
BOB = parse_address("bob@example.org")


def populated(database: Database, at: datetime) -> int:
    """Return the id of Ana, who has rows in every table."""
    with database.transaction() as connection:
        add(connection, BOB, secret=SECRET, origin=Origin("command"), at=at, name="Bob")
        made = add(
            connection,
            ANA,
            secret=SECRET,
            origin=Origin("form", ip="192.0.2.7", note="Ana wrote"),
            at=at,
            name="Ana Pop",
            attributes={"city": "Anaville"},
            tags=["ana-tag"],
        )
        ana = made.subscriber_id
        assert ana is not None
        connection.execute(insert(StoredEdition).values(digest="d", content="", created_at=at))
        connection.execute(
            insert(StoredIssue).values(
                slug="one", title="One", source_path="", edition_digest="d", state="finished",
                dated_at=at, created_at=at,
            )
        )  # fmt: skip
        connection.execute(
            insert(Delivery).values(
                issue_id=1, subscriber_id=ana, state="failed", code=550, reply="no ana.pop here"
            )
        )
        connection.execute(
            insert(Event).values(
                at=at, kind="open", issue_id=1, subscriber_id=ana, details={"agent": "Ana's phone"}
            )
        )
        connection.execute(
            insert(StoredReport),
            [
                _report(at, "1", subscriber_id=ana),
                _report(at, "2", recipient="Ana.Pop@example.org"),
                _report(at, "3", recipient="bob@example.org", raw=b"bob"),
            ],
        )
        ledger.suppress(connection, ANA.key, "hard bounce", at=at, note="ana.pop")
    return ana


def _report(
    at: datetime, digest: str, *, raw: bytes = b"ana", recipient: str = "", subscriber_id: int | None = None
) -> dict[str, object]:
    return {
        "received_at": at, "source": "pipe", "digest": digest, "raw": raw, "kind": "bounce",
        "outcome": "applied", "recipient": recipient, "subscriber_id": subscriber_id, "details": {},
    }  # fmt: skip


def test_nothing_of_the_person_is_left_in_any_table(database: Database, at: datetime) -> None:
    populated(database, at)
    with database.transaction() as connection:
        done = erase(connection, ANA, secret=SECRET, at=at)
    assert done == Erased(known=True, ledger_lines=1, events=1, replies=1, reports=2)
    with database.reading() as connection:
        kept = [
            str(row).lower()
            for table in every_table().sorted_tables
            for row in connection.execute(select(table))
        ]
    assert [row for row in kept if "ana" in row or "192.0.2.7" in row] == []
    assert any("bob" in row for row in kept)


def test_books_keep_the_delivery_and_the_ledger_says_when(database: Database, at: datetime) -> None:
    ana = populated(database, at)
    with database.transaction() as connection:
        erase(connection, ANA, secret=SECRET, at=at)
        delivery = connection.execute(select(Delivery).where(Delivery.c.subscriber_id == ana)).one()
        lines = connection.execute(select(Consent).where(Consent.c.subscriber_id == ana)).all()
    assert (delivery.state, delivery.code, delivery.reply) == ("failed", 550, None)
    assert [(line.before, line.after, line.way, line.ip) for line in lines] == [
        ("active", "erased", "command", "")
    ]


def test_import_and_command_do_not_bring_the_address_back(
    database: Database, at: datetime, tmp_path: Path
) -> None:
    populated(database, at)
    with database.transaction() as connection:
        erase(connection, ANA, secret=SECRET, at=at)
        again = add(connection, ANA, secret=SECRET, origin=Origin("command"), at=at)
    assert again.result is AddResult.KEPT_OUT
    path = tmp_path / "people.csv"
    path.write_text("email\nANA.POP@example.org\n", encoding="utf-8")
    report = import_file(database, path, secret=SECRET, at=at)
    assert (report.added, report.kept_out) == (0, 1)


def test_erased_person_is_neither_listed_nor_counted(database: Database, at: datetime) -> None:
    populated(database, at)
    with database.transaction() as connection:
        erase(connection, ANA, secret=SECRET, at=at)
        assert [row["email"] for row in exporting.rows(connection, None)] == ["bob@example.org"]
        assert exporting.count(connection, None) == 1


def test_next_subscriber_does_not_inherit_the_number(database: Database, at: datetime) -> None:
    ana = populated(database, at)
    with database.transaction() as connection:
        erase(connection, ANA, secret=SECRET, at=at)
        new = add(
            connection, parse_address("new@example.org"), secret=SECRET, origin=Origin("command"), at=at
        )
    assert new.subscriber_id is not None
    assert new.subscriber_id > ana


def test_erasing_twice_or_a_stranger_leaves_one_hash(database: Database, at: datetime) -> None:
    stranger = parse_address("nobody@example.org")
    with database.transaction() as connection:
        for _ in range(2):
            assert not erase(connection, stranger, secret=SECRET, at=at).known
        assert find(connection, stranger) is None
        assert connection.scalars(select(Suppression.c.address_key)).all() == [
            suppression.erased_key(stranger.key, SECRET)
        ]
        assert connection.scalar(select(Subscriber.c.id)) is None
        assert connection.execute(text("SELECT count(*) FROM consents")).scalar_one() == 0
