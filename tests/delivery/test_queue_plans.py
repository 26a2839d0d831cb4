"""What is asked for each window finds its rows by an index, however large the issue."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import text

from mailer.database.engine import Database
from mailer.database.tables import DeliveryState
from mailer.delivery import issues, queue, runs
from mailer.delivery.candidates import still_mailable
from mailer.delivery.queue import Settled
from mailer.delivery.waiting import next_due, waiting
from tests.database.statements import statements, whole_issue_searches
from tests.delivery.scene import AT, EDITION, queued


def test_claims_and_retries_never_look_at_the_whole_issue(database: Database) -> None:
    issue = queued(database, 200)
    with statements(database) as said, database.transaction() as connection:
        run_id = runs.begin(connection, issue.id, at=AT)
        taken = queue.claim(
            connection, issue.id, run_id=run_id, limit=20, after=0, at=AT, resend_uncertain=True
        )
        sent = [Settled(one.recipient.subscriber_id, DeliveryState.SENT) for one in taken.claimed]
        queue.settle(connection, issue.id, sent, run_id=run_id, at=AT)
        next_due(connection, issue.id, resend_uncertain=True)
        waiting(connection, issue.id)
    assert len(taken.claimed) == 20
    assert taken.after == max(one.recipient.subscriber_id for one in taken.claimed)
    assert len(said) > 5
    assert whole_issue_searches(database, said) == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_claim_that_merges_two_tables_reads_no_subscriber_before_its_start(database: Database) -> None:
    issue = queued(database, 2_000)
    with database.transaction() as connection:
        run_id = runs.begin(connection, issue.id, at=AT)
    with statements(database) as said, database.transaction() as connection:
        queue.claim(connection, issue.id, run_id=run_id, limit=20, after=1_900, at=AT, resend_uncertain=True)
    statement, values = next(one for one in said if "after" in one[1] and one[0].startswith("SELECT"))
    with database.engine.connect() as connection:
        # What the planner prefers for a large issue.
        connection.exec_driver_sql("SET enable_nestloop = off; SET enable_hashjoin = off")
        lines = connection.exec_driver_sql(f"EXPLAIN ANALYZE {statement}", values).scalars().all()
    plan = "\n".join(lines)
    read = re.search(r"on subscribers .*actual time=\S+ rows=(\d+)", plan)
    assert "Merge Left Join" in plan
    assert read is not None
    assert int(read[1]) <= 100


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("size", [20, 150, 500])
def test_postgresql_reads_only_the_window_after_an_import(database: Database, size: int) -> None:
    """Nobody has analysed the subscribers yet, and the statistics of deliveries know only queued ones."""
    with database.transaction() as connection:
        for table in ("subscribers", "deliveries"):
            connection.execute(text(f"ALTER TABLE {table} SET (autovacuum_enabled = false)"))
        connection.execute(
            text(
                "INSERT INTO subscribers (address, address_key, domain, status, attributes, created_at,"
                " changed_at) SELECT key, key, 'example.org', 'active', '{}', 0, 0"
                " FROM (SELECT 's' || n || '@example.org' AS key FROM generate_series(1, 10000) AS n) AS them"
            )
        )
        issue, _ = issues.enqueue(connection, EDITION, source_path="issues/001-hello.md", at=AT)
    with statements(database) as said, database.transaction() as connection:
        run_id = runs.begin(connection, issue.id, at=AT)
        taken = queue.claim(
            connection, issue.id, run_id=run_id, limit=size, after=0, at=AT, resend_uncertain=True
        )
        ids = [one.recipient.subscriber_id for one in taken.claimed]
        still_mailable(connection, ids, at=AT)
        sent = [Settled(subscriber_id, DeliveryState.SENT) for subscriber_id in ids]
        queue.settle(connection, issue.id, sent, run_id=run_id, at=AT)
    read = 0
    with database.engine.connect() as connection:
        for statement, values in said:
            if re.search(r"\b(subscribers|deliveries)\b", statement):
                plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values)
                read += rows_read(plan.scalar_one()[0]["Plan"])
        connection.rollback()
    assert len(ids) == size
    assert 3 * size <= read <= 10 * size


def rows_read(plan: dict[str, Any]) -> int:
    """Return how many rows the steps of a plan read of tables and functions, those they dropped included."""
    own: int = plan["Actual Loops"] * (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0))
    if "Scan" not in plan["Node Type"]:
        own = 0
    return own + sum(rows_read(part) for part in plan.get("Plans", ()))


def test_such_a_search_would_be_noticed(database: Database) -> None:
    issue = queued(database, 5)
    with statements(database) as said, database.reading() as connection:
        connection.execute(text("SELECT attempts FROM deliveries WHERE issue_id = :id"), {"id": issue.id})
    assert len(whole_issue_searches(database, said)) == 1
