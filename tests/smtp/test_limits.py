from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.smtp.limits import BURST_SECONDS, QUIET_SECONDS, SAME_CAUSE_SECONDS, SLOWEST_PER_SECOND, Pace


def send(pace: Pace, start: float, seconds: float) -> int:
    """Return how many messages a pace lets start in this time, when there is always one waiting."""
    now, sent = start, 0
    while now < start + seconds:
        if (delay := pace.delay(now)) > 0:
            now += delay
        else:
            pace.take(now)
            now += 0.001
            sent += 1
    return sent


def test_no_limit_never_waits() -> None:
    pace = Pace()
    for _ in range(1000):
        assert pace.delay(5.0) == 0
        pace.take(5.0)


@given(rate=st.floats(0.5, 500), start=st.floats(0, 1e6))
def test_rate_is_kept(rate: float, start: float) -> None:
    sent = send(Pace(rate), start, 10)
    assert rate * 10 * 0.9 - 1 <= sent <= rate * (10 + BURST_SECONDS) + 2


def test_pause_gives_no_burst_later() -> None:
    pace = Pace(100)
    assert send(pace, 0, 1) <= 112
    assert send(pace, 1000, 1) <= 112


def test_complaint_halves_the_rate() -> None:
    pace = Pace(40)
    send(pace, 0, 30)
    pace.slow_down(30)
    assert pace.per_second == pytest.approx(20, rel=0.1)
    assert pace.share == pytest.approx(0.5, rel=0.1)


def test_complaint_without_a_limit_halves_what_was_used() -> None:
    pace = Pace()
    for tenth in range(300):
        pace.take(tenth / 10)
    pace.slow_down(30)
    assert pace.per_second == pytest.approx(5, rel=0.1)
    assert pace.delay(30) == 0
    pace.take(30)
    assert send(pace, 30, 10) <= 52


def test_complaints_about_the_same_moment_count_once() -> None:
    pace = Pace(40)
    send(pace, 0, 30)
    for _ in range(50):
        pace.slow_down(30)
    assert pace.per_second == pytest.approx(20, rel=0.1)
    pace.slow_down(30 + SAME_CAUSE_SECONDS)
    assert pace.per_second < 11


def test_rate_never_falls_to_nothing() -> None:
    pace = Pace(1)
    for place in range(50):
        pace.slow_down(place * (SAME_CAUSE_SECONDS + 1))
    assert pace.per_second == SLOWEST_PER_SECOND


def test_quiet_minutes_give_the_rate_back_step_by_step() -> None:
    pace = Pace(40)
    send(pace, 0, 30)
    pace.slow_down(30)
    halved = pace.per_second
    assert pace.delay(30 + QUIET_SECONDS - 1) == 0
    assert pace.per_second == halved
    pace.delay(30 + QUIET_SECONDS)
    assert pace.per_second == pytest.approx(halved + 4)
    pace.delay(30 + 3 * QUIET_SECONDS)
    assert pace.per_second == pytest.approx(halved + 12)
    pace.delay(30 + 10 * QUIET_SECONDS)
    assert pace.per_second == 40
    assert pace.share == 1.0


def test_limit_that_was_only_learnt_is_lifted_in_the_end() -> None:
    pace = Pace()
    send(pace, 0, 30)
    pace.slow_down(30)
    assert pace.per_second > 0
    pace.delay(30 + 10 * QUIET_SECONDS)
    assert pace.per_second == 0


def test_time_that_a_reply_asks_for_is_waited() -> None:
    pace = Pace()
    pace.slow_down(100, 7200)
    assert pace.delay(100) == 7200
    assert pace.delay(7200) == 100
    assert pace.delay(7300) == 0


def test_later_complaint_never_shortens_the_wait() -> None:
    pace = Pace()
    pace.slow_down(0, 7200)
    pace.slow_down(1, 60)
    pace.hold(2, 5)
    assert pace.not_before == 7200


def test_hold_keeps_the_rate() -> None:
    pace = Pace(40)
    pace.hold(0, 10)
    assert pace.delay(4) == 6
    assert pace.per_second == 40
    assert not math.isinf(pace.not_before)


@pytest.mark.parametrize(("pause", "used"), [(2.0, 5.0), (2.01, 1.0), (2.9, 1.0)])
def test_rate_is_not_that_of_the_time_before_a_long_pause(pause: float, used: float) -> None:
    pace = Pace()
    for _ in range(int(10 * SAME_CAUSE_SECONDS)):
        pace.take(0.0)
    pace.take(pause * SAME_CAUSE_SECONDS)
    assert pace.used_per_second(pause * SAME_CAUSE_SECONDS) == pytest.approx(used, rel=0.01)


def test_count_of_ten_seconds_is_what_was_used_in_the_next() -> None:
    pace = Pace()
    for _ in range(10):
        pace.take(0.0)
    pace.take(SAME_CAUSE_SECONDS)
    # Eleven in ten seconds, then one in almost twenty.
    assert pace.used_per_second(2 * SAME_CAUSE_SECONDS - 0.1) == pytest.approx(1.1)


@pytest.mark.parametrize(("quiet_minutes", "rate"), [(1, 6.0), (4, 9.0), (5, 0.0)])
def test_learnt_limit_rises_by_a_tenth_of_what_was_used_and_is_lifted_there(
    quiet_minutes: int, rate: float
) -> None:
    pace = Pace()
    for _ in range(10):
        pace.take(1.0)
    assert pace.used_per_second(2.0) == 10
    pace.slow_down(2.0)
    pace.delay(2.0 + quiet_minutes * QUIET_SECONDS)
    assert pace.per_second == pytest.approx(rate)


@pytest.mark.parametrize(("quiet_minutes", "share"), [(1, 0.35), (4, 0.65), (7, 0.95), (8, 1.0)])
def test_slowed_rate_rises_by_a_tenth_of_the_limit(quiet_minutes: int, share: float) -> None:
    pace = Pace(20)
    for _ in range(10):
        pace.take(1.0)
    # Half of what was used is a quarter of the limit.
    pace.slow_down(2.0)
    assert pace.per_second == 5
    pace.delay(2.0 + quiet_minutes * QUIET_SECONDS)
    assert pace.per_second == pytest.approx(20 * share)
    assert pace.share == pytest.approx(share)
