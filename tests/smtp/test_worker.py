"""One connection of a pool, step by step: what it waits for, sends, counts and gives up."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mailer.config import ProviderLimits
from mailer.errors import RelayDownError, RelayError
from mailer.smtp.pool import Access, NotNowError
from mailer.smtp.session import Attempt, Fate, Outgoing, Reply, SmtpSession, Stage
from tests.smtp.clocked import clock, run_clocked
from tests.smtp.scene import QUICK, Scene
from tests.smtp.scripted import CLOSE, SILENCE, Script, run_async, serving
from tests.smtp.test_dial import certificate, server_context, trusting
from tests.smtp.test_pool import Queue

BIG = ProviderLimits(domains=("big.example",), messages_per_connection=2)
OTHER = ProviderLimits(domains=("other.example",), messages_per_connection=2)


def hold(scene: Scene, seconds: float) -> None:
    scene.pool.hold("example.com", seconds)


def slow_relay(scene: Scene, per_second: float) -> None:
    scene.relay.pace.per_second = per_second
    scene.relay.pace.take(scene.seconds + 0.1)


# How long until a message may start.

A_SESSION: Any = object()


@pytest.mark.parametrize(
    ("waiting", "state", "expected"),
    [
        (1, {}, 0.0),
        (0, {"rate": 1.0}, math.inf),
        (0, {"rate": 1.0, "session": True}, math.inf),
        (1, {"rate": 1.0}, 1.0),
        (1, {"rate": 2.0}, 0.5),
        (1, {"sessions": 1}, 0.0),
        (1, {"sessions": 2}, math.inf),
        (1, {"sessions": 2, "session": True}, 0.0),
        (1, {"sessions": 1, "closing": 1}, math.inf),
        (1, {"opening": 1}, math.inf),
        (1, {"opening": 1, "session": True}, 0.0),
        (2, {"opening": 1}, 0.0),
        (2, {"opening": 2}, math.inf),
        (3, {"failures": 1}, 0.0),
        (3, {"failures": 1, "opening": 1}, math.inf),
        (3, {"failures": 1, "opening": 1, "session": True}, 0.0),
        (1, {"rest": 5.0}, 5.0),
        (1, {"rest": -5.0}, 0.0),
        (1, {"rest": 0.25, "rate": 2.0}, 0.5),
        (1, {"hold": 7.0}, 7.0),
        (1, {"spent": True}, math.inf),
    ],
)  # fmt: skip
def test_message_starts_when_nothing_is_in_its_way(
    waiting: int, state: dict[str, Any], expected: float
) -> None:
    scene = Scene()
    scene.pool.lanes.own_lane("example.com")
    scene.wait(*["example.com"] * waiting)
    scene.relay.sessions = state.get("sessions", 0)
    scene.relay.closing = state.get("closing", 0)
    scene.relay.failures = state.get("failures", 0)
    scene.pool.opening = state.get("opening", 0)
    scene.worker._session = A_SESSION if "session" in state else None
    if "rate" in state:
        slow_relay(scene, state["rate"])
    if "rest" in state:
        scene.worker._rest_until = scene.seconds + state["rest"]
    if "hold" in state:
        hold(scene, state["hold"])
    if "spent" in state:
        scene.worker._spent = [scene.pool.lanes.lane("example.com")]
    assert scene.worker._delay() == pytest.approx(expected)


# Waiting for work. `rest` takes no time, except on the clock of the scene.


@asynccontextmanager
async def connected(scene: Scene, script: Script | None = None) -> AsyncIterator[Script]:
    """Give the scene's worker a session with a server."""
    script = script or Script()
    async with serving(script) as relay:
        scene.worker._session = await SmtpSession.open(relay, client_name="here.example", timeouts=QUICK)
        scene.relay.sessions = 1
        yield script
        await scene.worker._disconnect()


def waited(scene: Scene, most: int, script: Script | None = None) -> tuple[bool, list[tuple[float, bool]]]:
    """Return whether a message may start, and each rest with whether a session was open meanwhile.

    After `most` rests the pool stops. With a script, there is a session at first.
    """
    rests: list[tuple[float, bool]] = []

    async def rest(seconds: float) -> None:
        rests.append((round(seconds, 3), scene.session is not None))
        scene.seconds += seconds
        scene.pool.stopping = len(rests) == most

    async def go() -> bool:
        if script is None:
            return await scene.worker._work_waits()
        async with connected(scene, script):
            found = await scene.worker._work_waits()
            assert (scene.session is not None) == bool(scene.relay.sessions)
            return found

    scene.pool.rest = rest  # type: ignore[method-assign]
    return run_clocked(go()), rests


def test_pool_that_stops_is_not_waited_for() -> None:
    scene = Scene()
    scene.wait("example.com")
    scene.pool.stopping = True
    assert waited(scene, 1) == (False, [])


def test_idle_worker_looks_every_ten_seconds() -> None:
    assert waited(Scene(), 3) == (False, [(10, False)] * 3)


def test_worker_that_others_leave_no_place_looks_less_and_less_often() -> None:
    scene = Scene()
    scene.wait("example.com")
    scene.relay.sessions = 2
    found, rests = waited(scene, 23)
    assert not found
    assert [seconds for seconds, _ in rests] == [min(1, round(0.05 * n, 2)) for n in range(1, 24)]


@pytest.mark.parametrize(("seconds", "rest"), [(0.2, 0.2), (0.01, 0.05), (9.0, 9.0)])
def test_worker_without_a_session_does_not_poll(seconds: float, rest: float) -> None:
    scene = Scene()
    scene.wait("example.com")
    hold(scene, seconds)
    assert waited(scene, 5) == (True, [(rest, False)])


def test_worker_with_a_session_is_there_in_time() -> None:
    scene = Scene()
    scene.wait("example.com")
    hold(scene, 0.01)
    assert waited(scene, 5, Script()) == (True, [(0.01, True)])


def test_worker_with_a_session_that_others_hold_up_does_not_poll() -> None:
    scene = Scene()
    scene.wait("example.com")
    scene.worker._spent = [scene.pool.lanes.lane("example.com")]
    assert waited(scene, 3, Script()) == (False, [(0.05, True), (0.1, True), (0.15, True)])


def test_connection_is_closed_once_it_was_idle_for_more_than_ten_seconds() -> None:
    scene = Scene()
    scene.wait("example.com")
    hold(scene, 25)
    script = Script()
    assert waited(scene, 9, script) == (True, [(10, True), (10, True), (5, False)])
    assert script.commands[-1] == "QUIT"


def test_connection_is_closed_while_nothing_may_be_sent() -> None:
    scene = Scene()
    scene.wait("example.com")
    scene.sending = False
    assert waited(scene, 2, Script()) == (False, [(0.05, False), (0.1, False)])


@pytest.mark.parametrize(("places", "kept"), [(1, True), (0, False)])
def test_connection_is_closed_when_others_have_its_place(places: int, kept: bool) -> None:
    scene = Scene()
    scene.relay.places = places
    assert waited(scene, 1, Script()) == (False, [(10, kept)])


@pytest.mark.parametrize("said", [b"", b"421 4.4.2 idle for too long\r\n"])
def test_connection_that_the_server_has_closed_is_replaced(said: bytes) -> None:
    async def go() -> None:
        scene = Scene()
        scene.wait("example.com")
        async with connected(scene) as script:
            script.writers[0].write(said)
            for _ in range(3):
                await asyncio.sleep(0.01)
            assert await scene.worker._work_waits()
            assert (scene.session is None) == bool(said)

    run_clocked(go())


# Opening and closing.


def test_opening_is_counted_until_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        seen = []

        def answer(verb: str, nth: int) -> bytes | None:
            if verb == "EHLO":
                clock().advance(3)
                seen.append((scene.counts(), scene.worker.awaited))
            elif verb == "QUIT":
                seen.append((scene.counts(), scene.worker.awaited))
            return None

        async with serving(Script(answer=answer, greeting=b"220 mx.test.example ready\r\n")) as relay:
            scene = Scene(access=Access(relay))
            monkeypatch.setattr("mailer.smtp.worker.time", SimpleNamespace(monotonic=clock().time))
            scene.seconds += 7
            assert (scene.counts(), scene.worker.awaited) == ((0, 0, 0, 0), "")
            await scene.worker._open()
            assert scene.counts() == (0, 0, 1, 0)
            assert not scene.worker.opening
            assert (scene.pool.heard_at, scene.relay.greeted_as) == (scene.seconds, "mx.test.example")
            assert scene.reached == [("main", 3.0)]
            await scene.worker._disconnect()
            where = f"main (127.0.0.1:{relay.port})"
        assert seen == [((1, 1, 0, 0), f"{where}: its reply to EHLO"), ((0, 0, 0, 1), "")]
        assert scene.counts() == (0, 0, 0, 0)
        assert scene.session is None

    run_clocked(go())


def test_server_that_is_silent_while_we_open_is_waited_for_as_long_as_configured() -> None:
    async def go() -> None:
        async with serving(Script(greeting=SILENCE)) as relay:
            scene, began = Scene(access=Access(relay)), clock().time()
            await scene.worker._open()
            assert clock().time() - began == pytest.approx(QUICK.greeting)
            assert scene.counts() == (0, 0, 0, 0)
            assert not scene.worker.opening
            assert scene.relay.failures == 1
            assert (scene.reached, scene.pool.heard_at) == ([], 1000.0)

    run_clocked(go())


@pytest.mark.parametrize("last", [True, False])
def test_relay_that_refuses_the_login_is_set_aside_unless_it_is_the_last(last: bool) -> None:
    async def go() -> None:
        script = Script(
            ehlo=b"250-x\r\n250 AUTH PLAIN\r\n",
            answer=lambda verb, nth: b"535 5.7.8 no\r\n" if verb == "AUTH" else None,
        )
        async with serving(script) as relay:
            scene = Scene(access=Access(relay, "secret"), user="me")
            if last:
                with pytest.raises(RelayError, match="login refused"):
                    await scene.worker._open()
            else:
                scene.pool.relays.append(Scene().relay)
                await scene.worker._open()
            assert (scene.relay.set_aside, scene.session, scene.counts()) == (not last, None, (0, 0, 0, 0))

    run_clocked(go())


def test_relay_is_opened_as_configured(tmp_path: Path) -> None:
    async def go() -> list[str]:
        authority = certificate("authority")
        script = Script(ehlo=b"250-x\r\n250 AUTH PLAIN\r\n")
        async with serving(script, server_context(certificate("server", authority), tmp_path)) as relay:
            scene = Scene(access=Access(relay, "secret", trusting(authority)), user="me")
            await scene.worker._open()
            assert scene.session is not None
            await scene.worker._disconnect()
        return script.commands

    # Base64 of "\0me\0secret".
    assert run_async(go()) == ["EHLO here.example", "AUTH PLAIN AG1lAHNlY3JldA==", "QUIT"]


@pytest.mark.parametrize(
    ("sessions", "opening", "fails"),
    [(0, 1, True), (1, 0, True), (1, 1, False), (2, 0, False), (0, 2, False)],
)
def test_relay_that_serves_other_connections_has_not_failed(sessions: int, opening: int, fails: bool) -> None:
    scene = Scene()
    scene.relay.sessions, scene.relay.opening = sessions, opening
    scene.worker._failed(RelayDownError("main: closes connections"))
    assert scene.relay.failures == fails
    assert scene.worker._rest_until == (-math.inf if fails else scene.seconds + 5)


def test_new_connection_counts_from_the_beginning() -> None:
    async def go() -> None:
        scene = Scene(providers={"big": BIG})
        async with connected(scene):
            lane = scene.pool.lanes.lane("big.example")
            scene.worker._count(lane, scene.seconds)
            scene.worker._count(lane, scene.seconds)
            scene.worker._answered = True
            assert (scene.worker._sent, scene.worker._spent) == (2, [lane])
            await scene.worker._disconnect()
            assert (scene.worker._sent, scene.worker._spent, scene.worker._answered) == (0, [], False)
            scene.worker._count(lane, scene.seconds)
            assert scene.worker._spent == []
            # There is nothing to close.
            await scene.worker._disconnect()
            assert scene.counts() == (0, 0, 0, 0)

    run_clocked(go())


# Sending.


@pytest.mark.parametrize(
    ("answer", "most", "failed", "kept"),
    [
        # The messages of one connection at most; then whether the relay failed, and the session is kept.
        (None, 5, False, True),
        (None, 2, False, False),
        (("MAIL", 1, CLOSE), 5, True, False),
        (("BODY", 1, CLOSE), 5, True, False),
        (("BODY", 1, b"421 4.7.0 enough\r\n"), 5, True, False),
        (("BODY", 1, b"451 4.7.0 later\r\n"), 5, False, True),
        (("MAIL", 2, CLOSE), 5, False, False),
    ],
)
def test_session_is_kept_or_counted_as_failed_by_how_it_ends(
    answer: tuple[str, int, bytes] | None, most: int, failed: bool, kept: bool
) -> None:
    async def go() -> None:
        script = Script()
        if answer is not None:
            script.answer = lambda verb, nth: answer[2] if (verb, nth) == answer[:2] else None
        scene = Scene(messages_per_connection=most)
        scene.wait("a.example", "b.example")
        async with connected(scene, script):
            assert scene.session is not None
            await scene.worker._send(scene.session)
            assert (scene.relay.failures, scene.session is not None) == (failed, kept)

    run_clocked(go())


def test_session_without_a_message_is_kept() -> None:
    async def go() -> None:
        scene = Scene()
        async with connected(scene):
            assert scene.session is not None
            await scene.worker._send(scene.session)
            assert (scene.relay.failures, scene.session is not None) == (0, True)

    run_clocked(go())


def test_session_is_closed_once_a_provider_takes_no_more_on_it() -> None:
    async def go() -> None:
        scene = Scene(providers={"big": BIG})
        scene.wait("big.example", "big.example", "big.example")
        async with connected(scene):
            assert scene.session is not None
            await scene.worker._send(scene.session)
            assert scene.session is None
            assert (sorted(scene.work.outcomes), scene.waiting("big.example")) == ([1, 2], [3])

    run_clocked(go())


def test_connection_that_closes_because_nothing_may_be_sent_is_no_failure() -> None:
    async def go() -> None:
        scene = Scene()
        scene.wait("a.example")

        def answer(verb: str, nth: int) -> bytes | None:
            if verb == "DATA":
                scene.sending = False
            return None

        async with connected(scene, Script(answer=answer)):
            assert scene.session is not None
            await scene.worker._send(scene.session)
            assert (scene.relay.failures, scene.relay.sessions) == (0, 0)
            assert scene.waiting("a.example") == [1]
            assert scene.pool._tries == {1: 0}

    run_clocked(go())


@pytest.mark.parametrize(
    ("state", "key"),
    [
        ({}, 1),
        ({"stopping": True}, None),
        ({"sent": 2}, 1),
        ({"sent": 3}, None),
        ({"may_send": False}, None),
        ({"rate": 2.0}, None),
        ({"sessions": 2}, 1),
        ({"sessions": 3}, None),
        ({"spent": True}, None),
    ],
)
def test_next_message_is_composed_only_if_it_may_leave(state: dict[str, Any], key: int | None) -> None:
    scene = Scene(messages_per_connection=3)
    scene.wait("a.example")
    scene.pool.stopping = "stopping" in state
    scene.sending = state.get("may_send", True)
    scene.worker._sent = state.get("sent", 0)
    scene.relay.sessions = state.get("sessions", 1)
    if "rate" in state:
        slow_relay(scene, state["rate"])
    if "spent" in state:
        scene.worker._spent = [scene.pool.lanes.lane("a.example")]
    found = scene.worker._next()
    assert (None if found is None else found.key) == key
    assert scene.work.composed == ([] if key is None else [key])
    assert scene.worker._sent == state.get("sent", 0) + (key is not None)
    assert scene.worker.awaited == ("main (127.0.0.1:25): its reply to a message" if key else "")


def test_message_on_its_way_is_counted_everywhere() -> None:
    scene = Scene(providers={"big": BIG, "other": OTHER})
    scene.wait(*["big.example", "other.example"] * 2)
    for key, spent in ((1, []), (2, []), (3, ["big"]), (4, ["big", "other"])):
        found = scene.worker._next()
        assert found is not None
        assert (found.key, [lane.name for lane in scene.worker._spent]) == (key, spent)
        assert (scene.worker._sent, scene.relay.taken) == (key, key)
    assert scene.pool.lanes.lane("big.example").under_way == {id(scene.worker): 2}


@pytest.mark.parametrize("error", [NotNowError(), LookupError("gone"), KeyboardInterrupt()])
def test_message_that_is_not_composed_goes_back_to_its_place(error: BaseException) -> None:
    scene = Scene()
    scene.wait("a.example", "a.example")

    def compose(key: int) -> Outgoing:
        raise error

    scene.pool.compose = compose
    if isinstance(error, NotNowError):
        assert scene.worker._next() is None
    else:
        with pytest.raises(type(error)):
            scene.worker._next()
    lane = scene.pool.lanes.lane("a.example")
    assert (scene.waiting("a.example"), lane.under_way, scene.worker._taken) == ([1, 2], {}, {})
    assert (scene.worker._sent, scene.pool._pending) == (0, 2)


def test_message_that_compose_drops_is_no_longer_held() -> None:
    scene = Scene(work=Queue({}, dropped=frozenset({1})))
    scene.wait(*["a.example"] * 5)
    found = scene.worker._next()
    assert found is not None
    lane = scene.pool.lanes.lane("a.example")
    assert (found.key, lane.under_way, scene.pool._pending) == (2, {id(scene.worker): 1}, 4)
    assert scene.worker._sent == 1


def test_feeder_hears_that_few_messages_wait() -> None:
    # Three quarters of a window of eight.
    scene = Scene()
    scene.wait(*["a.example"] * 8)
    wanted = []
    for _ in range(3):
        scene.worker._next()
        wanted.append(scene.pool._more_wanted.is_set())
    assert wanted == [False, True, True]


@pytest.mark.parametrize(
    ("reply", "stage", "answered"),
    [
        (None, Stage.MAIL, False),
        (Reply(421, "", "closing"), Stage.BODY, False),
        (Reply(422, "", "odd"), Stage.BODY, True),
        (Reply(550, "", "no"), Stage.RCPT, True),
        (Reply(250, "", "ok"), Stage.BODY, True),
        (Reply(552, "", "too large"), Stage.LOCAL, False),
    ],
)
def test_reply_to_a_message_shows_that_the_relay_works(
    reply: Reply | None, stage: Stage, answered: bool
) -> None:
    scene = Scene()
    scene.wait("a.example")
    scene.relay.failures = 3
    assert scene.worker._next() is not None
    scene.seconds += 9
    scene.worker._settled(Attempt(1, Fate.REFUSED, stage, reply))
    assert scene.worker._answered is answered
    assert scene.pool.heard_at == (1009.0 if answered else 1000.0)
    assert scene.relay.failures == (0 if answered else 3)
    assert scene.relay.progress_at == (1009.0 if answered else -math.inf)
    lane = scene.pool.lanes.lane("a.example")
    assert (list(scene.work.outcomes), lane.under_way, scene.worker._taken) == ([1], {}, {})
    assert (scene.pool._pending, scene.worker.awaited) == (0, "")


# The whole life of a worker.


def lives(script: Script, work: Callable[[Scene], Coroutine[Any, Any, None]]) -> Scene:
    """Run a worker against a server, while `work` looks on and stops it; return the scene."""

    async def go() -> Scene:
        async with serving(script) as relay:
            scene = Scene(access=Access(relay))
            scene.pool.now = clock().time
            task = clock().create_task(scene.worker.work())
            await work(scene)
            scene.pool.stop()
            await task
            return scene

    return run_clocked(go())


def test_worker_opens_sends_and_closes() -> None:
    script = Script()

    async def work(scene: Scene) -> None:
        both = asyncio.Event()
        scene.work.on_settle = lambda outcome: both.set() if len(scene.work.outcomes) == 2 else None
        scene.wait("a.example", "b.example")
        await both.wait()
        assert scene.counts() == (0, 0, 1, 0)

    scene = lives(script, work)
    assert [line[:4] for line in script.commands] == ["EHLO", *["MAIL", "RCPT", "DATA"] * 2, "QUIT"]
    assert (script.connections, scene.counts(), scene.session) == (1, (0, 0, 0, 0), None)
