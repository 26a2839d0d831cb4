"""What a batch of clicks and openings leaves in the database, whichever it is."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import insert, select

from mailer.database.engine import Database
from mailer.database.tables import Event, Subscriber
from mailer.web.intake.tracking import write

AT = datetime(2026, 3, 4, 10, 0, 0, 123456, tzinfo=UTC)


def test_events_are_kept_whole_in_order_and_name_only_those_who_agreed(database: Database) -> None:
    with database.transaction() as connection:
        for number, agreed in ((1, {"tracking_consent": True}), (2, {"tracking_consent": False}), (3, {})):
            address = f"s{number}@example.org"
            connection.execute(
                insert(Subscriber).values(
                    id=number, address=address, address_key=address, domain="example.org", name="",
                    status="active", attributes={}, created_at=AT, changed_at=AT, **agreed,
                )
            )  # fmt: skip
    events = [
        {
            "at": AT + timedelta(microseconds=number),
            "kind": "click" if number % 2 else "open",
            "issue_id": None if number == 4 else 7,
            "subscriber_id": number % 5,
            "details": {"link": number, "machine": "proxy"} if number % 2 else {},
        }
        for number in range(10)
    ]
    with database.transaction() as connection:
        assert write(connection, events) == [None] * 10
    with database.reading() as connection:
        kept = [
            {name: getattr(row, name) for name in events[0]}
            for row in connection.execute(select(Event).order_by(Event.c.id))
        ]
    assert kept == [event | {"subscriber_id": 1 if event["subscriber_id"] == 1 else None} for event in events]
