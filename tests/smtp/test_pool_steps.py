"""What a pool does at each event: who is woken, what is counted, and what goes back to the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from mailer.config import ProviderLimits
from mailer.errors import RelayDownError, RelayError
from mailer.smtp.pool import Item
from mailer.smtp.session import Attempt, Fate, Stage
from mailer.smtp.sharing import Grant
from tests.smtp.clocked import clock, run_clocked
from tests.smtp.scene import Scene

BIG = ProviderLimits(domains=("big.example",), connections=3, rate_per_second=5)
LOST = Attempt(1, Fate.LOST, Stage.MAIL)


def unsent(scene: Scene) -> list[int]:
    """Let the scene's queue note which items come back, in this list."""
    back: list[int] = []
    scene.work.on_settle = lambda one: back.append(one.key) if one.fate is Fate.UNSENT else None
    return back


# Events.


def finish_all(scene: Scene) -> None:
    scene.pool.finished(scene.pool._pending)


@pytest.mark.parametrize(
    ("event", "woken"),
    [
        (lambda scene: scene.pool.put_first([Item(9, "a.example")]), True),
        (lambda scene: scene.pool._add([Item(9, "a.example")]), True),
        (lambda scene: scene.pool.done(Item(1, "a.example"), LOST, scene.relay), True),
        (lambda scene: scene.pool.stop(), True),
        (lambda scene: scene.pool.accept([], []), True),
        (lambda scene: scene.pool.set_aside(scene.pool.relays[1], RelayError("no")), True),
        (lambda scene: scene.pool.abort(), True),
        (finish_all, False),
        (lambda scene: scene.pool.hold("a.example", 60), False),
    ],
)
def test_waiting_workers_are_woken_by_new_work(event: Callable[[Scene], object], woken: bool) -> None:
    async def go() -> None:
        scene = Scene()
        scene.pool.relays.append(Scene().relay)
        scene.wait("a.example")
        began = clock().time()
        resting = clock().create_task(scene.pool.rest(60))
        await asyncio.sleep(0)
        event(scene)
        await resting
        assert clock().time() - began == (0 if woken else 60)
        # Who comes later waits.
        await scene.pool.rest(60)
        assert clock().time() - began == (60 if woken else 120)

    run_clocked(go())


def test_stop_gives_back_what_waits_and_wakes_the_feeder() -> None:
    scene = Scene()
    back = unsent(scene)
    scene.wait("a.example", "b.example")
    scene.pool._more_wanted.clear()
    scene.pool.stop()
    assert (sorted(back), scene.pool._pending, scene.pool.stopping) == ([1, 2], 0, True)
    scene.pool._more_wanted.clear()
    scene.pool.stop()
    assert scene.pool._more_wanted.is_set()


def test_items_put_first_go_ahead_in_their_order() -> None:
    scene = Scene()
    scene.wait("a.example", "a.example")
    scene.pool.put_first([Item(8, "a.example"), Item(9, "a.example")])
    assert scene.waiting("a.example") == [8, 9, 1, 2]
    assert (scene.pool._pending, scene.pool.lanes.waiting) == (4, 4)


@pytest.mark.parametrize("how", ["put_first", "_add"])
def test_items_that_come_while_the_pool_stops_go_back(how: str) -> None:
    scene = Scene()
    back = unsent(scene)
    scene.pool.stopping = True
    getattr(scene.pool, how)([Item(8, "a.example"), Item(9, "a.example")])
    assert (back, scene.pool._pending, scene.pool.lanes.waiting) == ([8, 9], 0, 0)


@pytest.mark.parametrize(
    ("pending", "finished", "wanted"),
    [(0, 0, False), (3, 2, False), (3, 3, True), (9, 4, True), (9, 3, False), (9, 5, False)],
)
def test_feeder_hears_that_nothing_is_left_or_half_is_settled(
    pending: int, finished: int, wanted: bool
) -> None:
    scene = Scene()
    scene.pool._pending, scene.pool._ask_below = pending, 5
    scene.pool._more_wanted.clear()
    scene.pool.finished(finished)
    assert (scene.pool._pending, scene.pool._more_wanted.is_set()) == (pending - finished, wanted)


@pytest.mark.parametrize(
    ("big", "others", "wanted"),
    # Three quarters of a window of 16 in all, or fewer than a quarter of it for one provider.
    [(5, 6, False), (5, 7, True), (5, 8, False), (3, 1, True), (4, 1, False), (2, 1, False), (3, 20, True)],
)
def test_feeder_hears_that_few_wait(big: int, others: int, wanted: bool) -> None:
    scene = Scene(window=16, providers={"big": BIG})
    scene.wait(*["big.example"] * big, *["a.example"] * others)
    scene.pool._more_wanted.clear()
    scene.pool.began(scene.pool.lanes.lane("big.example"))
    assert scene.pool._more_wanted.is_set() is wanted


def test_message_whose_connection_breaks_goes_first_twice_and_is_then_lost() -> None:
    scene = Scene()
    scene.wait("a.example", "a.example")
    item = scene.pool.lanes.lane("a.example").waiting[0]
    for expected in ([1, 2], [1, 2], [2]):
        scene.pool.lanes.lane("a.example").waiting.remove(item)
        scene.pool.done(item, LOST, scene.relay)
        assert scene.waiting("a.example") == expected
    assert (scene.work.fates(), scene.pool._pending, scene.pool._tries) == ({Fate.LOST: 1}, 1, {})


def test_message_whose_connection_breaks_at_the_end_is_unsent() -> None:
    scene = Scene()
    scene.wait("a.example")
    scene.pool.lanes.lane("a.example").waiting.clear()
    scene.pool.stopping = True
    seen: list[tuple[Fate, bool]] = []
    scene.pool._record = lambda outcome, relay: seen.append((outcome.fate, relay is scene.relay))
    scene.pool.done(Item(1, "a.example"), LOST, scene.relay)
    assert (seen, scene.pool._pending) == ([(Fate.UNSENT, True)], 0)


def test_message_that_went_back_has_all_its_tries() -> None:
    scene = Scene()
    scene.wait("a.example")
    scene.pool._tries[1] = 2
    scene.pool.stop()
    assert scene.pool._tries == {}


# Providers.


@pytest.mark.parametrize(("seconds", "back"), [(0, []), (1, []), (30, []), (30.5, [2, 1]), (3600, [2, 1])])
@pytest.mark.parametrize("how", ["hold", "slow_down"])
def test_provider_on_a_long_hold_gives_back_what_waits(how: str, seconds: float, back: list[int]) -> None:
    scene = Scene(providers={"big": BIG})
    given = unsent(scene)
    scene.wait("big.example", "big.example", "a.example")
    getattr(scene.pool, how)("big.example", seconds)
    pace = scene.pool.lanes.lane("big.example").pace
    assert (given, pace.not_before) == (back, scene.seconds + seconds)
    assert scene.pool.held() == ({"big.example": seconds} if seconds else {})
    assert scene.waiting("a.example") == [3]
    assert (pace.share < 1) is (how == "slow_down")


@pytest.mark.parametrize(("until", "back"), [(999.0, []), (1000.0, []), (1001.0, [1])])
def test_provider_that_others_have_gives_back_what_waits(until: float, back: list[int]) -> None:
    scene = Scene(providers={"big": BIG})
    given = unsent(scene)
    scene.wait("big.example")
    lane = scene.pool.lanes.lane("big.example")
    lane.denied_until = until
    scene.pool._release(lane)
    assert given == back
    assert [one.name for one in scene.pool._crowded()] == (["big"] if back else [])


@pytest.mark.parametrize(
    ("waiting", "slow", "kept", "room"),
    # Window 8: the slow one keeps 2 once more than 14 wait; there is room for another window up to 16.
    [(14, 10, 10, True), (15, 10, 2, True), (16, 1, 1, True), (17, 1, 1, False), (26, 12, 2, True)],
)
def test_slow_provider_makes_room(waiting: int, slow: int, kept: int, room: bool) -> None:
    scene = Scene(providers={"big": BIG, "quick": ProviderLimits(domains=("quick.example",))})
    scene.wait(*["big.example"] * slow, *["quick.example"] * (waiting - slow))
    lanes = [scene.pool.lanes.lane(f"{name}.example") for name in ("quick", "big")]
    assert scene.pool._has_room(lanes) is room
    assert (len(scene.waiting("big.example")), len(scene.waiting("quick.example"))) == (kept, waiting - slow)


# Relays.


def test_last_relay_is_not_set_aside() -> None:
    scene = Scene()
    other = Scene().relay
    scene.pool.relays.append(other)
    error = RelayError("login refused")
    assert scene.pool.set_aside(scene.relay, error)
    assert (scene.relay.set_aside, scene.relay.error, other.set_aside) == (True, error, False)
    assert not scene.pool.set_aside(other, error)
    assert (other.set_aside, other.error) == (False, None)


def test_pool_gives_up_once_every_relay_is_hopeless() -> None:
    scene = Scene()
    other = Scene().relay
    scene.pool.relays.append(other)
    scene.wait("a.example")
    back = unsent(scene)
    scene.pool.relay_failed(scene.relay, RelayDownError("first"))
    assert (scene.relay.failures, scene.pool._failure, scene.pool.stopping, back) == (1, None, False, [])
    scene.pool.relay_failed(other, RelayDownError("second"))
    failure = scene.pool._failure
    assert isinstance(failure, RelayDownError)
    assert failure.message == "no relay can be used: first; second"
    assert (scene.pool.stopping, back) == (True, [1])
    # The first reason stays.
    scene.pool.relay_failed(other, RelayDownError("third"))
    assert scene.pool._failure is failure
    assert other.error is not None
    assert other.error.message == "third"


def test_first_error_is_the_one_that_is_raised() -> None:
    async def fail(message: str) -> None:
        raise LookupError(message)

    async def go() -> None:
        scene = Scene()
        await scene.pool._guard(fail("first"))
        assert scene.pool.stopping
        await scene.pool._guard(fail("second"))
        assert str(scene.pool._failure) == "first"

    run_clocked(go())


# Limits that are shared.


def test_wishes_name_all_that_is_shared() -> None:
    scene = Scene(shared=True, providers={"big": BIG}, connections=4, rate_per_second=7)
    relay, big = scene.pool.wishes()
    assert (relay.name, relay.connections, relay.per_second) == ("relay main", 4, 7)
    assert (big.name, big.most_connections, big.connections, big.per_second) == ("provider big", 3, 0, 5)
    scene.wait("big.example")
    scene.pool.lanes.own_lane("a.example")
    scene.pool.resting = True
    assert [(wish.name, wish.connections) for wish in scene.pool.wishes()] == [
        ("relay main", 0),
        ("provider big", 3),
        ("domain a.example", 0),
    ]


def test_grants_reach_what_they_are_for() -> None:
    scene = Scene(shared=True, providers={"big": BIG})
    lane = scene.pool.lanes.lane("big.example")
    lane.pace.slow_down(scene.seconds)
    wishes = scene.pool.wishes()
    scene.pool.accept(
        wishes,
        [
            Grant(name="relay main", connections=3),
            Grant(name="provider big", connections=2, per_second=4),
            Grant(name="domain a.example", connections=1, per_second=0.5),
            # It belongs to a provider here, or to nothing.
            Grant(name="domain big.example", connections=7, per_second=7),
            Grant(name="provider gone", connections=8, per_second=8),
        ],
    )
    assert scene.relay.places == 3
    assert (lane.places, lane.pace.per_second) == (2, 4)
    # The wish had reported the complaint.
    assert not lane.pace.slowed  # type: ignore[attr-defined]
    own = scene.pool.lanes.lane("a.example")
    assert (own.limit, own.places, own.pace.per_second) == ("domain a.example", 1, 0.5)
    gone = scene.pool.lanes.lane("provider gone")
    assert (gone.limit, gone.places) == ("domain provider gone", 0)


def test_provider_that_others_keep_gives_back_what_waits_with_the_grant() -> None:
    scene = Scene(shared=True, providers={"big": BIG})
    back = unsent(scene)
    scene.wait("big.example")
    for seconds, expected in ((0.0, []), (2.0, []), (0.1, [1])):
        scene.seconds += seconds
        scene.pool.accept(scene.pool.wishes(), [Grant(name="provider big")])
        assert back == expected
