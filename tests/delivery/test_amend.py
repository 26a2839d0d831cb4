"""A partly sent issue is continued with a corrected edition, and both are kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes
from pathlib import Path

import pytest
from sqlalchemy import select, update

from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState, IssueState, StoredEdition, Subscriber
from mailer.delivery import amending, control, issues, queue, runs
from mailer.delivery.books import Books, books_of
from mailer.delivery.ending import Ending
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.sender import Sender
from mailer.errors import RefusedError
from mailer.reports import history
from tests.delivery import scene
from tests.delivery.scene import AT, EDITION, books, queued, run

CORRECTED = replace(EDITION, subject="Hello, corrected", title="Hello, corrected")
LATER = AT + timedelta(hours=1)


def partly_sent(database: Database, maildir: Path, people: int = 40) -> QueuedIssue:
    """Queue the issue and stop its run after some messages."""
    issue = queued(database, people)

    def stop(books: Books, sender: Sender) -> None:
        if books.sent:
            sender.stop()

    assert run(database, issue, maildir, meanwhile=stop).ending is Ending.STOPPED
    assert 0 < books(database, issue).sent < people
    return issue


def amend(database: Database, issue: QueuedIssue) -> int:
    with database.transaction() as connection:
        return amending.amend(connection, issue.id, CORRECTED, source_path="issues/001-hello.md", at=LATER)


def put(database: Database, issue: QueuedIssue, state: DeliveryState, *people: int) -> None:
    with database.transaction() as connection:
        some = update(Delivery).where(Delivery.c.issue_id == issue.id)
        some = some.where(Delivery.c.subscriber_id.in_(people)) if people else some
        connection.execute(some.values(state=state.value))


def received(maildir: Path) -> dict[str, list[str]]:
    """Return the subjects that each address got."""
    found: dict[str, list[str]] = {}
    for path in (maildir / "new").iterdir():
        mail = message_from_bytes(path.read_bytes())
        found.setdefault(mail["X-Original-To"], []).append(mail["Subject"])
    return found


def test_those_who_do_not_have_it_get_the_corrected_edition(database: Database, tmp_path: Path) -> None:
    issue = partly_sent(database, tmp_path / "box")
    first = set(received(tmp_path / "box"))
    assert amend(database, issue) == 2
    assert run(database, issue, tmp_path / "box", edition=CORRECTED).ending is Ending.FINISHED
    got = received(tmp_path / "box")
    assert len(got) == 40
    assert got == {one: ["Hello" if one in first else "Hello, corrected"] for one in got}
    with database.reading() as connection:
        found = amending.numbers(connection, issue.id, books_of(connection, issue.id))
        assert [(one.number, one.digest, one.since, one.sent) for one in found] == [
            (1, EDITION.digest, AT, len(first)),
            (2, CORRECTED.digest, LATER, 40 - len(first)),
        ]
        assert issues.edition(connection, EDITION.digest) == EDITION
        assert issues.get(connection, issue.id).title == "Hello, corrected"
        for address in got:
            story = history.story(connection, address)
            assert story is not None
            delivery = next(one for one in story.happenings if one.what == "delivery")
            assert delivery.facts["edition"] == (1 if address in first else 2)
            assert f"sent (edition {delivery.facts['edition']} of 2)" in delivery.text


def test_issue_is_amended_again_and_again(database: Database, tmp_path: Path) -> None:
    issue = partly_sent(database, tmp_path / "box")
    amend(database, issue)
    with database.transaction() as connection:
        # Back to the first text: that is an edition of its own.
        again = amending.amend(connection, issue.id, EDITION, source_path="", at=LATER)
        assert again == 3
        assert issues.get(connection, issue.id).edition_digest == EDITION.digest
        digests = amending.digests(connection, issue.id)
        assert digests == [EDITION.digest, CORRECTED.digest, EDITION.digest]


def test_unchanged_file_is_no_amendment(database: Database, tmp_path: Path) -> None:
    issue = partly_sent(database, tmp_path / "box")
    with database.transaction() as connection, pytest.raises(RefusedError, match="has not changed"):
        amending.amend(connection, issue.id, EDITION, source_path="issues/001-hello.md", at=LATER)
    with database.reading() as connection:
        assert issues.edition_number(connection, issue.id) == 1


def test_unsent_issue_is_withdrawn_instead(database: Database) -> None:
    issue = queued(database, 5)
    with pytest.raises(RefusedError, match="nothing of 001-hello was sent") as refused:
        amend(database, issue)
    assert "mailer withdraw 001-hello" in str(refused.value.remedy)


@pytest.mark.parametrize("others", [DeliveryState.SENT, DeliveryState.SKIPPED, DeliveryState.FAILED])
def test_issue_with_nothing_left_is_refused(database: Database, others: DeliveryState) -> None:
    issue = queued(database, 5)
    put(database, issue, others)
    put(database, issue, DeliveryState.SENT, 1, 2)
    with pytest.raises(RefusedError, match="nothing of 001-hello is left to send") as refused:
        amend(database, issue)
    assert ("--only failed" in refused.value.message) == (others is DeliveryState.FAILED)


def test_failed_deliveries_get_the_correction_once_they_are_queued_again(
    database: Database, tmp_path: Path
) -> None:
    issue = queued(database, 10)
    run(database, issue, tmp_path / "box", answer=lambda to: "550 5.1.1 No" if to.startswith("s1") else None)
    with database.transaction() as connection:
        assert control.retry(connection, issue.id, DeliveryState.FAILED, at=LATER) == 2
    amend(database, issue)
    run(database, issue, tmp_path / "box", edition=CORRECTED)
    assert Counter(subject for [subject] in received(tmp_path / "box").values()) == {
        "Hello": 8,
        "Hello, corrected": 2,
    }


@pytest.mark.parametrize("everyone_else_has_it", [False, True])
def test_those_whose_message_could_not_be_composed_get_the_correction(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, everyone_else_has_it: bool
) -> None:
    needy = replace(EDITION, text=EDITION.text + "You live in {{ subscriber.city }}.\n")
    monkeypatch.setattr(scene, "EDITION", needy)
    issue = queued(database, 12)
    with database.transaction() as connection:
        some = update(Subscriber).where(Subscriber.c.id.between(1, 8))
        connection.execute(some.values(attributes={"city": "Cluj"}))
    assert run(database, issue, tmp_path / "box").ending is Ending.FINISHED
    found = books(database, issue)
    assert (found.sent, found.failed) == (8, 4)
    if not everyone_else_has_it:
        put(database, issue, DeliveryState.QUEUED, 1)
    with database.transaction() as connection:
        assert amending.left(connection, issue.id) == (4 if everyone_else_has_it else 5)
    amend(database, issue)
    ended = run(database, issue, tmp_path / "box", edition=CORRECTED)
    assert (ended.ending, ended.books.sent, ended.books.failed) == (Ending.FINISHED, 12, 0)
    got = received(tmp_path / "box")
    assert [got[f"s{number}@example.org"] for number in range(9, 13)] == [["Hello, corrected"]] * 4


def test_cancelled_issue_is_refused(database: Database, tmp_path: Path) -> None:
    issue = partly_sent(database, tmp_path / "box")
    with database.transaction() as connection:
        control.cancel(connection, issue.id, at=LATER)
    with pytest.raises(RefusedError, match="001-hello is cancelled"):
        amend(database, issue)


def test_paused_issue_stays_paused(database: Database, tmp_path: Path) -> None:
    issue = partly_sent(database, tmp_path / "box")
    with database.transaction() as connection:
        control.pause(connection, issue.id, "a wrong date")
    amend(database, issue)
    with database.reading() as connection:
        assert issues.get(connection, issue.id).state is IssueState.PAUSED


def test_interrupted_deliveries_are_uncertain_and_may_get_the_correction(database: Database) -> None:
    issue = queued(database, 5)
    with database.transaction() as connection:
        run_id = runs.begin(connection, issue.id, at=AT)
        queue.claim(connection, issue.id, run_id=run_id, limit=2, after=0, at=AT, resend_uncertain=True)
        runs.end(connection, run_id, at=AT)
    assert amend(database, issue) == 2
    found = books(database, issue)
    assert (found.uncertain, found.queued) == (2, 3)


def test_withdrawing_drops_every_edition(database: Database, tmp_path: Path) -> None:
    issue = partly_sent(database, tmp_path / "box")
    amend(database, issue)
    # Every message came back.
    put(database, issue, DeliveryState.FAILED)
    with database.transaction() as connection:
        assert control.withdraw(connection, issue.id) == 40
        assert connection.scalars(select(StoredEdition.c.digest)).all() == []
        again, new = issues.enqueue(connection, EDITION, source_path="", at=LATER)
        assert (new, issues.edition_number(connection, again.id)) == (True, 1)
