"""What a run writes down of each attempt, and what that means for the relay, the provider and the issue."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from sqlalchemy import text

from mailer.config import DeliverySettings, ProviderLimits, Relay
from mailer.database.engine import Database
from mailer.database.tables import DeliveryState
from mailer.delivery.bookkeeping import RunBooks
from mailer.delivery.clock import Clock
from mailer.delivery.latencies import Latencies
from mailer.delivery.outcomes import Outcomes
from mailer.delivery.queue import PENDING_UNTIL, Claimed
from mailer.rendering.recipient import Recipient
from mailer.smtp.pool import Access, Item, Network, Pool, RelayState
from mailer.smtp.session import Attempt, Fate, Reply, Stage
from tests.delivery.scene import AT, learn_nothing, queued

GONE = Reply(550, "5.1.1", "no such user")
NOT_OURS = Reply(550, "5.7.26", "DMARC failed")


@dataclass
class Scene:
    """A run of an issue through two relays that keeps its books, and sends nothing."""

    database: Database
    paused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        issue = queued(self.database, 1)
        settings, clock = DeliverySettings(), Clock(now=lambda: AT, jitter=lambda: 1.5, ticks=lambda: 0.0)
        self.books = RunBooks(self.database, issue.id, settings, learn=learn_nothing, clock=clock)
        relay = Access(Relay(host="127.0.0.1"))
        big = ProviderLimits(domains=("example.org", "example.com"))
        self.pool = Pool(
            Network({"a": relay, "b": relay}, providers={"big": big}),
            take=self._take, compose=lambda key: None, record=lambda attempt, relay: None, window=20,
            now=lambda: 0.0,
        )  # fmt: skip
        self.a, self.b = self.pool.relays
        self.latencies = Latencies(self.database, lambda: 0.0)
        self.outcomes = Outcomes(
            issue.id, settings, clock, self.books, self.pool, self.latencies,
            providers={"big": big}, pause=self.paused.append,
        )  # fmt: skip

    async def _take(self, count: int, except_domains: frozenset[str]) -> list[Item]:
        return []

    def record(
        self, key: int, reply: Reply | None, *, relay: RelayState | None = None, domain: str = "example.org",
        fate: Fate = Fate.REFUSED, stage: Stage = Stage.RCPT,
    ) -> None:  # fmt: skip
        """Record one attempt to reach a subscriber, through the first relay by default."""
        recipient = Recipient(key, f"s{key}@{domain}", "", {}, ())
        self.books.window.add([Claimed(recipient, domain, 1, AT)])
        self.outcomes.record(Attempt(key, fate, stage, reply, seconds=0.25), relay or self.a)

    def counted(self) -> list[tuple[str, str, str, int]]:
        """Return the measurements: of what, through which relay, with which result, and how many."""
        self.latencies.write()
        with self.database.reading() as connection:
            rows = connection.execute(
                text("SELECT measure, relay, kind, sum(number) FROM latencies GROUP BY 1, 2, 3")
            )
            return sorted(tuple(row) for row in rows)


@pytest.fixture
def scene(database: Database) -> Scene:
    return Scene(database)


def test_unsent_delivery_goes_back_to_the_queue(scene: Scene) -> None:
    scene.books.window.add(
        [Claimed(Recipient(n, "x@example.org", "", {}, ()), "example.org", 1, AT) for n in (1, 2)]
    )
    scene.outcomes.record(Attempt(1, Fate.UNSENT, Stage.MAIL), None)
    scene.outcomes.record(Attempt(2, Fate.UNSENT, Stage.MAIL), scene.a)
    assert (scene.books.unwritten.unsent, scene.books.unwritten.outcomes) == ([1, 2], [])
    assert len(scene.books.window) == 0
    assert scene.counted() == []


def test_accepted_message_is_sent_and_timed(scene: Scene) -> None:
    scene.record(1, Reply(250, "2.0.0", "ok"), fate=Fate.ACCEPTED, stage=Stage.BODY)
    scene.books.queued_at = AT - timedelta(seconds=90)
    scene.record(2, None, fate=Fate.ACCEPTED, stage=Stage.BODY, relay=scene.b)
    assert [(one.subscriber_id, one.state, one.code) for one in scene.books.unwritten.outcomes] == [
        (1, DeliveryState.SENT, 250),
        (2, DeliveryState.SENT, None),
    ]
    # A step of a sequence is queued at no time.
    assert scene.counted() == [
        ("accept", "", "issue", 1), ("reply", "a", "accepted", 1), ("reply", "b", "accepted", 1),
    ]  # fmt: skip
    with scene.database.reading() as connection:
        kept = text("SELECT microseconds FROM latencies WHERE measure = 'accept'")
        assert connection.scalar(kept) == 90_000_000


def test_deferred_delivery_is_due_after_the_spread_out_delay(scene: Scene) -> None:
    scene.record(1, Reply(451, "4.3.0", "not now"))
    (settled,) = scene.books.unwritten.outcomes
    assert (settled.state, settled.due_at) == (DeliveryState.DEFERRED, AT + timedelta(seconds=450))
    assert scene.counted() == [("reply", "a", "temporary", 1)]
    assert scene.outcomes.pending == 0


def test_server_that_looks_recipients_up_after_the_body_is_known_by_its_name(scene: Scene) -> None:
    scene.a.greeted_as = "mx.au.com"
    for key, relay in ((1, scene.a), (2, scene.b)):
        unknown = Reply(550, "", f"<s{key}@example.org>: user unknown")
        scene.record(key, unknown, stage=Stage.BODY, relay=relay)
    classes = [one.bounce_class for one in scene.books.unwritten.outcomes]
    assert classes == ["invalid_mailbox", "filtered"]


@pytest.mark.parametrize(("code", "pending"), [(499, False), (500, True), (501, True)])
def test_permanent_refusal_is_pending_until_the_breaker_has_seen_more(
    scene: Scene, code: int, pending: bool
) -> None:
    scene.record(1, Reply(code, "", "mailbox disabled"))
    (settled,) = scene.books.unwritten.outcomes
    assert settled.state is DeliveryState.DEFERRED
    assert (settled.due_at == PENDING_UNTIL) is pending
    assert scene.outcomes.pending == int(pending)
    assert not scene.outcomes.tripped()
    scene.outcomes.collect()
    assert [one.subscriber_id for one in scene.books.unwritten.cleared] == [1] * pending
    assert (scene.books.unwritten.ours, scene.outcomes.pending) == ([], 0)


def test_permanent_refusal_that_is_tried_again_is_due_as_always(scene: Scene) -> None:
    scene.record(1, Reply(552, "5.2.2", "mailbox full"))
    (settled,) = scene.books.unwritten.outcomes
    assert settled.due_at == AT + timedelta(days=1)
    scene.outcomes.tripped()
    scene.outcomes.collect()
    assert scene.books.unwritten.cleared == []


@pytest.mark.parametrize(
    ("reply", "seconds"),
    [
        (Reply(450, "4.7.0", "too many messages, try again in 20 seconds"), 20),
        # Only this mailbox is busy.
        (Reply(450, "4.2.1", "is receiving mail too quickly, try again in 20 seconds"), None),
        (Reply(554, "5.7.1", "your IP is blacklisted"), 3600),
        (Reply(450, "4.7.1", "your IP is blacklisted, try again in 600 seconds"), 600),
        (Reply(451, "4.3.0", "not now"), None),
        (GONE, None),
    ],
)
def test_provider_is_left_alone_for_as_long_as_it_says(
    scene: Scene, reply: Reply, seconds: int | None
) -> None:
    scene.record(1, reply)
    held = scene.pool.held()
    assert held == ({} if seconds is None else {"example.org": seconds, "example.com": seconds})


def test_relay_that_refuses_us_is_set_aside_and_the_last_one_pauses(scene: Scene) -> None:
    fault = "the receiving server refuses our configuration: 550 5.7.26 DMARC failed"
    scene.record(1, NOT_OURS)
    assert scene.outcomes.faults == {"a": fault}
    assert (scene.a.set_aside, scene.b.set_aside, scene.paused) == (True, False, [])
    scene.record(2, NOT_OURS)
    assert scene.paused == []
    scene.record(3, NOT_OURS, relay=scene.b)
    assert scene.paused == [f"a: {fault}; {fault}"]
    assert not scene.b.set_aside
    assert scene.books.unwritten.ours == [1, 2, 3]
    assert [one.state for one in scene.books.unwritten.outcomes] == [DeliveryState.DEFERRED] * 3
    assert scene.pool.held() == {}


def test_fault_of_no_relay_pauses(scene: Scene) -> None:
    scene.outcomes.blame(None, "the message is too large")
    assert (scene.paused, scene.outcomes.faults) == (["the message is too large"], {})


def test_one_refusal_of_everybody_sets_its_relay_aside(scene: Scene) -> None:
    for key in range(1, 6):
        scene.record(key, GONE)
    assert scene.outcomes.tripped()
    assert list(scene.outcomes.faults) == ["a"]
    assert scene.a.set_aside
    scene.outcomes.collect()
    assert (scene.books.unwritten.ours, scene.books.unwritten.cleared) == ([1, 2, 3, 4, 5], [])
    # Once collected, they are gone.
    scene.outcomes.collect()
    assert scene.books.unwritten.ours == [1, 2, 3, 4, 5]


def test_nearly_everybody_refused_by_one_provider_pauses(scene: Scene) -> None:
    for key in range(1, 19):
        # Through two relays, so that neither is to blame.
        scene.record(
            key, GONE, relay=(scene.a, scene.b)[key % 2], domain=("example.org", "example.com")[key % 2]
        )
    assert len(scene.paused) == 1
    assert scene.paused[0].startswith("provider big refused 18 of the last 18 messages with one reply")


@pytest.mark.parametrize(("sent", "trips"), [(0, True), (1, False)])
def test_refusals_left_over_from_earlier_runs_are_no_fault_of_ours(
    scene: Scene, sent: int, trips: bool
) -> None:
    scene.books._counts.update({"sent": sent, "queued": 9})
    scene.outcomes.begin()
    for key in range(1, 6):
        scene.record(key, GONE)
    assert scene.outcomes.tripped() is trips


def test_refusals_that_the_operator_accepted_are_cleared_at_once(scene: Scene) -> None:
    scene.books.refusals_accepted = True
    scene.outcomes.begin()
    for key in range(1, 19):
        scene.record(key, GONE)
    scene.outcomes.collect()
    assert (scene.outcomes.pending, len(scene.books.unwritten.cleared)) == (0, 18)
    assert scene.outcomes.close(judging=True) == ""


@pytest.mark.parametrize(
    ("number", "judging", "cleared", "ours"),
    [(4, True, 4, 0), (5, True, 0, 5), (4, False, 0, 4), (5, False, 0, 5)],
)
def test_run_that_was_cut_short_judges_nobody(
    scene: Scene, number: int, judging: bool, cleared: int, ours: int
) -> None:
    for key in range(1, number + 1):
        scene.record(key, GONE)
    why = scene.outcomes.close(judging=judging)
    assert why.startswith("relay a refused 5 of the last 5") if judging and ours else why == ""
    assert len(scene.books.unwritten.cleared) == cleared
    assert len(scene.books.unwritten.ours) == ours
    assert scene.outcomes.pending == 0


def test_accepted_messages_count_for_the_relay_and_the_provider(scene: Scene) -> None:
    scene.record(9, Reply(250, "", "ok"), fate=Fate.ACCEPTED, stage=Stage.BODY)
    for key in range(1, 6):
        scene.record(key, GONE)
    assert not scene.outcomes.tripped()
