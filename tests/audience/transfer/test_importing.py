"""CSV files of every kind: what is taken, what is rejected and why, and who is never brought back."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, event, text

from mailer.address import _PLAIN, parse_address
from mailer.audience import ledger, suppression
from mailer.audience.ledger import unsubscribe
from mailer.audience.subscribers import find, get, history
from mailer.audience.transfer import exporting
from mailer.audience.transfer.importing import ImportReport, import_file
from mailer.audience.transfer.presets import PLAIN
from mailer.audience.transfer.rejects import safe_cell
from mailer.audience.transfer.reverting import Reverted, revert
from mailer.audience.transitions import Origin
from mailer.database.engine import Database
from mailer.database.tables import SubscriberStatus
from mailer.errors import AddressError, RefusedError, SourceError

SECRET = b"s" * 32


def bring(
    database: Database, path: Path, content: str | bytes, at: datetime, **options: object
) -> ImportReport:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return import_file(database, path, secret=SECRET, at=at, **options)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.csv"


def names(database: Database) -> dict[str, str]:
    with database.reading() as connection:
        return {row["email"]: row["name"] for row in exporting.rows(connection, None)}


@pytest.mark.parametrize(
    ("encoding", "told"),
    [("utf-8", "utf-8"), ("utf-8-sig", "utf-8-sig"), ("utf-16", "utf-16"), ("latin-1", "cp1252")],
)
def test_encoding_is_detected(database: Database, path: Path, at: datetime, encoding: str, told: str) -> None:
    report = bring(database, path, "email,name\nana@example.org,José Müller\n".encode(encoding), at)
    assert (report.encoding, report.added) == (told, 1)
    assert names(database) == {"ana@example.org": "José Müller"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_detected(database: Database, path: Path, at: datetime, delimiter: str) -> None:
    content = f"E-Mail{delimiter}First Name{delimiter}Last Name\na@example.org{delimiter}Ana{delimiter}Pop\n"
    assert bring(database, path, content, at).added == 1
    assert names(database) == {"a@example.org": "Ana Pop"}


@pytest.mark.parametrize(("mark", "end"), [(";", "\n"), (",", "\r\n"), ("\t", "\n"), ("#", "\n")])
def test_delimiter_is_named_as_excel_does(
    database: Database, path: Path, at: datetime, mark: str, end: str
) -> None:
    content = end.join([f"sep={mark}", f"email{mark}name", f"a@example.org{mark}Ana", ""])
    assert bring(database, path, content, at).added == 1
    assert names(database) == {"a@example.org": "Ana"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("email,name,email\na@example.org,Ana,b@example.org\n", "two columns are called 'email'"),
        ("email,note,note\na@example.org,1,2\n", "two columns are called 'note'"),
        ("a@example.org\nb@example.org\n", "the first line is a row, not a heading"),
        ("sep=;\n", "no column looks like the address"),
        ('sep="\nemail,name\n', "not a CSV file|no column looks like the address"),
    ],
)
def test_heading_that_would_lose_something_is_refused(
    database: Database, path: Path, at: datetime, content: str, told: str
) -> None:
    with pytest.raises(SourceError, match=rf"people\.csv:1: ({told})"):
        bring(database, path, content, at)
    assert names(database) == {}


def test_columns_without_a_name_are_passed_over(database: Database, path: Path, at: datetime) -> None:
    assert bring(database, path, "email,,\na@example.org,x,y\n", at).added == 1


def test_other_columns_become_attributes_and_columns_can_be_named(
    database: Database, path: Path, at: datetime
) -> None:
    content = "Kontakt,Wer,Land\na@example.org,Ana,RO\n"
    with pytest.raises(SourceError, match=r"people\.csv:1: .*Kontakt, Wer, Land"):
        bring(database, path, content, at)
    assert bring(
        database,
        path,
        content,
        at,
        preset=PLAIN.with_columns({"email": "Kontakt", "name": "Wer"}),
        tags=["new"],
    ).added
    with database.reading() as connection:
        (row,) = exporting.rows(connection, None)
    assert (row["name"], row["attributes"], row["tags"]) == ("Ana", {"Land": "RO"}, ["new"])


def test_rejected_rows_are_reported_with_line_and_reason(
    database: Database, path: Path, tmp_path: Path, at: datetime
) -> None:
    content = (
        "email,name\n"
        "good@example.org,Good\n"
        "nobody,No At\n"
        "GOOD@example.org,Twice\n"
        '"bad@example.org","=?Bad\r\nBcc: x@example.org"\n'
        "=cmd|'/c calc'!A0,Formula\n"
        "many@example.org,Many,Too,Many\n"
        ",\n"
    )
    rejected = tmp_path / "rejected.csv"
    report = bring(database, path, content, at, rejected_path=rejected)
    assert (report.added, report.rejected) == (1, 5)
    lines = {row.line: row.reason for row in report.examples}
    assert sorted(lines) == [3, 4, 5, 7, 8]
    assert "more than once" in lines[4]
    assert lines[5].startswith("name: contains '=?'")
    assert "4 cells" in lines[8]
    stored = rejected.read_text(encoding="utf-8").splitlines()
    assert stored[0] == "line,reason,value"
    assert len(stored) == 6
    assert any(line.endswith(",'=cmd|'/c calc'!A0") for line in stored)
    assert names(database) == {"good@example.org": "Good"}


def test_duplicate_beyond_a_batch_is_found(database: Database, path: Path, at: datetime) -> None:
    rows = [f"r{number}@example.org" for number in range(6_000)]
    report = bring(database, path, "\n".join(["email", *rows, rows[0]]), at)
    assert (report.added, report.rejected) == (6_000, 1)


def test_second_import_brings_up_to_date(database: Database, path: Path, at: datetime) -> None:
    bring(database, path, "email,name,country\na@example.org,Ana,RO\nb@example.org,Bob,RO\n", at)
    report = bring(database, path, "email,name,city\nA@example.org,Ana Maria,Cluj\nb@example.org,,\n", at)
    assert (report.added, report.updated, report.unchanged) == (0, 1, 1)
    with database.reading() as connection:
        ana = find(connection, parse_address("a@example.org"))
    assert ana is not None
    assert (ana.name, ana.attributes) == ("Ana Maria", {"country": "RO", "city": "Cluj"})


def test_opt_out_and_erased_are_never_revived(database: Database, path: Path, at: datetime) -> None:
    bring(database, path, "email\na@example.org\nb@example.org\n", at)
    with database.transaction() as connection:
        ana = find(connection, parse_address("a@example.org"))
        assert ana is not None
        unsubscribe(connection, ana.id, origin=Origin("one-click"), at=at)
        ledger.suppress(connection, suppression.erased_key("c@example.org", SECRET), "erased", at=at)
        ledger.suppress(connection, "d@example.org", "complaint", at=at)
    report = bring(database, path, "email\na@example.org\nc@example.org\nd@example.org\ne@example.org\n", at)
    assert (report.added, report.kept_out) == (1, 3)
    with database.reading() as connection:
        after = get(connection, ana.id)
        assert after is not None
        assert after.status is SubscriberStatus.UNSUBSCRIBED
        assert [line.way for line in history(connection, ana.id)] == ["import", "one-click"]


def test_dry_run_and_strict_change_nothing(
    database: Database, path: Path, tmp_path: Path, at: datetime
) -> None:
    content = "email\na@example.org\nnobody\n"
    report = bring(database, path, content, at, dry_run=True, rejected_path=tmp_path / "r.csv")
    assert (report.added, report.rejected, report.id) == (1, 1, None)
    with pytest.raises(RefusedError, match="nothing was imported"):
        bring(database, path, content, at, strict=True)
    assert names(database) == {}
    assert not (tmp_path / "r.csv").exists()


@pytest.mark.parametrize("earlier", ["", "line,reason,value\n"])
def test_refused_import_leaves_the_file_of_rejected_rows_as_it_was(
    database: Database, path: Path, tmp_path: Path, at: datetime, earlier: str
) -> None:
    rejected = tmp_path / "rejected.csv"
    if earlier:
        rejected.write_text(earlier, encoding="utf-8")

    def files() -> set[Path]:
        """Return the files, but those that SQLite makes beside the database while it is open."""
        return {file for file in tmp_path.iterdir() if not file.name.endswith(("-wal", "-shm"))}

    before = {*files(), path}
    with pytest.raises(SourceError, match="quote"):
        bring(database, path, "email\n" + "nobody\n" * 6_000 + '"open\n', at, rejected_path=rejected)
    assert {*files(), path} == before
    assert not earlier or rejected.read_text(encoding="utf-8") == earlier


def test_revert_removes_only_people_without_later_changes(
    database: Database, path: Path, at: datetime
) -> None:
    bring(database, path, "email\nold@example.org\n", at)
    report = bring(database, path, "email\na@example.org\nb@example.org\nold@example.org\n", at)
    assert report.id is not None
    with database.transaction() as connection:
        ana = find(connection, parse_address("a@example.org"))
        assert ana is not None
        unsubscribe(connection, ana.id, origin=Origin("page"), at=at)
    assert revert(database, report.id, at=at) == Reverted(1, 0)
    assert sorted(names(database)) == ["a@example.org", "old@example.org"]
    assert revert(database, report.id, at=at) == Reverted(0, 0)


def test_second_large_import_is_reverted_as_fast_as_the_first(
    database: Database, path: Path, at: datetime
) -> None:
    if database.path is None:

        @event.listens_for(database.engine, "begin")
        def limited(connection: Connection) -> None:
            connection.exec_driver_sql("SET LOCAL statement_timeout = '30s'")

    content = "email\n" + "".join(f"r{number}@example.org\n" for number in range(6_000))
    for _ in range(2):
        report = bring(database, path, content, at)
        assert report.id is not None
        assert revert(database, report.id, at=at) == Reverted(6_000, 0)
        with database.transaction() as connection:
            # What PostgreSQL does by itself within a minute: from now on it plans for empty tables.
            connection.execute(text("ANALYZE"))


@pytest.mark.parametrize("content", ["", "\n", '"unclosed\n'])
def test_file_that_is_no_table_is_refused(database: Database, path: Path, at: datetime, content: str) -> None:
    with pytest.raises(SourceError, match=r"people\.csv"):
        bring(database, path, content, at)


def test_missing_file_is_named(database: Database, path: Path, at: datetime) -> None:
    with pytest.raises(SourceError, match="no such file"):
        import_file(database, path, secret=SECRET, at=at)


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_no_cell_is_a_formula(cell: str) -> None:
    assert safe_cell(cell) == "'" + cell


@given(st.from_regex(_PLAIN, fullmatch=True))
def test_short_way_never_takes_what_the_long_way_refuses(text: str) -> None:
    from email_validator import EmailNotValidError, validate_email

    try:
        short = parse_address(text)
    except AddressError:
        return
    try:
        checked = validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise AssertionError(f"{text} was taken, but: {error}") from error
    assert (short.local, short.domain) == (checked.local_part, checked.ascii_domain.lower())
