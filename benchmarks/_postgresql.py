"""Empty PostgreSQL databases, and the way to one with a delay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count

import psycopg
from psycopg.sql import SQL, Identifier
from sqlalchemy import make_url

from benchmarks._peers import delayed
from tests.postgres import running

New = Callable[[], AbstractContextManager[str]]


@contextmanager
def databases(url: str) -> Iterator[New]:
    """Yield what makes an empty schema in a database, and drops it afterwards.

    'postgresql' means a server of our own, which waits for the disk as SQLite does.
    """
    with ExitStack() as stack:
        if url == "postgresql":
            url = stack.enter_context(running(fsync=True)).dsn
        numbers = count(1)
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:

            @contextmanager
            def new() -> Iterator[str]:
                name = f"benchmark{next(numbers)}"
                connection.execute(SQL("CREATE SCHEMA {}").format(Identifier(name)))
                try:
                    chosen = make_url(url).update_query_dict({"options": f"-csearch_path={name}"})
                    yield chosen.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
                finally:
                    connection.execute(SQL("DROP SCHEMA {} CASCADE").format(Identifier(name)))

            yield new


@contextmanager
def away(url: str, round_trip_seconds: float) -> Iterator[str]:
    """Yield a URL of the same database over a round trip of this length; it must be on this machine."""
    parsed = make_url(url)
    with delayed(parsed.port or 5432, round_trip_seconds) as port:
        yield parsed.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
