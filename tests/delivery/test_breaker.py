"""The breaker: one refusal for nearly everybody is about us; any other is the recipient's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.delivery.breaker import FEW, NEARLY_ALL, WINDOW, Breaker, Trip
from mailer.replies import Refusal, Verdict, fingerprint, judge

GONE = "550 5.1.1 no such user"


def verdict(reply: str) -> Verdict:
    code, status, text = reply.split(" ", 2)
    return judge(int(code), status, text)


def refuse(
    breaker: Breaker,
    number: int,
    reply: str = GONE,
    *,
    relay: str = "main",
    provider: str = "",
    retried: bool = False,
) -> Trip | None:
    provider = provider or f"d{number}.example"
    refusal = Refusal(1, number, verdict(reply))
    return breaker.refused(refusal, f"s{number}@{provider}", relay=relay, provider=provider, retried=retried)


def decided(breaker: Breaker) -> tuple[set[int], set[int]]:
    """Return whose refusals were cleared, and whose were found to be our fault."""
    return {one.subscriber_id for one in breaker.take_cleared()}, set(breaker.take_ours())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("550 5.1.1 <ana@a.example>: unknown", "550 5.1.1 <bob@b.example>: unknown"),
        ("550 5.1.1 user ana unknown at a.example", "550 5.1.1 user bob unknown at b.example"),
        ("550 5.7.1 refused [192.0.2.1] id 4fX9a2", "550 5.7.1 refused [192.0.2.77] id 77Bq01"),
        ("550 5.7.1 verifying <b+1.ab@us.example> failed", "550 5.7.1 verifying <b+2.cd@us.example> failed"),
        ("550 5.7.1 Blocked, IB506.", "550 5.7.1 blocked IB507"),
    ],
)
def test_fingerprint_leaves_out_addresses_names_and_numbers(one: str, other: str) -> None:
    assert fingerprint(verdict(one), "ana@a.example") == fingerprint(verdict(other), "bob@b.example")


@pytest.mark.parametrize(
    "other", ["550 5.1.1 no such mailbox", "550 5.1.0 no such user", "551 5.1.1 no such user"]
)
def test_fingerprint_keeps_code_status_and_words(other: str) -> None:
    assert fingerprint(verdict(GONE), "ana@a.example") != fingerprint(verdict(other), "ana@a.example")


@pytest.mark.parametrize("late", [3, 6, 9])
def test_messages_accepted_late_do_not_clear_the_first_refusals_of_a_series(late: int) -> None:
    # Four connections: what one accepted earlier is noted after what another was refused.
    breaker = Breaker()
    for number in range(1, 30):
        breaker.accepted("main", f"d{number}.example")
    refuse(breaker, 100)
    for number in range(30, 30 + late):
        breaker.accepted("main", f"d{number}.example")
    numbers = iter(range(101, 200))
    trip = None
    while trip is None:
        trip = refuse(breaker, next(numbers))
    cleared, ours = decided(breaker)
    assert cleared == set()
    assert ours == set(range(100, next(numbers)))


def test_relay_that_refuses_nearly_all_trips_at_the_threshold_and_clears_nobody() -> None:
    breaker = Breaker()
    for _ in range(WINDOW - NEARLY_ALL):
        breaker.accepted("main", "a.example")
    trips = [refuse(breaker, number) for number in range(1, NEARLY_ALL + 1)]
    assert trips[:-1] == [None] * (NEARLY_ALL - 1)
    assert trips[-1] is not None
    assert (trips[-1].relay, GONE in trips[-1].reason) == ("main", True)
    assert decided(breaker) == (set(), set(range(1, NEARLY_ALL + 1)))


def test_provider_that_refuses_nearly_all_trips_while_others_accept() -> None:
    breaker = Breaker()
    trip = None
    for number in range(1, 60):
        breaker.accepted("main", "fine.example")
        if trip := refuse(breaker, number, provider="big.example"):
            break
    assert trip is not None
    assert (trip.relay, "provider big.example" in trip.reason) == ("", True)
    assert decided(breaker) == (set(), set(range(1, NEARLY_ALL + 1)))


def test_refusals_after_the_trip_are_ours_too() -> None:
    breaker = Breaker()
    for number in range(1, NEARLY_ALL + 6):
        refuse(breaker, number)
    breaker.finish()
    assert decided(breaker) == (set(), set(range(1, NEARLY_ALL + 6)))


def test_refusal_is_cleared_when_its_relay_and_its_provider_have_answered_often_enough() -> None:
    breaker = Breaker()
    refuse(breaker, 1, provider="a.example")
    for _ in range(WINDOW):
        breaker.accepted("main", "b.example")
    assert (decided(breaker), breaker.pending) == ((set(), set()), 1)
    for _ in range(WINDOW - 1):
        breaker.accepted("other", "a.example")
    assert decided(breaker) == (set(), set())
    breaker.accepted("other", "a.example")
    assert (decided(breaker), breaker.pending) == (({1}, set()), 0)


def test_list_with_many_dead_addresses_trips_nothing() -> None:
    breaker = Breaker()
    dead = set()
    for number in range(1, 1_001):
        if number % 5 in (1, 2, 3):  # 60 % of them
            assert refuse(breaker, number) is None
            dead.add(number)
        else:
            breaker.accepted("main", "a.example")
    assert breaker.finish() is None
    assert decided(breaker) == (dead, set())


@pytest.mark.parametrize(
    ("refused", "accepted", "delivered_before", "trips"),
    [
        (FEW, 0, False, True),
        (FEW - 1, 0, False, False),
        (FEW, 1, False, False),
        # Left over from a run that went well: those may be dead.
        (FEW, 0, True, False),
    ],
)
def test_short_run_trips_when_a_relay_accepted_nothing_at_all(
    refused: int, accepted: int, delivered_before: bool, trips: bool
) -> None:
    breaker = Breaker(delivered_before=delivered_before)
    for _ in range(accepted):
        breaker.accepted("main", "a.example")
    for number in range(1, refused + 1):
        assert refuse(breaker, number) is None
    assert (breaker.finish() is not None) == trips
    everyone = set(range(1, refused + 1))
    assert decided(breaker) == ((set(), everyone) if trips else (everyone, set()))


def test_short_run_trips_for_the_one_relay_that_accepts_nothing() -> None:
    breaker = Breaker(delivered_before=True)
    for number in range(1, FEW + 1):
        breaker.accepted("good", "a.example")
        refuse(breaker, number, relay="bad", provider="a.example")
    trip = breaker.finish()
    assert trip is not None
    assert trip.relay == "bad"


def test_different_refusals_in_a_short_run_are_the_recipients_own() -> None:
    breaker = Breaker()
    for number in range(1, FEW + 1):
        refuse(breaker, number, f"550 5.1.1 no such user {'abcdefgh'[number]}")
    assert breaker.finish() is None
    assert decided(breaker) == (set(range(1, FEW + 1)), set())


def test_run_that_is_cut_short_blames_nobody() -> None:
    breaker = Breaker()
    refuse(breaker, 1)
    refuse(breaker, 2, retried=True)
    breaker.accepted("main", "a.example")
    breaker.give_up()
    assert (decided(breaker), breaker.pending) == ((set(), {1}), 0)


def test_refusal_that_is_retried_counts_and_is_never_cleared() -> None:
    breaker = Breaker()
    refuse(breaker, 1, retried=True)
    breaker.accepted("main", "a.example")
    assert (breaker.finish(), decided(breaker)) == (None, (set(), set()))
    trips = [refuse(breaker, number, retried=True) for number in range(2, 2 + WINDOW)]
    assert any(trips)
    assert decided(breaker) == (set(), set(range(2, 2 + WINDOW)))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailer.delivery.breaker.MOST_PENDING", 500)
    breaker = Breaker()
    for number in range(1_500):
        breaker.accepted("main", "a.example")
        refuse(breaker, number)
    assert breaker.pending == 500
    assert decided(breaker)[0] == set(range(1_000))
    assert len(breaker._sources["relay", "main"].pending) <= 500 + WINDOW


ANSWERS = st.lists(
    st.tuples(
        st.sampled_from(["one", "two"]),
        st.sampled_from(["a.example", "b.example", "c.example"]),
        st.sampled_from(["", "", GONE, "550 5.7.1 go away"]),
    ),
    max_size=120,
)


@given(ANSWERS, st.booleans())
def test_every_refusal_is_decided_exactly_once(answers: list[tuple[str, str, str]], cut_short: bool) -> None:
    breaker = Breaker()
    cleared: list[int] = []
    ours: list[int] = []
    refused = []
    for number, (relay, provider, reply) in enumerate(answers):
        if not reply:
            breaker.accepted(relay, provider)
        else:
            refused.append(number)
            refuse(breaker, number, reply, relay=relay, provider=provider)
        cleared += [one.subscriber_id for one in breaker.take_cleared()]
        ours += breaker.take_ours()
        assert len(cleared) + len(ours) + breaker.pending == len(refused)
    if cut_short:
        breaker.give_up()
    else:
        while breaker.finish() is not None:
            pass
    cleared += [one.subscriber_id for one in breaker.take_cleared()]
    ours += breaker.take_ours()
    assert sorted(cleared + ours) == refused


@given(st.lists(st.integers(1, 3), max_size=40), st.integers(NEARLY_ALL, 60))
def test_messages_under_way_when_a_fault_begins_may_still_be_accepted(mixed: list[int], after: int) -> None:
    breaker = Breaker()
    for _ in range(WINDOW):
        breaker.accepted("main", "a.example")
    number, trips = 0, []
    # While up to forty messages under way are accepted, at least as many are refused.
    for refused in [*mixed, after]:
        for _ in range(refused):
            number += 1
            trips.append(refuse(breaker, number, provider="a.example"))
        if refused != after:
            breaker.accepted("main", "a.example")
    assert any(trips)
    breaker.finish()
    assert decided(breaker) == (set(), set(range(1, number + 1)))


@given(st.integers(0, 60), st.integers(NEARLY_ALL, 200))
def test_fault_that_begins_in_the_middle_costs_nobody(before: int, after: int) -> None:
    breaker = Breaker()
    for _ in range(before):
        breaker.accepted("main", "a.example")
    trips = [refuse(breaker, number, provider="a.example") for number in range(after)]
    assert any(trips)
    breaker.finish()
    assert decided(breaker) == (set(), set(range(after)))
