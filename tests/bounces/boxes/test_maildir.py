"""A Maildir: stored before it is marked, and never deleted."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from mailer.bounces import batch as batch_module
from mailer.bounces.boxes.fetch import Tally, fetch
from mailer.bounces.boxes.maildir import Maildir
from mailer.bounces.reading.reader import ReportReader, read_report
from mailer.bounces.reading.report import BounceReport
from mailer.bounces.record import Effect, Recorded, ReportOutcome, Rules, apply_mail
from mailer.bounces.storing import Progress
from mailer.database.engine import Database
from mailer.database.tables import StoredReport, TableRow
from mailer.errors import ConfigError, StorageError
from mailer.tokens import Signer
from tests.bounces.reports import SIGNER, dsn, subscribe, token


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "box"
    for name in ("new", "cur", "tmp"):
        (made / name).mkdir(parents=True)
    return made


def fetched(database: Database, folder: Path, at: datetime) -> Tally:
    return fetch(database, SIGNER, Maildir(folder), clock=lambda: at, rules=Rules())


def test_stored_messages_move_to_cur_as_seen(database: Database, folder: Path, at: datetime) -> None:
    ana = subscribe(database, at)
    (folder / "new" / "1.a").write_bytes(dsn(token(ana)))
    (folder / "new" / "2.b").write_bytes(b"Subject: hello\n\nNot a report.\n")
    tally = fetched(database, folder, at)
    assert (tally.read, dict(tally.outcomes)) == (2, {ReportOutcome.APPLIED: 1, ReportOutcome.UNMATCHED: 1})
    assert tally.effects == {Effect.SUPPRESSED: 1}
    assert sorted(path.name for path in (folder / "cur").iterdir()) == ["1.a:2,S", "2.b:2,S"]
    assert fetched(database, folder, at).read == 0


def test_mail_stays_new_when_it_cannot_be_stored(
    database: Database, folder: Path, at: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "new" / "1.a").write_bytes(dsn(token(subscribe(database, at))))

    def full(*_: object, **__: object) -> list[tuple[int, Progress]]:
        raise StorageError("the disk is full")

    monkeypatch.setattr(batch_module, "store", full)
    with pytest.raises(StorageError):
        fetched(database, folder, at)
    assert [path.name for path in (folder / "new").iterdir()] == ["1.a"]


def test_one_mail_that_makes_trouble_stops_no_other(
    database: Database, folder: Path, at: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = subscribe(database, at)
    (folder / "new" / "1.bad").write_bytes(b"bad")
    (folder / "new" / "2.good").write_bytes(dsn(token(ana)))

    genuine = apply_mail

    def picky(connection: Connection, signer: Signer, stored: TableRow, *rest: Any, **how: Any) -> Recorded:
        if stored.raw == b"bad":
            raise RecursionError("too deep")
        return genuine(connection, signer, stored, *rest, **how)

    monkeypatch.setattr(batch_module, "apply_mail", picky)
    tally = fetched(database, folder, at)
    assert (tally.effects[Effect.SUPPRESSED], len(tally.failures)) == (1, 1)
    assert "1.bad" in tally.failures[0]
    assert [path.name for path in (folder / "new").iterdir()] == ["1.bad"]


def test_bombs_are_recorded_like_any_other_mail(database: Database, folder: Path, at: datetime) -> None:
    nested = b"".join(b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (n, n) for n in range(3000))
    (folder / "new" / "1.nested").write_bytes(b"MIME-Version: 1.0\n" + nested)
    (folder / "new" / "2.comments").write_bytes(b"From: " + b"(" * 3000 + b"\n\ntext\n")
    (folder / "new" / "3.empty").write_bytes(b"")
    tally = fetched(database, folder, at)
    assert (tally.read, tally.failures) == (3, [])


def test_folder_that_is_not_a_maildir_is_reported(database: Database, tmp_path: Path, at: datetime) -> None:
    with pytest.raises(ConfigError, match=r"bounces\.maildirs"):
        fetched(database, tmp_path / "nowhere", at)


def test_two_simultaneous_passes_act_on_each_report_once(
    database: Database, folder: Path, at: datetime
) -> None:
    full = {"reply": "552 5.2.2 Mailbox is full", "status": "5.2.2"}
    for number in range(30):
        address = f"r{number}@example.com"
        mail = dsn(token(subscribe(database, at, address)), recipient=address, **full)
        (folder / "new" / f"{number}.x").write_bytes(mail)
    with ThreadPoolExecutor(2) as pool:
        tallies = list(pool.map(lambda _: fetched(database, folder, at), range(2)))
    assert sum(tally.effects[Effect.COUNTED] for tally in tallies) == 30
    assert [failure for tally in tallies for failure in tally.failures] == []
    assert len(list((folder / "cur").iterdir())) == 30


def test_message_that_takes_too_long_is_kept_as_unreadable_and_holds_back_nobody(
    database: Database, folder: Path, at: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = ReportReader(0.1)

    def read(raw: bytes) -> BounceReport:
        if b"bomb" not in raw:
            return read_report(raw)
        impatient.start()
        impatient._idle[0].send_signal(signal.SIGSTOP)
        return impatient.read(raw)

    monkeypatch.setattr(batch_module, "read_report", read)
    (folder / "new" / "1.a").write_bytes(dsn(token(subscribe(database, at))))
    (folder / "new" / "2.b").write_bytes(b"Subject: bomb\n\n...")
    bo = subscribe(database, at, "bo@example.com")
    (folder / "new" / "3.c").write_bytes(dsn(token(bo), recipient="bo@example.com"))
    tally = fetched(database, folder, at)
    impatient.close()
    assert (tally.failures, tally.effects) == ([], {Effect.SUPPRESSED: 2})
    assert list((folder / "new").iterdir()) == []
    with database.reading() as connection:
        kept = connection.execute(select(StoredReport).order_by(StoredReport.c.id)).all()
        assert [(one.kind, one.outcome) for one in kept] == [
            ("bounce", "applied"), ("unreadable", "ignored"), ("bounce", "applied"),
        ]  # fmt: skip
        assert b"bomb" in kept[1].raw


FETCH_AND_DIE = """
import os, sys, time
from datetime import UTC, datetime
from pathlib import Path
from mailer.bounces import batch
from mailer.bounces.boxes.fetch import fetch
from mailer.bounces.boxes.maildir import Maildir
from mailer.bounces.record import Rules
from mailer.database.engine import Database
from tests.bounces.reports import SIGNER

genuine = batch.read_report
url, folder, box, seconds = sys.argv[1:]

def read(raw):
    if b"killer" in raw:
        time.sleep(float(seconds))
        os._exit(9)
    return genuine(raw)

batch.read_report = read
batch._PATIENCE_SECONDS = 0.3
database = Database(url, folder=Path(folder))
fetch(database, SIGNER, Maildir(Path(box)), clock=lambda: datetime(2026, 3, 2, 9, tzinfo=UTC), rules=Rules())
"""


@pytest.mark.parametrize(("seconds", "deaths"), [("3", 1), ("0", 2)])
def test_message_that_kills_the_process_holds_back_no_other(
    database: Database, folder: Path, at: datetime, tmp_path: Path, seconds: str, deaths: int
) -> None:
    people = [subscribe(database, at, f"r{number}@example.com") for number in range(4)]
    for number, person in enumerate(people):
        mail = dsn(token(person), recipient=f"r{number}@example.com")
        (folder / "new" / f"{number}.x").write_bytes(mail)
    (folder / "new" / "1.y").write_bytes(b"Subject: killer\n\nBoom.\n")

    def run() -> int:
        url = database.url.render_as_string(hide_password=False)
        command = [sys.executable, "-c", FETCH_AND_DIE, url, str(tmp_path), str(folder), seconds]
        return subprocess.run(command, check=False, timeout=120).returncode

    assert [run() for _ in range(deaths)] == [9] * deaths
    assert sorted(path.name for path in (folder / "new").iterdir()) == ["1.y", "2.x", "3.x"]
    assert sorted(path.name for path in (folder / "cur").iterdir()) == ["0.x:2,S", "1.x:2,S"]
    assert run() == 0
    assert list((folder / "new").iterdir()) == []
    with database.reading() as connection:
        kept = connection.execute(select(StoredReport).order_by(StoredReport.c.id)).all()
        assert [(one.kind, one.outcome) for one in kept] == [
            ("bounce", "applied"), ("bounce", "applied"), ("unreadable", "ignored"), ("bounce", "applied"),
            ("bounce", "applied"),
        ]  # fmt: skip


def test_message_that_was_given_up_is_acted_on_once_another_process_has_read_it(
    database: Database, folder: Path, at: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = dsn(token(subscribe(database, at)))
    (folder / "new" / "1.a").write_bytes(raw)

    def read_while_another_gives_up(raw: bytes) -> BounceReport:
        with database.transaction() as connection:
            connection.execute(update(StoredReport).values(kind="unreadable", outcome="ignored"))
        return read_report(raw)

    monkeypatch.setattr(batch_module, "read_report", read_while_another_gives_up)
    assert fetched(database, folder, at).effects == {Effect.SUPPRESSED: 1}


def test_slow_message_is_marked_after_those_before_it(
    database: Database, folder: Path, at: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_module, "_PATIENCE_SECONDS", 0.3)
    still_new: list[list[str]] = []

    def read(raw: bytes) -> BounceReport:
        if b"slow" in raw:
            time.sleep(2)
            still_new.append(sorted(path.name for path in (folder / "new").iterdir()))
        return read_report(raw)

    monkeypatch.setattr(batch_module, "read_report", read)
    for name, subject in (("1.a", "one"), ("2.b", "slow"), ("3.c", "three")):
        (folder / "new" / name).write_bytes(f"Subject: {subject}\n\ntext\n".encode())
    assert fetched(database, folder, at).read == 3
    assert still_new == [["2.b", "3.c"]]
