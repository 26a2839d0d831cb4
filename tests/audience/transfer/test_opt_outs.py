"""Opt-outs in exports of other services: remembered here, undone by no file, taken back with the import."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, func, select

from mailer.address import parse_address
from mailer.audience import ledger
from mailer.audience.ledger import change_status, unsubscribe, unsubscribe_all
from mailer.audience.preferences import allow_tracking
from mailer.audience.privacy.erasing import erase
from mailer.audience.subscribers import add, find, history
from mailer.audience.transfer import exporting
from mailer.audience.transfer.importing import ImportReport, import_file
from mailer.audience.transfer.presets import PRESETS
from mailer.audience.transfer.reverting import Reverted, revert
from mailer.audience.transitions import Origin, SubscriberRequest
from mailer.database.engine import Database
from mailer.database.tables import Import, Subscriber, SubscriberStatus, Suppression

SECRET = b"s" * 32
BY_REPORT = Origin("bounce", note="550")
S = SubscriberStatus
OUT_THERE = "email,status\nana@example.org,blocklisted\n"
OWN = "email,status\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def bring(
    database: Database,
    folder: Path,
    content: str,
    at: datetime,
    preset: str = "listmonk",
    *,
    dry_run: bool = False,
    name: str = "export.csv",
) -> ImportReport:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return import_file(database, path, secret=SECRET, at=at, preset=PRESETS[preset], dry_run=dry_run)


def standing(database: Database, local: str = "ana") -> tuple[str, list[tuple[str, str, str]]]:
    """Return status and ledger of a person."""
    with database.reading() as connection:
        known = find(connection, parse_address(f"{local}@example.org"))
        if known is None:
            return "", []
        lines = [(line.before, line.after, line.way) for line in history(connection, known.id)]
        return known.status.value, lines


def number_of(database: Database, local: str = "ana") -> int:
    with database.reading() as connection:
        known = find(connection, parse_address(f"{local}@example.org"))
    assert known is not None
    return known.id


def sign_up(database: Database, at: datetime) -> None:
    with database.transaction() as connection:
        added = add(
            connection, parse_address("ana@example.org"), secret=SECRET, origin=Origin("form"), at=at,
            status=S.PENDING,
        )  # fmt: skip
        assert added.subscriber_id is not None
        change_status(connection, added.subscriber_id, S.ACTIVE, origin=Origin("page"), at=at)


@pytest.mark.parametrize(
    ("preset", "content", "status", "note"),
    [
        ("listmonk", "email,status\nana@example.org,Blocklisted\n", "unsubscribed", "status: 'Blocklisted'"),
        (
            "mailchimp",
            "Email Address,UNSUB_TIME,UNSUB_REASON\nana@example.org,2024-01-05 10:00:00,NORMAL\n",
            "unsubscribed",
            "UNSUB_TIME: '2024-01-05 10:00:00'",
        ),
        (
            "mailchimp",
            "Email Address,UNSUB_TIME,UNSUB_REASON\nana@example.org,2024-01-05 10:00:00,SPAM\n",
            "complained",
            "UNSUB_REASON: 'SPAM'",
        ),
        (
            "mailchimp",
            "Email Address,CLEAN_TIME\nana@example.org,2024-01-05\x00\n",
            "bounced",
            "CLEAN_TIME: '2024-01-05\\x00'",
        ),
        (
            "substack",
            "email,email_disabled\nana@example.org,true\n",
            "unsubscribed",
            "email_disabled: 'true'",
        ),
        (
            "ghost",
            "email,subscribed_to_emails\nana@example.org,false\n",
            "unsubscribed",
            "subscribed_to_emails: 'false'",
        ),
        ("buttondown", "email,type\nana@example.org,undeliverable\n", "bounced", "type: 'undeliverable'"),
        ("buttondown", "email,type\nana@example.org,complained\n", "complained", "type: 'complained'"),
        ("mailer", "email,status\nana@example.org,complained\n", "complained", "status: 'complained'"),
    ],
)
def test_unknown_person_is_remembered_and_no_later_file_brings_them_in(
    database: Database, folder: Path, at: datetime, preset: str, content: str, status: str, note: str
) -> None:
    report = bring(database, folder, content, at, preset)
    assert (report.added, report.opted_out, report.kept_out, report.rejected) == (0, 1, 0, 0)
    assert standing(database) == (status, [("", status, "import")])
    with database.reading() as connection:
        (line,) = history(connection, number_of(database))
        suppressed = connection.scalars(select(Suppression.c.address_key)).all()
    assert line.note == note
    assert list(suppressed) == ([] if status == "unsubscribed" else ["ana@example.org"])
    later = bring(database, folder, "email\nANA@example.org\n", at + timedelta(days=1))
    assert (later.added, later.kept_out) == (0, 1)
    assert standing(database)[0] == status


@pytest.mark.parametrize(
    ("preset", "content"),
    [
        ("listmonk", "email,status\nana@example.org,disabled\n"),
        ("buttondown", "email,type\nana@example.org,unactivated\n"),
        ("ghost", "email,deleted_at\nana@example.org,2024-01-05T10:00:00.000Z\n"),
        ("mailer", "email,status\nana@example.org,pending\n"),
    ],
)
def test_unconfirmed_person_is_neither_added_nor_opted_out(
    database: Database, folder: Path, at: datetime, preset: str, content: str
) -> None:
    report = bring(database, folder, content, at, preset)
    assert (report.added, report.opted_out, report.kept_out) == (0, 0, 1)
    assert standing(database) == ("", [])


@pytest.mark.parametrize("way", ["import", "command", "api"])
def test_person_added_by_others_is_unsubscribed_by_a_file(
    database: Database, folder: Path, at: datetime, way: str
) -> None:
    with database.transaction() as connection:
        add(connection, parse_address("ana@example.org"), secret=SECRET, origin=Origin(way), at=at)
    report = bring(database, folder, OUT_THERE, at + timedelta(days=1))
    assert (report.taken_off, report.opted_out, report.left_alone) == (1, 0, 0)
    assert standing(database) == (
        "unsubscribed",
        [("", "active", way), ("active", "unsubscribed", "import")],
    )


def test_preferences_of_somebody_imported_are_no_consent(
    database: Database, folder: Path, at: datetime
) -> None:
    bring(database, folder, "email\nana@example.org\n", at)
    with database.transaction() as connection:
        assert allow_tracking(connection, number_of(database), True, origin=Origin("page"), at=at)
    assert bring(database, folder, OUT_THERE, at).taken_off == 1


@pytest.mark.parametrize(
    ("days_later", "expected"), [(None, "active"), (1, "active"), (0, "active"), (-1, "unsubscribed")]
)
def test_own_sign_up_wins_unless_the_opt_out_is_later(
    database: Database, folder: Path, at: datetime, days_later: int | None, expected: str
) -> None:
    sign_up(database, at)
    if days_later is None:
        report = bring(database, folder, OUT_THERE, at)
    else:
        since = at - timedelta(days=days_later)
        content = f"Email Address,UNSUB_TIME\nana@example.org,{since:%Y-%m-%d %H:%M:%S}\n"
        report = bring(database, folder, content, at, "mailchimp")
    assert standing(database)[0] == expected
    assert (report.left_alone, report.taken_off) == ((1, 0) if expected == "active" else (0, 1))


def test_pending_subscriber_is_left_alone(database: Database, folder: Path, at: datetime) -> None:
    with database.transaction() as connection:
        add(
            connection, parse_address("ana@example.org"), secret=SECRET, origin=Origin("form"), at=at,
            status=S.PENDING,
        )  # fmt: skip
    assert bring(database, folder, OUT_THERE, at).left_alone == 1
    assert standing(database)[0] == "pending"


def test_erased_and_suppressed_people_leave_nothing_new(
    database: Database, folder: Path, at: datetime
) -> None:
    with database.transaction() as connection:
        erase(connection, parse_address("ana@example.org"), secret=SECRET, at=at)
        ledger.suppress(connection, "bob@example.org", "complaint", at=at)
    report = bring(database, folder, OUT_THERE + "bob@example.org,blocklisted\n", at)
    assert (report.opted_out, report.kept_out) == (0, 2)
    assert (standing(database), standing(database, "bob")) == (("", []), ("", []))


def test_opt_out_wins_over_another_row_of_the_same_file(
    database: Database, folder: Path, at: datetime
) -> None:
    many = "".join(f"r{number}@example.org,enabled\n" for number in range(5_100))
    content = (
        f"email,status\nbob@example.org,enabled\nbob@example.org,blocklisted\nana@example.org,enabled\n{many}"
        "Ana@example.org,blocklisted\neve@example.org,blocklisted\n"
    )
    report = bring(database, folder, content, at)
    assert (report.added, report.opted_out, report.taken_off, report.rejected) == (5_100, 3, 0, 1)
    for local in ("ana", "bob", "eve"):
        assert standing(database, local) == ("unsubscribed", [("", "unsubscribed", "import")])
    assert report.id is not None
    assert revert(database, report.id, at=at) == Reverted(5_103, 0)


def test_opt_out_counts_in_an_otherwise_invalid_row(database: Database, folder: Path, at: datetime) -> None:
    report = bring(
        database, folder, "email,status,attributes,name\nana@example.org,blocklisted,{,a\x07\n", at
    )
    assert (report.opted_out, report.rejected) == (1, 0)
    lines = '{"email": "bob@example.org", "status": "complained", "tags": 5, "name": 1}\n'
    report = bring(database, folder, lines, at, "mailer", name="export.jsonl")
    assert (report.opted_out, report.rejected) == (1, 0)
    report = bring(database, folder, "email,status\nno address,blocklisted\n", at)
    assert (report.opted_out, report.rejected) == (0, 1)


def test_dry_run_shows_who_would_be_taken_off(database: Database, folder: Path, at: datetime) -> None:
    bring(database, folder, "email\nana@example.org\n", at)
    report = bring(database, folder, OUT_THERE + "bob@example.org,blocklisted\n", at, dry_run=True)
    assert (report.opted_out, report.taken_off) == (1, 1)
    assert report.changes == [
        "- ana@example.org  active",
        "+ ana@example.org  unsubscribed",
        "+ bob@example.org  unsubscribed",
    ]
    assert (standing(database)[0], standing(database, "bob")[0]) == ("active", "")


def test_counts_are_kept_with_the_import(database: Database, folder: Path, at: datetime) -> None:
    bring(database, folder, "email\nana@example.org\n", at)
    report = bring(database, folder, OUT_THERE + "bob@example.org,blocklisted\n", at)
    with database.reading() as connection:
        stored = connection.execute(select(Import).where(Import.c.id == report.id)).one()
        assert (stored.added, stored.opted_out, stored.taken_off, stored.left_alone) == (0, 1, 1, 0)


def test_a_batch_takes_a_fixed_number_of_statements(database: Database, folder: Path, at: datetime) -> None:
    def statements(people: int) -> int:
        content = OWN + "".join(f"p{people}x{number}@example.org,complained\n" for number in range(people))
        seen: list[str] = []
        event.listen(database.engine, "before_cursor_execute", lambda *given: seen.append(given[2]))
        report = bring(database, folder, content, at, "mailer")
        assert report.opted_out == people
        return len(seen)

    # Drivers may cut one insert of many rows into several statements of a thousand.
    assert statements(900) <= statements(2) + 20


class TestRevert:
    """What an import said is taken back with it, and nothing that was said since."""

    def taken_off(self, database: Database, folder: Path, at: datetime) -> int:
        bring(database, folder, "email\nana@example.org\n", at - timedelta(days=1))
        report = bring(database, folder, OWN + "ana@example.org,bounced\n", at, "mailer")
        assert report.id is not None
        assert report.taken_off == 1
        return report.id

    def test_new_ones_are_removed_with_their_suppression(
        self, database: Database, folder: Path, at: datetime
    ) -> None:
        report = bring(database, folder, OWN + "ana@example.org,complained\n", at, "mailer")
        assert report.id is not None
        assert revert(database, report.id, at=at) == Reverted(1, 0)
        with database.reading() as connection:
            assert connection.scalar(select(func.count()).select_from(Suppression)) == 0
        assert bring(database, folder, "email\nana@example.org\n", at).added == 1

    def test_changed_one_is_active_again(self, database: Database, folder: Path, at: datetime) -> None:
        done = revert(database, self.taken_off(database, folder, at), at=at + timedelta(hours=1))
        assert done == Reverted(0, 1)
        status, lines = standing(database)
        assert (status, lines[-1]) == ("active", ("bounced", "active", "import"))
        with database.reading() as connection:
            assert connection.scalar(select(func.count()).select_from(Suppression)) == 0

    @pytest.mark.parametrize("many", [False, True])
    def test_later_opt_out_survives_the_revert(
        self, database: Database, folder: Path, at: datetime, many: bool
    ) -> None:
        import_id, later = self.taken_off(database, folder, at), at + timedelta(hours=1)
        number = number_of(database)
        with database.transaction() as connection:
            # A second click adds nothing.
            for _ in range(2):
                if many:
                    unsubscribe_all(connection, [SubscriberRequest(number, Origin("one-click"), later)] * 2)
                else:
                    unsubscribe(connection, number, origin=Origin("one-click"), at=later)
        assert revert(database, import_id, at=later) == Reverted(0, 0)
        status, lines = standing(database)
        assert (status, len(lines), lines[-1][2]) == ("unsubscribed", 3, "one-click")

    def test_second_opt_out_of_somebody_new_keeps_them(
        self, database: Database, folder: Path, at: datetime
    ) -> None:
        report = bring(database, folder, OUT_THERE, at)
        assert report.id is not None
        with database.transaction() as connection:
            change = SubscriberRequest(number_of(database), Origin("mailto"), at + timedelta(hours=1))
            assert unsubscribe_all(connection, [change]) == [False]
        assert revert(database, report.id, at=at + timedelta(hours=2)) == Reverted(0, 0)
        assert standing(database)[1][-1] == ("unsubscribed", "unsubscribed", "mailto")

    def test_two_imports_that_agree_keep_somebody_out(
        self, database: Database, folder: Path, at: datetime
    ) -> None:
        first = bring(database, folder, OUT_THERE, at)
        for day in (1, 2):
            assert bring(database, folder, OUT_THERE, at + timedelta(days=day)).kept_out == 1
        assert len(standing(database)[1]) == 2
        assert first.id is not None
        assert revert(database, first.id, at=at) == Reverted(0, 0)
        assert standing(database)[0] == "unsubscribed"

    def test_own_bounce_stays(self, database: Database, folder: Path, at: datetime) -> None:
        bring(database, folder, "email\nana@example.org\n", at)
        with database.transaction() as connection:
            change_status(
                connection,
                number_of(database),
                SubscriberStatus.BOUNCED,
                origin=Origin("bounce", note="550"),
                at=at,
            )
        report = bring(database, folder, OWN + "ana@example.org,bounced\n", at + timedelta(days=1), "mailer")
        assert report.id is not None
        assert revert(database, report.id, at=at + timedelta(days=2)) == Reverted(0, 0)
        assert standing(database)[0] == "bounced"


def test_dates_without_a_zone_are_utc() -> None:
    out = PRESETS["mailchimp"].why_out({"UNSUB_TIME": "2024-01-05 10:00:00"})
    assert out is not None
    assert out.at == datetime(2024, 1, 5, 10, tzinfo=UTC)
    broken = PRESETS["mailchimp"].why_out({"UNSUB_TIME": "0001-01-01T00:00:00+14:00"})
    assert broken is not None
    assert broken.at is None


def test_export_names_who_is_out(database: Database, folder: Path, at: datetime) -> None:
    bring(database, folder, OUT_THERE, at)
    with database.reading() as connection:
        rows = list(exporting.rows(connection, None))
        assert connection.scalar(select(func.count()).select_from(Subscriber)) == 1
    assert [(row["email"], row["status"], row["attributes"]) for row in rows] == [
        ("ana@example.org", "unsubscribed", {})
    ]


@pytest.mark.parametrize("at_once", [1, 3, 7, 1000])
def test_revert_works_with_any_batch_size(
    database: Database, folder: Path, at: datetime, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("mailer.audience.transfer.reverting._AT_ONCE", at_once)
    known = "".join(f"known{n}@example.org,enabled\n" for n in range(10))
    bring(database, folder, OWN + known, at)
    out = known.replace("enabled", "blocklisted")
    new = "".join(f"new{n}@example.org,{'enabled' if n % 2 else 'blocklisted'}\n" for n in range(10))
    report = bring(database, folder, OWN + out + new, at + timedelta(hours=1))
    unsubscribed = number_of(database, "new3")
    with database.transaction() as connection:
        unsubscribe(connection, unsubscribed, origin=Origin("page"), at=at + timedelta(hours=2))
    assert revert(database, report.id or 0, at=at + timedelta(hours=3)) == Reverted(9, 10)
    with database.reading() as connection:
        left = {row["email"]: row["status"] for row in exporting.rows(connection, None)}
    assert left == {f"known{n}@example.org": "active" for n in range(10)} | {
        "new3@example.org": "unsubscribed"
    }
    assert standing(database, "known7")[1][-1] == ("unsubscribed", "active", "import")
