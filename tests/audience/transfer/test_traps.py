"""Import files with traps: nobody who left becomes active, and nobody is lost without a line."""

from __future__ import annotations

import csv
import io
import shlex
import tomllib
import tracemalloc
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mailer.address import parse_address
from mailer.audience.subscribers import add, find
from mailer.audience.transfer import exporting
from mailer.audience.transfer.importing import ImportReport, import_file
from mailer.audience.transfer.presets import PLAIN, PRESETS, Preset, preset_of
from mailer.audience.transitions import Origin
from mailer.config import ImportFile
from mailer.database.engine import Database
from mailer.errors import MailerError, SourceError

SECRET = b"s" * 32
LEFT = preset_of(ImportFile(status="status", unsubscribed=("unsubscribed",)))


def bring(
    database: Database, folder: Path, content: str, at: datetime, preset: Preset = PLAIN, name: str = "p.csv"
) -> ImportReport:
    path = folder / name
    path.write_text(content, encoding="utf-8", newline="")
    return import_file(database, path, secret=SECRET, at=at, preset=preset)


def standing(database: Database) -> dict[str, str]:
    with database.reading() as connection:
        return {row["email"]: row["status"] for row in exporting.rows(connection, None)}


# In each file gone@example.org has left and ana@example.org has not.
TRAPS = {
    "status": "email,status\nana@example.org,subscribed\ngone@example.org,unsubscribed\n",
    "status in other case": "Email,Status\nana@example.org,Active\ngone@example.org,UNSUBSCRIBED\n",
    "unknown word": "email,Status\nana@example.org,active\ngone@example.org,whatever\n",
    "cleaned": "Email Address,STATUS\nana@example.org,subscribed\ngone@example.org,cleaned\n",
    "unsubscribed at": "email,Unsubscribed At\nana@example.org,\ngone@example.org,2024-01-05\n",
    "mailchimp": "Email Address,UNSUB_TIME\nana@example.org,\ngone@example.org,2024-01-05 10:00:00\n",
    "mailchimp cleaned": "Email Address,CLEAN_TIME\nana@example.org,\ngone@example.org,2024-01-05 10:00:00\n",
    "crm": "EMAIL,UNSUB,BOUNCE\nana@example.org,no,no\ngone@example.org,yes,no\n",
    "bounced": "email,bounced\nana@example.org,false\ngone@example.org,true\n",
    "ghost": "email,subscribed_to_emails\nana@example.org,true\ngone@example.org,false\n",
    "ghost deleted": "email,deleted_at\nana@example.org,\ngone@example.org,2024-01-05T10:00:00.000Z\n",
    "substack": "email,email_disabled\nana@example.org,false\ngone@example.org,true\n",
    "opted out": "email,Opted Out\nana@example.org,No\ngone@example.org,Yes\n",
    "german": "E-Mail-Adresse;Abgemeldet am\nana@example.org;\ngone@example.org;05.01.2024\n",
    "german status": "E-Mail;Status\nana@example.org;angemeldet\ngone@example.org;abgemeldet\n",
    "french": "Courriel;Désabonné le\nana@example.org;\ngone@example.org;2024-01-05\n",
    "french statut": "Courriel;Statut\nana@example.org;abonné\ngone@example.org;désabonné\n",
    "spanish": "Correo electrónico;Fecha de baja\nana@example.org;\ngone@example.org;2024-01-05\n",
    "italian": "Indirizzo e-mail;Stato\nana@example.org;iscritto\ngone@example.org;disiscritto\n",
    "dutch": "E-mailadres;Uitgeschreven op\nana@example.org;\ngone@example.org;2024-01-05\n",
    "portuguese": "Endereço de e-mail;Situação\nana@example.org;ativo\ngone@example.org;descadastrado\n",
    "polish": "Adres e-mail;Wypisany\nana@example.org;nie\ngone@example.org;tak\n",
    "romanian": "Adresa de e-mail;Dezabonat la\nana@example.org;\ngone@example.org;2024-01-05\n",
    "russian": "Электронная почта;Статус\nana@example.org;активен\ngone@example.org;отписан\n",
    "japanese": "メールアドレス,ステータス\nana@example.org,有効\ngone@example.org,配信停止\n",
    "state": "email,State\nana@example.org,subscribed\ngone@example.org,unsubscribed\n",
    "last of many": "email,status\n"
    + "".join(f"p{n}@example.org,active\n" for n in range(5_200))
    + "gone@example.org,unsubscribed\n",
}


@pytest.mark.parametrize("content", TRAPS.values(), ids=TRAPS)
def test_column_that_says_who_left_stops_the_import(
    database: Database, tmp_path: Path, at: datetime, content: str
) -> None:
    with pytest.raises(SourceError, match="seems to say who opted out") as caught:
        bring(database, tmp_path, content, at)
    assert standing(database) == {}
    rows = list(csv.reader(io.StringIO(content), delimiter=";" if ";" in content else ","))
    gone = rows[-1]
    assert f"'{rows[0][1]}'" in caught.value.message
    assert f"1  {gone[1]}" in caught.value.message
    assert caught.value.remedy is not None
    assert "--map" in caught.value.remedy or "[imports.p]" in caught.value.remedy


@pytest.mark.parametrize("content", TRAPS.values(), ids=TRAPS)
def test_what_the_refusal_says_to_add_is_enough(
    database: Database, tmp_path: Path, at: datetime, content: str
) -> None:
    with pytest.raises(SourceError) as caught:
        bring(database, tmp_path, content, at)
    remedy = caught.value.remedy or ""
    preset = PLAIN
    if "[imports.p]" in remedy:
        lines = [line.strip() for line in remedy.splitlines()[1:-1]]
        table = tomllib.loads("\n".join(lines))["imports"]["p"]
        preset = preset_of(msgspec.convert(table, ImportFile))
    words = shlex.split(
        remedy.partition("configure its meaning: add ")[2].partition(", and")[0].partition("\n")[0]
    )
    named = dict(word.split("=", 1) for word in words if "=" in word)
    report = bring(database, tmp_path, content, at, preset.with_columns(named))
    assert standing(database).get("gone@example.org") != "active"
    assert standing(database).get("ana@example.org", "active") == "active"
    assert report.opted_out == 1


@pytest.mark.parametrize(
    "content",
    [
        "email,status\nana@example.org,active\nbob@example.org,Subscribed\n",
        "email,Unsubscribed At\nana@example.org,\nbob@example.org,\n",
        "email,State\nana@example.org,CA\nbob@example.org,NY\n",
        "email,bounced\nana@example.org,0\nbob@example.org,no\n",
    ],
)
def test_status_column_without_opt_outs_does_not_stop_the_import(
    database: Database, tmp_path: Path, at: datetime, content: str
) -> None:
    assert bring(database, tmp_path, content, at).added == 2


def test_json_lines_are_watched_too(database: Database, tmp_path: Path, at: datetime) -> None:
    content = (
        '{"email": "ana@example.org", "status": "active"}\n{"email": "b@example.org", "status": "left"}\n'
    )
    with pytest.raises(SourceError, match="'status' seems to say who opted out"):
        bring(database, tmp_path, content, at, name="p.jsonl")
    assert standing(database) == {}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('email,name\na@example.org,Ana\nb@example.org,"Bob\nc@example.org,Cid\nd@example.org,Dee\n', 3),
        ('email,name,status\na@example.org,A,x\nb@example.org,"Bob,x\nc@example.org,C,x\n', 3),
        ('email,name\na@example.org,"two\nlines"\nb@example.org,"Bob\nc@example.org,Cid\n', 4),
        ('email,name\nb@example.org,"Bob\nc@example.org,Cid\nd@example.org,"Dee"\n', 2),
        ('email,name\nb@example.org,"Bob\nc@example.org,Cid\nd@example.org,Dee"\n', 2),
        ('email,name\nb@example.org,"Bob', 2),
        ('email,name\nb@example.org,"' + "x\n" * 200_000, 2),
        ('email,"name\nb@example.org,Bob\n', 1),
    ],
)
def test_quote_that_swallows_rows_refuses_the_file_and_says_where(
    database: Database, tmp_path: Path, at: datetime, content: str, line: int
) -> None:
    with pytest.raises(SourceError, match=rf"p\.csv:{line}: a quote .*nothing was imported") as caught:
        bring(database, tmp_path, content, at)
    assert caught.value.remedy
    assert standing(database) == {}


def test_text_over_several_lines_is_no_trap(database: Database, tmp_path: Path, at: datetime) -> None:
    content = 'email,note\na@example.org,"first\nsecond, third\nwrite to me"\nnobody,x\nb@example.org,y\n'
    report = bring(database, tmp_path, content, at)
    assert (report.added, [row.line for row in report.examples]) == (2, [5])


ROWS = {
    "trailing empty cell": "{},Ex,unsubscribed,",
    "surplus cell": "{},Ex,unsubscribed,zzz",
    "comma in the name": "{},Doe, Jane,unsubscribed",
    "quotes within quotes": '{},"A "b" c",unsubscribed',
    "zero width space": "{}\u200b,Zw,unsubscribed",
    "no-break space": "\u00a0{}\u00a0,Nb,unsubscribed",
    "byte order mark": "\ufeff{},Bo,unsubscribed",
    "name and address": "Ang <{}>,An,unsubscribed",
    "quoted name and address": '"""Doe, J"" <{}>",An,unsubscribed',
    "mailto": "mailto:{},An,unsubscribed",
    "address in another cell": 'oops,{},unsubscribed,"x"y',
    "upper case": "{},Up,Unsubscribed ",
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("known", [False, True])
def test_opt_out_in_a_broken_row_counts(
    database: Database, tmp_path: Path, at: datetime, row: str, known: bool
) -> None:
    if known:
        bring(database, tmp_path, "email\ngone@example.org\n", at)
    content = f"email,name,status\nana@example.org,Ana,ok\n{row.format('gone@example.org')}\n"
    report = bring(database, tmp_path, content, at, LEFT)
    assert standing(database) == {"ana@example.org": "active", "gone@example.org": "unsubscribed"}
    assert (report.rejected, report.opted_out + report.taken_off) == (0, 1)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_broken_row_of_an_active_person_is_imported_or_rejected(
    database: Database, tmp_path: Path, at: datetime, row: str
) -> None:
    content = f"email,name,status\n{row.format('ana@example.org').replace('unsubscribed', 'ok')}\n"
    content = content.replace("Unsubscribed", "ok")
    report = bring(database, tmp_path, content, at, LEFT)
    assert (report.added, report.rejected) in ((1, 0), (0, 1))


@pytest.mark.parametrize("case", ["csv-unclosed-quote/people.csv", "csv-unclosed-quote/optouts.csv"])
def test_shape_of_a_cut_file_is_refused(database: Database, tmp_path: Path, at: datetime, case: str) -> None:
    content = {
        "csv-unclosed-quote/people.csv": 'email,name\r\na@example.com,Ana\r\nb@example.com,"Bob\r\n',
        "csv-unclosed-quote/optouts.csv": 'email,name,status\na@example.com,"Bob,unsubscribed\n',
    }[case]
    with pytest.raises(MailerError, match="a quote opens here"):
        bring(database, tmp_path, content, at)


@pytest.mark.parametrize(
    ("heading", "email", "name"),
    [
        ("E-Mail-Adresse;Vorname;Nachname", 0, "B C"),
        ("Vorname;Name;E-Mail", 2, "A B"),
        ("Courriel;Prénom;Nom", 0, "B C"),
        ("Prénom;Nom;Adresse e-mail", 2, "A B"),
        ("Adresse électronique;Nom;Ville", 0, "B"),
        ("Correo electrónico;Nombre;Apellidos", 0, "B C"),
        ("Endereço de e-mail;Nome;Sobrenome", 0, "B C"),
        ("Indirizzo e-mail;Nome;Cognome", 0, "B C"),
        ("E-mailadres;Voornaam;Achternaam", 0, "B C"),
        ("Adres e-mail;Imię;Nazwisko", 0, "B C"),
        ("Adresă de e-mail;Prenume;Nume", 0, "B C"),
        ("E-postadress;Förnamn;Efternamn", 0, "B C"),
        ("Электронная почта;Имя;Фамилия", 0, "B C"),
        ("メールアドレス;氏名;メモ", 0, "B"),
        ("First name;Surname;Email", 2, "A B"),
    ],
)
def test_headings_of_the_main_languages_are_known(
    database: Database, tmp_path: Path, at: datetime, heading: str, email: int, name: str
) -> None:
    cells = ["A", "B", "C"]
    cells[email] = "ana@example.org"
    assert bring(database, tmp_path, f"{heading}\n{';'.join(cells)}\n", at).added == 1
    with database.reading() as connection:
        known = find(connection, parse_address("ana@example.org"))
    assert known is not None
    assert known.name == name


@pytest.mark.parametrize(
    ("heading", "cell", "expected"),
    [
        ("joined", "2024-05-02T09:12:33Z", datetime(2024, 5, 2, 9, 12, 33, tzinfo=UTC)),
        ("created_at", "2024-05-02 09:12:33", datetime(2024, 5, 2, 9, 12, 33, tzinfo=UTC)),
        ("OPTIN_TIME", "2024-05-02", datetime(2024, 5, 2, tzinfo=UTC)),
        ("Date registered", "2024-05-02", datetime(2024, 5, 2, tzinfo=UTC)),
        ("Angemeldet am", "02.05.2024", datetime(2024, 5, 2, tzinfo=UTC)),
        ("Anmeldedatum", "2.5.2024 09:12", datetime(2024, 5, 2, 9, 12, tzinfo=UTC)),
        ("Inscrit le", "2024-05-02", datetime(2024, 5, 2, tzinfo=UTC)),
        ("Fecha de alta", "2024-05-02", datetime(2024, 5, 2, tzinfo=UTC)),
        ("Data iscrizione", "2024-05-02", datetime(2024, 5, 2, tzinfo=UTC)),
        ("joined", "2999-01-01", None),
        ("joined", "0001-01-01", None),
        ("joined", "soon", None),
    ],
)
def test_sign_up_date_is_imported(
    database: Database, tmp_path: Path, at: datetime, heading: str, cell: str, expected: datetime | None
) -> None:
    report = bring(database, tmp_path, f"email,{heading}\nana@example.org,{cell}\n", at)
    assert (report.added, report.dated) == (1, int(expected is not None))
    with database.reading() as connection:
        known = find(connection, parse_address("ana@example.org"))
    assert known is not None
    assert known.created_at == (expected or at)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("Ana\tPop", "Ana Pop"),
        ('"Ana\nPop"', "Ana Pop"),
        ("Ana\u202e Pop", "Ana Pop"),
        ("\u200eAna Pop\u200f", "Ana Pop"),
        ("Ana\x07 Pop", "Ana Pop"),
        ("José\u2028Pop", "José Pop"),
    ],
)
def test_forbidden_character_is_removed_from_a_name_and_the_row_kept(
    database: Database, tmp_path: Path, at: datetime, written: str, kept: str
) -> None:
    report = bring(database, tmp_path, f"email,name\nana@example.org,{written}\n", at)
    assert (report.added, report.rejected) == (1, 0)
    with database.reading() as connection:
        known = find(connection, parse_address("ana@example.org"))
    assert known is not None
    assert " ".join(known.name.split()) == kept


@pytest.mark.parametrize("start", ["\n", "\n\r\n\n", ",,\n", "sep=,\n\n", "\n\nsep=,\n"])
def test_blank_first_lines_are_skipped(database: Database, tmp_path: Path, at: datetime, start: str) -> None:
    assert bring(database, tmp_path, start + "email,name\nana@example.org,Ana\n", at).added == 1


def test_own_export_changes_nobody(database: Database, tmp_path: Path, at: datetime) -> None:
    people: list[tuple[str, str, dict[str, Any]]] = [
        ("-dash", "-5", {"note": "+44 123", "n": 1.5}),
        ("+plus", "=Eq", {"note": "@y", "ok": True, "text": "true"}),
        ("=eq", "'quoted", {"note": "x", "empty": "", "status": "kept", "email": "e"}),
        ("'apos", "'=q", {"list": ["a", 1], "5": "5"}),
        ("o'neil", "O'Neil", {" odd ": "x", "b (json)": "y"}),
        ("plain", "''+x", {}),
    ]
    with database.transaction() as connection:
        for local, name, attributes in people:
            add(
                connection, parse_address(f"{local}@example.com"), secret=SECRET, origin=Origin("command"),
                at=at, name=name, attributes=attributes, tags=["=t", "a,b"],
            )  # fmt: skip
        before = list(exporting.rows(connection, None))
        written = io.StringIO(newline="")
        exporting.write_csv(connection, written, None)
    other = Database("sqlite:///other.db", folder=tmp_path)
    other.open()
    try:
        for preset in (PLAIN, PRESETS["mailer"]):
            report = bring(other, tmp_path, written.getvalue(), at, preset)
            assert report.rejected == 0
            with other.reading() as connection:
                assert list(exporting.rows(connection, None)) == before
        assert report.unchanged == len(people)
        assert bring(database, tmp_path, written.getvalue(), at).unchanged == len(people)
    finally:
        other.close()


def sheet(rows: list[list[str | float]], *, sheets: int = 1) -> bytes:
    """Return a minimal .xlsx file."""

    def cell(value: str | float, place: str) -> str:
        if isinstance(value, str):
            return f'<c r="{place}" t="inlineStr"><is><t>{value}</t></is></c>'
        return f'<c r="{place}"><v>{value}</v></c>'

    body = "".join(
        f'<row r="{line}">'
        + "".join(cell(value, f"{chr(65 + column)}{line}") for column, value in enumerate(row))
        + "</row>"
        for line, row in enumerate(rows, 1)
    )
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    numbers = range(1, sheets + 1)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as packed:
        packed.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{package}/content-types">'
            '<Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            '<Default Extension="xml" ContentType="application/xml"/></Types>',
        )
        packed.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}/relationships">'
            f'<Relationship Id="r" Type="{office}/officeDocument" '
            'Target="xl/workbook.xml"/></Relationships>',
        )
        packed.writestr(
            "xl/workbook.xml",
            f'<workbook {main} xmlns:r="{office}"><sheets>'
            + "".join(f'<sheet name="S{n}" sheetId="{n}" r:id="r{n}"/>' for n in numbers)
            + "</sheets></workbook>",
        )
        packed.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{package}/relationships">'
            + "".join(
                f'<Relationship Id="r{n}" Type="{office}/worksheet" Target="worksheets/sheet{n}.xml"/>'
                for n in numbers
            )
            + "</Relationships>",
        )
        for n in numbers:
            packed.writestr(
                f"xl/worksheets/sheet{n}.xml", f"<worksheet {main}><sheetData>{body}</sheetData></worksheet>"
            )
    return made.getvalue()


def test_spreadsheet_is_read(database: Database, tmp_path: Path, at: datetime) -> None:
    path = tmp_path / "people.xlsx"
    path.write_bytes(
        sheet([["E-Mail", "Name", "Points"], ["ana@example.org", "Ana", 7], ["nobody", "x", 1.5]])
    )
    report = import_file(database, path, secret=SECRET, at=at)
    assert (report.added, [row.line for row in report.examples]) == (1, [3])
    with database.reading() as connection:
        (row,) = exporting.rows(connection, None)
    assert (row["name"], row["attributes"]) == ("Ana", {"Points": "7"})


def opendocument(rows: list[list[str | float]]) -> bytes:
    """Return a minimal .ods file."""

    def cell(value: str | float) -> str:
        kind = "string" if isinstance(value, str) else f'float" office:value="{value}'
        return f'<table:table-cell office:value-type="{kind}"><text:p>{value}</text:p></table:table-cell>'

    names = "urn:oasis:names:tc:opendocument:xmlns"
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    lines = "".join(f"<table:table-row>{''.join(map(cell, row))}</table:table-row>" for row in rows)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as packed:
        packed.writestr("mimetype", kind)
        packed.writestr(
            "META-INF/manifest.xml",
            f'<manifest:manifest xmlns:manifest="{names}:manifest:1.0">'
            f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{kind}"/>'
            '<manifest:file-entry manifest:full-path="content.xml" manifest:media-type="text/xml"/>'
            "</manifest:manifest>",
        )
        packed.writestr(
            "content.xml",
            f'<office:document-content xmlns:office="{names}:office:1.0" xmlns:table="{names}:table:1.0" '
            f'xmlns:text="{names}:text:1.0"><office:body><office:spreadsheet>'
            f'<table:table table:name="S1">{lines}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )
    return made.getvalue()


def test_opendocument_spreadsheet_is_read(database: Database, tmp_path: Path, at: datetime) -> None:
    path = tmp_path / "people.ods"
    path.write_bytes(
        opendocument([["E-Mail", "Name", "Points"], ["ana@example.org", "Ana", 7], ["nobody", "x", 1.5]])
    )
    report = import_file(database, path, secret=SECRET, at=at)
    assert (report.added, [row.line for row in report.examples]) == (1, [3])
    with database.reading() as connection:
        (row,) = exporting.rows(connection, None)
    assert (row["name"], row["attributes"]) == ("Ana", {"Points": "7"})


@pytest.mark.parametrize(
    ("start", "line"),
    [
        (b"", 1),  # No heading and no line break at all.
        (b"email,name\na@example.org,Ana\n", 3),
        (b'email,name\na@example.org,"Ana\nPop\n', 2),  # Within an open quote.
    ],
)
def test_line_without_end_is_refused_before_all_of_it_is_read(
    database: Database, tmp_path: Path, at: datetime, start: bytes, line: int
) -> None:
    path = tmp_path / "people.csv"
    with path.open("wb") as file:
        file.write(start)
        # A sparse file: zeros that take up no room on the disk.
        file.truncate(64 * 1024 * 1024)
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match=rf"people\.csv:{line}: .*nothing was imported"):
            import_file(database, path, secret=SECRET, at=at)
        assert tracemalloc.get_traced_memory()[1] < 32 * 1024 * 1024
    finally:
        tracemalloc.stop()
    assert standing(database) == {}


def test_spreadsheet_says_who_left_as_a_csv_file_does(
    database: Database, tmp_path: Path, at: datetime
) -> None:
    path = tmp_path / "people.xlsx"
    path.write_bytes(sheet([["email", "status"], ["gone@example.org", "unsubscribed"]]))
    with pytest.raises(SourceError, match="seems to say who opted out"):
        import_file(database, path, secret=SECRET, at=at)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (sheet([["email"], ["a@example.org"]], sheets=2), "has 2 sheets with rows: S1, S2"),
        (b"email\na@example.org\n", "cannot be read as a spreadsheet"),
        (b"", "cannot be read as a spreadsheet"),
        (sheet([]), "is empty"),
    ],
)
@pytest.mark.parametrize("suffix", [".xlsx", ".ods"])
def test_spreadsheet_that_cannot_be_read_is_refused_by_name(
    database: Database, tmp_path: Path, at: datetime, content: bytes, told: str, suffix: str
) -> None:
    path = tmp_path / f"people{suffix}"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=rf"people{suffix}: ") as caught:
        import_file(database, path, secret=SECRET, at=at)
    if suffix == ".xlsx":
        assert told in caught.value.message
    assert standing(database) == {}
