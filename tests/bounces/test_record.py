"""What a report does to a delivery and a subscriber, and what it must not do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, insert, select, text, update
from sqlalchemy.event import listen

from mailer.audience import suppression
from mailer.audience.ledger import change_status
from mailer.audience.subscribers import get, history
from mailer.audience.transitions import Origin
from mailer.bounces import batch as batch_module
from mailer.bounces import record as record_module
from mailer.bounces.batch import record, record_batch
from mailer.bounces.effects import apply_verdicts
from mailer.bounces.providers.events import EventKind, WebhookEvent
from mailer.bounces.reclassify import reclassify
from mailer.bounces.record import Effect, Recorded, ReportOutcome, Rules, record_events
from mailer.database.engine import Database
from mailer.database.tables import SOFT_BOUNCE, Delivery, Event, StoredReport, Subscriber, SubscriberStatus
from mailer.replies import Verdict, judge
from mailer.tokens import Subject
from tests.bounces.reports import ISSUE, SECRET, SIGNER, complaint, dsn, subscribe, token
from tests.database.statements import statements

RULES = Rules(unsubscribe_address="unsubscribe@bounce.example.org")
FULL = {"reply": "552 5.2.2 Mailbox is full", "status": "5.2.2"}


def recorded(database: Database, raw: bytes, at: datetime, rules: Rules = RULES) -> Recorded:
    return record(database, SIGNER, raw, source="test", at=at, rules=rules)


def status(database: Database, subscriber_id: int) -> SubscriberStatus:
    with database.reading() as connection:
        found = get(connection, subscriber_id)
    assert found is not None
    return found.status


def books(database: Database, issue_id: int = ISSUE) -> dict[str, int]:
    with database.reading() as connection:
        rows = connection.execute(
            select(Delivery.c.state, func.count())
            .where(Delivery.c.issue_id == issue_id)
            .group_by(Delivery.c.state)
        )
        return {row[0]: row[1] for row in rows}


def points(database: Database, subscriber_id: int) -> float:
    with database.reading() as connection:
        theirs = select(Subscriber.c.soft_points).where(Subscriber.c.id == subscriber_id)
        return connection.scalars(theirs).one()


def test_hard_bounce_suppresses_immediately_and_fails_the_delivery(database: Database, at: datetime) -> None:
    ana = subscribe(database, at)
    subscribe(database, at, "bo@example.com")
    done = recorded(database, dsn(token(ana)), at)
    assert (done.outcome, done.effect, done.hard) == (ReportOutcome.APPLIED, Effect.SUPPRESSED, True)
    assert status(database, ana) is SubscriberStatus.BOUNCED
    assert books(database) == {"failed": 1, "sent": 1}
    with database.reading() as connection:
        assert connection.scalars(select(Event.c.id).where(Event.c.kind == SOFT_BOUNCE)).all() == []
    with database.reading() as connection:
        assert suppression.reason_for(connection, "ana@example.com", secret=SECRET) == "hard bounce"
        delivery = connection.execute(select(Delivery).where(Delivery.c.subscriber_id == ana)).one()
        assert (delivery.code, delivery.enhanced, delivery.bounce_class) == (550, "5.1.1", "invalid_mailbox")
        lines = history(connection, ana)
        assert [line.way for line in lines] == ["command", "bounce"]
        assert "5.1.1 User unknown" in lines[-1].note


def test_same_report_twice_is_one_event(database: Database, at: datetime) -> None:
    ana = subscribe(database, at)
    first = recorded(database, dsn(token(ana), **FULL), at)
    again = recorded(database, dsn(token(ana), **FULL), at + timedelta(days=3))
    assert (first.report_id, False, True) == (again.report_id, first.duplicate, again.duplicate)
    assert points(database, ana) == 1.0
    with database.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(StoredReport)) == 1


def test_two_reports_on_one_delivery_are_counted_once(database: Database, at: datetime) -> None:
    ana = subscribe(database, at)
    recorded(database, dsn(token(ana), **FULL), at)
    recorded(database, dsn(token(ana), **FULL) + b"\n", at + timedelta(days=3))
    assert points(database, ana) == 1.0


def test_valid_token_that_names_another_address_changes_nothing(database: Database, at: datetime) -> None:
    ana, bo = subscribe(database, at), subscribe(database, at, "bo@example.com")
    done = recorded(database, dsn(token(ana), recipient="bo@example.com"), at)
    assert done.outcome is ReportOutcome.FOREIGN
    assert {SubscriberStatus.ACTIVE} == {status(database, ana), status(database, bo)}
    assert books(database) == {"sent": 2}


def test_damaged_token_changes_nothing_even_if_unsigned_is_trusted(database: Database, at: datetime) -> None:
    ana = subscribe(database, at)
    good = token(ana)
    bad = ("b" if good[0] == "a" else "a") + good[1:]
    done = recorded(database, dsn(bad), at, Rules(trust_unsigned=True))
    assert done.outcome is ReportOutcome.UNMATCHED
    assert status(database, ana) is SubscriberStatus.ACTIVE


@pytest.mark.parametrize(
    ("trust", "outcome", "standing"),
    [
        (False, ReportOutcome.UNMATCHED, SubscriberStatus.ACTIVE),
        (True, ReportOutcome.APPLIED, SubscriberStatus.BOUNCED),
    ],
)
def test_unsigned_report_acts_only_where_it_is_trusted(
    database: Database, at: datetime, trust: bool, outcome: ReportOutcome, standing: SubscriberStatus
) -> None:
    ana = subscribe(database, at)
    done = recorded(database, dsn(""), at, Rules(trust_unsigned=trust))
    assert (outcome, ana) == (done.outcome, done.subscriber_id)
    assert status(database, ana) is standing


def test_message_id_of_ours_is_as_good_as_the_return_path(database: Database, at: datetime) -> None:
    ana = subscribe(database, at)
    done = recorded(database, dsn("", message_id=f"{token(ana)}@example.org"), at)
    assert (done.outcome, done.issue_id) == (ReportOutcome.APPLIED, ISSUE)
    assert status(database, ana) is SubscriberStatus.BOUNCED


def test_link_token_never_bounces(database: Database, at: datetime) -> None:
    ana = subscribe(database, at)
    link = SIGNER.link(Subject(ISSUE, ana))
    recorded(database, dsn("", message_id=f"{link}@example.org"), at)
    assert status(database, ana) is SubscriberStatus.ACTIVE


def test_full_mailbox_suppresses_at_the_fifth_issue_over_two_weeks(database: Database, at: datetime) -> None:
    ana = subscribe(database, at, issues=5)
    for number in range(5):
        assert status(database, ana) is SubscriberStatus.ACTIVE
        done = recorded(database, dsn(token(ana, ISSUE + number), **FULL), at + timedelta(days=7 * number))
    assert done.effect is Effect.SUPPRESSED
    assert status(database, ana) is SubscriberStatus.BOUNCED


def test_delivered_notice_clears_the_soft_count(database: Database, at: datetime) -> None:
    ana = subscribe(database, at, issues=2)
    recorded(database, dsn(token(ana), **FULL), at)
    arrived = dsn(token(ana, 2), action="delivered", status="2.0.0", reply="250 2.0.0 OK")
    assert recorded(database, arrived, at + timedelta(days=7)).effect is Effect.CLEARED
    assert points(database, ana) == 0.0


def test_delivery_that_a_provider_reports_clears_the_soft_count_of_its_recipient(
    database: Database, at: datetime
) -> None:
    people = []
    for address in ("ana@example.com", "bo@example.com"):
        people.append(subscribe(database, at, address))
        recorded(database, dsn(token(people[-1]), recipient=address, **FULL), at)
    event = WebhookEvent("mailgun", EventKind.DELIVERED, recipient="Ana@example.com", at=at, payload={})
    assert record_events(database, SIGNER, [event], at=at + timedelta(days=7), rules=RULES) == []
    assert [points(database, one) for one in people] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("kind", "standing"),
    [
        ("abuse", SubscriberStatus.COMPLAINED),
        ("fraud", SubscriberStatus.COMPLAINED),
        ("opt-out", SubscriberStatus.UNSUBSCRIBED),
        ("auth-failure", SubscriberStatus.ACTIVE),
        ("not-spam", SubscriberStatus.ACTIVE),
    ],
)
def test_feedback_does_what_its_type_says(
    database: Database, at: datetime, kind: str, standing: SubscriberStatus
) -> None:
    ana = subscribe(database, at)
    recorded(database, complaint(token(ana), kind=kind), at)
    assert status(database, ana) is standing
    assert books(database) == {"sent": 1}


def test_complaint_with_a_hidden_address_is_known_by_its_token(database: Database, at: datetime) -> None:
    ana = subscribe(database, at)
    recorded(database, complaint(token(ana), recipient="redacted@example.com"), at)
    assert status(database, ana) is SubscriberStatus.COMPLAINED


def test_delay_is_stored_and_nothing_else(database: Database, at: datetime) -> None:
    ana = subscribe(database, at)
    late = dsn(token(ana), action="delayed", status="4.2.2", reply="452 4.2.2 Mailbox full")
    done = recorded(database, late, at)
    assert (done.kind, done.outcome) == ("delayed", ReportOutcome.IGNORED)
    assert (books(database), points(database, ana)) == ({"sent": 1}, 0.0)


def test_block_of_ours_is_never_counted(database: Database, at: datetime) -> None:
    ana = subscribe(database, at)
    blocked = "550 5.7.1 Client host blocked using zen.spamhaus.org"
    done = recorded(database, dsn(token(ana), status="5.7.1", reply=blocked), at)
    assert done.bounce_class == "reputation_block"
    assert (status(database, ana), points(database, ana)) == (SubscriberStatus.ACTIVE, 0.0)
    assert books(database) == {"failed": 1}


def test_mail_to_the_unsubscribe_address_unsubscribes_by_its_link_token(
    database: Database, at: datetime
) -> None:
    ana, bo = subscribe(database, at), subscribe(database, at, "bo@example.com")
    link = SIGNER.link(Subject(ISSUE, ana))
    mail = f"From: other@example.net\nTo: unsubscribe@bounce.example.org\nSubject: {link}\n\n"
    done = recorded(database, mail.encode(), at)
    assert (done.kind, done.effect) == ("unsubscribe", Effect.UNSUBSCRIBED)
    assert (
        status(database, ana), status(database, bo),
    ) == (SubscriberStatus.UNSUBSCRIBED, SubscriberStatus.ACTIVE)  # fmt: skip


@pytest.mark.parametrize("to", ["someone@example.org", "xunsubscribe@bounce.example.org"])
def test_link_token_sent_elsewhere_does_nothing(database: Database, at: datetime, to: str) -> None:
    ana = subscribe(database, at)
    link = SIGNER.link(Subject(ISSUE, ana))
    recorded(database, f"From: a@example.net\nTo: {to}\nSubject: {link}\n\n".encode(), at)
    assert status(database, ana) is SubscriberStatus.ACTIVE


def test_return_path_token_never_unsubscribes(database: Database, at: datetime) -> None:
    ana = subscribe(database, at)
    mail = f"From: a@example.net\nTo: unsubscribe@bounce.example.org\nSubject: {token(ana)}\n\n"
    recorded(database, mail.encode(), at)
    assert status(database, ana) is SubscriberStatus.ACTIVE


def test_report_is_kept_when_reading_it_fails_and_read_the_next_time(
    database: Database, at: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = subscribe(database, at)

    def broken(*_: object, **__: object) -> Recorded:
        raise RecursionError("too deep")

    with monkeypatch.context() as patched:
        patched.setattr(batch_module, "apply_mail", broken)
        with pytest.raises(RecursionError):
            recorded(database, dsn(token(ana)), at)
    with database.reading() as connection:
        assert connection.scalars(select(StoredReport.c.outcome)).all() == ["stored"]
    assert recorded(database, dsn(token(ana)), at).effect is Effect.SUPPRESSED


def test_refusals_in_the_dialogue_follow_the_same_policy(database: Database, at: datetime) -> None:
    ids = [subscribe(database, at, f"r{number}@example.com") for number in range(8)]
    with database.transaction() as connection:
        assert apply_verdicts(connection, refusals(ids), at=at) == frozenset(ids[1::2])
    assert {status(database, one) for one in ids[1::2]} == {SubscriberStatus.BOUNCED}
    assert {(status(database, one), points(database, one)) for one in ids[::2]} == {
        (SubscriberStatus.ACTIVE, 1.0)
    }


def refusals(ids: Sequence[int]) -> list[tuple[int, int, Verdict]]:
    """Return refusals of these subscribers, hard and soft in turn."""
    gone, full = judge(550, "5.1.1", "User unknown"), judge(552, "5.2.2", "Mailbox is full")
    return [(ISSUE, one, gone if place % 2 else full) for place, one in enumerate(ids)]


def test_many_refusals_cost_as_many_statements_as_few(database: Database, at: datetime) -> None:
    statements: list[str] = []
    listen(database.engine, "before_cursor_execute", lambda *event: statements.append(event[2]))
    counts = []
    for name, size in (("few", 4), ("many", 60)):
        ids = [subscribe(database, at, f"{name}{number}@example.com") for number in range(size)]
        statements.clear()
        with database.transaction() as connection:
            apply_verdicts(connection, refusals(ids), at=at)
        counts.append(len(statements))
    assert counts[0] == counts[1]


def test_no_refusals_cost_no_statement(database: Database, at: datetime) -> None:
    statements: list[str] = []
    with database.transaction() as connection:
        listen(database.engine, "before_cursor_execute", lambda *event: statements.append(event[2]))
        assert apply_verdicts(connection, [], at=at) == frozenset()
    assert statements == []


def test_judging_again_by_the_same_rules_changes_nothing(database: Database, at: datetime) -> None:
    ana = subscribe(database, at, issues=2)
    recorded(database, dsn(token(ana), **FULL), at)
    recorded(database, dsn(token(ana, 2), recipient="bo@example.com"), at)
    assert list(reclassify(database, SIGNER, at=at, rules=RULES)) == []
    assert points(database, ana) == 1.0


UNMATCHED = {
    "nobody's bounce": dsn("", recipient="nobody@example.com"),
    "nobody's complaint": complaint("", recipient="nobody@example.com"),
    "a damaged token": dsn("x" * 20),
    "a letter": b"From: ana@example.com\nSubject: Hello\n\nHow are you?\n",
}


@pytest.mark.parametrize("raw", UNMATCHED.values(), ids=UNMATCHED)
def test_judging_again_writes_nothing_about_an_unmatched_report(
    database: Database, at: datetime, raw: bytes
) -> None:
    subscribe(database, at)
    assert recorded(database, raw, at).outcome is ReportOutcome.UNMATCHED
    with statements(database) as said:
        assert list(reclassify(database, SIGNER, at=at, rules=RULES)) == []
    assert [statement for statement, _ in said if statement.startswith("UPDATE")] == []


@pytest.mark.parametrize(("dry_run", "standing"), [(True, "active"), (False, "bounced")])
def test_judging_again_acts_on_what_was_misread(
    database: Database, at: datetime, dry_run: bool, standing: str
) -> None:
    ana = subscribe(database, at)
    with database.transaction() as connection:
        connection.execute(
            insert(StoredReport).values(
                received_at=at,
                source="test",
                digest="d",
                raw=dsn(token(ana)),
                kind="ordinary",
                outcome="ignored",
                details={},
            )
        )
    (change,) = reclassify(database, SIGNER, at=at, rules=RULES, dry_run=dry_run)
    assert (change.before.kind, change.after.kind, change.after.hard) == ("ordinary", "bounce", True)
    assert status(database, ana).value == standing


def test_judging_again_leaves_alone_who_has_come_back(database: Database, at: datetime) -> None:
    ana, bo = subscribe(database, at), subscribe(database, at, "bo@example.com")
    link = SIGNER.link(Subject(ISSUE, bo))
    recorded(database, f"To: unsubscribe@bounce.example.org\nSubject: {link}\n\n".encode(), at)
    recorded(database, dsn(token(ana)), at)
    later = at + timedelta(days=1)
    with database.transaction() as connection:
        for one in (ana, bo):
            assert change_status(connection, one, SubscriberStatus.ACTIVE, origin=Origin("form"), at=later)
        connection.execute(
            update(StoredReport).where(StoredReport.c.kind == "bounce").values(kind="ordinary")
        )
    changes = list(reclassify(database, SIGNER, at=later, rules=RULES))
    assert [change.after.kind for change in changes] == ["bounce"]
    assert {status(database, ana), status(database, bo)} == {SubscriberStatus.ACTIVE}


REPLIES = st.sampled_from(
    [
        ("failed", "5.1.1", "550 5.1.1 User unknown"),
        ("failed", "5.2.2", "552 5.2.2 Mailbox is full"),
        ("failed", "5.7.1", "550 5.7.1 Message blocked as spam"),
        ("delayed", "4.2.2", "452 4.2.2 Mailbox is full"),
        ("delivered", "2.0.0", "250 2.0.0 OK"),
    ]
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2), REPLIES, st.integers(0, 90), st.booleans()), max_size=8))
def test_books_balance_whatever_comes_back(
    database: Database, at: datetime, reports: list[tuple[int, tuple[str, str, str], int, bool]]
) -> None:
    names = [f"r{number}@example.com" for number in range(3)]
    with database.reading() as connection:
        known = connection.scalars(select(Subscriber.c.id).order_by(Subscriber.c.id)).all()
    ids = known or [subscribe(database, at, name) for name in names]
    for place, (action, code, reply), day, signed in reports:
        raw = dsn(token(ids[place]) if signed else "", recipient=names[place], action=action, status=code,
                  reply=reply)  # fmt: skip
        done = recorded(database, raw, at + timedelta(days=day))
        assert signed or done.effect is Effect.NOTHING
        assert sum(books(database).values()) == 3


def test_message_that_fails_half_way_changes_nothing_and_the_others_count(
    database: Database, at: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"r{number}@example.com" for number in range(3)]
    ids = [subscribe(database, at, name) for name in names]
    genuine = record_module.apply_report

    def picky(connection: Connection, *args: Any, **kwargs: Any) -> Recorded:
        done = genuine(connection, *args, **kwargs)
        if done.recipient == names[1]:
            connection.execute(text("SELECT nothing FROM nowhere"))
        return done

    monkeypatch.setattr(record_module, "apply_report", picky)
    raws = [dsn(token(one), recipient=name) for one, name in zip(ids, names, strict=True)]
    done = record_batch(database, SIGNER, raws, source="test", at=at, rules=RULES)
    assert [isinstance(one, Recorded) for one in done] == [True, False, True]
    assert [status(database, one).value for one in ids] == ["bounced", "active", "bounced"]
    assert books(database) == {"failed": 2, "sent": 1}


@pytest.mark.parametrize("hidden", ["redacted-{}@example.net", "hidden.{}@example.net"])
def test_report_on_several_hidden_people_is_not_taken_for_ours(
    database: Database, at: datetime, hidden: str
) -> None:
    ana = subscribe(database, at)
    several = dsn(token(ana), recipient=hidden.format(1)).replace(
        b"Status: 5.1.1\n", f"Status: 5.1.1\n\nFinal-Recipient: rfc822; {hidden.format(2)}\nAction: failed\n"
        "Status: 5.1.1\n".encode()
    )  # fmt: skip
    assert recorded(database, several, at).effect is Effect.NOTHING
    assert status(database, ana) is SubscriberStatus.ACTIVE
    # One hidden recipient can only be the one the token names.
    assert recorded(database, dsn(token(ana), recipient=hidden.format(1)), at).effect is Effect.SUPPRESSED


def test_unsigned_report_is_about_the_newest_issue_that_was_sent(database: Database, at: datetime) -> None:
    subscribe(database, at, issues=3)
    with database.transaction() as connection:
        for issue, state in ((2, "skipped"), (3, "queued")):
            connection.execute(update(Delivery).where(Delivery.c.issue_id == issue).values(state=state))
    done = recorded(database, dsn(""), at, Rules(trust_unsigned=True))
    assert (done.issue_id, done.effect) == (1, Effect.SUPPRESSED)
    with database.reading() as connection:
        states = connection.scalars(select(Delivery.c.state).order_by(Delivery.c.issue_id)).all()
    assert states == ["failed", "skipped", "queued"]
