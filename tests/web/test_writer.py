"""Group commit: fewer transactions, each change with an outcome of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, func, insert, select, update

from mailer.database.engine import Database
from mailer.database.tables import Instance
from mailer.errors import StorageError
from mailer.web.writer import Writer
from tests.databases import empty_database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with empty_database(tmp_path) as made:
        yield made


def keep(connection: Connection, names: Sequence[str]) -> list[int]:
    connection.execute(insert(Instance), [{"name": name, "value": ""} for name in names])
    return [len(names)] * len(names)


def in_a_loop(database: Database, asked: Callable[[Writer], Awaitable[None]]) -> None:
    """Ask a writer that begins once all is asked for."""

    async def run() -> None:
        writer = Writer(database)
        try:
            await asked(writer)
        finally:
            await asyncio.to_thread(writer.close)

    asyncio.run(run())


def test_what_waits_shares_a_transaction(database: Database) -> None:
    commits: list[object] = []
    event.listen(database.engine, "commit", commits.append)

    async def asked(writer: Writer) -> None:
        futures = [writer.submit(keep, str(n)) for n in range(100)]
        writer.start()
        assert await asyncio.gather(*futures) == [100] * 100

    in_a_loop(database, asked)
    assert len(commits) == 1
    with database.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(Instance)) == 100


def test_loop_is_woken_once_for_all_of_a_transaction(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked(writer: Writer) -> None:
        loop = asyncio.get_running_loop()
        woken: list[object] = []
        wake = loop.call_soon_threadsafe

        def counted(callback: Callable[..., object], *arguments: Any, **named: Any) -> asyncio.Handle:
            if threading.current_thread().name == "mailer-writer":
                woken.append(callback)
            return wake(callback, *arguments, **named)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        futures = [writer.submit(keep, str(n)) for n in range(100)]
        writer.start()
        await asyncio.gather(*futures)
        assert len(woken) == 1

    in_a_loop(database, asked)


def test_change_that_fails_takes_no_other_with_it(database: Database) -> None:
    async def asked(writer: Writer) -> None:
        before = writer.submit(keep, "before")
        failing = writer.submit(fails, "bad")
        after = writer.submit(keep, "after")
        writer.start()
        assert await before == 1
        with pytest.raises(KeyError):
            await failing
        assert await after == 1

    in_a_loop(database, asked)
    with database.reading() as connection:
        assert sorted(connection.scalars(select(Instance.c.name))) == ["after", "before"]


def fails(connection: Connection, names: Sequence[str]) -> list[None]:
    connection.execute(insert(Instance), [{"name": name, "value": ""} for name in names])
    raise KeyError(*names)


def test_changes_keep_their_order_and_see_one_another(database: Database) -> None:
    def append(connection: Connection, words: Sequence[str]) -> list[str]:
        story = Instance.c.name == "story"
        value = connection.scalars(select(Instance.c.value).where(story)).one() + "".join(words)
        connection.execute(update(Instance).where(story).values(value=value))
        return [value] * len(words)

    def shout(connection: Connection, words: Sequence[str]) -> list[None]:
        for word in words:
            connection.execute(update(Instance).values(value=Instance.c.value + word.upper()))
        return [None] * len(words)

    with database.transaction() as connection:
        connection.execute(insert(Instance).values(name="story", value=""))

    async def asked(writer: Writer) -> None:
        writer.submit_unattended(append, "a")
        writer.submit_unattended(append, "b")
        writer.submit_unattended(shout, "c")
        last = writer.submit(append, "d")
        writer.start()
        assert await last == "abCd"

    in_a_loop(database, asked)


def test_closing_writes_what_waits(database: Database) -> None:
    writer = Writer(database)
    writer.start()
    writer.submit_unattended(keep, "last")
    writer.close()
    assert not any(thread.name == "mailer-writer" for thread in threading.enumerate())
    with database.reading() as connection:
        assert connection.scalars(select(Instance.c.name)).all() == ["last"]


def test_failure_of_an_unattended_change_is_logged(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Writer(database)
    writer.submit_unattended(fails, "bad")
    writer.submit_unattended(keep, "good")
    with caplog.at_level(logging.ERROR):
        writer.start()
        writer.close()
    assert [record.message for record in caplog.records] == ["a change was not written: 'bad'"]
    with database.reading() as connection:
        assert connection.scalars(select(Instance.c.name)).all() == ["good"]


def test_who_has_gone_and_a_loop_that_has_ended_do_no_harm(database: Database) -> None:
    writer = Writer(database)

    async def asked() -> None:
        writer.submit(keep, "of a loop that ends")

    asyncio.run(asked())

    async def gone() -> None:
        first, second = writer.submit(keep, "cancelled"), writer.submit(keep, "waits")
        first.cancel()
        writer.start()
        assert await second == 3

    asyncio.run(gone())
    writer.close()
    with database.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(Instance)) == 3


def test_changes_beyond_the_capacity_are_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailer.web.writer._CAPACITY", 2)
    writer = Writer(database)
    writer.submit_unattended(keep, "one")
    writer.submit_unattended(keep, "two")
    with pytest.raises(StorageError, match="2 changes are waiting"):
        writer.submit_unattended(keep, "three")
    writer.start()
    writer.close()
