"""Many ids as one parameter, and the JSON of rows, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text

from mailer.database.among import among
from mailer.database.engine import Database
from mailer.database.tables import Subscriber
from tests.delivery.scene import AT
from tests.postgres import Server


@pytest.fixture(params=["sqlite", "postgresql"])
def people(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = "sqlite:///subscribers.db"
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgresql")
        url = server.new_database()
    database = Database(url, folder=tmp_path)
    database.open()
    yield database
    database.close()


def add(database: Database, subscriber_id: int, attributes: dict[str, Any]) -> None:
    address = f"reader{subscriber_id}@example.org"
    with database.transaction() as connection:
        connection.execute(
            insert(Subscriber).values(
                id=subscriber_id,
                address=address,
                address_key=address,
                domain="example.org",
                name="",
                status="active",
                attributes=attributes,
                created_at=AT,
                changed_at=AT,
            )
        )


@pytest.mark.parametrize(
    ("asked", "found"),
    [([], []), ([2], [2]), ([5, 3, 2, 2, -1, 2**62], [2, 3]), (list(range(70_000)), [1, 2, 3])],
)
def test_among_finds_exactly_the_given_ids(people: Database, asked: list[int], found: list[int]) -> None:
    for number in (1, 2, 3):
        add(people, number, {})
    wanted = select(Subscriber.c.id).where(among(Subscriber.c.id, "ids")).order_by(Subscriber.c.id)
    with people.reading() as connection:
        assert list(connection.scalars(wanted, {"ids": asked})) == found


def test_sqlite_searches_by_id_instead_of_scanning_the_table(tmp_path: Path) -> None:
    database = Database("sqlite:///subscribers.db", folder=tmp_path)
    database.open()
    statement = str(
        select(Subscriber.c.address).where(among(Subscriber.c.id, "ids")).compile(database.engine)
    )
    with database.reading() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", ("[1]",)).all()
    assert "SEARCH subscribers" in str(plan)
    assert "SCAN subscribers" not in str(plan)
    database.close()


def test_attributes_survive_a_round_trip(people: Database) -> None:
    attributes = {"n": 1.5, "deep": {"list": [1, None, True, "é🌱"]}, "large": 2**70, "empty": {}}
    add(people, 1, attributes)
    with people.reading() as connection:
        assert connection.scalars(select(Subscriber.c.attributes)).one() == attributes


def test_half_a_surrogate_pair_is_read_where_it_could_be_written(tmp_path: Path) -> None:
    database = Database("sqlite:///subscribers.db", folder=tmp_path)
    database.open()
    add(database, 1, {})
    with database.transaction() as connection:
        connection.execute(text("""UPDATE subscribers SET attributes = '{"x": "\\ud800", "n": NaN}'"""))
    with database.reading() as connection:
        assert connection.scalars(select(Subscriber.c.attributes)).one()["x"] == "\ud800"
    database.close()
