"""What a pool does at each event: who is woken, what is counted, and what goes back to the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mailer.config import ProviderLimits, Relay
from mailer.errors import RelayDownError, RelayError
from mailer.smtp.pool import Access, Item, Network, Pool
from mailer.smtp.session import Attempt, Fate, Stage, Timeouts
from mailer.smtp.sharing import Grant
from tests.smtp.clocked import clock, run_clocked
from tests.smtp.scene import Scene
from tests.smtp.scripted import SILENCE, Script, serving
from tests.smtp.test_pool import Queue, check_nothing_is_left, queue

NO_PIPELINING = b"250-test.example\r\n250 8BITMIME\r\n"
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


# Whole deliveries, on a clock of the tests.


@pytest.fixture(autouse=True)
def feeder_waits_for_events(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the feeder take nothing merely because time has passed."""
    if "feeder_looks" not in request.fixturenames:
        monkeypatch.setattr("mailer.smtp.pool._FEED_SECONDS", 3600)


@pytest.fixture
def feeder_looks() -> None:
    """Let the feeder look again a few times a second."""


async def deliver(
    work: Queue,
    script: Script,
    *,
    meanwhile: Callable[[Pool], object] | None = None,
    at_seconds: float = 0.0,
    window: int = 8,
    say: Callable[[str], None] | None = None,
    shared: bool = False,
    providers: dict[str, ProviderLimits] | None = None,
    **settings: Any,
) -> tuple[Pool, float]:
    """Deliver the queue; return the pool and how many seconds it took. `meanwhile` is called once."""
    async with serving(script) as relay:
        began = clock().time()
        pool = work.pool = Pool(
            Network(
                {"main": Access(msgspec.structs.replace(relay, **({"connections": 1} | settings)))},
                providers or {},
                client_name="here.example",
                timeouts=Timeouts(),
            ),
            take=work.take,
            compose=work.compose,
            record=work.record,
            window=window,
            now=clock().time,
            say=say,
            shared=shared,
        )
        if meanwhile is not None:
            clock().call_later(at_seconds, meanwhile, pool)
        await pool.deliver()
        seconds = clock().time() - began
        check_nothing_is_left(pool)
        assert (pool.stopping, pool.resting) == (True, True)
        return pool, seconds


def test_pool_is_its_own_master_unless_it_shares_limits() -> None:
    async def take(count: int, except_domains: frozenset[str]) -> list[Item]:
        return []

    network = Network({"main": Access(Relay(host="127.0.0.1", connections=7))}, {"big": BIG})
    pool = Pool(network, take=take, compose=lambda key: None, record=lambda attempt, relay: None, window=8)
    assert (pool.relays[0].places, pool.lanes.lane("big.example").places) == (7, 3)
    assert pool.may_send()
    assert Network({}).providers == {}


def test_connection_that_still_opens_at_the_end_is_not_waited_for() -> None:
    async def go() -> None:
        work, script = queue(20), Script()
        script.answer = lambda verb, nth: SILENCE if (verb, nth) == ("EHLO", 2) else None
        _, seconds = await deliver(work, script, connections=2)
        assert work.fates() == {Fate.ACCEPTED: 20}
        assert seconds < 5

    run_clocked(go())


def silent_body(verb: str, nth: int) -> bytes | None:
    return SILENCE if verb == "BODY" else None


def test_delivery_takes_no_longer_than_its_messages() -> None:
    work = queue(30)
    _, seconds = run_clocked(deliver(work, Script()))
    assert work.fates() == {Fate.ACCEPTED: 30}
    assert seconds < 1


@pytest.mark.parametrize("connections", [1, 2])
def test_operator_hears_that_no_server_answers(connections: int) -> None:
    said: list[tuple[float, str]] = []

    def answer(verb: str, nth: int) -> bytes | None:
        if verb == "EHLO":
            clock().advance(2 if nth == 1 else 0)
        return SILENCE if verb == "MAIL" else None

    async def go() -> int:
        began = clock().time()
        script = Script(answer=answer)
        await deliver(
            queue(connections),
            script,
            meanwhile=lambda pool: pool.abort(),
            at_seconds=280,
            say=lambda line: said.append((clock().time() - began, line)),
            connections=connections,
        )
        return script.connections

    opened = run_clocked(go())
    assert opened == connections
    # It looks every five seconds, and says it after 10, 30, 90 and 270 seconds.
    assert [(round(at), line.partition(";")[0]) for at, line in said] == [
        (15, "no answer for 13 seconds"),
        (35, "no answer for 33 seconds"),
        (95, "no answer for 93 seconds"),
        (275, "no answer for 273 seconds"),
    ]
    ends = {line.partition(": ")[2] for _, line in said}
    assert ends == {"its reply to a message" + (f" on {connections} connections" if connections > 1 else "")}


def test_silence_is_counted_from_ten_seconds_again_after_an_answer() -> None:
    said: list[float] = []

    def answer(verb: str, nth: int) -> bytes | None:
        return SILENCE if verb in ("BODY", "RSET") else None

    async def go() -> None:
        began = clock().time()
        work = queue(1)

        def wake(pool: Pool) -> None:
            # As if a server had answered.
            pool.heard_at = clock().time()
            clock().call_later(60, pool.abort)

        await deliver(
            work,
            Script(answer=answer),
            meanwhile=wake,
            at_seconds=47,
            say=lambda line: said.append(round(clock().time() - began)),
        )

    run_clocked(go())
    assert said == [10, 30, 60, 80]


def test_nothing_is_said_while_nothing_is_awaited() -> None:
    said: list[str] = []

    async def go() -> None:
        await deliver(
            queue(1, "big.example"),
            Script(answer=lambda verb, nth: SILENCE if verb == "BODY" else None),
            # Held for less than half a minute: the message waits here.
            providers={"big": ProviderLimits(domains=("big.example",))},
            meanwhile=lambda pool: clock().call_later(100, pool.abort),
            say=said.append,
        )

    async def held() -> None:
        work = queue(1, "big.example")
        whole = work.take

        async def take(count: int, except_domains: frozenset[str]) -> Any:
            items = await whole(count, except_domains)
            assert work.pool is not None
            if items:
                work.pool.hold("big.example", 29)
            return items

        work.take = take  # type: ignore[method-assign]
        await deliver(
            work,
            Script(answer=silent_body),
            providers={"big": ProviderLimits(domains=("big.example",))},
            meanwhile=lambda pool: pool.abort(),
            at_seconds=70,
            say=said.append,
        )

    run_clocked(go())
    assert [line.partition(";")[0] for line in said] == [f"no answer for {n} seconds" for n in (10, 30, 90)]
    said.clear()
    run_clocked(held())
    # The connection opened at the thirtieth second.
    assert [line.partition(";")[0] for line in said] == [
        "no answer for 11 seconds",
        "no answer for 31 seconds",
    ]


@pytest.mark.parametrize("how", ["stop", "abort"])
def test_end_comes_at_once(how: str) -> None:
    async def go() -> float:
        work = queue(20)
        script = Script(answer=lambda verb, nth: SILENCE if verb == "BODY" and nth > 2 else None)
        _, seconds = await deliver(
            work, script, meanwhile=lambda pool: getattr(pool, how)(), at_seconds=7.1, connections=2
        )
        # Two bodies have left, whose reply a pool that only stops waits for.
        assert work.fates() == {Fate.ACCEPTED: 2, Fate.UNCERTAIN: 2}
        assert work.claimed == set(work.outcomes)
        return seconds

    assert run_clocked(go()) == pytest.approx(7.1 if how == "abort" else 600.05)


def test_end_wakes_workers_and_feeder() -> None:
    async def go() -> float:
        work = queue(3, "big.example")
        whole = work.take

        async def take(count: int, except_domains: frozenset[str]) -> Any:
            items = await whole(count, except_domains)
            assert work.pool is not None
            work.pool.hold("big.example", 25)
            return items

        work.take = take  # type: ignore[method-assign]
        _, seconds = await deliver(work, Script(), meanwhile=lambda pool: pool.stop(), at_seconds=7.1)
        assert (work.outcomes, work.claimed) == ({}, set())
        return seconds

    assert run_clocked(go()) == pytest.approx(7.1)


def test_letter_that_comes_while_workers_rest_leaves_at_once() -> None:
    async def go() -> None:
        work = queue(1, "big.example")
        at: list[float] = []
        began = clock().time()

        async def take(count: int, except_domains: frozenset[str]) -> Any:
            items = await Queue.take(work, count, except_domains)
            assert work.pool is not None
            if items:
                work.pool.hold("big.example", 25)
            return items

        def letter(pool: Pool) -> None:
            work.domains[9] = "a.example"
            work.claimed.add(9)
            pool.put_first([Item(9, "a.example")])

        work.take = take  # type: ignore[method-assign]
        work.on_settle = lambda outcome: at.append(clock().time() - began) if outcome.key == 9 else None
        await deliver(work, Script(), meanwhile=letter, at_seconds=3.3)
        assert at == [pytest.approx(3.3, abs=1)]
        assert work.fates() == {Fate.ACCEPTED: 2}

    run_clocked(go())


@pytest.mark.usefixtures("feeder_looks")
def test_shared_pool_starts_with_its_grant() -> None:
    async def go() -> None:
        work = queue(12)
        began = clock().time()
        at: list[float] = []

        def grant(pool: Pool) -> None:
            assert not pool.resting
            assert [wish.connections for wish in pool.wishes()] == [2]
            pool.accept(pool.wishes(), [Grant(name="relay main", connections=1)])

        work.on_settle = lambda outcome: at.append(clock().time() - began)
        await deliver(work, Script(), shared=True, meanwhile=grant, at_seconds=3.3, connections=2)
        assert work.fates() == {Fate.ACCEPTED: 12}
        # The feeder looks four times a second whether it may.
        assert all(3.3 <= seconds <= 3.55 for seconds in at)

    run_clocked(go())


@pytest.mark.usefixtures("feeder_looks")
def test_pool_that_loses_its_places_gives_back_what_waits() -> None:
    async def go() -> None:
        work = queue(12, "big.example")
        back: list[int] = []

        async def take(count: int, except_domains: frozenset[str]) -> Any:
            items = await Queue.take(work, count, except_domains)
            assert work.pool is not None
            work.pool.hold("big.example", 20)
            return items

        def lose(pool: Pool) -> None:
            pool.relays[0].places = 0
            clock().call_later(2, check, pool)
            clock().call_later(3, pool.stop)

        def check(pool: Pool) -> None:
            back.extend(work.claimed)
            assert pool.lanes.waiting == 0

        work.take = take  # type: ignore[method-assign]
        await deliver(work, Script(), meanwhile=lose, at_seconds=1)
        assert back == []

    run_clocked(go())


def test_cancelled_pool_takes_nothing_more() -> None:
    async def go() -> None:
        work = queue(5)
        task = clock().create_task(deliver(work, Script(answer=silent_body)))
        await asyncio.sleep(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert work.pool is not None
        work.domains[9] = "a.example"
        work.claimed.add(9)
        work.pool.put_first([Item(9, "a.example")])
        assert work.claimed == set(work.outcomes) == {1}
        check_nothing_is_left(work.pool)

    run_clocked(go())


class Asked(Queue):
    """A queue that notes how much is pending and waits whenever it is asked for more."""

    def __init__(self, domains: dict[int, str], room: int = 10**9) -> None:
        super().__init__(domains)
        self.room = room
        self.asked: list[tuple[int, int, int, int]] = []

    async def take(self, count: int, except_domains: frozenset[str]) -> Any:
        assert self.pool is not None
        pending, waiting = self.pool._pending, self.pool.lanes.waiting
        items = await super().take(min(count, max(0, self.room - pending)), except_domains)
        self.asked.append((pending, waiting, count, len(items)))
        return items


@pytest.mark.parametrize(
    ("room", "asked"),
    [
        # How many are pending, how many wait, how many are asked for, and how many come. It asks when six
        # wait (three quarters of a window); after it got nothing, once half of the pending ones are settled.
        (10**9, [(0, 0, 8, 8), *[(7, 6, 8, 8)] * 2, (7, 6, 8, 0), (3, 2, 8, 0), (1, 0, 8, 0), (0, 0, 8, 0)]),
        (8, [(0, 0, 8, 8), *[(7, 6, 8, 1)] * 16, (7, 6, 8, 0), (3, 2, 8, 0), (1, 0, 8, 0), (0, 0, 8, 0)]),
    ],
)
def test_feeder_asks_early_and_again_once_half_is_settled(
    room: int, asked: list[tuple[int, int, int, int]]
) -> None:
    work = Asked(dict.fromkeys(range(1, 25), "a.example"), room)
    run_clocked(deliver(work, Script(ehlo=NO_PIPELINING)))
    assert work.fates() == {Fate.ACCEPTED: 24}
    assert work.asked == asked


def test_places_of_slow_providers_are_not_asked_for() -> None:
    work = Asked(dict.fromkeys((1, 2), "big.example") | dict.fromkeys(range(3, 12), "a.example"))

    providers = {"big": ProviderLimits(domains=("big.example",), rate_per_second=0.1, connections=1)}
    run_clocked(deliver(work, Script(ehlo=NO_PIPELINING), providers=providers))
    # One message of the slow provider waits all the time.
    assert work.asked == [
        (0, 0, 8, 8),
        (7, 6, 7, 3),
        (7, 6, 7, 0),
        (3, 2, 7, 0),
        (1, 1, 7, 0),
        (0, 0, 8, 0),
    ]


@pytest.mark.usefixtures("feeder_looks")
def test_provider_on_hold_does_not_keep_others_from_being_taken() -> None:
    async def go() -> None:
        work = Asked(dict.fromkeys(range(1, 9), "big.example") | dict.fromkeys(range(9, 13), "a.example"))
        began = clock().time()
        at: dict[str, float] = {}

        async def take(count: int, except_domains: frozenset[str]) -> Any:
            items = await Asked.take(work, count, except_domains)
            assert work.pool is not None
            if len(work.asked) == 1:
                work.pool.hold("big.example", 25)
            return items

        work.take = take  # type: ignore[method-assign]
        work.on_settle = lambda outcome: at.update({work.domains[outcome.key]: clock().time() - began})
        await deliver(work, Script())
        assert work.fates() == {Fate.ACCEPTED: 12}
        assert at["a.example"] < 1
        assert at["big.example"] == pytest.approx(25, abs=1)
        # At rest it would have taken those of the provider as well.
        assert [domains for _, domains, _ in work.claims][:3] == [
            frozenset(),
            {"big.example"},
            {"big.example"},
        ]

    run_clocked(go())
