"""Reports that are nearly all alike are about us; any other is about its recipient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select, update

from mailer.audience.ledger import change_status, unsubscribe
from mailer.audience.subscribers import history
from mailer.audience.transitions import Origin
from mailer.bounces import batch as batch_module
from mailer.bounces.batch import record, record_batch
from mailer.bounces.hosts import host_group
from mailer.bounces.patterns import ENOUGH, FEW
from mailer.bounces.providers.webhooks import events_of
from mailer.bounces.reclassify import reclassify
from mailer.bounces.record import Effect, Recorded, Rules, record_events
from mailer.database.engine import Database
from mailer.database.tables import (
    CanaryState,
    Delivery,
    DeliveryState,
    Event,
    IssueState,
    StoredIssue,
    StoredReport,
    Subscriber,
    SubscriberStatus,
    Suppression,
)
from mailer.delivery import control, issues
from tests.bounces.reports import ISSUE, SIGNER, complaint, dsn, subscribe_all, token

UNKNOWN = "550 5.1.1 <{}>: Recipient address rejected: User unknown in table 7x{}"
DISABLED = "550 5.2.1 <{}>: this mailbox is disabled"
DAY = timedelta(days=1)
RULES = Rules()

People = dict[str, int]


def send_to(database: Database, at: datetime, *addresses: str, state: IssueState | None = None) -> People:
    """Send the issue to these addresses; return their subscribers."""
    people = subscribe_all(database, at, addresses)
    if state is not None:
        with database.transaction() as connection:
            connection.execute(update(StoredIssue).values(state=state.value))
    return people


def many(number: int, *domains: str) -> list[str]:
    return [f"s{place}@{domains[place % len(domains)]}" for place in range(number)]


def returned(
    people: People, addresses: Sequence[str], reply: str = UNKNOWN, *, host: str = "", issue_id: int = ISSUE
) -> list[bytes]:
    """Return a report of each of these addresses, with one reply but for addresses and numbers."""
    return [
        dsn(
            token(people[address], issue_id),
            recipient=address,
            reply=reply.format(address, place),
            status=reply.split()[1],
            remote=host.format(place),
        )
        for place, address in enumerate(addresses)
    ]


def read(database: Database, raws: Sequence[bytes], at: datetime, batch: int = 20) -> list[Recorded]:
    done: list[Recorded] = []
    for start in range(0, len(raws), batch):
        part = record_batch(
            database, SIGNER, raws[start : start + batch], source="maildir:box", at=at, rules=RULES
        )
        done += [one for one in part if isinstance(one, Recorded)]
    assert len(done) == len(raws)
    return done


def statuses(database: Database) -> dict[str, int]:
    with database.reading() as connection:
        return Counter(connection.scalars(select(Subscriber.c.status)))


def suppressed(database: Database) -> int:
    with database.reading() as connection:
        return len(connection.scalars(select(Suppression.c.address_key)).all())


def states(database: Database) -> dict[str, int]:
    with database.reading() as connection:
        return Counter(connection.scalars(select(Delivery.c.state)))


def alerts(database: Database) -> list[str]:
    """Return what the breaker alerted the operator to."""
    with database.reading() as connection:
        kept = select(Event.c.details).where(Event.c.kind == "alert").order_by(Event.c.id)
        return [one["text"] for one in connection.scalars(kept) if one["of"] == "one reply"]


def issue(database: Database) -> issues.QueuedIssue:
    with database.reading() as connection:
        return issues.get(connection, ISSUE)


@pytest.mark.parametrize("batch", [1, 40])
def test_whole_issue_that_comes_back_with_one_reply_suppresses_nobody(
    database: Database, at: datetime, batch: int
) -> None:
    addresses = many(73, "a.example", "b.example", "c.example")
    people = send_to(database, at, *addresses, state=IssueState.SENDING)
    read(database, returned(people, addresses), at + DAY, batch)
    assert (statuses(database), suppressed(database)) == ({"active": 73}, 0)
    assert states(database) == {"failed": 73}
    # Where reports are read one by one, all may be back from a domain before they are of the issue.
    *_, alert = alerts(database)
    said = "73 messages came back with one reply, so it is taken to be about us and nobody is suppressed"
    assert said in alert
    assert ": 550 5.1.1 <s0@a.example>: Recipient address rejected: User unknown in table 7x0;" in alert
    commands = "mailer retry 001 --only failed && mailer resume 001 && mailer send 001"
    assert alert.endswith(f"; once the cause is fixed: {commands}")
    now = issue(database)
    assert (now.state, f"001: {now.reason}") == (IssueState.PAUSED, alerts(database)[0])


def test_ledger_says_why_a_suppression_was_lifted(database: Database, at: datetime) -> None:
    addresses = many(ENOUGH, "a.example")
    people = send_to(database, at, *addresses)
    read(database, returned(people, addresses), at + DAY)
    with database.reading() as connection:
        lines = history(connection, people[addresses[0]])
    assert [(line.way, line.after) for line in lines] == [
        ("command", "active"), ("bounce", "bounced"), ("restore", "active"),
    ]  # fmt: skip
    assert "came back with one reply" in lines[-1].note
    assert issue(database).state is IssueState.FINISHED
    assert alerts(database)[0].endswith("mailer retry 001 --only failed && mailer send 001")


def test_deliveries_can_be_sent_again_to_everybody(database: Database, at: datetime) -> None:
    addresses = many(20, "a.example")
    people = send_to(database, at, *addresses)
    read(database, returned(people, addresses), at + DAY)
    with database.transaction() as connection:
        assert control.retry(connection, ISSUE, DeliveryState.FAILED, at=at + 2 * DAY) == 20
    assert states(database) == {"queued": 20}
    assert issue(database).state is IssueState.SENDING
    assert statuses(database) == {"active": 20}


@pytest.mark.parametrize("gone", [range(73), range(0, 200, 3)])
def test_old_list_with_many_unknown_users_is_suppressed(
    database: Database, at: datetime, gone: range
) -> None:
    addresses = many(200, *(f"d{number}.example" for number in range(11)))
    people = send_to(database, at, *addresses, state=IssueState.SENDING)
    dead = [addresses[place] for place in gone]
    read(database, returned(people, dead), at + DAY, 50)
    assert statuses(database) == {"active": 200 - len(dead), "bounced": len(dead)}
    assert suppressed(database) == len(dead)
    assert (alerts(database), issue(database).state) == ([], IssueState.SENDING)


def test_one_provider_that_returns_all_is_spared_and_the_others_are_not(
    database: Database, at: datetime
) -> None:
    strict, mixed = many(25, "strict.example"), many(100, "b.example", "c.example", "d.example")
    people = send_to(database, at, *strict, *mixed, state=IssueState.SENDING)
    dead = [*strict, *mixed[:30]]
    read(database, returned(people, dead), at + DAY)
    assert statuses(database) == {"active": 95, "bounced": 30}
    with database.reading() as connection:
        bounced = connection.scalars(
            select(Subscriber.c.domain).where(Subscriber.c.status == "bounced")
        ).all()
    assert "strict.example" not in bounced
    (alert,) = alerts(database)
    assert "messages to strict.example came back with one reply" in alert
    assert issue(database).state is IssueState.PAUSED


def test_fault_that_begins_in_the_middle_of_an_issue_suppresses_nobody(
    database: Database, at: datetime
) -> None:
    addresses = many(100, "a.example", "b.example", "c.example", "d.example", "e.example")
    people = send_to(database, at, *addresses, state=IssueState.SENDING)
    read(database, returned(people, addresses[50:]), at + DAY, 50)
    assert (statuses(database), suppressed(database)) == ({"active": 100}, 0)
    (alert,) = alerts(database)
    assert "50 of the last 50 messages came back with one reply" in alert
    assert issue(database).state is IssueState.PAUSED


def test_fault_that_has_only_begun_is_seen_before_the_issue_is_over(database: Database, at: datetime) -> None:
    addresses = many(100, "a.example", "b.example", "c.example", "d.example", "e.example")
    people = send_to(database, at, *addresses, state=IssueState.SENDING)
    # The rest was sent just now: reports on it may still come.
    with database.transaction() as connection:
        fresh = [people[address] for address in addresses[90:]]
        connection.execute(
            update(Delivery).where(Delivery.c.subscriber_id.in_(fresh)).values(changed_at=at + DAY)
        )
    read(database, returned(people, addresses[50:90]), at + DAY, 40)
    assert (suppressed(database), len(alerts(database))) == (0, 1)


@pytest.mark.parametrize("readers", [1, 2])
def test_many_small_domains_behind_one_mail_host_are_spared(
    database: Database, at: datetime, readers: int
) -> None:
    behind = [f"r{place % readers}@d{place // readers}.example" for place in range(24)]
    others = many(60, "a.example", "b.example", "c.example")
    people = subscribe_all(database, at, [*behind, *others], issues=2)
    dead = [*behind, *others[:3]]
    raws = returned(people, behind, host="mx{}.hosted.example.net", issue_id=2)
    raws += returned(people, others[:3], host="mx.elsewhere.example", issue_id=2)
    read(database, raws, at + DAY, len(raws))
    assert statuses(database) == {"active": 81, "bounced": 3}
    (alert,) = alerts(database)
    assert f"{len(dead) - 3} of 24 messages to mailboxes at example.net came back with one reply" in alert


def test_unknown_readers_of_one_mail_host_are_suppressed(database: Database, at: datetime) -> None:
    # Nobody has ever reached these domains, or others at the same domains are reached.
    alone = [f"r@d{place}.example" for place in range(24)]
    shared = [f"r{place}@s{place // 3}.example" for place in range(72)]
    people = send_to(database, at, *alone, *shared)
    dead = [*alone, *shared[::3]]
    read(database, returned(people, dead, host="mx{}.hosted.example.net"), at + DAY, len(dead))
    assert (suppressed(database), alerts(database)) == (48, [])


@pytest.mark.parametrize(
    ("host", "group"),
    [
        ("aspmx.l.google.com", "google.com"),
        ("gmail-smtp-in.l.google.com.", "google.com"),
        ("example-com.mail.protection.outlook.com", "outlook.com"),
        ("hotmail-com.olc.protection.outlook.com", "outlook.com"),
        ("mx1.host.co.uk", "host.co.uk"),
        ("192.0.2.1", ""),
        ("sendgrid", ""),
        ("", ""),
    ],
)
def test_mail_hosts_are_grouped_by_who_runs_them(host: str, group: str) -> None:
    assert host_group(host) == group


@pytest.mark.parametrize(
    ("alike", "others", "sent", "lifted"),
    [
        (ENOUGH, 0, 2, True),
        (ENOUGH, 2, 0, True),
        (ENOUGH, 1, 2, False),
        (ENOUGH - 1, 0, 1, False),
        (45, 3, 2, True),
        (45, 3, 3, False),
        (FEW, 0, 0, True),
        (FEW - 1, 0, 0, False),
        (FEW, 1, 0, False),
        (FEW, 0, 1, False),
    ],
)
def test_thresholds(
    database: Database, at: datetime, alike: int, others: int, sent: int, lifted: bool
) -> None:
    addresses = many(alike + others + sent, "a.example")
    people = send_to(database, at, *addresses)
    read(database, returned(people, addresses[:others], "551 5.1.6 <{}> has moved away"), at + DAY)
    read(database, returned(people, addresses[others : others + alike]), at + DAY)
    assert suppressed(database) == others + (0 if lifted else alike)
    assert len(alerts(database)) == lifted


def test_few_that_all_come_back_from_one_domain_among_others_are_gone(
    database: Database, at: datetime
) -> None:
    closed = many(ENOUGH - 1, "closed.example")
    people = send_to(database, at, *closed, *many(40, "b.example"))
    read(database, returned(people, closed), at + DAY)
    assert suppressed(database) == ENOUGH - 1
    assert alerts(database) == []


def test_late_and_repeated_reports_suppress_nobody(database: Database, at: datetime) -> None:
    addresses = many(22, "a.example")
    people = send_to(database, at, *addresses)
    raws = returned(people, addresses)
    read(database, raws[:20], at + DAY)
    assert (suppressed(database), len(alerts(database))) == (0, 1)
    late = read(database, raws[20:], at + 2 * DAY)
    assert {one.effect for one in late} == {Effect.WITHHELD}
    # The same octets, a second report on the same delivery, and a reply in other words.
    read(database, raws, at + 3 * DAY)
    read(database, [raw + b"\n" for raw in raws], at + 4 * DAY)
    read(database, returned(people, addresses[:3], "550 5.1.1 {} does not exist {}"), at + 5 * DAY)
    assert (suppressed(database), statuses(database)) == (0, {"active": 22})
    assert len(alerts(database)) == 1


def test_late_report_after_the_issue_was_sent_again_suppresses_nobody(
    database: Database, at: datetime
) -> None:
    addresses = many(22, "a.example")
    people = send_to(database, at, *addresses)
    raws = returned(people, addresses)
    read(database, raws[:20], at + DAY)
    with database.transaction() as connection:
        sent = DeliveryState.SENT.value
        connection.execute(update(Delivery).values(state=sent, changed_at=at + 2 * DAY, code=250, reply="OK"))
    read(database, raws[20:], at + 3 * DAY)
    assert suppressed(database) == 0


def test_other_reply_after_a_trip_suppresses(database: Database, at: datetime) -> None:
    addresses = many(22, "a.example")
    people = send_to(database, at, *addresses)
    read(database, returned(people, addresses[:20]), at + DAY)
    read(database, returned(people, addresses[20:21], "551 5.1.6 <{}> has moved away"), at + DAY)
    assert suppressed(database) == 1


def test_next_issue_is_judged_by_itself(database: Database, at: datetime) -> None:
    addresses = many(20, "a.example")
    people = subscribe_all(database, at, addresses, issues=2)
    read(database, returned(people, addresses), at + DAY)
    again = dsn(
        token(people[addresses[0]], 2), recipient=addresses[0], reply=UNKNOWN.format("x@y.example", 1)
    )
    (done,) = read(database, [again], at + 2 * DAY)
    assert done.effect is Effect.SUPPRESSED


def test_opt_outs_and_complaints_stay(database: Database, at: datetime) -> None:
    addresses = many(30, "a.example")
    people = send_to(database, at, *addresses)
    raws = returned(people, addresses)
    read(database, raws[:10], at + DAY)
    with database.transaction() as connection:
        unsubscribe(connection, people[addresses[0]], origin=Origin("one-click"), at=at + DAY)
    record(
        database, SIGNER, complaint(token(people[addresses[1]]), recipient=addresses[1]),
        source="maildir:box", at=at + DAY, rules=RULES,
    )  # fmt: skip
    read(database, raws[10:], at + 2 * DAY)
    assert len(alerts(database)) == 1
    assert statuses(database) == {"active": 28, "unsubscribed": 1, "complained": 1}


def test_bounce_of_an_earlier_issue_stays(database: Database, at: datetime) -> None:
    addresses = many(20, "a.example")
    people = subscribe_all(database, at, addresses, issues=2)
    first = dsn(token(people[addresses[0]], 2), recipient=addresses[0])
    read(database, [first], at + DAY)
    read(database, returned(people, addresses), at + 2 * DAY)
    assert statuses(database) == {"active": 19, "bounced": 1}


def test_soft_bounces_with_one_reply_are_forgotten(database: Database, at: datetime) -> None:
    addresses = many(20, "a.example")
    people = subscribe_all(database, at, addresses, issues=2)
    read(database, returned(people, addresses, DISABLED), at + DAY)
    second = [
        dsn(token(people[one], 2), recipient=one, reply=DISABLED.format(one), status="5.2.1")
        for one in addresses
    ]
    read(database, second, at + 8 * DAY)
    assert (statuses(database), suppressed(database)) == ({"active": 20}, 0)
    with database.reading() as connection:
        assert set(connection.scalars(select(Subscriber.c.soft_points))) == {0.0}
    assert len(alerts(database)) == 2


def test_webhooks_count_alike(database: Database, at: datetime) -> None:
    addresses = many(25, "a.example")
    send_to(database, at, *addresses)
    reason = "550 5.1.1 User unknown"
    payload = [
        {"event": "bounce", "reason": reason, "email": one, "timestamp": int((at + DAY).timestamp())}
        for one in addresses
    ]
    events = [event for one in payload for event in events_of("sendgrid", one)]
    record_events(database, SIGNER, events, at=at + DAY, rules=RULES)
    assert (suppressed(database), len(alerts(database))) == (0, 1)


def test_reclassified_reports_keep_it(database: Database, at: datetime) -> None:
    addresses = many(20, "a.example")
    people = send_to(database, at, *addresses)
    raws = returned(people, addresses)
    read(database, raws, at + DAY)
    # As if earlier rules had judged the stored reports differently.
    with database.transaction() as connection:
        connection.execute(update(StoredReport).values(bounce_class="filtered", hard=False))
    changes = list(reclassify(database, SIGNER, at=at + 2 * DAY, rules=RULES))
    assert len(changes) == 20
    assert (suppressed(database), len(alerts(database))) == (0, 1)


def test_stored_reports_that_only_now_act_are_watched(database: Database, at: datetime) -> None:
    addresses = many(20, "a.example")
    send_to(database, at, *addresses)
    raws = [dsn("", recipient=address, reply=UNKNOWN.format(address, 1)) for address in addresses]
    read(database, raws, at + DAY)
    assert states(database) == {"sent": 20}
    trusting = Rules(trust_unsigned=True)
    assert len(list(reclassify(database, SIGNER, at=at + 2 * DAY, rules=trusting, dry_run=True))) == 20
    assert (states(database), alerts(database)) == ({"sent": 20}, [])
    list(reclassify(database, SIGNER, at=at + 2 * DAY, rules=trusting))
    assert (states(database), suppressed(database)) == ({"failed": 20}, 0)
    assert len(alerts(database)) == 1


def test_check_that_failed_is_made_up_for_when_the_reports_are_read_again(
    database: Database, at: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = many(20, "a.example")
    people = send_to(database, at, *addresses)
    raws = returned(people, addresses)
    with monkeypatch.context() as patched, pytest.raises(ConnectionError):
        patched.setattr(batch_module, "check_breaker", _fail)
        read(database, raws, at + DAY)
    assert suppressed(database) == 20
    assert all(one.duplicate for one in read(database, raws, at + DAY))
    assert suppressed(database) == 0


def _fail(*_: object, **__: object) -> None:
    raise ConnectionError


def test_waiting_canary_pauses_and_begins_again(database: Database, at: datetime) -> None:
    addresses = many(FEW, "a.example")
    people = send_to(database, at, *addresses, state=IssueState.SENDING)
    with database.transaction() as connection:
        waiting = CanaryState.WAITING.value
        connection.execute(update(StoredIssue).values(canary=waiting, canary_until=at + 2 * DAY))
    read(database, returned(people, addresses), at + DAY)
    now = issue(database)
    assert (now.state, now.canary, now.canary_until) == (IssueState.PAUSED, CanaryState.SENDING, None)
    assert suppressed(database) == 0


def test_issue_that_the_operator_stopped_keeps_its_reason(database: Database, at: datetime) -> None:
    addresses = many(20, "a.example")
    people = send_to(database, at, *addresses, state=IssueState.SENDING)
    with database.transaction() as connection:
        control.pause(connection, ISSUE, "paused by the operator")
    read(database, returned(people, addresses), at + DAY)
    assert (issue(database).reason, suppressed(database)) == ("paused by the operator", 0)


def test_person_who_came_back_in_between_is_left_alone(database: Database, at: datetime) -> None:
    addresses = many(20, "a.example")
    people = send_to(database, at, *addresses)
    raws = returned(people, addresses)
    read(database, raws[:1], at + DAY)
    with database.transaction() as connection:
        back = Origin("form")
        ana = people[addresses[0]]
        assert change_status(connection, ana, SubscriberStatus.ACTIVE, origin=back, at=at + 2 * DAY)
    read(database, raws[1:], at + 3 * DAY)
    with database.reading() as connection:
        assert [line.way for line in history(connection, ana)] == ["command", "bounce", "form"]
    assert suppressed(database) == 0
