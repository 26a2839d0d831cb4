"""Limits that several runs share: together they never exceed one, and they use it fully."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.delivery.sharing import LEASE_SECONDS, Limit, Part, divided, grant
from mailer.smtp.limits import BURST_SECONDS, QUIET_SECONDS, SAME_CAUSE_SECONDS, SLOWEST_PER_SECOND
from mailer.smtp.sharing import Grant, SharedPace, Wish

CONNECTIONS = 10


@given(
    places=st.integers(0, 500), wanted=st.dictionaries(st.text(max_size=3), st.integers(0, 50), min_size=1)
)
def test_places_are_divided_evenly_and_none_is_left_that_somebody_wants(
    places: int, wanted: dict[str, int]
) -> None:
    shares = divided(places, wanted)
    assert shares.keys() == wanted.keys()
    assert all(shares[name] <= wanted[name] for name in wanted)
    assert sum(shares.values()) == min(places, sum(wanted.values()))
    short = [shares[name] for name in wanted if shares[name] < wanted[name]]
    if short:
        assert max(shares.values()) <= min(short) + 1


@dataclass
class Table:
    """The shared rows of one limit, on a clock that the test moves."""

    now: float = 1_000.0
    limit: Limit = field(default_factory=Limit)
    parts: dict[str, tuple[Part, float]] = field(default_factory=dict)

    def ask(self, holder: str, wish: Wish) -> Grant:
        living = {name: part for name, (part, until) in self.parts.items() if until > self.now}
        self.limit, part, given = grant(self.limit, living, holder, wish, self.now)
        self.parts.pop(holder, None)
        if part is not None:
            self.parts[holder] = part, self.now + LEASE_SECONDS
        return given


@dataclass
class Run:
    """A run that always has messages to send, and keeps open as many connections as it may."""

    table: Table
    name: str
    rate: float
    starts_at: float = 0.0
    dies_at: float = 1e9
    pace: SharedPace = field(init=False)
    connected: int = 0
    asks_at: float = 0.0
    used: float = 10.0

    def __post_init__(self) -> None:
        self.pace = SharedPace(self.rate)
        self.asks_at = self.starts_at

    def wish(self) -> Wish:
        return Wish(
            name="relay main", most_connections=CONNECTIONS, per_second=self.rate, connections=CONNECTIONS,
            connected=self.connected, reserved_until=self.pace.reserved_until, slowed=self.pace.slowed,
            used_per_second=self.used, not_before=self.pace.not_before,
        )  # fmt: skip

    def ask(self) -> None:
        wish = self.wish()
        given = self.table.ask(self.name, wish)
        self.pace.accept(given, heard=wish.slowed)
        # Those over its part close soon, but not before the next message is answered.
        self.connected = given.connections
        self.asks_at = self.table.now + 0.5


def sent(table: Table, runs: list[Run], seconds: float, tick: Callable[[], float]) -> list[float]:
    """Let the runs send for some seconds; return when messages started."""
    began, times = table.now, []
    while table.now < began + seconds:
        table.now += tick()
        living = [run for run in runs if run.starts_at <= table.now - began < run.dies_at]
        for run in living:
            if table.now - began >= run.asks_at:
                run.ask()
                run.asks_at -= began
            while run.pace.per_second and run.pace.delay(table.now) <= 0:
                run.pace.take(table.now)
                times.append(table.now)
        assert sum(run.connected for run in living) <= CONNECTIONS
    return times


def most(times: list[float], seconds: float = 5.0) -> int:
    """Return the most messages that started in any period of that length."""
    first = found = 0
    for place, at in enumerate(times):
        while at - times[first] > seconds:
            first += 1
        found = max(found, place - first + 1)
    return found


@settings(max_examples=25)
@given(
    rate=st.floats(0.3, 300),
    starts=st.lists(st.floats(0, 8), min_size=1, max_size=5),
    deaths=st.lists(st.floats(5, 25), max_size=3),
    seed=st.integers(0, 1_000),
)
def test_rate_is_kept_in_any_five_seconds_and_used(
    rate: float, starts: list[float], deaths: list[float], seed: int
) -> None:
    chance, table = random.Random(seed), Table()
    runs = [Run(table, f"run {number}", rate, starts_at=start) for number, start in enumerate(starts)]
    for run, death in zip(runs[1:], deaths, strict=False):
        run.dies_at = run.starts_at + death
    times = sent(table, runs, 40, lambda: chance.uniform(0.001, 0.02))
    # A message may start up to a tenth of a second after its instant.
    assert most(times) <= rate * (5 + BURST_SECONDS + 0.02) + 2 * len(runs)
    settled = [at for at in times if at >= 1_030]
    assert len(settled) >= 8 * rate - 3


def test_runs_that_share_a_rate_send_about_the_same_and_take_over_from_a_dead_one() -> None:
    table = Table()
    runs = [Run(table, f"run {number}", 100.0) for number in range(4)]
    runs[0].dies_at = 10.0
    times = sent(table, runs, 30, lambda: 0.005)
    begun = len([at for at in times if 1_005 <= at < 1_010]) / 5
    after = len([at for at in times if 1_014 <= at < 1_019]) / 5
    assert begun == pytest.approx(100, rel=0.03)
    assert after == pytest.approx(100, rel=0.03)
    assert sorted(run.connected for run in runs[1:]) == [3, 3, 4]


def test_what_a_run_still_has_open_is_not_given_to_another() -> None:
    table = Table()
    first, second = Run(table, "first", 0.0), Run(table, "second", 0.0)
    first.ask()
    assert first.connected == CONNECTIONS
    second.ask()
    assert second.connected == 0
    # The first hears that it may keep five, and has closed two of ten so far.
    first.ask()
    assert first.connected == 5
    table.ask("first", replace(first.wish(), connected=8))
    second.ask()
    assert second.connected == 2
    first.ask()
    second.ask()
    assert (first.connected, second.connected) == (5, 5)


def test_lease_of_a_run_that_is_silent_ends() -> None:
    table = Table()
    first, second = Run(table, "first", 0.0), Run(table, "second", 0.0)
    first.ask()
    table.now += LEASE_SECONDS - 0.01
    second.ask()
    assert second.connected == 0
    table.now += 0.02
    second.ask()
    assert second.connected == CONNECTIONS


def test_slow_down_of_one_run_halves_the_rate_of_all() -> None:
    table = Table()
    first, second = Run(table, "first", 40.0, used=20), Run(table, "second", 40.0, used=20)
    first.ask()
    second.ask()
    first.pace.slow_down(table.now)
    assert first.pace.delay(table.now) > 0
    first.ask()
    second.ask()
    assert (first.pace.per_second, second.pace.per_second) == (20, 20)
    # The other hears of the same moment a little later.
    table.now += SAME_CAUSE_SECONDS / 2
    second.pace.slow_down(table.now)
    second.ask()
    assert second.pace.per_second == 20
    table.now += 2 * QUIET_SECONDS
    first.ask()
    assert first.pace.per_second == pytest.approx(28)
    table.now += 10 * QUIET_SECONDS
    first.ask()
    assert (first.pace.per_second, first.pace.share) == (40, 1.0)


def test_slow_down_without_a_limit_halves_what_all_runs_used_and_is_lifted_in_the_end() -> None:
    table = Table()
    first, second = Run(table, "first", 0.0, used=30), Run(table, "second", 0.0, used=30)
    first.ask()
    second.ask()
    first.pace.slow_down(table.now)
    first.ask()
    second.ask()
    assert second.pace.per_second == pytest.approx(30)
    table.now += 10 * QUIET_SECONDS
    second.ask()
    assert second.pace.per_second == 0


def test_rate_never_falls_to_nothing() -> None:
    table = Table()
    run = Run(table, "run", 1.0, used=1)
    for _ in range(30):
        table.now += SAME_CAUSE_SECONDS + 1
        run.pace.slow_down(table.now)
        run.ask()
    assert run.pace.per_second == SLOWEST_PER_SECOND


def test_pause_that_one_run_is_asked_for_holds_for_all() -> None:
    table = Table()
    first, second = Run(table, "first", 40.0), Run(table, "second", 40.0)
    first.pace.hold(table.now, 600)
    first.ask()
    second.ask()
    assert second.pace.delay(table.now) == pytest.approx(600)


def test_clock_that_is_set_back_does_not_stop_a_run() -> None:
    table = Table()
    run = Run(table, "run", 10.0)
    run.ask()
    table.now -= 500
    run.pace = SharedPace(10.0)
    run.ask()
    assert 0 < run.pace.delay(table.now) < 3
