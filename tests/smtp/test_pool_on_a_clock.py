"""Whole deliveries of a pool, on a clock that skips every wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mailer.config import ProviderLimits, Relay
from mailer.smtp.pool import Access, Item, Network, Pool
from mailer.smtp.session import Fate, Timeouts
from mailer.smtp.sharing import Grant
from tests.smtp.clocked import clock, run_clocked
from tests.smtp.scripted import SILENCE, Script, serving
from tests.smtp.test_pool import Queue, check_nothing_is_left, queue

NO_PIPELINING = b"250-test.example\r\n250 8BITMIME\r\n"
BIG = ProviderLimits(domains=("big.example",), connections=3, rate_per_second=5)


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
