"""The signing secrets are created once, even by processes that start together."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import delete, func, insert, select

from mailer.database.engine import Database
from mailer.database.tables import Instance

TOGETHER = 6


def test_all_who_need_them_first_at_the_same_moment_get_the_same(database: Database) -> None:
    for _ in range(5):
        with database.transaction() as connection:
            connection.execute(delete(Instance).where(Instance.c.name == "secrets"))
        barrier = threading.Barrier(TOGETHER)

        def first_use(barrier: threading.Barrier = barrier) -> list[bytes]:
            with Database(database.url.render_as_string(hide_password=False)) as own:
                own.version()
                barrier.wait(30)
                return own.secrets()

        with ThreadPoolExecutor(TOGETHER) as pool:
            found = [one.result(60) for one in [pool.submit(first_use) for _ in range(TOGETHER)]]
        assert found == [database.secrets()] * TOGETHER
        with database.reading() as connection:
            assert connection.scalar(select(func.count()).where(Instance.c.name == "secrets")) == 1


def test_older_secrets_come_first(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(insert(Instance).values(name="secrets", value="00ff 01"))
    assert database.secrets() == [b"\x00\xff", b"\x01"]
