"""Statistics equal SQL by hand on a seeded list, on both databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import Connection, not_, text

from mailer.audience.mailbox_providers import at_providers
from mailer.database.engine import Database
from mailer.reports import statistics
from mailer.reports.people import responders
from mailer.reports.rollups import refresh
from tests.reports.scene import SEGMENTS, Scene

_DAY = 86_400_000_000


@pytest.fixture
def counted(database: Database) -> Iterator[tuple[Connection, Scene]]:
    """A seeded list after six steps, counted."""
    scene = Scene(11)
    for _ in range(6):
        with database.transaction() as connection:
            scene.step(connection)
        refresh(database, at=scene.now + timedelta(days=1), segments=SEGMENTS, quiet_days=30)
    with database.reading() as connection:
        yield connection, scene


def number(connection: Connection, sql: str, **values: object) -> int:
    return int(connection.execute(text(sql), values).scalar_one() or 0)


def test_growth(counted: tuple[Connection, Scene]) -> None:
    connection, scene = counted
    days = statistics.growth(connection, date(2026, 1, 1), scene.now.date())
    assert days[-1].active == number(connection, "SELECT count(*) FROM subscribers WHERE status = 'active'")
    assert [day.day for day in days] == [date(2026, 1, 1) + timedelta(n) for n in range(len(days))]
    for change, condition in (
        ("joined", "after = 'active' AND before <> 'active'"),
        ("left", "before = 'active' AND after = 'unsubscribed'"),
        ("bounced", "before = 'active' AND after = 'bounced'"),
        ("complained", "before = 'active' AND after = 'complained'"),
    ):
        for day in days:
            start = int(datetime.combine(day.day, datetime.min.time(), UTC).timestamp()) * 1_000_000
            sql = f"SELECT count(*) FROM consents WHERE {condition} AND at >= :since AND at < :until"
            assert getattr(day, change) == number(connection, sql, since=start, until=start + _DAY), change
    later = statistics.growth(connection, days[5].day, days[9].day)
    assert later == days[5:10]


def test_issues(counted: tuple[Connection, Scene]) -> None:
    connection, scene = counted
    figures = statistics.issue_figures(connection)
    assert [one.issue_id for one in figures] == scene.issues[::-1]
    for one in figures:
        for field, sql in {
            "audience": "SELECT count(*) FROM deliveries WHERE issue_id = :i",
            "sent": "SELECT count(*) FROM deliveries WHERE issue_id = :i AND state = 'sent'",
            "failed": "SELECT count(*) FROM deliveries WHERE issue_id = :i AND state = 'failed'",
            "open": "SELECT count(*) FROM deliveries WHERE issue_id = :i AND state = 'queued'",
            "complaints": "SELECT count(*) FROM reports WHERE issue_id = :i AND kind = 'complaint'",
            "unsubscribed": "SELECT count(*) FROM consents WHERE issue_id = :i AND before = 'active' "
            "AND after = 'unsubscribed'",
            "opens": "SELECT count(*) FROM events WHERE issue_id = :i AND kind = 'open' "
            "AND CAST(details AS TEXT) NOT LIKE '%machine%'",
            "machine_clicks": "SELECT count(*) FROM events WHERE issue_id = :i AND kind = 'click' "
            "AND CAST(details AS TEXT) LIKE '%machine%'",
            "openers": "SELECT count(DISTINCT subscriber_id) FROM events WHERE issue_id = :i "
            "AND kind = 'open' AND CAST(details AS TEXT) NOT LIKE '%machine%'",
            "clickers": "SELECT count(DISTINCT subscriber_id) FROM events WHERE issue_id = :i "
            "AND kind = 'click' AND CAST(details AS TEXT) NOT LIKE '%machine%'",
            "tracked": "SELECT count(*) FROM deliveries d JOIN subscribers s ON s.id = d.subscriber_id "
            "WHERE issue_id = :i AND tracking_consent",
        }.items():
            assert getattr(one, field) == number(connection, sql, i=one.issue_id), field
        first = number(
            connection,
            "SELECT min(changed_at) FROM deliveries WHERE issue_id = :i AND state = 'sent'",
            i=one.issue_id,
        )
        hour = first // 3_600_000_000 * 3_600_000_000
        assert one.started_at == datetime.fromtimestamp(hour // 1_000_000, UTC)
        early = (
            "SELECT count(*) FROM events WHERE issue_id = :i AND kind IN ('open', 'click') "
            "AND at >= :since AND at < :until AND CAST(details AS TEXT) NOT LIKE '%machine%'"
        )
        assert one.early == number(connection, early, i=one.issue_id, since=hour, until=hour + _DAY)


def test_one_issue(counted: tuple[Connection, Scene]) -> None:
    connection, scene = counted
    issue_id = scene.issues[-1]
    found = statistics.issue_statistics(connection, issue_id, providers={"example.net": "ours"})
    assert found is not None
    assert found.figures == statistics.issue_figures(connection, issue_id=issue_id)[0]
    sums = {one.name: one for one in found.providers}
    assert sum(one.recipients for one in found.providers) == found.figures.audience
    assert sum(one.failed for one in found.providers) == found.figures.failed
    shown = connection.execute(
        text(
            "SELECT domain, count(*) FROM deliveries d JOIN subscribers s ON s.id = d.subscriber_id "
            "WHERE issue_id = :i GROUP BY domain"
        ),
        {"i": issue_id},
    )
    expected: Counter[str] = Counter()
    for domain, people in shown:
        expected[{"example.net": "ours"}.get(domain, "google" if "mail.com" in domain else domain)] += people
    assert {name: one.recipients for name, one in sums.items() if name} == {
        name: people for name, people in expected.items() if people >= 5
    }
    assert len(expected) > 2
    assert found.providers[-1].name == ""
    for name, condition in (
        ("gmail", "domain = 'gmail.com'"),
        ("romania", "CAST(attributes AS TEXT) LIKE '%RO%'"),
    ):
        segment = next(one for one in found.segments if one.name == name)
        sql = (
            "SELECT count(DISTINCT e.subscriber_id) FROM events e JOIN subscribers s "
            f"ON s.id = e.subscriber_id WHERE issue_id = :i AND kind = 'click' AND {condition} "
            "AND CAST(details AS TEXT) NOT LIKE '%machine%'"
        )
        assert segment.clickers == number(connection, sql, i=issue_id)
    assert [link.address[-1] for link in found.links] == ["a", "b", "c"]
    for link in found.links:
        sql = (
            "SELECT count(*) FROM events WHERE issue_id = :i AND kind = 'click' "
            "AND CAST(details AS TEXT) LIKE :link AND CAST(details AS TEXT) NOT LIKE '%machine%'"
        )
        assert link.clicks == number(connection, sql, i=issue_id, link=f'%"link"%{link.place}%')
    assert sum(hour.sent for hour in found.hours) == found.figures.sent
    for kind in ("open", "click"):
        for machine, condition in (("", "NOT LIKE"), ("machine_", "LIKE")):
            curve = {
                at: n
                for hour in found.hours
                for at, n in [(hour.at, getattr(hour, f"{machine}{kind}s"))]
                if n
            }
            by_hour = connection.execute(
                text(
                    "SELECT at / 3600000000, count(*) FROM events WHERE issue_id = :i AND kind = :kind "
                    f"AND CAST(details AS TEXT) {condition} '%machine%' GROUP BY 1"
                ),
                {"i": issue_id, "kind": kind},
            )
            assert curve == {datetime.fromtimestamp(hour * 3600, UTC): n for hour, n in by_hour}
    assert sum(delay.clickers for delay in found.delays) == found.figures.clickers
    assert sum(found.failures.values()) == found.figures.failed
    assert sum(found.departures.values()) == found.figures.unsubscribed
    assert statistics.issue_statistics(connection, 999) is None


def test_first_hours_have_no_gaps() -> None:
    at = [datetime(2026, 1, 5, hour, tzinfo=UTC) for hour in range(8)]
    known = [statistics.HourFigures(at[n], n, 1, 2, 3, 4) for n in (1, 2, 5, 7)]
    found = statistics.first_hours(known, 6)
    assert [one.at for one in found] == at[1:7]
    assert [one.sent for one in found] == [1, 2, 0, 0, 5, 0]
    assert statistics.first_hours(known[:1], 6) == tuple(known[:1])
    assert statistics.first_hours([], 6) == ()


def test_cohorts_and_health(counted: tuple[Connection, Scene]) -> None:
    connection, scene = counted
    found = statistics.cohorts(connection, scene.now.date())
    joined = number(
        connection,
        "SELECT count(DISTINCT subscriber_id) FROM consents WHERE after = 'active' AND before <> after",
    )
    assert sum(one.joined for one in found) == joined
    active = number(connection, "SELECT count(*) FROM subscribers WHERE status = 'active'")
    assert sum(one.retained[-1] for one in found) == active
    assert all(list(one.retained) == sorted(one.retained, reverse=True) for one in found)
    first = number(
        connection,
        "SELECT count(*) FROM (SELECT subscriber_id FROM consents WHERE after = 'active' AND before <> after "
        "GROUP BY subscriber_id HAVING min(at) < :until) AS firsts",
        until=int(datetime(2026, 2, 1, tzinfo=UTC).timestamp()) * 1_000_000,
    )
    assert found[0].joined == (first if found[0].month == "2026-01" else 0)
    health = statistics.list_health(connection)
    for status, people in health.statuses.items():
        assert people == number(connection, "SELECT count(*) FROM subscribers WHERE status = :s", s=status)
    suppressed = number(connection, "SELECT count(*) FROM suppressions")
    assert sum(health.suppressed.values()) == suppressed
    agreed = "SELECT count(*) FROM subscribers WHERE status = 'active' AND tracking_consent"
    assert health.tracked == number(connection, agreed)


def test_people_behind_a_number_agree_to_tracking_now(database: Database) -> None:
    scene = Scene(4)
    with database.transaction() as connection:
        scene.join(connection, 30)
        scene.issue(connection)
        scene.respond(connection, 80)
    with database.transaction() as connection:
        everyone = list(responders(connection, scene.issues[0], "click"))
        assert [one.subscriber_id for one in everyone] == sorted({one.subscriber_id for one in everyone})
        on_link = list(responders(connection, scene.issues[0], "click", link=1))
        assert 0 < sum(one.times for one in on_link) < sum(one.times for one in everyone)
        half = everyone[: len(everyone) // 2]
        assert (
            list(responders(connection, scene.issues[0], "click", after=half[-1].subscriber_id))
            == everyone[len(half) :]
        )
        at_google = at_providers(["google"])
        for among, expected in ((at_google, True), (not_(at_google), False)):
            some = list(responders(connection, scene.issues[0], "click", among=among))
            assert some == [one for one in everyone if ("mail.com" in one.address) is expected]
            assert some
        connection.execute(text("UPDATE subscribers SET tracking_consent = false"))
        assert list(responders(connection, scene.issues[0], "click")) == []


def test_nothing_counted_yet(database: Database) -> None:
    with database.reading() as connection:
        assert statistics.counted_at(connection) is None
        assert statistics.issue_figures(connection) == ()
        assert statistics.cohorts(connection, date(2026, 1, 1)) == ()
        (day,) = statistics.growth(connection, date(2026, 1, 1), date(2026, 1, 1))
        assert (day.joined, day.active) == (0, 0)
        assert statistics.list_health(connection).bounce_rate is None
