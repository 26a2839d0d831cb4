"""An A/B test from the draw to the decision: each reader gets one arm, and everyone else the one that won."""

from __future__ import annotations

import email
import email.policy
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, update

from mailer.config import Canary, Settings
from mailer.database.engine import Database
from mailer.database.tables import (
    CanaryMember,
    CanaryState,
    Delivery,
    DeliveryState,
    Event,
    IssueState,
    StoredIssue,
    Subscriber,
    SubscriberTag,
)
from mailer.delivery import amending, arms, canary, control, dispatch, issues
from mailer.delivery.canary import Steps
from mailer.delivery.ending import Ended, Ending
from mailer.delivery.issues import QueuedIssue
from mailer.errors import MailerError, RefusedError
from mailer.rendering.edition import ABTest, Edition
from mailer.smtp.pool import Access
from tests.delivery.scene import AT, EDITION, SIGNER, learn_nothing, subscribe

WAIT = timedelta(minutes=1)
PEOPLE = 60


class KilledError(Exception):
    """Ends a process at some point."""


def with_arms(number: int = 2, **test: object) -> Edition:
    """Return the edition with so many arms, whose subjects are `Arm A` and so on."""
    others = tuple(replace(EDITION, subject=f"Arm {name}") for name in "BCD"[: number - 1])
    how = ABTest(**{"share": 0.5, "wait_seconds": WAIT.total_seconds(), **test})  # type: ignore[arg-type]
    return replace(EDITION, subject="Arm A", arms=others, test=how)


@dataclass
class Scene:
    """A test among sixty people; `meanwhile` happens each time that it sleeps."""

    database: Database
    folder: Path
    edition: Edition = field(default_factory=with_arms)
    at: datetime = AT
    meanwhile: Callable[[], None] = lambda: None
    before_sending: Callable[[], None] = lambda: None
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        subscribe(self.database, PEOPLE)
        with self.database.transaction() as connection:
            connection.execute(update(Subscriber).values(tracking_consent=True))
            self.issue, _ = issues.enqueue(connection, self.edition, source_path="", at=AT)

    def lead(self) -> Ended | None:
        return canary.lead(
            self.database,
            self.issue,
            Canary(seeds=("me@example.com",)),
            Steps(
                self.send,
                self._no_seed,
                lambda: None,
                self.said.append,
                clock=lambda: self.at,
                sleep=self._sleep,
            ),
        )

    def send(self) -> Ended:
        self.before_sending()
        return dispatch.dispatch(
            Settings(folder=self.folder), self.database, self.issue, SIGNER, learn=learn_nothing
        )

    def pretend_to_send(self) -> None:
        """Settle the members' deliveries and begin the wait, without a server."""
        with self.database.transaction() as connection:
            sent = update(Delivery).where(Delivery.c.subscriber_id.in_(list(self.members)))
            connection.execute(sent.values(state=DeliveryState.SENT.value))
            until = AT + WAIT
            canary.advance(connection, self.issue.id, CanaryState.WAITING, until=until)

    def winner(self) -> str:
        """Wait until the test is decided; return the subject that everyone else gets."""
        self.pretend_to_send()
        assert self.lead() is None
        with self.database.reading() as connection:
            return issues.edition(connection, self.now.edition_digest).subject

    def finish(self) -> Ended:
        """Take the test to its end, and send to everyone else."""
        return self.lead() or self.send()

    def _no_seed(self, edition: Edition, address: str) -> None:
        raise AssertionError("a test has no seeds")

    def _sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.meanwhile()

    @property
    def now(self) -> QueuedIssue:
        with self.database.reading() as connection:
            return issues.get(connection, self.issue.id)

    @property
    def members(self) -> dict[int, int]:
        with self.database.reading() as connection:
            return arms.arms_of(connection, self.issue.id, range(PEOPLE + 1))

    def act(self, arm: int, number: int, kind: str = "click", **details: str) -> None:
        """Let so many members of an arm click."""
        who = sorted(one for one, theirs in self.members.items() if theirs == arm)[:number]
        with self.database.transaction() as connection:
            connection.execute(
                insert(Event),
                [
                    {
                        "at": AT,
                        "kind": kind,
                        "issue_id": self.issue.id,
                        "subscriber_id": one,
                        "details": details,
                    }
                    for one in who
                ],
            )

    def got(self) -> dict[int, set[str]]:
        """Return the subjects that each subscriber got."""
        found: dict[int, set[str]] = defaultdict(set)
        for path in self.folder.rglob("new/*"):
            message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            found[int(message["X-Original-To"].partition("@")[0][1:])].add(message["Subject"])
        return found

    def check(self, winner: str) -> None:
        """Check that each member got their own arm, everyone else the winner, and nobody two."""
        expected = {one: {f"Arm {winner}"} for one in range(1, PEOPLE + 1)}
        expected |= {one: {f"Arm {'ABCD'[arm]}"} for one, arm in self.members.items()}
        assert self.got() == expected


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    return Scene(database, tmp_path)


@settings(max_examples=30)
@given(
    st.integers(1, 300).flatmap(lambda audience: st.tuples(st.just(audience), st.integers(0, audience))),
    st.integers(2, 4),
    st.text(max_size=5),
)
def test_draw_is_exact_balanced_and_reproducible(sizes: tuple[int, int], number: int, seed: str) -> None:
    audience, wanted = sizes
    ids = range(10, 10 + audience)
    drawn = list(arms.draw(iter(ids), audience, wanted, number, seed))
    assert len({one for one, _ in drawn}) == len(drawn) == wanted
    counts = [sum(arm == each for _, arm in drawn) for each in range(number)]
    assert max(counts) - min(counts) <= 1
    assert drawn == list(arms.draw(iter(ids), audience, wanted, number, seed))


def test_draw_favours_nobody() -> None:
    often: dict[tuple[int, int], int] = defaultdict(int)
    for seed in range(2_000):
        for one in arms.draw(iter(range(10)), 10, 4, 2, str(seed)):
            often[one] += 1
    assert len(often) == 20
    assert all(320 < number < 480 for number in often.values())


def test_arm_with_more_clicks_goes_to_everyone_else(scene: Scene) -> None:
    scene.meanwhile = lambda: scene.act(1, 14)
    assert scene.finish().ending is Ending.FINISHED
    scene.check("B")
    assert scene.said[-1].endswith("B wins")
    assert (scene.now.canary, scene.at) == (CanaryState.PASSED, AT + WAIT)
    assert scene.now.published_at is not None


@pytest.mark.parametrize(
    "clicks",
    [
        lambda scene: None,
        lambda scene: (scene.act(0, 7), scene.act(1, 8)),
        lambda scene: scene.act(1, 14, machine="scanner"),
        lambda scene: scene.act(1, 14, "open"),
    ],
    ids=["nobody clicks", "nearly a tie", "machines click", "only opens"],
)
def test_no_clear_difference_sends_a(scene: Scene, clicks: Callable[[Scene], None]) -> None:
    scene.meanwhile = lambda: clicks(scene)
    assert scene.winner() == "Arm A"


def test_readers_who_have_not_agreed_to_tracking_do_not_count(scene: Scene) -> None:
    with scene.database.transaction() as connection:
        connection.execute(update(Subscriber).values(tracking_consent=False))
    scene.meanwhile = lambda: scene.act(1, 14)
    assert scene.winner() == "Arm A"
    assert "nobody agreed to tracking" in scene.said[-1]


def test_opens_decide_if_asked(database: Database, tmp_path: Path) -> None:
    scene = Scene(database, tmp_path, with_arms(by="opens"))
    scene.meanwhile = lambda: scene.act(1, 14, "open")
    assert scene.winner() == "Arm B"


def test_four_arms(database: Database, tmp_path: Path) -> None:
    scene = Scene(database, tmp_path, with_arms(4, share=1.0))
    scene.meanwhile = lambda: scene.act(3, 15)
    assert sorted(map(list(scene.members.values()).count, range(4))) == [15, 15, 15, 15]
    assert scene.winner() == "Arm D"


def test_nobody_gets_two_arms_however_often_it_is_killed(scene: Scene) -> None:
    def kill() -> None:
        raise KilledError

    # Before anything is sent, with a window claimed, in the wait, after the decision, and while the rest
    # is sent.
    scene.before_sending = kill
    with pytest.raises(KilledError):
        scene.finish()
    scene.before_sending = lambda: None
    with scene.database.transaction() as connection:
        some = select(CanaryMember.c.subscriber_id).limit(9)
        claimed = {"state": DeliveryState.SENDING.value, "run_id": 999, "first_at": AT, "attempts": 1}
        connection.execute(update(Delivery).where(Delivery.c.subscriber_id.in_(some)).values(claimed))
    if not scene.database.is_sqlite:
        with scene.database.transaction() as connection:
            connection.execute(
                update(Delivery)
                .where(Delivery.c.state == DeliveryState.SENDING.value)
                .values(state=DeliveryState.UNCERTAIN.value, due_at=AT)
            )
    scene.meanwhile = kill
    with pytest.raises(KilledError):
        scene.finish()
    assert scene.now.canary is CanaryState.WAITING
    assert len(scene.got()) == 30
    scene.meanwhile = lambda: scene.act(1, 14)
    scene.before_sending = kill
    with pytest.raises(KilledError):
        scene.finish()
    assert scene.now.members_only is False
    scene.before_sending = lambda: None
    # A member's message is repeated after the decision.
    with scene.database.transaction() as connection:
        of_a = select(CanaryMember.c.subscriber_id).where(CanaryMember.c.arm == 0).limit(3)
        lost = {"state": DeliveryState.UNCERTAIN.value, "due_at": AT}
        connection.execute(update(Delivery).where(Delivery.c.subscriber_id.in_(of_a)).values(lost))
    scene.finish()
    scene.check("B")


def test_run_that_began_before_the_decision_sends_to_members_only(scene: Scene) -> None:
    def decide() -> None:
        with scene.database.transaction() as connection:
            canary.choose(connection, scene.issue.id, "b", at=AT)

    # Between reading the edition and the first claim.
    original = dispatch.open_relays

    def decided(settings: Settings, answer: None) -> AbstractAsyncContextManager[dict[str, Access]]:
        decide()
        return original(settings, answer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "open_relays", decided)
        scene.send()
    assert len(scene.got()) == 30
    scene.send()
    scene.check("B")


def test_held_test_waits_for_a_person(database: Database, tmp_path: Path) -> None:
    scene = Scene(database, tmp_path, with_arms(hold=True))
    scene.pretend_to_send()
    scene.meanwhile = lambda: scene.act(1, 14)
    for _ in range(2):
        with pytest.raises(RefusedError, match=r"waits for your choice: .*B wins") as caught:
            scene.lead()
        assert caught.value.remedy == (
            "choose an arm and send it, as in: mailer ab choose 001-hello A && mailer send 001-hello"
        )
    assert scene.now.state is IssueState.PAUSED
    with database.transaction() as connection:
        canary.choose(connection, scene.issue.id, "A", at=AT)
    assert scene.lead() is None
    assert (scene.now.state, scene.now.canary) == (IssueState.SENDING, CanaryState.PASSED)


@pytest.mark.parametrize("hold", [False, True])
def test_test_whose_messages_bounce_is_stopped_for_that(
    database: Database, tmp_path: Path, hold: bool
) -> None:
    scene = Scene(database, tmp_path, with_arms(hold=hold))
    scene.pretend_to_send()

    def bounce() -> None:
        with database.transaction() as connection:
            some = update(Delivery).where(Delivery.c.subscriber_id.in_(list(scene.members)[:9]))
            connection.execute(some.values(state=DeliveryState.FAILED.value))

    scene.meanwhile = bounce
    for _ in range(2):
        with pytest.raises(RefusedError, match="was stopped after its first part: canary: 9 of 30 bounced"):
            scene.lead()
    assert scene.said[0].startswith("A/B test: waiting for reports until ")
    assert (scene.now.state, scene.now.canary) == (IssueState.PAUSED, CanaryState.STOPPED)


@pytest.mark.parametrize("name", ["E", "C", ""])
def test_only_an_arm_of_the_test_can_be_chosen(scene: Scene, name: str) -> None:
    with pytest.raises(MailerError, match="there is no arm"), scene.database.transaction() as connection:
        canary.choose(connection, scene.issue.id, name, at=AT)


def test_choice_is_made_once(scene: Scene) -> None:
    with scene.database.transaction() as connection:
        canary.choose(connection, scene.issue.id, "B", at=AT)
    assert scene.now.published_at == AT
    with (
        pytest.raises(RefusedError, match="B is sent to everyone"),
        scene.database.transaction() as connection,
    ):
        canary.choose(connection, scene.issue.id, "A", at=AT)
    assert scene.lead() is None
    with scene.database.reading() as connection:
        assert issues.edition(connection, scene.now.edition_digest).subject == "Arm B"


def test_choice_leaves_a_pause_alone(scene: Scene) -> None:
    with scene.database.transaction() as connection:
        control.pause(connection, scene.issue.id, "lunch")
        canary.choose(connection, scene.issue.id, "B", at=AT)
    assert (scene.now.state, scene.now.reason) == (IssueState.PAUSED, "lunch")


def test_resume_ends_the_wait_and_decides_by_what_has_come(scene: Scene) -> None:
    def hurry() -> None:
        scene.act(1, 14)
        with scene.database.transaction() as connection:
            assert canary.resume(connection, scene.issue.id)
            connection.execute(update(StoredIssue).values(canary_until=scene.at))

    scene.meanwhile = hurry
    assert scene.winner() == "Arm B"
    assert scene.at == AT + timedelta(seconds=10)


def test_undecided_test_cannot_be_amended(scene: Scene) -> None:
    with scene.database.transaction() as connection:
        connection.execute(update(Delivery).values(state=DeliveryState.SENT.value))
    with pytest.raises(RefusedError, match="is not decided"), scene.database.transaction() as connection:
        amending.check(connection, scene.issue.id, at=AT)


def test_edition_with_arms_survives_storage() -> None:
    edition = with_arms(3, by="opens", hold=True)
    assert Edition.from_json(edition.to_json()) == edition
    assert edition.arm(2).subject == "Arm C"
    assert edition.arm(0) == replace(EDITION, subject="Arm A")
    assert edition.arm(0).digest != edition.digest


def test_withdrawn_test_leaves_nothing_behind(scene: Scene) -> None:
    with scene.database.transaction() as connection:
        control.withdraw(connection, scene.issue.id)
        assert arms.find(connection, scene.issue.id) is None
        assert issues.enqueue(connection, scene.edition, source_path="", at=AT)[1]


def test_arm_that_asks_for_tags_gets_them(database: Database, tmp_path: Path) -> None:
    asks = replace(EDITION, subject="{{ subscriber.tags | join(' ') }}")
    scene = Scene(database, tmp_path, replace(with_arms(), arms=(asks,)))
    with database.transaction() as connection:
        tagged = [{"subscriber_id": number, "tag": f"tag{number}"} for number in range(1, PEOPLE + 1)]
        connection.execute(insert(SubscriberTag), tagged)
    scene.lead()
    got = scene.got()
    assert {person for person, arm in scene.members.items() if arm == 1}
    assert {person: got[person] for person in scene.members} == {
        person: {f"tag{person}" if arm else "Arm A"} for person, arm in scene.members.items()
    }
