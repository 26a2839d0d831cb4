"""A canary is led from one state to the next, whatever happens while it waits; only the clock is made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import select, update

from mailer.bounces.batch import record_batch
from mailer.bounces.patterns import FEW
from mailer.bounces.record import Rules
from mailer.config import Canary
from mailer.database.engine import Database
from mailer.database.tables import (
    CanaryState,
    Delivery,
    DeliveryState,
    IssueState,
    StoredIssue,
    Subscriber,
    Suppression,
)
from mailer.delivery import canary, control, issues
from mailer.delivery.canary import Steps
from mailer.delivery.ending import Ended, Ending
from mailer.delivery.issues import QueuedIssue
from mailer.errors import RefusedError
from mailer.rendering.edition import Edition
from mailer.tokens import Signer, Subject
from tests.bounces.reports import dsn
from tests.connections import new_database
from tests.delivery.scene import AT, queued, run
from tests.postgres import Server

WAIT = timedelta(minutes=1)
SETTINGS = Canary(wait=WAIT, seeds=("s2@example.org", "me@example.com"))


@dataclass
class Scene:
    """A canary of a tenth of forty people; `meanwhile` happens each time that it sleeps."""

    database: Database
    folder: Path
    at: datetime = AT
    meanwhile: Callable[[], None] = lambda: None
    seeded: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    fetched: int = 0
    share: float = 0.1
    seeds: tuple[str, ...] = SETTINGS.seeds

    def __post_init__(self) -> None:
        self.issue = queued(self.database, 40)
        with self.database.transaction() as connection:
            canary.begin(connection, self.issue.id, self.share, self.seeds)

    def lead(self, send: Callable[[], Ended] | None = None) -> Ended | None:
        return canary.lead(
            self.database,
            self.issue,
            replace(SETTINGS, seeds=self.seeds),
            Steps(
                send or (lambda: run(self.database, self.issue, self.folder / "box")),
                self.send_to_seed,
                self.fetch,
                self.said.append,
                clock=lambda: self.at,
                sleep=self.sleep,
            ),
        )

    def send_to_seed(self, edition: Edition, address: str) -> None:
        assert edition.slug == self.issue.slug
        self.seeded.append(address)

    def fetch(self) -> None:
        self.fetched += 1

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 10
        self.at += timedelta(seconds=seconds)
        self.meanwhile()

    @property
    def now(self) -> QueuedIssue:
        with self.database.reading() as connection:
            return issues.get(connection, self.issue.id)

    def refuse(self, number: int) -> None:
        """Let that many messages to members return as undeliverable."""
        with self.database.transaction() as connection:
            sent = select(Delivery.c.subscriber_id).where(Delivery.c.state == DeliveryState.SENT.value)
            these = update(Delivery).where(Delivery.c.subscriber_id.in_(sent.limit(number)))
            connection.execute(these.values(state=DeliveryState.FAILED.value))


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    return Scene(database, tmp_path)


def test_passes_after_its_wait_and_reads_reports_meanwhile(scene: Scene) -> None:
    assert scene.lead() is None
    assert (scene.now.canary, scene.at, scene.fetched) == (CanaryState.PASSED, AT + WAIT, 7)
    assert scene.seeded == ["me@example.com"]
    assert scene.said[0] == "canary: sent to me@example.com"
    assert scene.said[1].startswith("canary: waiting for reports until ")
    assert scene.said[2].endswith("0 bounced, 0 refused for now, 0 complained); sending to everyone else")
    with scene.database.reading() as connection:
        found = canary.findings(connection, scene.issue.id)
    assert found.tried == found.members


def test_step_that_was_done_is_not_done_again(scene: Scene) -> None:
    class KilledError(Exception):
        pass

    def kill() -> None:
        raise KilledError

    scene.meanwhile = kill
    with pytest.raises(KilledError):
        scene.lead()
    assert scene.now.canary is CanaryState.WAITING
    until = scene.now.canary_until
    scene.meanwhile = lambda: None
    assert scene.lead() is None
    assert (scene.seeded, scene.at) == (["me@example.com"], until)


def test_canary_that_ends_while_seeds_are_written_to_does_not_begin_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended_meanwhile(edition: Edition, address: str) -> None:
        with scene.database.transaction() as connection:
            connection.execute(update(StoredIssue).values(canary=CanaryState.PASSED.value))

    monkeypatch.setattr(scene, "send_to_seed", ended_meanwhile)
    assert scene.lead() is None
    assert (scene.now.canary, scene.at) == (CanaryState.PASSED, AT)


def test_report_that_comes_back_in_the_wait_stops_the_issue(scene: Scene) -> None:
    scene.meanwhile = lambda: scene.refuse(2)
    with pytest.raises(RefusedError, match=r"2 of [45] bounced") as caught:
        scene.lead()
    assert "mailer resume 001-hello && mailer send 001-hello" in (caught.value.remedy or "")
    assert (scene.now.state, scene.now.canary) == (IssueState.PAUSED, CanaryState.STOPPED)
    # It stays stopped until the operator decides.
    with pytest.raises(RefusedError, match=r"2 of [45] bounced"):
        scene.lead()
    with scene.database.transaction() as connection:
        control.resume(connection, scene.issue.id)
    assert scene.lead() is None


def test_canary_that_was_refused_does_not_wait_for_reports(scene: Scene) -> None:
    def send() -> Ended:
        ended = run(scene.database, scene.issue, scene.folder / "box")
        scene.refuse(2)
        return ended

    with pytest.raises(RefusedError, match=r"2 of [45] bounced"):
        scene.lead(send)
    assert (scene.now.canary, scene.now.canary_until) == (CanaryState.STOPPED, None)
    assert (scene.said, scene.fetched) == (["canary: sent to me@example.com"], 0)


def test_paused_canary_neither_passes_nor_stops(scene: Scene) -> None:
    def pause() -> None:
        with scene.database.transaction() as connection:
            control.pause(connection, scene.issue.id, "lunch")
        scene.refuse(2)
        scene.at += timedelta(hours=1)

    scene.meanwhile = pause
    ended = scene.lead()
    assert ended is not None
    assert (ended.ending, ended.reason, ended.books.balanced) == (Ending.PAUSED, "lunch", True)
    assert (scene.now.state, scene.now.reason, scene.now.canary) == (
        IssueState.PAUSED, "lunch", CanaryState.WAITING,
    )  # fmt: skip
    # Once it goes on, what came back is judged.
    with scene.database.transaction() as connection:
        control.resume(connection, scene.issue.id)
    with pytest.raises(RefusedError, match="bounced"):
        scene.lead()


def test_pause_at_the_last_moment_counts(scene: Scene) -> None:
    # Between the look at the issue and the end of the wait.
    def pause_then_look() -> datetime:
        if scene.at >= AT + WAIT:
            with scene.database.transaction() as connection:
                control.pause(connection, scene.issue.id, "just in time")
        return scene.at

    steps = Steps(
        lambda: run(scene.database, scene.issue, scene.folder / "box"),
        scene.send_to_seed, scene.fetch, scene.said.append, clock=pause_then_look, sleep=scene.sleep,
    )  # fmt: skip
    ended = canary.lead(scene.database, scene.issue, SETTINGS, steps)
    assert ended is not None
    assert (ended.reason, scene.now.canary) == ("just in time", CanaryState.WAITING)


def test_cancelled_canary_ends(scene: Scene) -> None:
    def cancel() -> None:
        with scene.database.transaction() as connection:
            control.cancel(connection, scene.issue.id, at=AT)

    scene.meanwhile = cancel
    ended = scene.lead()
    assert ended is not None
    assert ended.ending is Ending.CANCELLED
    assert ended.books.queued == 0


def test_wait_is_cut_short_by_the_operator(scene: Scene) -> None:
    def hurry() -> None:
        with scene.database.transaction() as connection:
            assert canary.hurry(connection, scene.issue.id)

    scene.meanwhile = hurry
    assert scene.lead() is None
    assert scene.at == AT + timedelta(seconds=10)


def test_canary_whose_reports_are_all_alike_stops_and_begins_again(
    database: Database, tmp_path: Path
) -> None:
    scene = Scene(database, tmp_path, share=0.2)

    def return_all() -> None:
        with scene.database.reading() as connection:
            sent = connection.execute(
                select(Subscriber.c.id, Subscriber.c.address)
                .join(Delivery, Delivery.c.subscriber_id == Subscriber.c.id)
                .where(Delivery.c.state == DeliveryState.SENT.value)
            ).all()
        assert len(sent) >= FEW
        signer = Signer([b"s" * 32])
        raws = [
            dsn(signer.return_path(Subject(scene.issue.id, one.id)), recipient=one.address) for one in sent
        ]
        record_batch(scene.database, signer, raws, source="maildir:box", at=scene.at, rules=Rules())

    def suppressed() -> int:
        with scene.database.reading() as connection:
            return len(connection.execute(select(Suppression)).all())

    scene.meanwhile = return_all
    ended = scene.lead()
    assert ended is not None
    assert ended.ending is Ending.PAUSED
    assert "came back with one reply" in ended.reason
    assert suppressed() == 0
    scene.meanwhile = lambda: None
    with scene.database.transaction() as connection:
        control.retry(connection, scene.issue.id, DeliveryState.FAILED, at=scene.at)
        control.resume(connection, scene.issue.id)
    assert scene.lead() is None
    assert scene.now.canary is CanaryState.PASSED


def test_canary_of_everybody_ends_with_the_issue(database: Database, tmp_path: Path) -> None:
    scene = Scene(database, tmp_path, share=1.0)
    ended = scene.lead()
    assert ended is not None
    assert (ended.ending, scene.at) == (Ending.FINISHED, AT)
    assert (scene.now.state, scene.now.canary) == (IssueState.FINISHED, CanaryState.PASSED)
    assert scene.now.published_at is not None
    # Nothing is left to do.
    assert scene.lead() is None


def test_run_that_ends_early_ends_the_canary_for_now(scene: Scene) -> None:
    def send() -> Ended:
        with scene.database.transaction() as connection:
            control.pause(connection, scene.issue.id, "lunch")
        return run(scene.database, scene.issue, scene.folder / "box")

    ended = scene.lead(send)
    assert ended is not None
    assert (ended.ending, scene.now.canary, scene.at) == (Ending.PAUSED, CanaryState.SENDING, AT)


def test_seeds_in_the_audience_get_nothing_beside_it(database: Database, tmp_path: Path) -> None:
    scene = Scene(database, tmp_path, seeds=("S2@example.org",))
    assert scene.lead() is None
    assert scene.seeded == []
    assert scene.said[0].startswith("canary: waiting for reports until ")


def test_wait_ends_to_the_second(scene: Scene) -> None:
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        # A slow look: the wait is over in the middle of one.
        scene.at += timedelta(seconds=seconds + 4)

    scene.sleep = sleep  # type: ignore[method-assign]
    assert scene.lead() is None
    assert waited == [10, 10, 10, 10, 4]


def test_machine_that_finds_another_at_the_seeds_waits_for_it(postgresql: Server, tmp_path: Path) -> None:
    with new_database(postgresql) as database:
        scene = Scene(database, tmp_path)
        waited: list[float] = []
        with database.transaction() as other:
            assert canary._alone(other, scene.issue.id)

            def sleep(seconds: float) -> None:
                waited.append(seconds)
                if len(waited) == 2:
                    canary.advance(other, scene.issue.id, CanaryState.PASSED)
                    other.commit()

            scene.sleep = sleep  # type: ignore[method-assign]
            assert scene.lead() is None
        assert (waited, scene.seeded) == ([1.0, 1.0], [])


def test_seeds_are_written_to_on_one_machine_of_several(postgresql: Server, tmp_path: Path) -> None:
    with new_database(postgresql) as database:
        scene = Scene(database, tmp_path)
        with pytest.raises(StopAsyncIteration):
            scene.lead(_stop)
        assert (scene.seeded, scene.now.canary) == (["me@example.com"], CanaryState.SENDING)


def _stop() -> Ended:
    raise StopAsyncIteration
