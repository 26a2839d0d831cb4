"""Group commit: fewer transactions, each change with an outcome of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import event, func, select, update
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


def keep(session: Session, names: Sequence[str]) -> list[int]:
    session.add_all(Instance(name=name, value="") for name in names)
    return [len(names)] * len(names)


def test_what_waits_shares_a_transaction(database: Database) -> None:
    commits: list[object] = []
    event.listen(database.engine, "commit", commits.append)
    writer = Writer(database)
    futures = [writer.submit(keep, str(n)) for n in range(100)]
    writer.start()
    assert [future.result() for future in futures] == [100] * 100
    writer.close()
    assert len(commits) == 1
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Instance)) == 100


def test_change_that_fails_takes_no_other_with_it(database: Database) -> None:
    def fails(session: Session, names: Sequence[str]) -> list[None]:
        session.add_all(Instance(name=name, value="") for name in names)
        raise KeyError(*names)

    writer = Writer(database)
    before = writer.submit(keep, "before")
    failing = writer.submit(fails, "bad")
    after = writer.submit(keep, "after")
    writer.start()
    assert before.result() == 1
    with pytest.raises(KeyError):
        failing.result()
    assert after.result() == 1
    writer.close()
    with database.reading() as session:
        assert sorted(session.scalars(select(Instance.name))) == ["after", "before"]


def test_changes_keep_their_order_and_see_one_another(database: Database) -> None:
    def append(session: Session, words: Sequence[str]) -> list[str]:
        stored = session.get_one(Instance, "story")
        stored.value += "".join(words)
        return [stored.value] * len(words)

    def shout(session: Session, words: Sequence[str]) -> list[None]:
        for word in words:
            session.execute(update(Instance).values(value=Instance.value + word.upper()))
        return [None] * len(words)

    with database.transaction() as session:
        session.add(Instance(name="story", value=""))
    writer = Writer(database)
    writer.submit(append, "a")
    writer.submit(append, "b")
    writer.submit(shout, "c")
    last = writer.submit(append, "d")
    writer.start()
    assert last.result() == "abCd"
    writer.close()


def test_closing_writes_what_waits(database: Database) -> None:
    writer = Writer(database)
    writer.start()
    future = writer.submit(keep, "last")
    writer.close()
    assert future.done()
    assert not any(thread.name == "mailer-writer" for thread in threading.enumerate())
    with database.reading() as session:
        assert session.get(Instance, "last") is not None
