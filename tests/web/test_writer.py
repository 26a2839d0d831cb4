"""Group commit: fewer transactions, each change with an outcome of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session

from mailer.database.models import Instance
from mailer.database.session import Database
from mailer.web.writer import Writer


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database("sqlite:///subscribers.db", folder=tmp_path)
    made.open()
    yield made
    made.engine.dispose()


def keep(name: str) -> Callable[[Session], None]:
    return lambda session: session.add(Instance(name=name, value=""))


def test_what_waits_shares_a_transaction(database: Database) -> None:
    commits: list[object] = []
    event.listen(database.engine, "commit", commits.append)
    writer = Writer(database)
    futures = [writer.submit(keep(str(n))) for n in range(100)]
    writer.start()
    for future in futures:
        future.result()
    writer.close()
    assert len(commits) == 1
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Instance)) == 100


def test_change_that_fails_takes_no_other_with_it(database: Database) -> None:
    def fails(session: Session) -> None:
        session.add(Instance(name="bad", value=""))
        raise KeyError("bad")

    writer = Writer(database)
    before = writer.submit(keep("before"))
    failing = writer.submit(fails)
    after = writer.submit(keep("after"))
    writer.start()
    assert before.result() is None
    with pytest.raises(KeyError):
        failing.result()
    assert after.result() is None
    writer.close()
    with database.reading() as session:
        assert sorted(session.scalars(select(Instance.name))) == ["after", "before"]


def test_closing_writes_what_waits(database: Database) -> None:
    writer = Writer(database)
    writer.start()
    future = writer.submit(keep("last"))
    writer.close()
    assert future.done()
    assert not any(thread.name == "mailer-writer" for thread in threading.enumerate())
    with database.reading() as session:
        assert session.get(Instance, "last") is not None
