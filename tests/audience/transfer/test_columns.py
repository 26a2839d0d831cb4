"""What the columns of a file mean: by their usual names, by a flag, or by `[imports]` of config.toml."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mailer.audience.transfer import exporting
from mailer.audience.transfer.importing import ImportProgress, ImportReport, import_file
from mailer.audience.transfer.presets import PLAIN, PRESETS, Preset, preset_of
from mailer.config import ImportFile
from mailer.database.engine import Database
from mailer.errors import SourceError

SECRET = b"s" * 32
CSV = "Kontakt;Wer;Land;Gruppen;Notiz;Stand\nana@example.org;Ana;RO;vip, early bird;ruft an;aktiv\n"


def bring(database: Database, folder: Path, content: str, at: datetime, **options: Any) -> ImportReport:
    path = folder / options.pop("called", "people.csv")
    path.write_text(content, encoding=options.get("encoding") or "utf-8")
    return import_file(database, path, secret=SECRET, at=at, **options)


def people(database: Database) -> list[dict[str, Any]]:
    kept = ("email", "name", "status", "attributes", "tags")
    with database.reading() as connection:
        return [{key: row[key] for key in kept} for row in exporting.rows(connection, None)]


ANA = {
    "email": "ana@example.org",
    "name": "Ana",
    "status": "active",
    "attributes": {"country": "RO", "Stand": "aktiv"},
    "tags": ["early bird", "vip"],
}
NAMED = {"email": "Kontakt", "name": "Wer", "tags": "Gruppen", "country": "Land"}


def test_columns_are_named_and_skipped(database: Database, tmp_path: Path, at: datetime) -> None:
    bring(database, tmp_path, CSV, at, preset=PLAIN.with_columns(NAMED, ["Notiz"]))
    assert people(database) == [ANA]


def test_fields_of_json_lines_are_named_and_skipped(database: Database, tmp_path: Path, at: datetime) -> None:
    row = {"Kontakt": "ana@example.org", "Wer": "Ana", "Land": "RO", "Notiz": 1, "Stand": "aktiv"}
    content = json.dumps(row | {"Gruppen": ["vip", "early bird"]}) + "\n"
    preset = PLAIN.with_columns(NAMED, ["Notiz"])
    bring(database, tmp_path, content, at, preset=preset, called="people.jsonl")
    assert people(database) == [ANA]


@pytest.mark.parametrize(
    "preset", [PLAIN.with_columns({"country": "Pays"}), PLAIN.with_columns({}, ["Pays"])]
)
def test_column_that_is_named_must_be_there(
    database: Database, tmp_path: Path, at: datetime, preset: Preset
) -> None:
    with pytest.raises(SourceError, match=r"people\.csv:1: there is no column 'Pays'") as caught:
        bring(database, tmp_path, "email,Land\nana@example.org,RO\n", at, preset=preset)
    assert caught.value.remedy == "the columns are: email, Land"
    assert people(database) == []


def test_service_is_known_and_one_column_named_besides(
    database: Database, tmp_path: Path, at: datetime
) -> None:
    content = 'Email Address,First Name,LEID,TAGS\nana@example.org,Ana,7,"""vip"""\n'
    preset = PRESETS["mailchimp"].with_columns({"number": "LEID"})
    bring(database, tmp_path, content, at, preset=preset)
    assert people(database) == [
        {**ANA, "attributes": {"number": "7"}, "tags": ["vip"]},
    ]


def test_own_preset_says_who_is_out(database: Database, tmp_path: Path, at: datetime) -> None:
    crm = ImportFile(
        email="Kontakt",
        name="Wer",
        attributes={"country": "Land"},
        skip=("Notiz", "Gruppen"),
        status="Stand",
        unsubscribed=("Abgemeldet", "gekündigt"),
        bounced=("unzustellbar",),
        complained=("Beschwerde",),
        unconfirmed=("offen",),
    )
    words = ["aktiv", "abgemeldet", "GEKÜNDIGT", "unzustellbar", "Beschwerde", "offen", ""]
    lines = [f"p{place}@example.org;P;RO;;;{word}" for place, word in enumerate(words)]
    report = bring(database, tmp_path, "\n".join([CSV.splitlines()[0], *lines]), at, preset=preset_of(crm))
    assert (report.added, report.opted_out, report.kept_out, report.rejected) == (2, 4, 1, 0)
    assert {row["email"][:2]: row["status"] for row in people(database)} == {
        "p0": "active",
        "p1": "unsubscribed",
        "p2": "unsubscribed",
        "p3": "bounced",
        "p4": "complained",
        "p6": "active",
    }
    assert [row["attributes"] for row in people(database) if row["status"] == "active"] == [
        {"country": "RO"}
    ] * 2


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"status": "Stand"}, "give both or neither"),
        ({"unsubscribed": ["out"]}, "give both or neither"),
        ({"status": "Stand", "unsubscribed": ["Out"], "bounced": ["out"]}, "'out' .* two meanings"),
        ({"mail": "Kontakt"}, "unknown field `mail`"),
    ],
)
def test_contradictory_preset_is_refused(table: dict[str, Any], reason: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=reason):
        msgspec.convert(table, ImportFile)


@pytest.mark.parametrize("encoding", ["iso-8859-2", "cp1250", "shift_jis", "utf-16-be"])
def test_encoding_is_taken_as_given(database: Database, tmp_path: Path, at: datetime, encoding: str) -> None:
    name = "花" if encoding == "shift_jis" else "Ștefan".replace("Ș", "Š")
    bring(database, tmp_path, f"email,name\nana@example.org,{name}\n", at, encoding=encoding)
    assert people(database)[0]["name"] == name


@pytest.mark.parametrize("encoding", ["klingon", "base64"])
def test_unknown_encoding_is_refused(database: Database, tmp_path: Path, at: datetime, encoding: str) -> None:
    path = tmp_path / "people.csv"
    path.write_text("email\nana@example.org\n", encoding="utf-8")
    with pytest.raises(SourceError, match=f"unknown encoding '{encoding}'"):
        import_file(database, path, secret=SECRET, at=at, encoding=encoding)


def test_file_that_is_not_in_the_given_encoding_is_refused_whole(
    database: Database, tmp_path: Path, at: datetime
) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes("email,name\nana@example.org,Ana\nbob@example.org,Bób\n".encode("latin-1"))
    with pytest.raises(SourceError, match=r"people\.csv: cannot be decoded") as caught:
        import_file(database, path, secret=SECRET, at=at, encoding="utf-8")
    assert caught.value.remedy == "name its encoding with --encoding"
    assert people(database) == []


def test_progress_counts_rows_and_octets(database: Database, tmp_path: Path, at: datetime) -> None:
    told: list[ImportProgress] = []
    rows = [f"p{number}@example.org" for number in range(12_000)]
    bring(database, tmp_path, "\n".join(["email", *rows]), at, progress=told.append)
    size = (tmp_path / "people.csv").stat().st_size
    assert [one.rows for one in told] == [5_000, 10_000, 12_000]
    assert [one.octets for one in told] == [size] * 3
    assert 0 < told[0].read <= told[1].read <= told[2].read == size
