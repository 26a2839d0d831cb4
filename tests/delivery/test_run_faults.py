"""What changes under a run: the relay, the clock, the disk, the database. Nobody is lost, nobody blamed."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import event

from mailer.config import DeliverySettings, Security
from mailer.database.engine import Database
from mailer.delivery.books import Books
from mailer.delivery.ending import Ending
from mailer.delivery.sender import Sender
from mailer.errors import StorageError
from tests.delivery.scene import AT, books, delivery, locked, queued, recipients, run
from tests.delivery.test_hostile import LOCK_STEP, PEOPLE, Met
from tests.smtp.scripted import EHLO, Script
from tests.smtp.test_dial import certificate, server_context, trusting
from tests.smtp.test_session import on

LATER = b"451 4.7.1 Greylisted, come again\r\n"
SMALL = b"250-test.example\r\n250-PIPELINING\r\n250 SIZE 100\r\n"
WINDOW = 20


@pytest.mark.parametrize(
    ("before", "after"), [(EHLO, LOCK_STEP), (LOCK_STEP, EHLO)], ids=["less offered", "more offered"]
)
def test_each_connection_is_held_to_what_it_offered(database: Database, before: bytes, after: bytes) -> None:
    script = Script(ehlo=before, answer=lambda verb, n: after if verb == "EHLO" and n > 1 else None)
    met = Met(database, script, connections=1, messages_per_connection=3)
    assert met.wrong_rows() == []
    assert (met.books.sent, script.connections) == (PEOPLE, 3)
    pipelined = [b"\r\nDATA\r\n" in read for read in script.reads if b"MAIL FROM" in read]
    assert set(pipelined) == {True, False}


def test_relay_that_takes_less_than_before_stops_the_issue_and_fails_nobody(database: Database) -> None:
    script = Script(answer=lambda verb, n: SMALL if verb == "EHLO" and n > 1 else None)
    met = Met(database, script, connections=1, messages_per_connection=3)
    assert met.wrong_rows() == []
    assert met.ended.ending is Ending.PAUSED
    assert "the relay takes 100 at most" in met.ended.reason
    assert (met.books.sent, met.books.failed) == (3, 0)
    assert met.books.queued + met.books.deferred == PEOPLE - 3


def test_certificate_that_expires_stops_the_issue_and_fails_nobody(
    database: Database, tmp_path: Path
) -> None:
    authority = certificate("Test authority")
    good = server_context(certificate("127.0.0.1", authority), tmp_path)
    expired = server_context(certificate("127.0.0.1", authority, lasts=-timedelta(hours=1)), tmp_path)
    ehlo = EHLO.replace(b"250-PIPELINING", b"250-STARTTLS\r\n250-PIPELINING")
    script = Script(ehlo=ehlo, starttls=good)

    def answer(verb: str, n: int) -> bytes | None:
        if (verb, n) == ("STAR", 2):
            script.starttls = expired
        return None

    script.answer = answer
    met = Met(
        database, script, connections=1, tls=trusting(authority),
        security=Security.STARTTLS, messages_per_connection=3,
    )  # fmt: skip
    assert met.ended.ending is Ending.PAUSED
    assert "certificate has expired" in met.ended.reason
    assert (met.books.sent, met.books.queued) == (3, PEOPLE - 3)


def set_forward(seconds: float) -> float:
    return seconds + 36_000 if seconds > 100 else seconds


def set_back(seconds: float) -> float:
    return seconds - 3_600 if seconds > 100 else seconds


@pytest.mark.parametrize(("clock", "least", "most"), [(set_forward, 100, 200), (set_back, 4_200, 4_400)])
def test_clock_that_is_set_while_a_retry_waits(
    database: Database, clock: Any, least: float, most: float
) -> None:
    # The retry is due ten minutes after the first try, by the wall clock as it is then.
    met = Met(database, Script(answer=on("RCPT", 1, LATER)), wait=True, clock=clock)
    assert met.wrong_rows() == []
    assert met.books.sent == PEOPLE
    assert least <= met.seconds <= most


def test_clock_that_goes_back_in_a_run_repeats_nobody(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 60)
    hours = iter(range(10_000))
    ended = run(database, issue, tmp_path / "out", clock=lambda: AT - timedelta(hours=next(hours)))
    assert ended.ending is Ending.FINISHED
    assert len(recipients(tmp_path / "out")) == len(set(recipients(tmp_path / "out"))) == 60


@pytest.mark.parametrize("taken", [True, False])
def test_whose_time_ran_out_while_nothing_ran_is_tried_once_more(
    database: Database, tmp_path: Path, taken: bool
) -> None:
    issue = queued(database, 1)
    later = lambda recipient: "451 4.7.1 Greylisted, come again"  # noqa: E731
    run(database, issue, tmp_path / "out", answer=later, clock=lambda: AT)
    much_later = AT + timedelta(days=9)
    ended = run(database, issue, tmp_path / "out", answer=None if taken else later, clock=lambda: much_later)
    assert ended.ending is Ending.FINISHED
    assert (ended.books.sent, ended.books.failed) == ((1, 0) if taken else (0, 1))
    with database.reading() as connection:
        row = delivery(connection, issue.id, 1)
        assert (row.attempts, row.first_at, row.bounce_class) == (2, AT, None if taken else "expired")


@contextlib.contextmanager
def full_disk(database: Database) -> Iterator[None]:
    """Let the database file grow no more."""

    def limit(connection: Any) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")

    event.listen(database.engine, "begin", limit)
    try:
        yield
    finally:
        event.remove(database.engine, "begin", limit)
        database.close()


@pytest.mark.parametrize(("fault", "said"), [(full_disk, "the disk is full"), (locked, "is locked")])
@pytest.mark.parametrize("policy", ["resend", "hold"])
def test_books_that_cannot_be_written_end_the_run_and_lose_nobody(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Any,
    said: str,
    policy: Literal["resend", "hold"],
) -> None:
    number = 400
    issue = queued(database, number)
    monkeypatch.setattr("mailer.database.engine._BUSY_TIMEOUT_MS", 50)
    database.close()
    settings = DeliverySettings(window=WINDOW, uncertain=policy)
    with contextlib.ExitStack() as stack:
        broken: list[Books] = []

        def break_it(known: Books, sender: Sender) -> None:
            if known.sent >= 20 and not broken:
                broken.append(known)
                stack.enter_context(fault(database))

        with pytest.raises(StorageError, match=said):
            run(database, issue, tmp_path / "out", settings=settings, meanwhile=break_it)
    known = books(database, issue)
    # On a full disk the last transaction may still find room in pages that are there.
    assert (0 if fault is full_disk else 1) <= known.sending <= WINDOW
    assert len(recipients(tmp_path / "out")) <= known.sent + known.sending
    ended = run(database, issue, tmp_path / "out", settings=settings)
    copies = Counter(recipients(tmp_path / "out"))
    if policy == "hold":
        assert (ended.books.sent, ended.books.uncertain) == (number - known.sending, known.sending)
        assert max(copies.values()) == 1
    else:
        assert (ended.books.sent, len(copies)) == (number, number)
        assert copies.total() - number <= WINDOW


def test_outbox_that_cannot_store_defers_and_leaves_no_litter(database: Database, tmp_path: Path) -> None:
    issue = queued(database, 40)
    box, came = tmp_path / "out", []

    def answer(recipient: str) -> str | None:
        came.append(recipient)
        if len(came) == 11:
            (box / "new").rename(box / "away")
        return None

    ended = run(database, issue, box, answer=answer, clock=lambda: AT)
    assert (ended.books.failed, ended.books.sent + ended.books.deferred) == (0, 40)
    assert ended.books.deferred >= 20
    assert list((box / "tmp").iterdir()) == []
    (box / "away").rename(box / "new")
    assert run(database, issue, box, clock=lambda: AT + timedelta(days=1)).books.sent == 40
    assert len(recipients(box)) == len(set(recipients(box))) == 40
