"""JSON Lines: types are kept, our own export comes back the same, and no line can stop the others."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailer.address import parse_address
from mailer.audience.ledger import unsubscribe
from mailer.audience.subscribers import add
from mailer.audience.transfer import exporting
from mailer.audience.transfer.importing import ImportReport, import_file
from mailer.audience.transfer.presets import PLAIN, PRESETS, Preset
from mailer.audience.transitions import Origin
from mailer.database.engine import Database

SECRET = b"s" * 32


def bring(
    database: Database, folder: Path, content: str, at: datetime, *, preset: Preset = PLAIN, dry: bool = False
) -> ImportReport:
    path = folder / "people.jsonl"
    path.write_text(content, encoding="utf-8")
    return import_file(database, path, secret=SECRET, at=at, preset=preset, dry_run=dry)


def test_fields_keep_their_types(database: Database, tmp_path: Path, at: datetime) -> None:
    content = (
        '{"email": "a@example.org", "name": "Ana", "tags": ["vip"], "points": 7, "beta": true, "old": null}\n'
    )
    assert bring(database, tmp_path, content, at).added == 1
    with database.reading() as connection:
        (row,) = exporting.rows(connection, None)
    assert (row["name"], row["tags"], row["attributes"]) == ("Ana", ["vip"], {"points": 7, "beta": True})


def test_own_export_comes_back_the_same(database: Database, tmp_path: Path, at: datetime) -> None:
    with database.transaction() as connection:
        for local in ("ana", "bob"):
            address = parse_address(f"{local}@example.org")
            made = add(
                connection,
                address,
                secret=SECRET,
                origin=Origin("command"),
                at=at,
                name='Jörg "J"',
                attributes={"n": 1.5, "ö": ["ü", {"x": None}]},
                tags=['a, "b"', "c"],
            )
        assert made.subscriber_id is not None
        unsubscribe(connection, made.subscriber_id, origin=Origin("page"), at=at)
    with database.reading() as connection, (tmp_path / "out.jsonl").open("w", encoding="utf-8") as target:
        assert exporting.write_json_lines(connection, target, None) == 2
        before = [row for row in exporting.rows(connection, None) if row["status"] == "active"]
    written = (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line)["email"] for line in written.splitlines()] == [
        "ana@example.org",
        "bob@example.org",
    ]
    other = Database("sqlite:///other.db", folder=tmp_path)
    other.open()
    report = bring(other, tmp_path, written, at, preset=PRESETS["mailer"])
    with other.reading() as connection:
        assert [row for row in exporting.rows(connection, None) if row["status"] == "active"] == before
    assert (report.added, report.opted_out) == (1, 1)
    other.close()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ('{"name": "Ana"}', "has no text 'email'"),
        ('{"email": "a@example.org", "name": 1}', "'name' is not text"),
        ('{"email": "a@example.org", "tags": "vip"}', "'tags' is not a list of texts"),
        ('{"email": "a@example.org", "attributes": [1]}', "'attributes' is not an object"),
        ('{"email": "a@example.org", "name": "=?utf-8?q?A?="}', "name: contains '=?'"),
        ('{"email": "a@example.org", "x": "\\ud800"}', "x: contains half of a surrogate pair"),
        ('{"email": "a@example.org", "x": ' + "[" * 5000 + "]" * 5000 + "}", ""),
        ('{"email": "' + "a" * 120_000 + '"}', "is longer than 100,000 characters"),
    ],
)
def test_invalid_json_line_is_rejected_and_the_others_imported(
    database: Database, tmp_path: Path, at: datetime, line: str, reason: str
) -> None:
    report = bring(database, tmp_path, f'\n{line}\n{{"email": "b@example.org"}}\n', at)
    assert (report.added, report.rejected) == (1, 1)
    assert report.examples[0].line == 2
    assert report.examples[0].reason.startswith(reason)


@settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=1, max_size=5))
def test_any_text_is_counted_or_rejected(
    database: Database, tmp_path: Path, at: datetime, lines: list[str]
) -> None:
    content = '{"email": "b@example.org"}\n' + "\n".join(lines)
    report = bring(database, tmp_path, content, at, dry=True)
    assert report.added == 1


def test_dry_run_shows_a_diff(database: Database, tmp_path: Path, at: datetime) -> None:
    bring(database, tmp_path, '{"email": "a@example.org", "name": "Ana", "n": 1}\n', at)
    content = '{"email": "a@example.org", "n": 2, "tags": ["vip"]}\n{"email": "b@example.org"}\n'
    report = bring(database, tmp_path, content, at, dry=True)
    assert report.changes == [
        "- a@example.org  Ana  n=1",
        "+ a@example.org  Ana  n=2  +tag:vip",
        "+ b@example.org",
    ]
