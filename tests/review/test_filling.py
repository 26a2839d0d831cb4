"""The whole audience is filled, a page at a time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from mailer.address import parse_address
from mailer.audience import subscribers
from mailer.audience.transitions import Origin
from mailer.database.engine import Database
from mailer.database.tables import Subscriber
from mailer.delivery.issues import mailable
from mailer.rendering.message import Composer
from mailer.review import filling
from mailer.tokens import Signer
from tests.rendering.lint.scene import NEWSLETTER, PUBLIC_URL, SOURCE, edition


def composer(text: str) -> Composer:
    """Return the composer of an issue whose body says `text`."""
    return Composer(
        edition(SOURCE + f"\n{text}\n"),
        issue_id=1,
        newsletter=NEWSLETTER,
        public_url=PUBLIC_URL,
        bounce_domain="bounce.example.org",
        unsubscribe_address="leave@example.org",
        signer=Signer([b"a key for this test only"]),
    )


def add(database: Database, at: datetime, number: int, name: str = "Ana", **attributes: object) -> None:
    with database.transaction() as connection:
        subscribers.add(
            connection, parse_address(f"s{number}@example.com"), secret=database.secrets()[-1],
            origin=Origin("import"), at=at, name=name, attributes=attributes,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "odd", "field"),
    [
        ("In {{ subscriber.city }}.", {}, "subscriber.city"),
        ("{{ subscriber.city }} since {{ subscriber.since }}.", {"city": "Cluj"}, "subscriber.since"),
        ("{{ subscriber.city | upper }}.", {"city": None, "since": 2020}, "subscriber.city"),
    ],
)
def test_one_reader_of_another_shape_is_in_every_sample(
    database: Database,
    at: datetime,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    odd: dict[str, Any],
    field: str,
) -> None:
    monkeypatch.setattr(filling, "_GROUPED_AT_ONCE", 7)
    for number in range(40):
        add(database, at, number, city="Cluj", since=2020)
    add(database, at, 40, **odd)
    with database.reading() as connection:
        checked, lacking = filling.unfit(connection, composer(text), None, at=at, sample=3)
    [one] = lacking
    assert (one.field, one.count, one.examples) == (field, 1, ["s40@example.com"])
    # Three at random, and one of each of the two shapes.
    assert 3 <= checked <= 5


def test_sample_is_of_the_audience_alone(database: Database, at: datetime) -> None:
    for number in range(12):
        add(database, at, number, "" if number == 5 else "Ana", plan="paid" if number < 6 else "free")
    text = "In {{ subscriber.city | d('x') }}."
    paid = Subscriber.c.attributes["plan"].as_string() == "paid"
    with database.reading() as connection:
        assert filling.unfit(connection, composer(text), paid, at=at, sample=100) == (6, [])
        checked, _ = filling.unfit(connection, composer(text), paid, at=at, sample=1)
    assert 2 <= checked <= 3


def test_every_page_of_the_audience_is_filled(
    database: Database, at: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "_AT_ONCE", 2)
    with database.transaction() as connection:
        for number in range(7):
            subscribers.add(
                connection,
                parse_address(f"s{number}@example.com"),
                secret=database.secrets()[-1],
                origin=Origin("import"),
                at=at,
                attributes={"city": "Cluj"} if number % 3 else {},
                tags=["vip"] if number == 6 else [],
            )
    with database.reading() as connection:
        checked, lacking = filling.unfit(connection, composer("In {{ subscriber.city }}."), None, at=at)
        everyone = list(filling.everybody(connection, mailable(at)))
        assert filling.unfit(connection, composer("In {{ subscriber.city | d('x') }}."), None, at=at) == (
            7,
            [],
        )
    [one] = lacking
    assert (checked, one.field, one.count) == (7, "subscriber.city", 3)
    assert one.examples == ["s0@example.com", "s3@example.com", "s6@example.com"]
    assert [reader.tags for reader in everyone] == [()] * 6 + [("vip",)]
