"""An issue that nobody would get: the error suggests what a segment can select by."""

from __future__ import annotations

from datetime import datetime

from mailer.address import parse_address
from mailer.audience.subscribers import add
from mailer.audience.transitions import Origin
from mailer.audience.vocabulary import empty_audience
from mailer.database.engine import Database


def test_segment_that_matches_nobody_names_tags_and_attributes(database: Database, at: datetime) -> None:
    with database.transaction() as connection:
        add(
            connection,
            parse_address("ana@example.org"),
            secret=b"0123456789abcdef0123456789abcdef",
            origin=Origin("import"),
            at=at,
            attributes={"points": 3, "country": "RO"},
            tags=("vip", "events"),
        )
    with database.reading() as connection:
        error = empty_audience(connection, "tag:vpi")
    assert error.message == "nobody would get it: no active subscriber matches tag:vpi"
    assert error.remedy == "the tags are: events, vip; the attributes are: country, points"


def test_whole_audience_without_anyone_suggests_an_import(database: Database) -> None:
    with database.reading() as connection:
        assert empty_audience(connection, "").remedy == "mailer subscribers import FILE"
