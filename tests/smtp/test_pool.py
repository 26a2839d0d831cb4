from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest

from mailer.address import Envelope
from mailer.config import ProviderLimits, Relay
from mailer.errors import RelayDownError, RelayError
from mailer.smtp.pool import Access, Item, Network, NotNowError, Pool, RelayState
from mailer.smtp.session import Attempt, Fate, Outgoing, Timeouts
from tests.smtp.scripted import CLOSE, SILENCE, Script, run_async, serving

pytestmark = pytest.mark.usefixtures("each_loop")

SHORT = Timeouts(greeting=2, mail=2, rcpt=2, data=2, block=2, final_dot=2, quit=0.2)


@dataclass
class Queue:
    """Replaces the sender: claims deliveries by key, in order, and keeps their outcomes."""

    domains: dict[int, str]
    composed: list[int] = field(default_factory=list)
    outcomes: dict[int, Attempt] = field(default_factory=dict)
    claims: list[tuple[int, frozenset[str], int]] = field(default_factory=list)
    dropped: frozenset[int] = frozenset()
    on_settle: Callable[[Attempt], None] = lambda outcome: None
    pool: Pool | None = None
    claimed: set[int] = field(default_factory=set)

    async def take(self, count: int, except_domains: frozenset[str]) -> Sequence[Item]:
        free = [key for key in self.domains if key not in self.claimed]
        chosen = [key for key in free if self.domains[key] not in except_domains][:count]
        self.claimed.update(chosen)
        self.claims.append((count, except_domains, len(chosen)))
        return [Item(key, self.domains[key]) for key in chosen]

    def compose(self, key: int) -> Outgoing | None:
        self.composed.append(key)
        if key in self.dropped:
            return None
        envelope = Envelope("b@example.org", f"r{key}@{self.domains[key]}")
        return Outgoing(key, envelope, [b"Subject: x\r\n\r\nhello\r\n"], wire_safe=True)

    def record(self, outcome: Attempt, relay: RelayState | None) -> None:
        assert (relay is None) <= (outcome.fate is Fate.UNSENT)
        assert outcome.key not in self.outcomes, "settled twice"
        self.outcomes[outcome.key] = outcome
        if outcome.fate is Fate.UNSENT:
            self.claimed.discard(outcome.key)
            del self.outcomes[outcome.key]
        self.on_settle(outcome)

    def fates(self) -> Counter[Fate]:
        return Counter(outcome.fate for outcome in self.outcomes.values())


def queue(count: int, domain: str = "example.com") -> Queue:
    return Queue(dict.fromkeys(range(1, count + 1), domain))


def run(
    work: Queue,
    scripts: Sequence[Script],
    *,
    providers: Mapping[str, ProviderLimits] | None = None,
    settings: Sequence[dict[str, Any]] = (),
    window: int = 50,
    patience_seconds: float = 60.0,
    timeouts: Timeouts = SHORT,
) -> None:
    """Deliver the queue through one relay for each script, with these settings."""

    async def go() -> None:
        async with AsyncExitStack() as stack:
            relays: dict[str, Access] = {}
            for place, script in enumerate(scripts):
                relay: Relay = await stack.enter_async_context(serving(script))
                extra = settings[place] if settings else {}
                relays[str(place)] = Access(msgspec.structs.replace(relay, **{"connections": 4, **extra}))
            work.pool = Pool(
                Network(
                    relays,
                    providers or {},
                    client_name="here.example",
                    timeouts=timeouts,
                    patience_seconds=patience_seconds,
                ),
                take=work.take,
                compose=work.compose,
                record=work.record,
                window=window,
            )
            await work.pool.deliver()
            check_nothing_is_left(work.pool)

    run_async(go())


def check_nothing_is_left(pool: Pool) -> None:
    """Check that a pool counts no message and no connection after its end."""
    assert (pool._pending, pool.lanes.waiting, pool.opening) == (0, 0, 0)
    assert {relay.name: relay.connected for relay in pool.relays if relay.connected} == {}
    lanes = [*pool.lanes.limited(), pool.lanes.lane("a domain of no provider")]
    assert [lane.limit for lane in lanes if lane.under_way or lane.waiting] == []


def test_everything_claimed_is_delivered_once() -> None:
    work, script = queue(500), Script()
    run(work, [script])
    assert work.fates() == {Fate.ACCEPTED: 500}
    assert sorted(script.recipients()) == sorted(f"r{key}@example.com" for key in range(1, 501))
    assert script.most_open <= 4
    assert all(count <= 50 for count, _, _ in work.claims)


def test_caller_without_room_is_asked_again_before_everything_is_settled() -> None:
    work, script = queue(400), Script()
    whole_claim = work.take
    least: list[int] = []

    async def claim(count: int, except_domains: frozenset[str]) -> Sequence[Item]:
        held = len(work.claimed) - len(work.outcomes)
        items = await whole_claim(min(count, max(0, 40 - held)), except_domains)
        least.append(held if items else -1)
        return items

    work.take = claim  # type: ignore[method-assign]
    run(work, [script], window=200, settings=[{"connections": 2}])
    assert work.fates() == {Fate.ACCEPTED: 400}
    assert any(held > 0 for held in least)


def test_end_that_comes_while_a_claim_is_under_way_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    # A worker that misses it waits for hours, which the test's own time does not allow.
    monkeypatch.setattr("mailer.smtp.pool._FEED_SECONDS", 3600)
    monkeypatch.setattr("mailer.smtp.worker._LOOK_AGAIN_SECONDS", 3600)
    monkeypatch.setattr("mailer.smtp.worker._IDLE_SECONDS", 3600)
    work = queue(20)
    whole_claim = work.take

    async def claim(count: int, except_domains: frozenset[str]) -> Sequence[Item]:
        items = await whole_claim(count, except_domains)
        if not items and len(work.outcomes) < 20:
            await all_settled.wait()
        return items

    def see(outcome: Attempt) -> None:
        if len(work.outcomes) == 20:
            all_settled.set()

    all_settled = asyncio.Event()
    work.take, work.on_settle = claim, see  # type: ignore[method-assign]
    run(work, [Script()])
    assert work.fates() == {Fate.ACCEPTED: 20}


def test_few_messages_open_few_connections() -> None:
    script = Script()
    run(queue(2), [script], settings=[{"connections": 50}])
    assert script.connections <= 2


def test_no_more_connections_open_than_other_processes_leave() -> None:
    work, script = queue(40), Script()
    whole_claim = work.take

    async def take(count: int, except_domains: frozenset[str]) -> Sequence[Item]:
        assert work.pool is not None
        work.pool.relays[0].places = 1
        return await whole_claim(count, except_domains)

    work.take = take  # type: ignore[method-assign]
    run(work, [script])
    assert (work.fates(), script.most_open, script.connections) == ({Fate.ACCEPTED: 40}, 1, 1)


def test_nothing_to_send_opens_no_connection() -> None:
    script = Script()
    run(queue(0), [script])
    assert script.connections == 0


def test_connection_is_replaced_after_its_number_of_messages() -> None:
    work, script = queue(100), Script()
    run(work, [script], settings=[{"connections": 1, "messages_per_connection": 10}])
    assert work.fates() == {Fate.ACCEPTED: 100}
    assert script.connections == 10
    assert work.pool is not None
    assert [relay.connected for relay in work.pool.relays] == [0]


def test_message_that_compose_drops_is_not_settled() -> None:
    work, script = queue(10), Script()
    work.dropped = frozenset({3, 10})
    run(work, [script])
    assert set(work.outcomes) == {1, 2, 4, 5, 6, 7, 8, 9}


def test_message_that_has_to_wait_keeps_its_turn() -> None:
    work, script = queue(5), Script()
    compose, later = work.compose, [1, 3]

    def not_yet(key: int) -> Outgoing | None:
        if key in later:
            later.remove(key)
            raise NotNowError
        return compose(key)

    work.compose = not_yet  # type: ignore[method-assign]
    run(work, [script], settings=[{"connections": 1}])
    assert script.recipients() == [f"r{key}@example.com" for key in range(1, 6)]


def test_servers_that_close_after_twenty_messages_lose_nothing() -> None:
    work = queue(300)
    script = Script(answer=lambda verb, nth: CLOSE if (verb, nth % 20) == ("MAIL", 0) else None)
    run(work, [script])
    assert work.fates() == {Fate.ACCEPTED: 300}
    assert len(script.accepted) == 300


def test_message_that_always_breaks_the_connection_is_reported_lost() -> None:
    work = queue(20)
    script = Script()
    script.answer = lambda verb, nth: (
        CLOSE if verb == "RCPT" and script.commands[-1].startswith("RCPT TO:<r7@") else None
    )
    run(work, [script], settings=[{"connections": 1}])
    assert work.outcomes.pop(7).fate is Fate.LOST
    assert work.fates() == {Fate.ACCEPTED: 19}
    # It goes ahead of the others, so its fate is known soon.
    first = script.recipients().index("r7@example.com")
    assert script.recipients()[first : first + 3] == ["r7@example.com"] * 3
    assert script.recipients().count("r7@example.com") == 3


def test_message_that_is_taken_again_has_all_its_tries_again() -> None:
    work, script = queue(3), Script()
    script.answer = lambda verb, nth: (
        CLOSE if verb == "RCPT" and script.commands[-1].startswith("RCPT TO:<r2@") else None
    )

    def on_settle(outcome: Attempt) -> None:
        if outcome.fate is Fate.LOST and script.recipients().count("r2@example.com") == 3:
            work.claimed.discard(2)
            del work.outcomes[2]

    work.on_settle = on_settle
    run(work, [script], settings=[{"connections": 1}])
    assert work.fates() == {Fate.ACCEPTED: 2, Fate.LOST: 1}
    assert script.recipients().count("r2@example.com") == 6


def test_lost_after_the_final_dot_is_not_sent_again() -> None:
    work, script = queue(40), Script(answer=lambda verb, nth: CLOSE if (verb, nth) == ("BODY", 5) else None)
    run(work, [script])
    assert work.fates() == {Fate.ACCEPTED: 39, Fate.UNCERTAIN: 1}
    assert len(script.bodies) == 40


def test_relay_that_is_down_is_replaced_by_the_others() -> None:
    work, good, bad = queue(200), Script(), Script(greeting=b"421 4.3.2 maintenance\r\n")
    run(work, [bad, good])
    assert work.fates() == {Fate.ACCEPTED: 200}
    assert len(good.accepted) == 200


def test_relay_that_takes_no_message_is_replaced_by_the_others() -> None:
    work, good = queue(200), Script()
    bad = Script(answer=lambda verb, nth: CLOSE if verb == "MAIL" else None)
    run(work, [bad, good])
    assert work.fates() == {Fate.ACCEPTED: 200}


def test_relay_that_says_goodbye_before_it_takes_a_message_cannot_be_used() -> None:
    work = queue(20)
    script = Script(answer=lambda verb, nth: b"421 4.3.2 busy\r\n" if verb == "MAIL" else None)
    with pytest.raises(RelayDownError, match="closes connections before accepting a message"):
        run(work, [script], settings=[{"connections": 1}])
    assert work.fates() == {Fate.REFUSED: 1}


def test_relay_that_hangs_does_not_stall_the_others() -> None:
    work, good, bad = queue(100), Script(), Script(greeting=SILENCE)
    run(work, [bad, good])
    assert work.fates() == {Fate.ACCEPTED: 100}


def test_first_connections_that_come_to_nothing_do_not_end_the_run() -> None:
    # Two, because all of them may have the same message, which is lost for good the third time.
    work, script = queue(100), Script(answer=lambda verb, nth: CLOSE if verb == "MAIL" and nth < 3 else None)
    run(work, [script])
    assert work.fates() == {Fate.ACCEPTED: 100}


def test_relay_that_still_hangs_at_the_end_is_not_waited_for() -> None:
    work, good, bad = queue(100), Script(), Script(greeting=SILENCE)
    run(work, [bad, good], timeouts=Timeouts())
    assert work.fates() == {Fate.ACCEPTED: 100}


def test_no_relay_keeps_the_queue_untouched() -> None:
    work = queue(100)
    with pytest.raises(RelayDownError, match=r"no relay can be used: .*: cannot be reached"):
        run(work, [Script(), Script()], settings=[{"port": 1}, {"port": 1}])
    assert work.outcomes == {}
    assert work.claimed == set()


def test_lost_relay_keeps_the_rest_queued() -> None:
    work = queue(300)
    script = Script(answer=lambda verb, nth: CLOSE if verb == "MAIL" and nth > 100 else None)
    with pytest.raises(RelayError, match="closes connections before accepting a message"):
        run(work, [script], patience_seconds=0.5)
    assert work.fates()[Fate.ACCEPTED] == 100 == len(script.accepted)
    assert work.claimed == set(work.outcomes)


def test_relay_that_comes_back_within_the_patience_goes_on() -> None:
    work = queue(100)
    script = Script()
    script.answer = lambda verb, nth: CLOSE if verb == "EHLO" and 1 < nth < 5 else None
    work.on_settle = lambda outcome: script.writers[0].close() if outcome.key == 50 else None
    run(work, [script], settings=[{"connections": 1}])
    assert work.fates()[Fate.ACCEPTED] >= 99
    assert len(work.outcomes) == 100


def wrong_login() -> Script:
    return Script(
        ehlo=b"250-x\r\n250-PIPELINING\r\n250 AUTH PLAIN\r\n",
        answer=lambda verb, nth: b"535 5.7.8 no\r\n" if verb == "AUTH" else None,
    )


@pytest.mark.parametrize("relays", [1, 2])
def test_login_refused_by_every_relay_pauses_everything(relays: int) -> None:
    work = queue(100)
    with pytest.raises(RelayError, match="login refused: 535"):
        run(work, [wrong_login() for _ in range(relays)], settings=[{"user": "me"}] * relays)
    assert work.claimed == set(work.outcomes) == set()


@pytest.mark.parametrize("weight", [0, 1])
def test_relay_that_works_takes_over_from_one_that_refuses_the_login(weight: int) -> None:
    work, good = queue(100), Script()
    run(work, [wrong_login(), good], settings=[{"user": "me"}, {"weight": weight}])
    assert work.fates() == {Fate.ACCEPTED: 100}
    assert len(good.accepted) == 100


def test_weights_divide_the_mail() -> None:
    work, one, three = queue(2000), Script(), Script()
    # On a busy machine a reply may take longer than the short timeouts allow.
    run(work, [one, three], settings=[{"weight": 1}, {"weight": 3}], window=200, timeouts=Timeouts())
    assert work.fates() == {Fate.ACCEPTED: 2000}
    assert 2.2 < len(three.accepted) / len(one.accepted) < 4


def test_fallback_is_used_while_no_other_can_be() -> None:
    work, main, fallback = queue(50), Script(), Script()
    run(work, [main, fallback], settings=[{"weight": 1}, {"weight": 0}])
    assert (len(main.accepted), len(fallback.accepted)) == (50, 0)
    work, main, fallback = queue(50), Script(greeting=CLOSE), Script()
    run(work, [main, fallback], settings=[{"weight": 1}, {"weight": 0}])
    assert len(fallback.accepted) == 50


def test_fewer_connections_than_wished_are_enough() -> None:
    work, script = queue(200), Script()

    def answer(verb: str, nth: int) -> bytes | None:
        return b"421 4.7.0 too many connections\r\n" if verb == "EHLO" and script.open > 2 else None

    script.answer = answer
    run(work, [script])
    assert work.fates() == {Fate.ACCEPTED: 200}


def test_relay_that_takes_one_connection_is_not_down() -> None:
    work, script = queue(50), Script()
    script.answer = lambda verb, nth: CLOSE if verb == "EHLO" and nth > 1 else None
    run(work, [script], settings=[{"connections": 2}])
    assert work.fates() == {Fate.ACCEPTED: 50}
    assert work.pool is not None
    assert [relay.error for relay in work.pool.relays] == [None]


def test_provider_limits_hold_for_all_connections() -> None:
    work = Queue({key: "big.example" if key % 2 else f"d{key}.example" for key in range(1, 201)})
    script = Script()
    provider = ProviderLimits(domains=("big.example",), connections=1, messages_per_connection=10)
    run(work, [script], providers={"big": provider}, settings=[{"connections": 3}])
    assert work.fates() == {Fate.ACCEPTED: 200}
    # A hundred messages at ten a connection.
    assert script.connections >= 10


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("most", [1, 3, 10])
def test_no_connection_carries_more_to_a_provider_than_it_takes(most: int, pipelining: bool) -> None:
    work, script = queue(30, "big.example"), Script()
    if not pipelining:
        script.ehlo = b"250-test.example\r\n250 8BITMIME\r\n"
    provider = ProviderLimits(domains=("big.example",), connections=1, messages_per_connection=most)
    run(work, [script], providers={"big": provider}, settings=[{"connections": 1}])
    assert work.fates() == {Fate.ACCEPTED: 30}
    carried = [0]
    for command in script.commands:
        if command.startswith("EHLO"):
            carried.append(0)
        carried[-1] += command == "DATA"
    assert carried[1:] == [most] * (30 // most)


def test_slow_provider_does_not_stall_the_others() -> None:
    work = Queue({key: "slow.example" if key <= 300 else "fast.example" for key in range(1, 501)})
    order: list[str] = []
    provider = ProviderLimits(domains=("slow.example",), rate_per_second=20)

    def on_settle(outcome: Attempt) -> None:
        order.append(work.domains[outcome.key])
        if order.count("fast.example") == 200:
            assert work.pool is not None
            work.pool.stop()

    work.on_settle = on_settle
    run(work, [Script()], providers={"slow": provider}, window=40)
    assert order.count("fast.example") == 200
    assert work.claimed == set(work.outcomes)
    assert any("slow.example" in except_domains for _, except_domains, _ in work.claims)


def test_providers_with_enough_waiting_are_left_out_until_little_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nothing is taken merely because time has passed.
    monkeypatch.setattr("mailer.smtp.pool._FEED_SECONDS", 3600)
    work = Queue({key: "stuck.example" if key % 2 else "fast.example" for key in range(1, 13)})
    script = Script(ehlo=b"250-test.example\r\n250 8BITMIME\r\n")
    script.answer = lambda verb, nth: (
        SILENCE if verb == "RCPT" and "stuck.example" in script.commands[-1] else None
    )
    taken: list[tuple[int, set[str], int]] = []
    whole_claim = work.take

    async def take(count: int, except_domains: frozenset[str]) -> Sequence[Item]:
        begun = sum(key % 2 == 0 for key in work.composed)
        items = await whole_claim(count, except_domains)
        taken.append((begun, set(except_domains), len(items)))
        return items

    def on_settle(outcome: Attempt) -> None:
        if outcome.key == 12:
            assert work.pool is not None
            work.pool.stop()

    work.take, work.on_settle = take, on_settle  # type: ignore[method-assign]
    providers = {
        name: ProviderLimits(domains=(f"{name}.example",), connections=1) for name in ("stuck", "fast")
    }
    run(work, [script], providers=providers, settings=[{"connections": 2}], window=8)
    # A quarter of a window is enough. Four of each come at first; of those, one waits at the third time.
    assert taken == [
        (0, set(), 8),
        (1, {"stuck.example", "fast.example"}, 0),
        (3, {"stuck.example"}, 2),
        (5, {"stuck.example"}, 0),
    ]


def test_held_provider_gives_back_and_deliver_returns() -> None:
    work = Queue({key: "big.example" if key % 2 else "other.example" for key in range(1, 201)})

    def on_settle(outcome: Attempt) -> None:
        if outcome.key == 1:
            assert work.pool is not None
            work.pool.slow_down("big.example", 3600)

    work.on_settle = on_settle
    run(work, [Script()], settings=[{"connections": 1}])
    sent = Counter(work.domains[key] for key in work.outcomes)
    assert sent["other.example"] == 100
    assert sent["big.example"] < 10
    assert work.pool is not None
    assert list(work.pool.held()) == ["big.example"]
    assert work.claimed == set(work.outcomes)


def test_stop_settles_messages_in_flight_and_returns_the_rest() -> None:
    work, script = queue(300), Script()

    def on_settle(outcome: Attempt) -> None:
        if len(work.outcomes) == 20:
            assert work.pool is not None
            work.pool.stop()

    work.on_settle = on_settle
    run(work, [script])
    assert work.fates() == {Fate.ACCEPTED: len(script.accepted)}
    assert 20 <= len(work.outcomes) < 60
    assert work.claimed == set(work.outcomes)


@pytest.mark.parametrize("where", ["claim", "compose", "settle"])
def test_error_of_the_caller_is_raised_after_settling(where: str) -> None:
    work, script = queue(100), Script()

    async def failing_claim(count: int, except_domains: frozenset[str]) -> Sequence[Item]:
        if len(work.claims) == 2:
            raise LookupError("the database is gone")
        return await Queue.take(work, count, except_domains)

    def failing_compose(key: int) -> Outgoing | None:
        if key == 30:
            raise LookupError("no such subscriber")
        return Queue.compose(work, key)

    def failing_settle(outcome: Attempt) -> None:
        if outcome.key == 30:
            raise LookupError("no such delivery")

    if where == "claim":
        work.take = failing_claim  # type: ignore[method-assign]
    elif where == "compose":
        work.compose = failing_compose  # type: ignore[method-assign]
    else:
        work.on_settle = failing_settle
    with pytest.raises(LookupError):
        run(work, [script], window=20)
    assert work.claimed == set(work.outcomes)
    assert len(script.accepted) <= len(work.outcomes)


def test_rate_of_a_relay_is_kept() -> None:
    work = queue(10)

    def on_settle(outcome: Attempt) -> None:
        assert work.pool is not None
        work.pool.stop()

    work.on_settle = on_settle
    run(work, [Script()], settings=[{"rate_per_second": 0.01}])
    # The second would be due in a hundred seconds.
    assert work.fates() == {Fate.ACCEPTED: 1}


def test_deliver_may_be_called_again() -> None:
    async def go() -> None:
        script = Script()
        async with serving(script) as relay:
            work = queue(10)
            pool = Pool(
                Network({"main": Access(relay)}, timeouts=SHORT),
                take=work.take,
                compose=work.compose,
                record=work.record,
                window=5,
            )
            await pool.deliver()
            work.domains.update(dict.fromkeys(range(11, 21), "example.net"))
            await pool.deliver()
            assert work.fates() == {Fate.ACCEPTED: 20}

    run_async(go())


def test_cancelling_settles_everything() -> None:
    async def go() -> Queue:
        script = Script(answer=lambda verb, nth: SILENCE if (verb, nth) == ("BODY", 10) else None)
        work = queue(100)
        async with serving(script) as relay:
            pool = Pool(
                Network(
                    {"main": Access(msgspec.structs.replace(relay, connections=1))},
                    timeouts=replace(SHORT, final_dot=600),
                ),
                take=work.take,
                compose=work.compose,
                record=work.record,
                window=50,
            )
            task = asyncio.create_task(pool.deliver())
            while len(script.bodies) < 10:
                script.body_came.clear()
                await script.body_came.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return work

    work = run_async(go())
    assert work.fates() == {Fate.ACCEPTED: 9, Fate.UNCERTAIN: 1}
    assert work.claimed == set(work.outcomes)


def idle_pool(window: int, *, now: float = 0.0) -> Pool:
    """Return a pool that has not begun: one slow provider, one that gets stuck, and one without a rate."""
    work = queue(0)
    providers = {
        "slow": ProviderLimits(domains=("slow.example",), rate_per_second=1),
        "stuck": ProviderLimits(domains=("stuck.example",), rate_per_second=1),
        "quick": ProviderLimits(domains=("quick.example",)),
    }
    return Pool(
        Network({}, providers), take=work.take, compose=work.compose, record=work.record, window=window,
        now=lambda: now,
    )  # fmt: skip


def test_places_of_slow_providers_are_left_to_others() -> None:
    pool = idle_pool(8)
    for key, name in enumerate(("slow", "stuck", "stuck", "quick"), 1):
        pool.lanes.add(Item(key, f"{name}.example"))
    crowded = pool._crowded()
    assert [lane.limit for lane in crowded] == ["provider stuck"]
    assert pool._slow_ones(crowded) == 1


@pytest.mark.parametrize(("seconds", "crowded"), [(0.0, []), (1.0, ["provider slow"])])
def test_provider_is_crowded_while_it_is_held(seconds: float, crowded: list[str]) -> None:
    pool = idle_pool(8, now=5.0)
    pool.hold("slow.example", seconds)
    assert [lane.limit for lane in pool._crowded()] == crowded
    assert pool.held() == ({"slow.example": 1.0} if crowded else {})


def test_one_message_is_enough_for_a_provider_of_a_small_window() -> None:
    pool = idle_pool(3)
    pool.lanes.add(Item(1, "slow.example"))
    assert [lane.limit for lane in pool._crowded()] == ["provider slow"]


def test_more_is_wanted_once_nothing_is_left() -> None:
    pool = idle_pool(8)
    pool.put_first([Item(key, "slow.example") for key in (1, 2, 3)])
    wanted = []
    for count in (0, 1, 1, 1):
        pool.finished(count)
        wanted.append(pool._more_wanted.is_set())
    assert wanted == [False, False, False, True]
