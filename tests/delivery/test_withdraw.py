"""An issue of which nothing was sent is withdrawn without a trace, corrected and queued again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, update

from mailer.database.engine import Database
from mailer.database.tables import (
    CanaryMember,
    Delivery,
    DeliveryState,
    ReplacedEdition,
    Run,
    StoredEdition,
    StoredIssue,
)
from mailer.delivery import arms, canary, control, issues
from mailer.delivery.issues import QueuedIssue
from mailer.errors import RefusedError
from mailer.rendering.edition import ABTest
from tests.delivery.scene import AT, EDITION, queued, run

HARMLESS = [DeliveryState.QUEUED, DeliveryState.DEFERRED, DeliveryState.FAILED, DeliveryState.SKIPPED]
TABLES = (StoredIssue, StoredEdition, Delivery, Run, CanaryMember)


def rows(database: Database) -> list[int]:
    with database.reading() as connection:
        return [connection.scalar(select(func.count()).select_from(table)) or 0 for table in TABLES]


def put(database: Database, issue: QueuedIssue, state: DeliveryState) -> None:
    """Bring one delivery of an issue to a state."""
    with database.transaction() as connection:
        one = update(Delivery).where(Delivery.c.issue_id == issue.id, Delivery.c.subscriber_id == 3)
        connection.execute(one.values(state=state.value))


@pytest.mark.parametrize("state", HARMLESS)
def test_unsent_issue_leaves_nothing_behind(database: Database, tmp_path: Path, state: DeliveryState) -> None:
    issue = queued(database, 5)
    with database.transaction() as connection:
        canary.begin(connection, issue.id, 0.5, ())
        control.pause(connection, issue.id, "a wrong date")
    run(database, issue, tmp_path / "box")
    put(database, issue, state)
    assert rows(database) == [1, 1, 5, 1, 3]
    with database.transaction() as connection:
        assert control.withdraw(connection, issue.id) == 5
    assert rows(database) == [0, 0, 0, 0, 0]


@pytest.mark.parametrize("state", [state for state in DeliveryState if state not in HARMLESS])
def test_issue_that_somebody_may_have_stays(database: Database, state: DeliveryState) -> None:
    issue = queued(database, 5)
    put(database, issue, state)
    before = rows(database)
    with (
        pytest.raises(RefusedError, match="1 message went out, or may have"),
        database.transaction() as connection,
    ):
        control.withdraw(connection, issue.id)
    assert rows(database) == before


def test_corrected_issue_is_queued_again_under_its_name(database: Database) -> None:
    issue = queued(database, 5)
    corrected = replace(EDITION, subject="Hello again")
    with database.transaction() as connection:
        control.withdraw(connection, issue.id)
        again, new = issues.enqueue(connection, corrected, source_path="", at=AT)
        assert (new, again.slug, again.edition_digest) == (True, issue.slug, corrected.digest)
        assert issues.edition(connection, again.edition_digest).subject == "Hello again"


def test_other_issues_keep_theirs(database: Database) -> None:
    issue = queued(database, 5)
    with database.transaction() as connection:
        other, _ = issues.enqueue(connection, replace(EDITION, slug="002-next"), source_path="", at=AT)
        twin = update(StoredIssue).where(StoredIssue.c.id == other.id)
        connection.execute(twin.values(edition_digest=issue.edition_digest))
    with database.transaction() as connection:
        control.withdraw(connection, issue.id)
        assert issues.get(connection, other.id).slug == "002-next"
        assert issues.edition(connection, issue.edition_digest) == EDITION
    with database.reading() as connection:
        assert connection.scalar(select(func.count()).where(Delivery.c.issue_id == other.id)) == 5


def test_edition_that_another_issue_replaced_stays(database: Database) -> None:
    """What some readers of another issue have got is kept, though no issue has it as its own any more."""
    issue = queued(database, 5)
    with database.transaction() as connection:
        other, _ = issues.enqueue(connection, replace(EDITION, slug="002-next"), source_path="", at=AT)
        connection.execute(
            insert(ReplacedEdition).values(
                issue_id=other.id, number=1, digest=issue.edition_digest, replaced_at=AT
            )
        )
    with database.transaction() as connection:
        control.withdraw(connection, issue.id)
    with database.reading() as connection:
        assert issues.edition(connection, issue.edition_digest) == EDITION
        assert connection.scalar(select(func.count()).select_from(ReplacedEdition)) == 1


def test_edition_that_is_an_arm_of_another_issue_stays(database: Database) -> None:
    issue = queued(database, 5)
    with database.transaction() as connection:
        other, _ = issues.enqueue(connection, replace(EDITION, slug="002-next"), source_path="", at=AT)
        arms.begin(
            connection, other.id, [other.edition_digest, issue.edition_digest], ABTest(share=0.5), seed="x"
        )
    with database.transaction() as connection:
        control.withdraw(connection, issue.id)
    with database.reading() as connection:
        assert issues.edition(connection, issue.edition_digest) == EDITION
