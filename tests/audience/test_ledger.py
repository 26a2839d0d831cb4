"""The ledger: one writer, second causes kept, evidence, events that come too late, and corrections."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, insert, select, update

import mailer
from mailer.address import parse_address
from mailer.audience import suppression
from mailer.audience.corrections import restore
from mailer.audience.ledger import (
    add_note,
    change_status,
    correct,
    enrol,
    insert_without_lines,
    move,
    predates_consent,
    suppress,
    unsubscribe,
    write_first_lines,
)
from mailer.audience.subscribers import add, find, get, history
from mailer.audience.transfer.importing import import_file
from mailer.audience.transfer.presets import PRESETS
from mailer.audience.transfer.reverting import Reverted, revert
from mailer.audience.transitions import (
    OUT,
    PERSONAL_WAYS,
    TRANSITIONS,
    Enrolment,
    Move,
    MoveResult,
    Origin,
)
from mailer.audience.wordings import version_of
from mailer.database.engine import Database
from mailer.database.tables import (
    Consent,
    Import,
    Subscriber,
    SubscriberStatus,
    Suppression,
    TableRow,
    Wording,
)

SECRET = b"s" * 32
ANA = parse_address("ana@example.org")
BY_REPORT = Origin("bounce", note="mailbox_unknown: 5.1.1", report_id=77)
S = SubscriberStatus
DAY = timedelta(days=1)


def added(database: Database, at: datetime, status: SubscriberStatus = S.ACTIVE, name: str = "ana") -> int:
    with database.transaction() as connection:
        made = add(
            connection,
            parse_address(f"{name}@example.org"),
            secret=SECRET,
            origin=Origin("api"),
            at=at,
            status=status,
        )
    assert made.subscriber_id is not None
    return made.subscriber_id


def moved(database: Database, one: int, to: SubscriberStatus, origin: Origin, at: datetime) -> MoveResult:
    with database.transaction() as connection:
        (result,) = move(connection, [Move(one, to, origin, at)])
    return result


def status_of(database: Database, one: int) -> SubscriberStatus:
    with database.reading() as connection:
        known = get(connection, one)
    assert known is not None
    return known.status


def suppressed(database: Database) -> tuple[str, int | None] | None:
    with database.reading() as connection:
        stored = suppression_of_ana(connection)
        return None if stored is None else (stored.reason, stored.report_id)


def suppression_of_ana(connection: Connection) -> TableRow | None:
    return connection.execute(select(Suppression).where(Suppression.c.address_key == ANA.key)).one_or_none()


def brought(database: Database, folder: Path, content: str, at: datetime) -> int:
    path = folder / "people.csv"
    path.write_text("email,status\n" + content, encoding="utf-8")
    report = import_file(database, path, secret=SECRET, at=at, preset=PRESETS["mailer"])
    assert report.id is not None
    return report.id


@pytest.mark.parametrize("said", ["unsubscribed", "bounced", "complained"])
@pytest.mark.parametrize("to", [S.BOUNCED, S.COMPLAINED, S.UNSUBSCRIBED])
def test_report_after_an_import_outlasts_the_import(
    database: Database, tmp_path: Path, at: datetime, said: str, to: SubscriberStatus
) -> None:
    ana = added(database, at)
    import_id = brought(database, tmp_path, f"ana@example.org,{said}\n", at + DAY)
    moved(database, ana, to, BY_REPORT, at + 2 * DAY)
    assert revert(database, import_id, at=at + 3 * DAY) == Reverted(0, 0)
    assert status_of(database, ana) in OUT
    if to is not S.UNSUBSCRIBED:
        assert suppressed(database) is not None
        if said == "unsubscribed":
            assert suppressed(database) == ({S.BOUNCED: "hard bounce", S.COMPLAINED: "complaint"}[to], 77)


def test_only_the_import_itself_is_reverted(database: Database, tmp_path: Path, at: datetime) -> None:
    ana = added(database, at)
    import_id = brought(database, tmp_path, "ana@example.org,bounced\n", at + DAY)
    assert revert(database, import_id, at=at + 2 * DAY) == Reverted(0, 1)
    assert (status_of(database, ana), suppressed(database)) == (S.ACTIVE, None)


def test_opt_out_elsewhere_outlasts_a_bounce_here_and_its_import_gives_the_bounce_back(
    database: Database, tmp_path: Path, at: datetime
) -> None:
    ana = added(database, at)
    moved(database, ana, S.BOUNCED, BY_REPORT, at)
    import_id = brought(database, tmp_path, "ana@example.org,unsubscribed\n", at + DAY)
    assert status_of(database, ana) is S.UNSUBSCRIBED
    with database.transaction() as connection:
        (refused,) = restore(connection, [ana], reason="relay fault", at=at + DAY)
    assert (refused.status, status_of(database, ana)) == (None, S.UNSUBSCRIBED)
    assert revert(database, import_id, at=at + 2 * DAY) == Reverted(0, 0)
    assert (status_of(database, ana), suppressed(database)) == (S.BOUNCED, ("hard bounce", 77))


def test_first_reason_of_a_suppression_stays(database: Database, at: datetime) -> None:
    ana = added(database, at)
    assert moved(database, ana, S.BOUNCED, BY_REPORT, at) is MoveResult.MOVED
    assert moved(database, ana, S.COMPLAINED, replace(BY_REPORT, report_id=78), at + DAY) is MoveResult.MOVED
    assert (status_of(database, ana), suppressed(database)) == (S.COMPLAINED, ("hard bounce", 77))
    with database.transaction() as connection:
        assert not suppress(connection, ANA.key, "complaint", at=at + 2 * DAY)
        assert suppress(connection, "ben@example.org", "complaint", at=at + 2 * DAY)
    assert suppressed(database) == ("hard bounce", 77)


@pytest.mark.parametrize("to", [S.BOUNCED, S.COMPLAINED])
def test_suppression_names_its_report(database: Database, at: datetime, to: SubscriberStatus) -> None:
    moved(database, added(database, at), to, BY_REPORT, at)
    assert suppressed(database) == ({S.BOUNCED: "hard bounce", S.COMPLAINED: "complaint"}[to], 77)


@pytest.mark.parametrize("to", [S.BOUNCED, S.COMPLAINED, S.UNSUBSCRIBED])
@pytest.mark.parametrize(
    ("seconds_after", "expected"), [(-1, MoveResult.OUTDATED), (0, MoveResult.MOVED), (1, MoveResult.MOVED)]
)
def test_what_happened_before_the_last_consent_changes_nothing(
    database: Database, at: datetime, to: SubscriberStatus, seconds_after: int, expected: MoveResult
) -> None:
    ana = added(database, at - DAY)
    moved(database, ana, S.UNSUBSCRIBED, Origin("page"), at - DAY)
    moved(database, ana, S.ACTIVE, Origin("page"), at)
    with database.transaction() as connection:
        happened_at = at + timedelta(seconds=seconds_after)
        result = move(connection, [Move(ana, to, BY_REPORT, at + DAY, happened_at)])
    assert result == [expected]
    assert status_of(database, ana) is (S.ACTIVE if expected is MoveResult.OUTDATED else to)
    assert (suppressed(database) is None) is (expected is MoveResult.OUTDATED or to is S.UNSUBSCRIBED)


def test_request_from_before_the_last_consent_unsubscribes_nobody(database: Database, at: datetime) -> None:
    ana = added(database, at - DAY)
    moved(database, ana, S.UNSUBSCRIBED, Origin("page"), at - DAY)
    moved(database, ana, S.ACTIVE, Origin("page"), at)
    with database.transaction() as connection:
        early, late = (at + timedelta(seconds=seconds) for seconds in (-1, 1))
        request = Origin("mailto")
        assert not unsubscribe(connection, ana, origin=request, at=at + DAY, happened_at=early)
        assert unsubscribe(connection, ana, origin=request, at=at + DAY, happened_at=late)


def test_preferences_and_imports_are_no_consent(database: Database, at: datetime) -> None:
    ana = added(database, at)
    with database.transaction() as connection:
        assert change_status(connection, ana, S.BOUNCED, origin=BY_REPORT, at=at + DAY, happened_at=at - DAY)


def test_many_moves_equal_single_moves(database: Database, at: datetime) -> None:
    steps = [
        (to, way)
        for to in (*S, S.BOUNCED, S.ACTIVE)
        for way in ("page", "bounce", "command")
        if to is not S.ERASED
    ]
    alone, together = added(database, at, name="ana"), added(database, at, name="bob")
    results = [moved(database, alone, to, Origin(way, note="n"), at) for to, way in steps]
    with database.transaction() as connection:
        assert (
            move(connection, [Move(together, to, Origin(way, note="n"), at) for to, way in steps]) == results
        )
    with database.reading() as connection:
        first, second = get(connection, alone), get(connection, together)
        assert first is not None
        assert second is not None
        assert first.status is second.status
        changes = [
            [line for line in history(connection, one) if line.before != line.after]
            for one in (alone, together)
        ]
        assert changes[0] == changes[1]
        reasons = [
            suppression.reason_for(connection, one.address_key, secret=SECRET) for one in (first, second)
        ]
        assert reasons[0] == reasons[1]


def test_a_batch_is_a_fixed_number_of_statements(database: Database, at: datetime) -> None:
    ids = [added(database, at, name=f"p{number}") for number in range(60)]
    counts: list[int] = []
    for some in (ids[:3], ids[3:]):
        seen: list[str] = []
        listener = lambda *given, seen=seen: seen.append(given[2])  # noqa: E731
        event.listen(database.engine, "before_cursor_execute", listener)
        with database.transaction() as connection:
            move(connection, [Move(one, S.BOUNCED, BY_REPORT, at, at) for one in some])
        event.remove(database.engine, "before_cursor_execute", listener)
        counts.append(len(seen))
    assert counts[1] <= counts[0] <= 8


def test_unknown_subscriber_is_an_error(database: Database, at: datetime) -> None:
    assert moved(database, 999_999, S.UNSUBSCRIBED, Origin("page"), at) is MoveResult.UNKNOWN


class TestRestore:
    """The operator corrects mistakes of machines and of their own, and nothing that a person said."""

    @pytest.mark.parametrize("before", [S.ACTIVE, S.PENDING])
    def test_wrong_bounce_is_lifted_with_its_reason(
        self, database: Database, at: datetime, before: SubscriberStatus
    ) -> None:
        ana = added(database, at, before)
        moved(database, ana, S.BOUNCED, BY_REPORT, at)
        with database.transaction() as connection:
            connection.execute(update(Subscriber).where(Subscriber.c.id == ana).values(soft_points=4.0))
        with database.transaction() as connection:
            (done,) = restore(connection, [ana], reason="the relay was down", at=at + DAY)
        assert (done.status, status_of(database, ana), suppressed(database)) == (before, before, None)
        with database.reading() as connection:
            line = history(connection, ana)[-1]
            points = select(Subscriber.c.soft_points).where(Subscriber.c.id == ana)
            assert connection.scalar(points) == 0.0
        assert (line.before, line.after, line.way, line.note) == (
            "bounced",
            before.value,
            "restore",
            "the relay was down",
        )

    @pytest.mark.parametrize("way", ["page", "one-click", "mailto", "api", "complaint"])
    @pytest.mark.parametrize("to", [S.UNSUBSCRIBED, S.COMPLAINED])
    @pytest.mark.parametrize("first", [None, S.BOUNCED])
    def test_opt_outs_and_complaints_stay(
        self, database: Database, at: datetime, way: str, to: SubscriberStatus, first: SubscriberStatus | None
    ) -> None:
        ana = added(database, at)
        if first is not None:
            moved(database, ana, first, BY_REPORT, at)
        moved(database, ana, to, Origin(way), at)
        with database.transaction() as connection:
            (refused,) = restore(connection, [ana], reason="please", at=at)
        assert refused.status is None
        assert refused.refusal
        assert status_of(database, ana) is to

    @pytest.mark.parametrize(("hours", "expected"), [(0, S.ACTIVE), (24, S.ACTIVE), (25, S.UNSUBSCRIBED)])
    def test_removal_is_undone_within_a_day(
        self, database: Database, at: datetime, hours: int, expected: SubscriberStatus
    ) -> None:
        ana = added(database, at)
        moved(database, ana, S.UNSUBSCRIBED, Origin("command"), at)
        with database.transaction() as connection:
            restore(connection, [ana], reason="wrong one", at=at + timedelta(hours=hours))
        assert status_of(database, ana) is expected

    @pytest.mark.parametrize("way", sorted(PERSONAL_WAYS))
    def test_person_who_opts_out_after_a_removal_stays_out(
        self, database: Database, at: datetime, way: str
    ) -> None:
        ana = added(database, at)
        moved(database, ana, S.UNSUBSCRIBED, Origin("command"), at)
        assert moved(database, ana, S.UNSUBSCRIBED, Origin(way), at) is MoveResult.UNCHANGED
        with database.transaction() as connection:
            (refused,) = restore(connection, [ana], reason="wrong one", at=at)
        assert (refused.status, status_of(database, ana)) == (None, S.UNSUBSCRIBED)

    def test_bounce_of_an_import_is_left_to_its_revert(
        self, database: Database, tmp_path: Path, at: datetime
    ) -> None:
        ana = added(database, at)
        import_id = brought(database, tmp_path, "ana@example.org,bounced\n", at)
        with database.transaction() as connection:
            (refused,) = restore(connection, [ana], reason="wrong", at=at)
        assert f"import {import_id}" in refused.refusal
        assert status_of(database, ana) is S.BOUNCED

    def test_dry_run_changes_nothing(self, database: Database, at: datetime) -> None:
        ana = added(database, at)
        moved(database, ana, S.BOUNCED, BY_REPORT, at)
        with database.transaction() as connection:
            (told,) = restore(connection, [ana], reason="", at=at, dry_run=True)
        assert (told.status, status_of(database, ana)) == (S.ACTIVE, S.BOUNCED)

    def test_report_from_before_the_correction_suppresses_nobody_again(
        self, database: Database, at: datetime
    ) -> None:
        ana = added(database, at)
        moved(database, ana, S.BOUNCED, BY_REPORT, at)
        with database.transaction() as connection:
            restore(connection, [ana], reason="our fault", at=at + DAY)
            late = Move(ana, S.BOUNCED, BY_REPORT, at + 2 * DAY, at)
            assert move(connection, [late]) == [MoveResult.OUTDATED]
        assert status_of(database, ana) is S.ACTIVE


def test_no_transition_exists_outside_the_table(database: Database, at: datetime) -> None:
    for number, (before, to) in enumerate((before, to) for before in S for to in S):
        for personal in (False, True):
            one = added(database, at, before, name=f"x{number}{personal}")
            result = moved(database, one, to, Origin("page" if personal else "api"), at)
            by_person_alone = TRANSITIONS.get((before, to))
            allowed = by_person_alone is not None and (personal or not by_person_alone)
            assert (result is MoveResult.MOVED) is allowed, (before, to, personal)


ROOM = Path(mailer.__file__).parent
LEDGER = ROOM / "audience" / "ledger.py"
WRITERS = {"insert", "update", "delete", "insert_rows"}
SETTERS = {"values", "_change"}
"""Methods and functions whose keywords become columns."""
GUARDED = {"Consent", "Suppression"}


SQL = re.compile(r"\b(into|update|delete from)\s+(consents|suppressions)\b", re.IGNORECASE)


def writes(tree: ast.AST) -> list[str]:
    """Return where a module writes statuses, consents or suppressions, as `line: code`."""
    tables = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mailer.database.tables")
        for alias in node.names
    }
    found: list[ast.expr] = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and _call_writes(node, tables)
    ]
    found += [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value)
    ]
    if "Subscriber" in tables.values():
        found += [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and _is_status(node.slice)
        ]
    return [f"{node.lineno}: {ast.unparse(node)}" for node in found]


def _call_writes(call: ast.Call, tables: dict[str, str]) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    parts = [part for one in (call.func, *call.args) for part in ast.walk(one)]
    given = {tables.get(getattr(part, "id", ""), "") for part in parts}
    keys = [key for part in parts if isinstance(part, ast.Dict) for key in part.keys if key is not None]
    return (
        (name in WRITERS and bool(given & GUARDED))
        or (name == "insert" and "Subscriber" in given)
        or (name in SETTERS and any(word.arg == "status" for word in call.keywords))
        or (name in {*SETTERS, "execute"} and "Subscriber" in given and any(map(_is_status, keys)))
    )


def _is_status(key: ast.expr) -> bool:
    """Return whether this is `"status"` or `Subscriber.c.status`."""
    return getattr(key, "value", None) == "status" or getattr(key, "attr", None) == "status"


def test_only_the_ledger_writes_statuses_consents_and_suppressions() -> None:
    others = [
        f"{path.relative_to(ROOM)}:{line}"
        for path in sorted(ROOM.rglob("*.py"))
        if path != LEDGER and "migrations" not in path.parts
        for line in writes(ast.parse(path.read_text(encoding="utf-8")))
    ]
    # A rehearsal copies people into a database of its own.
    assert [
        one for one in others if not re.fullmatch(r"rehearsal/rehearse\.py:\d+: insert\(Subscriber\)", one)
    ] == []


@pytest.mark.parametrize(
    "line",
    [
        "changes['status'] = 'active'",
        "changes['status'], changes['name'] = 'active', ''",
        "connection.execute(insert(Consent).values(at=at))",
        "connection.execute(insert(Entry).values(at=at))",
        "connection.execute(insert(Suppression), rows)",
        "connection.execute(Suppression.insert(), rows)",
        "connection.execute(delete(Consent).where(Consent.c.id == 1))",
        "connection.execute(Consent.delete().where(Consent.c.id == 1))",
        "connection.execute(update(Subscriber).values(status='active'))",
        "connection.execute(update(Subscriber).values({'status': 'active'}))",
        "connection.execute(update(Subscriber).values({Subscriber.c.status: 'active'}))",
        "connection.execute(update(Subscriber), {'status': 'active'})",
        "connection.execute(insert(Subscriber), rows)",
        "insert_rows(connection, Consent, rows)",
        "_change(connection, 1, at=at, status='active')",
        "connection.execute(text('DELETE FROM suppressions'))",
    ],
)
def test_every_way_to_write_would_be_noticed(line: str) -> None:
    head = "from mailer.database.tables import Consent, Consent as Entry, Subscriber, Suppression\n"
    assert writes(ast.parse(head + line))
    assert writes(ast.parse(LEDGER.read_text(encoding="utf-8")))


def test_find_sees_what_a_move_did_in_the_same_transaction(database: Database, at: datetime) -> None:
    ana = added(database, at)
    with database.transaction() as connection:
        known = find(connection, ANA)
        assert known is not None
        assert unsubscribe(connection, ana, origin=Origin("page"), at=at)
        again = find(connection, ANA)
        assert again is not None
        assert again.status is S.UNSUBSCRIBED


def test_correction_is_written_when_it_returns(database: Database, at: datetime) -> None:
    ana = added(database, at)
    with database.transaction() as connection:
        status = select(Subscriber.c.status).where(Subscriber.c.id == ana)
        assert connection.scalar(status) == S.ACTIVE.value
        correct(connection, [Move(ana, S.PENDING, Origin("command"), at)])
        assert connection.scalar(status) == S.PENDING.value


def test_last_move_of_a_person_is_written_when_all_return(database: Database, at: datetime) -> None:
    ana = added(database, at)
    with database.transaction() as connection:
        status = select(Subscriber.c.status).where(Subscriber.c.id == ana)
        assert connection.scalar(status) == S.ACTIVE.value
        move(connection, [Move(ana, S.PENDING, Origin("page"), at), Move(ana, S.BOUNCED, BY_REPORT, at)])
        assert connection.scalar(status) == S.BOUNCED.value


@pytest.mark.parametrize("way", ["command", "page"])
@pytest.mark.parametrize("before", S)
def test_move_that_is_refused_leaves_no_line(
    database: Database, at: datetime, before: SubscriberStatus, way: str
) -> None:
    ana = added(database, at)
    with database.transaction() as connection:
        # One that could be corrected, so that the cause of a second opt-out would be kept.
        correct(connection, [Move(ana, before, Origin("command"), at)])
        lines = len(history(connection, ana))
    for to in S:
        by_person_alone = TRANSITIONS.get((before, to))
        allowed = by_person_alone is not None and (way in PERSONAL_WAYS or not by_person_alone)
        if allowed or {before, to} <= OUT:
            continue
        assert moved(database, ana, to, Origin(way), at) in (MoveResult.REFUSED, MoveResult.UNCHANGED)
    with database.reading() as connection:
        assert len(history(connection, ana)) == lines


@pytest.mark.parametrize(("seconds", "expected"), [(-1, True), (0, False), (1, False)])
def test_event_predates_the_last_consent_of_its_own_subscriber(
    database: Database, at: datetime, seconds: int, expected: bool
) -> None:
    ana, bob = added(database, at), added(database, at, name="bob")
    for one, days in ((ana, 0), (bob, 9)):
        moved(database, one, S.UNSUBSCRIBED, Origin("page"), at)
        moved(database, one, S.ACTIVE, Origin("page"), at + days * DAY)
    with database.reading() as connection:
        assert predates_consent(connection, ana, at + timedelta(seconds=seconds)) is expected


def test_event_predates_no_consent_of_somebody_who_never_gave_one(database: Database, at: datetime) -> None:
    ana = added(database, at)
    with database.reading() as connection:
        assert not predates_consent(connection, ana, at - DAY)


def test_enrolled_are_those_that_were_given(database: Database, at: datetime) -> None:
    bob = added(database, at, name="bob")
    with database.transaction() as connection:
        ids = enrol(connection, [Enrolment(ANA, S.BOUNCED, Origin("import", note="old list"))], at=at)
        assert list(ids) == [ANA.key]
        assert bob not in ids.values()
        stored = suppression_of_ana(connection)
        assert stored is not None
        assert (stored.reason, stored.note, stored.report_id) == ("hard bounce", "old list", None)


def test_first_lines_are_those_of_the_active_that_an_import_added(database: Database, at: datetime) -> None:
    people = [
        Enrolment(parse_address(f"p{number}@example.org"), status, Origin("import"))
        for number, status in enumerate([S.ACTIVE, S.ACTIVE, S.PENDING, S.ACTIVE])
    ]
    with database.transaction() as connection:
        insert_without_lines(connection, people[:3], at=at)
        insert_without_lines(connection, people[3:], at=at - DAY)
        ids = list(connection.scalars(select(Subscriber.c.id).order_by(Subscriber.c.id)))
        connection.execute(insert(Import).values(id=7, at=at, source="people.csv"))
        write_first_lines(connection, 7, after_id=ids[0], at=at)
        lines = connection.execute(
            select(Consent.c.subscriber_id, Consent.c.at, Consent.c.before, Consent.c.after, Consent.c.way,
                   Consent.c.import_id)
        ).all()  # fmt: skip
    assert [tuple(line) for line in lines] == [(ids[1], at, "", "active", "import", 7)]


def test_joining_is_when_it_was_said_or_now(database: Database, at: datetime) -> None:
    bob = parse_address("bob@example.org")
    with database.transaction() as connection:
        insert_without_lines(
            connection,
            [Enrolment(ANA, S.ACTIVE, Origin("import"), joined_at=at - DAY),
             Enrolment(bob, S.ACTIVE, Origin("import"))],
            at=at,
        )  # fmt: skip
        stored = connection.execute(
            select(Subscriber.c.created_at, Subscriber.c.changed_at).order_by(Subscriber.c.id)
        )
        assert [tuple(row) for row in stored] == [(at - DAY, at), (at, at)]


def test_note_keeps_the_wording_that_it_names(database: Database, at: datetime) -> None:
    ana = added(database, at)
    chose = Origin("page", wording="I want to read about tea only.", note="tags: +tea")
    with database.transaction() as connection:
        add_note(connection, ana, S.ACTIVE, origin=chose, at=at)
        line = history(connection, ana)[-1]
        stored = connection.execute(select(Wording)).one()
    assert (line.note, line.before, line.after) == ("tags: +tea", "active", "active")
    assert (stored.version, stored.text, stored.first_at) == (version_of(chose.wording), chose.wording, at)


def test_second_cause_of_an_opt_out_is_kept_once(database: Database, at: datetime) -> None:
    ana = added(database, at)
    with database.transaction() as connection:
        rows = [{"id": number, "at": at, "source": "people.csv"} for number in (1, 2, 3)]
        connection.execute(insert(Import), rows)
    # Who says it, and whether the ledger gets a line.
    for number, (origin, kept) in enumerate(
        [
            (Origin("import", import_id=1), True),
            (Origin("import", import_id=1), False),
            (Origin("import", import_id=2), True),
            # Two imports that agree are enough.
            (Origin("import", import_id=3), False),
            (Origin("import", import_id=2), False),
            (Origin("command"), True),
            (Origin("import", import_id=3), False),
            (Origin("page"), True),
            # Nobody can correct what a person has said.
            (Origin("page"), False),
            (Origin("command"), False),
            (Origin("import", import_id=3), False),
        ]
    ):
        with database.reading() as connection:
            before = len(history(connection, ana))
        moved(database, ana, S.UNSUBSCRIBED, origin, at)
        with database.reading() as connection:
            lines = history(connection, ana)[before:]
        assert [line.way for line in lines] == ([origin.way] if kept else []), number


def test_next_import_is_a_second_cause_after_the_operator(database: Database, at: datetime) -> None:
    ana = added(database, at)
    with database.transaction() as connection:
        connection.execute(insert(Import).values(id=1, at=at, source="people.csv"))
    moved(database, ana, S.UNSUBSCRIBED, Origin("command"), at)
    moved(database, ana, S.BOUNCED, Origin("import", import_id=1), at)
    with database.reading() as connection:
        lines = [(line.before, line.after, line.way) for line in history(connection, ana)][1:]
        assert lines == [("active", "unsubscribed", "command"), ("unsubscribed", "unsubscribed", "import")]
        stored = suppression_of_ana(connection)
        assert stored is not None
        assert (stored.reason, stored.note) == ("hard bounce", "import 1")
