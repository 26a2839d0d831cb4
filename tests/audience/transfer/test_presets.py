"""Files of other services: tags and attributes come along, and who was out there stays out here."""

from __future__ import annotations

import io
from datetime import datetime
from pathlib import Path

import pytest

from mailer.address import parse_address
from mailer.audience.ledger import unsubscribe
from mailer.audience.subscribers import add
from mailer.audience.transfer import exporting
from mailer.audience.transfer.importing import ImportReport, import_file
from mailer.audience.transfer.presets import PRESETS, split_tags
from mailer.audience.transitions import Origin
from mailer.database.engine import Database

SECRET = b"s" * 32


def bring(database: Database, folder: Path, content: str, preset: str, at: datetime) -> ImportReport:
    path = folder / "people.csv"
    path.write_text(content, encoding="utf-8")
    return import_file(database, path, secret=SECRET, at=at, preset=PRESETS[preset], tags=["moved"])


@pytest.mark.parametrize(
    ("preset", "content", "tags", "attributes"),
    [
        (
            "mailchimp",
            "Email Address,First Name,Last Name,UNSUB_TIME,TAGS,LEID\n"
            'a@example.org,Ana,Pop,,"""vip"",""early bird""",7\n'
            "b@example.org,Bob,Ion,2025-01-01 10:00:00,,8\n",
            ["early bird", "moved", "vip"],
            {},
        ),
        (
            "listmonk",
            "uuid,email,name,attributes,status\n"
            '1,a@example.org,Ana Pop,"{""age"": 5}",enabled\n2,b@example.org,Bob,{},blocklisted\n',
            ["moved"],
            {"age": 5},
        ),
        (
            "substack",
            "email,name,email_disabled,plan\na@example.org,Ana Pop,false,free\nb@example.org,Bob,true,free\n",
            ["moved"],
            {"plan": "free"},
        ),
        (
            "ghost",
            "id,email,name,subscribed_to_emails,labels\n"
            '1,a@example.org,Ana Pop,true,"vip,new"\n2,b@example.org,Bob,false,\n',
            ["moved", "new", "vip"],
            {},
        ),
        (
            "buttondown",
            "email,name,type,tags,metadata\n"
            'a@example.org,Ana Pop,regular,vip,"{""x"": ""y""}"\nb@example.org,Bob,unsubscribed,,\n',
            ["moved", "vip"],
            {"x": "y"},
        ),
    ],
)
def test_service_is_understood(
    database: Database,
    tmp_path: Path,
    at: datetime,
    preset: str,
    content: str,
    tags: list[str],
    attributes: dict[str, object],
) -> None:
    report = bring(database, tmp_path, content, preset, at)
    assert (report.added, report.opted_out, report.rejected) == (1, 1, 0)
    with database.reading() as connection:
        row, out = sorted(exporting.rows(connection, None), key=lambda one: str(one["email"]))
    assert (out["status"], out["name"], out["attributes"], out["tags"]) == ("unsubscribed", "", {}, [])
    assert (row["email"], row["name"]) == ("a@example.org", "Ana Pop")
    assert (row["tags"], row["attributes"]) == (tags, attributes)


def test_known_subscribers_get_the_tags_too(database: Database, tmp_path: Path, at: datetime) -> None:
    with database.transaction() as connection:
        add(connection, parse_address("a@example.org"), secret=SECRET, origin=Origin("command"), at=at)
    first = bring(database, tmp_path, "email,labels\na@example.org,vip\n", "ghost", at)
    again = bring(database, tmp_path, "email,labels\na@example.org,vip\n", "ghost", at)
    assert (first.updated, again.unchanged) == (1, 1)
    with database.reading() as connection:
        assert [row["tags"] for row in exporting.rows(connection, None)] == [["moved", "vip"]]


def test_own_export_comes_back_the_same(database: Database, tmp_path: Path, at: datetime) -> None:
    with database.transaction() as connection:
        for local in ("a", "b"):
            made = add(
                connection, parse_address(f"{local}@example.org"), secret=SECRET, origin=Origin("command"),
                at=at, name="Ana", attributes={"n": 1.5}, tags=["moved", "early bird"],
            )  # fmt: skip
        assert made.subscriber_id is not None
        unsubscribe(connection, made.subscriber_id, origin=Origin("page"), at=at)
        written = io.StringIO()
        exporting.write_csv(connection, written, None)
        before = [row for row in exporting.rows(connection, None) if row["status"] == "active"]
    other = Database("sqlite:///other.db", folder=tmp_path)
    other.open()
    report = bring(other, tmp_path, written.getvalue(), "mailer", at)
    with other.reading() as connection:
        assert [row for row in exporting.rows(connection, None) if row["status"] == "active"] == before
    assert (report.added, report.opted_out) == (1, 1)
    other.close()


def test_attributes_that_are_no_object_reject_the_row(
    database: Database, tmp_path: Path, at: datetime
) -> None:
    report = bring(
        database, tmp_path, "email,attributes\na@example.org,[1]\nb@example.org,{\n", "listmonk", at
    )
    assert (report.added, report.rejected) == (0, 2)
    assert [row.reason.partition(" (")[0] for row in report.examples] == [
        "attributes: is not a JSON object",
        "attributes: is not JSON",
    ]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [("", ()), ("vip", ("vip",)), ("a, b ,,c", ("a", "b", "c")), ('"x, y","z"', ("x, y", "z"))],
)
def test_tags_are_split_at_commas(cell: str, expected: tuple[str, ...]) -> None:
    assert split_tags(cell) == expected
