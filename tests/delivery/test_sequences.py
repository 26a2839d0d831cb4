"""People go through a sequence: who enters, what they get and when, and what changes while they are in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Connection, insert, select, update

from mailer.address import parse_address
from mailer.audience.ledger import move
from mailer.audience.subscribers import add
from mailer.audience.transitions import Move, Origin
from mailer.config import Sequence, Settings
from mailer.database.engine import Database
from mailer.database.tables import (
    Delivery,
    DeliveryState,
    SequenceMember,
    StoredIssue,
    Subscriber,
    SubscriberStatus,
    SubscriberTag,
)
from mailer.delivery import issues
from mailer.delivery.sequences import looking, storing
from mailer.delivery.sequences.files import WrittenStep
from mailer.delivery.sequences.slots import known_zones, open_slots
from mailer.errors import RefusedError
from mailer.reports.history import story
from tests.delivery.steps import NAME, settle_all, step

S = SubscriberStatus
AT = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SECRET = b"s" * 32


@dataclass
class Scene:
    """A sequence, and a clock that only moves when it is told to."""

    database: Database
    sequence: Sequence = field(default_factory=Sequence)
    settings: Settings = field(default_factory=Settings)
    at: datetime = AT
    got: dict[str, list[tuple[str, datetime]]] = field(default_factory=lambda: defaultdict(list))
    """The steps that each person got, and when."""

    def apply(self, *steps: WrittenStep) -> storing.Plan:
        with self.database.transaction() as connection:
            made = storing.plan(connection, NAME, self.sequence, steps)
            storing.apply(connection, NAME, self.sequence, steps, at=self.at)
            assert not storing.plan(connection, NAME, self.sequence, steps).changes_something
        return made

    def join(self, name: str, *, way: str = "form", tags: tuple[str, ...] = (), **attributes: str) -> int:
        """Let somebody sign up and confirm, or be added in another way."""
        address = parse_address(f"{name}@example.org")
        with self.database.transaction() as connection:
            added = add(
                connection, address, secret=SECRET, origin=Origin(way), at=self.at, attributes=attributes,
                tags=tags, status=S.PENDING if way == "form" else S.ACTIVE,
            )  # fmt: skip
            assert added.subscriber_id is not None
            if way == "form":
                move(connection, [Move(added.subscriber_id, S.ACTIVE, Origin(way), self.at)])
        return added.subscriber_id

    def move(self, subscriber_id: int, to: SubscriberStatus, way: str = "page") -> None:
        with self.database.transaction() as connection:
            move(connection, [Move(subscriber_id, to, Origin(way), self.at)])

    def tag(self, subscriber_id: int, tag: str) -> None:
        with self.database.transaction() as connection:
            connection.execute(insert(SubscriberTag).values(subscriber_id=subscriber_id, tag=tag))

    def look(self) -> int:
        """Look once, and send what was queued."""
        queued = looking.look(self.database, self.settings, at=self.at)
        with self.database.transaction() as connection:
            slugs = {
                row.id: row.title for row in connection.execute(select(StoredIssue.c.id, StoredIssue.c.title))
            }
            people = {
                row.id: row.address
                for row in connection.execute(select(Subscriber.c.id, Subscriber.c.address))
            }
            for issue_id, subscriber_id in settle_all(connection, at=self.at):
                name = people[subscriber_id].partition("@")[0]
                self.got[name].append((slugs[issue_id], self.at))
        return queued

    def run(self, until: timedelta, every: timedelta = 12 * HOUR) -> None:
        """Look again and again until some time has passed."""
        end = self.at + until
        while self.at < end:
            self.look()
            self.at += every

    def steps(self, name: str) -> list[str]:
        return [step for step, _ in self.got[name]]

    def member(self, subscriber_id: int) -> tuple[str, bool]:
        with self.database.reading() as connection:
            found = connection.execute(
                select(SequenceMember).where(SequenceMember.c.subscriber_id == subscriber_id)
            ).one()
            return found.why, found.next_step_id is not None


@pytest.fixture
def scene(database: Database) -> Scene:
    return Scene(database)


def test_each_step_comes_once_and_at_its_time_over_months(scene: Scene) -> None:
    # Two nights in which clocks change lie within this time.
    nine = time(9)
    steps = [
        step("1", at=nine),
        step("2", 3, at=nine, on=(0, 1, 2, 3, 4)),
        step("3", 45, at=nine),
        step("4", 10, at=nine),
    ]
    scene.sequence = Sequence(zone="Europe/Bucharest")
    scene.apply(*steps)
    zones = {"ana": "Europe/Bucharest", "bob": "America/New_York", "cho": "Asia/Tokyo", "dan": "Not/AZone"}
    joined = {}
    for name, zone in zones.items():
        joined[name] = scene.at
        scene.join(name, timezone=zone)
        scene.run(timedelta(hours=7), every=HOUR)
    end = scene.at + timedelta(days=70)
    while scene.at < end:
        # The hours in which it may be nine o'clock in one of the zones, and noon for good measure.
        if scene.at.hour in (0, 6, 7, 12, 13, 14):
            scene.look()
        scene.at += HOUR
    for name, zone in zones.items():
        place = ZoneInfo(zone if zone in known_zones() else "Europe/Bucharest")
        earliest = joined[name]
        assert scene.steps(name) == ["1", "2", "3", "4"]
        for (_, sent), written in zip(scene.got[name], steps, strict=True):
            due = earliest + written.timing.after
            expected = due.astimezone(place).replace(hour=9, minute=0, second=0, microsecond=0, fold=0)
            while expected < due or (written.timing.days and expected.weekday() not in written.timing.days):
                expected = (expected.replace(tzinfo=None) + DAY).replace(tzinfo=place)
            assert timedelta() <= sent - expected < HOUR, (name, sent, expected)
            earliest = sent


def test_killed_look_repeats_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.apply(step("1"), step("2"), step("3"))
    names = [f"p{number}" for number in range(7)]
    for name in names:
        scene.join(name)
    monkeypatch.setattr(looking, "BATCH", 2)
    original, calls = looking._step, 0

    def dying(connection: Connection, *given: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        found = original(connection, *given, **named)  # type: ignore[arg-type]
        if calls % 3 == 0:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(looking, "_step", dying)
    for _ in range(60):
        scene.at += timedelta(minutes=1)
        try:
            scene.look()
        except KeyboardInterrupt:
            continue
    assert {name: sorted(scene.steps(name)) for name in names} == {name: ["1", "2", "3"] for name in names}


@pytest.mark.parametrize(
    ("trigger", "enters"),
    [
        ("confirmed", ["new"]),
        ("tag:vip", ["vip", "import"]),
        ("date:since", ["today", "late"]),
        ("api", []),
    ],
)
def test_only_what_happens_from_now_on_triggers(scene: Scene, trigger: str, enters: list[str]) -> None:
    today = AT.date()
    scene.join("before", tags=("vip",), since=(today - 30 * DAY).isoformat())
    scene.sequence = Sequence(trigger=trigger)
    scene.apply(step("1"))
    scene.look()
    scene.at += timedelta(hours=2)
    scene.join("new")
    scene.join("vip", way="api", tags=("vip",))
    scene.join("import", way="import", tags=("vip",))
    scene.join("today", way="api", since=f"{today}T12:00")
    scene.join("late", way="api", since=(today + 2 * DAY).isoformat())
    scene.join("odd", way="api", since="soon")
    scene.run(timedelta(days=1))
    # The worker is off for two days.
    scene.at += 2 * DAY
    scene.run(timedelta(hours=3))
    assert sorted(scene.got) == sorted(enters)


def test_people_enter_by_hand_once(scene: Scene) -> None:
    scene.sequence = Sequence(trigger="api")
    scene.apply(step("1"))
    ana, gone = scene.join("ana"), scene.join("gone")
    scene.move(gone, S.UNSUBSCRIBED)
    for expected in (1, 0):
        with scene.database.transaction() as connection:
            stored = storing.find(connection, NAME)
            assert stored is not None
            everyone = Subscriber.c.id.in_([ana, gone])
            assert looking.enter(connection, stored, everyone, at=scene.at) == expected
    scene.run(timedelta(hours=2))
    assert dict(scene.got) == {"ana": [("1", AT)]}


def leave(scene: Scene, who: int) -> None:
    scene.move(who, S.UNSUBSCRIBED)


def leave_and_return(scene: Scene, who: int) -> None:
    scene.move(who, S.UNSUBSCRIBED)
    scene.move(who, S.ACTIVE)


def reach_goal(scene: Scene, who: int) -> None:
    scene.tag(who, "customer")


@pytest.mark.parametrize(
    ("happens", "why"), [(leave, "left"), (leave_and_return, "left"), (reach_goal, "goal")]
)
def test_nothing_comes_after_the_end(scene: Scene, happens: Callable[[Scene, int], None], why: str) -> None:
    scene.sequence = Sequence(goal="tag:customer")
    scene.apply(step("1"), step("2", 1), step("3", 1))
    ana = scene.join("ana")
    scene.run(timedelta(hours=30))
    happens(scene, ana)
    scene.run(timedelta(days=5))
    assert scene.steps("ana") == ["1", "2"]
    assert scene.member(ana) == (why, False)


def test_goal_stops_a_message_that_waits_for_a_retry(scene: Scene) -> None:
    scene.sequence = Sequence(goal="tag:customer")
    scene.apply(step("1"), step("2", 9))
    ana = scene.join("ana")
    looking.look(scene.database, scene.settings, at=scene.at)
    with scene.database.transaction() as connection:
        connection.execute(update(Delivery).values(state=DeliveryState.DEFERRED.value, due_at=scene.at + DAY))
    scene.tag(ana, "customer")
    scene.look()
    with scene.database.reading() as connection:
        found = connection.execute(select(Delivery)).one()
    assert (found.state, found.reply) == (DeliveryState.SKIPPED.value, "the goal was reached")


def test_pause_of_a_person_delays_and_pause_of_the_sequence_too(scene: Scene) -> None:
    scene.apply(step("1"), step("2", 1))
    ana = scene.join("ana")
    scene.join("bob")
    scene.look()
    with scene.database.transaction() as connection:
        person = update(Subscriber).where(Subscriber.c.id == ana)
        connection.execute(person.values(paused_until=AT + 10 * DAY))
    scene.run(3 * DAY)
    assert (scene.steps("ana"), scene.steps("bob")) == (["1"], ["1", "2"])
    with scene.database.transaction() as connection:
        assert storing.pause(connection, NAME, at=scene.at)
        assert not storing.pause(connection, NAME, at=scene.at)
    scene.run(10 * DAY)
    assert scene.steps("ana") == ["1"]
    with scene.database.transaction() as connection:
        assert storing.resume(connection, NAME)
    scene.look()
    assert scene.steps("ana") == ["1", "2"]


def test_step_for_a_segment_is_skipped_by_others(scene: Scene) -> None:
    scene.apply(step("1"), step("2", 1, only="tag:vip"), step("3", 1))
    scene.join("ana", tags=("vip",))
    scene.join("bob")
    scene.run(4 * DAY)
    assert (scene.steps("ana"), scene.steps("bob")) == (["1", "2", "3"], ["1", "3"])


def test_changes_explain_themselves_and_repeat_nothing(scene: Scene) -> None:
    made = scene.apply(step("1"), step("2", 2), step("4", 2))
    assert [(one.step, one.kind) for one in made.changes] == [("1", "new"), ("2", "new"), ("4", "new")]
    for name, waits in (("done", 6), ("waits", 3), ("begins", 1)):
        scene.join(name)
        scene.run(timedelta(days=waits))
    assert [scene.steps(name) for name in ("done", "waits", "begins")] == [
        ["1", "2", "4"], ["1", "2"], ["1"],
    ]  # fmt: skip
    made = scene.apply(
        step("0"), step("1", text="better"), step("2", 3, at=time(8), on=(0, 2)), step("3", 1), step("4", 2)
    )
    assert {one.step: (one.kind, one.said) for one in made.changes} == {
        "0": ("new", "immediately after they enter; those who are past its place do not get it"),
        "1": (
            "changed",
            "its content changes; it moves from place 1 to 2; 3 people got it and will not get it again,"
            " 0 people will get it next",
        ),
        "2": (
            "changed",
            "its time becomes: 3 days after the previous step at 08:00 on mon, wed;"
            " it moves from place 2 to 3; 2 people got it and will not get it again,"
            " 1 person will get it next",
        ),
        "3": ("new", "1 day after the previous step; those who are past its place do not get it"),
        "4": (
            "changed",
            "it moves from place 3 to 5; 1 person got it and will not get it again,"
            " 1 person will get it next",
        ),
    }
    scene.join("new")
    scene.run(14 * DAY)
    assert [scene.steps(name) for name in ("done", "waits", "begins", "new")] == [
        ["1", "2", "4"], ["1", "2", "3", "4"], ["1", "2", "3", "4"], ["0", "1", "2", "3", "4"],
    ]  # fmt: skip


def test_removed_step_moves_its_people_on_and_does_not_come_back_to_them(scene: Scene) -> None:
    scene.apply(step("1"), step("2", 2), step("3", 2))
    scene.join("ana")
    scene.run(DAY)
    scene.join("bob")
    scene.run(2 * DAY)
    made = scene.apply(step("1"), step("3", 1))
    assert [(one.kind, one.said) for one in made.changes if one.step == "2"] == [
        ("removed", "1 person will go on to the step after it")
    ]
    scene.run(5 * DAY)
    scene.apply(step("1"), step("2", 2), step("3", 2), step("4"))
    scene.join("new")
    scene.run(9 * DAY)
    assert [scene.steps(name) for name in ("ana", "bob", "new")] == [
        ["1", "2", "3"], ["1", "3"], ["1", "2", "3", "4"],
    ]  # fmt: skip


def test_renamed_step_is_the_same_step(scene: Scene) -> None:
    scene.apply(step("1"), step("2", 1))
    scene.join("ana")
    scene.run(2 * DAY)
    made = scene.apply(step("1"), step("2b", 1, source="2"), step("2", 1, source="other"))
    # The file 2 has another content now, so its name decides.
    assert [one.kind for one in made.changes] == ["unchanged", "new", "changed"]
    made = scene.apply(step("first", source="1"), step("2b", 1, source="2"), step("2", 1, source="other"))
    assert made.changes[0].said.startswith("renamed from 1; its content changes;")
    scene.run(4 * DAY)
    assert len(scene.steps("ana")) == 2


def test_changed_text_is_an_edition_of_its_own(scene: Scene) -> None:
    scene.apply(step("1"), step("2", 1))
    scene.join("ana")
    scene.run(timedelta(hours=2))
    scene.apply(step("1"), step("2", 1, text="corrected"))
    with scene.database.reading() as connection:
        (issue,) = [one for one in issues.issues(connection) if one.slug == "welcome-2"]
        assert issues.edition(connection, issue.edition_digest).text == "corrected"
        assert issues.edition_number(connection, issue.id) == 2
        assert not issue.public


def test_slug_of_an_issue_is_not_taken_by_a_step(scene: Scene) -> None:
    with scene.database.transaction() as connection:
        issues.enqueue(connection, step("1").edition, source_path="", at=AT)
    with pytest.raises(RefusedError, match="there is an issue welcome-1 already"):
        scene.apply(step("1"))


def test_history_of_a_person_shows_the_sequence(scene: Scene) -> None:
    scene.apply(step("1"), step("2", 3))
    scene.join("ana")
    scene.look()
    with scene.database.reading() as connection:
        found = story(connection, "ana@example.org")
    assert found is not None
    told = [one.text for one in found.happenings]
    assert "welcome: entered; 2 is due from 2026-03-05 08:00 UTC" in told
    assert "welcome-1: sent" in told


def test_broken_segment_of_one_sequence_does_not_stop_the_others(scene: Scene) -> None:
    scene.sequence = Sequence(goal="@gone")
    scene.apply(step("1"))
    with scene.database.transaction() as connection:
        storing.apply(connection, "other", Sequence(), [step("x")], at=AT)
    scene.join("ana")
    scene.look()
    assert scene.steps("ana") == ["x"]


@pytest.mark.parametrize(
    ("at", "zone", "minute", "days", "begin"),
    [
        ("2026-03-02T07:00", "Europe/Bucharest", 540, (), "2026-03-02T07:00"),
        ("2026-03-02T07:59", "Europe/Bucharest", 540, (), "2026-03-02T07:00"),
        ("2026-03-02T08:00", "Europe/Bucharest", 540, (), None),
        ("2026-03-02T06:59", "Europe/Bucharest", 540, (), None),
        ("2026-03-02T07:00", "Europe/Bucharest", 540, (0,), "2026-03-02T07:00"),
        ("2026-03-02T07:00", "Europe/Bucharest", 540, (1,), None),
        # The slot of Sunday evening, when Monday has begun.
        ("2026-03-01T22:10", "Europe/Bucharest", 23 * 60 + 30, (6,), "2026-03-01T21:30"),
        # 03:30 does not exist in this night; 04:30 stands for it.
        ("2026-03-29T01:30", "Europe/Bucharest", 210, (), "2026-03-29T01:30"),
        # 03:30 comes twice; the first one counts.
        ("2026-10-25T00:30", "Europe/Bucharest", 210, (), "2026-10-25T00:30"),
        ("2026-10-25T01:30", "Europe/Bucharest", 210, (), None),
        ("2026-03-02T12:00", "Asia/Tokyo", None, (0,), "2026-03-02T12:00"),
        ("2026-03-02T16:00", "Asia/Tokyo", None, (0,), None),
    ],
)
def test_slot_is_an_hour_in_the_zone(
    at: str, zone: str, minute: int | None, days: tuple[int, ...], begin: str | None
) -> None:
    slots = open_slots(minute, days, known_zones(), "", at=datetime.fromisoformat(at).replace(tzinfo=UTC))
    found = [start.strftime("%Y-%m-%dT%H:%M") for start, zones in slots.items() if zone in zones]
    assert found == ([] if begin is None else [begin])


def test_look_at_a_hundred_thousand_waiting_people_reads_none_of_them(database: Database) -> None:
    scene = Scene(database)
    scene.apply(step("1"), step("2", 5))
    scene.look()
    with database.transaction() as connection:
        stored = storing.find(connection, NAME)
        assert stored is not None
        first, second = looking.steps_of(connection, stored.id)
        connection.execute(
            insert(SequenceMember),
            [
                {
                    "sequence_id": stored.id, "subscriber_id": number, "entered_at": AT, "since_at": AT,
                    "next_step_id": second.id, "due_at": AT + 5 * DAY, "zone": "", "why": "",
                }
                for number in range(1_000_000, 1_005_000)
            ],
        )  # fmt: skip
        plan = " ".join(
            str(row)
            for row in connection.exec_driver_sql(
                "EXPLAIN QUERY PLAN SELECT subscriber_id FROM sequence_members"
                f" WHERE next_step_id = {first.id} AND zone IN ('', 'Asia/Tokyo') AND due_at <= 5 LIMIT 10"
            )
        )
    assert "USING COVERING INDEX" in plan
    assert "(next_step_id=? AND zone=? AND due_at<?)" in plan
    assert scene.look() == 0
