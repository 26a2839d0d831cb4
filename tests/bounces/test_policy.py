"""Soft bounces: one point a day, stale after a quiet month, and when they are enough."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.bounces.policy import SoftBounce, SoftLimits, add_up, class_weight, weight
from mailer.config import Bounces
from mailer.replies import POLICY, BounceClass, judge

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
LIMITS = SoftLimits()
SOFT = [name for name in BounceClass if class_weight(name)]


def bounced(*days: float, name: BounceClass = BounceClass.MAILBOX_FULL) -> list[SoftBounce]:
    return [SoftBounce(START + timedelta(days=day), name) for day in days]


histories = st.lists(st.tuples(st.floats(0, 200), st.sampled_from(SOFT)), min_size=1, max_size=30).map(
    lambda pairs: [SoftBounce(START + timedelta(days=day), name) for day, name in sorted(pairs)]
)


@given(histories)
def test_points_never_exceed_the_days_of_the_run(bounces: list[SoftBounce]) -> None:
    count = add_up(bounces, LIMITS)
    assert 0 < count.points <= len({bounce.at.date() for bounce in bounces if bounce.at >= count.since})


@given(histories)
def test_nobody_is_given_up_for_one_day(bounces: list[SoftBounce]) -> None:
    count = add_up(bounces, LIMITS)
    if count.enough:
        assert count.since.date() < bounces[-1].at.date()


@given(histories)
def test_a_quiet_month_begins_anew(bounces: list[SoftBounce]) -> None:
    later = SoftBounce(bounces[-1].at + timedelta(days=30, seconds=1), BounceClass.FILTERED)
    assert add_up([*bounces, later], LIMITS).points == class_weight(BounceClass.FILTERED)


@pytest.mark.parametrize(
    ("days", "enough"),
    [
        ((0, 3, 6, 9, 12), False),
        ((0, 3, 7, 10, 14), True),
        ((0, 7, 14, 21), False),
        ((0, 0.1, 0.2, 0.3, 14), False),
        ((0, 31, 38, 45, 52), False),
    ],
)
def test_full_mailbox_needs_five_over_two_weeks(days: tuple[float, ...], enough: bool) -> None:
    assert bool(add_up(bounced(*days), LIMITS).enough) is enough


@pytest.mark.parametrize(
    ("days", "enough"), [((0,), False), ((0, 0.1), False), ((0, 14), True), ((0, 15), False)]
)
def test_disabled_mailbox_is_enough_the_second_time_in_two_weeks(
    days: tuple[float, ...], enough: bool
) -> None:
    assert bool(add_up(bounced(*days, name=BounceClass.MAILBOX_DISABLED), LIMITS).enough) is enough


@pytest.mark.parametrize(
    "name",
    [
        BounceClass.REPUTATION_BLOCK, BounceClass.AUTH_FAILURE, BounceClass.RATE_LIMITED,
        BounceClass.CONTENT, BounceClass.PROTOCOL, BounceClass.TRANSIENT_SYSTEM,
    ],
)  # fmt: skip
def test_bounces_that_are_not_the_subscribers_fault_do_not_count(name: BounceClass) -> None:
    assert class_weight(name) == 0.0


def test_hard_class_with_a_temporary_reply_is_one_soft_point() -> None:
    verdict = judge(450, "4.1.2", "Domain not found")
    assert not verdict.hard
    assert verdict.bounce_class is not None
    assert POLICY[verdict.bounce_class].hard
    assert weight(verdict) == 1.0


def enough_of(times: list[timedelta], limits: SoftLimits) -> bool:
    return bool(add_up([SoftBounce(START + time, BounceClass.FILTERED) for time in times], limits).enough)


def test_exactly_the_threshold_is_enough_and_less_is_not() -> None:
    limits, days = SoftLimits(points=5.0, days=14, quiet_days=30), [0, 3, 6, 9, 14]
    assert enough_of([timedelta(days=day) for day in days], limits)
    assert not enough_of([timedelta(days=day) for day in days[1:]], limits)
    assert not enough_of([timedelta(days=day) for day in days], dataclasses.replace(limits, points=5.25))


def test_exactly_the_days_are_enough_and_a_second_less_is_not() -> None:
    limits, days = SoftLimits(points=5.0, days=14, quiet_days=30), [0, 3, 6, 9]
    start = [timedelta(days=day) for day in days]
    assert enough_of([*start, timedelta(days=14)], limits)
    assert not enough_of([*start, timedelta(days=14, seconds=-1)], limits)


def test_exactly_the_quiet_days_go_on_and_a_second_more_begins_anew() -> None:
    limits = SoftLimits(points=2.0, days=14, quiet_days=30)
    assert enough_of([timedelta(), timedelta(days=30)], limits)
    assert not enough_of([timedelta(), timedelta(days=30, seconds=1)], limits)


def test_limits_without_a_configuration_are_those_of_an_empty_one() -> None:
    section = Bounces()
    assert SoftLimits() == SoftLimits(section.soft_points, section.soft_days, section.quiet_days)


@pytest.mark.parametrize(
    ("name", "enough", "not_enough"),
    [
        (BounceClass.MAILBOX_FULL, [0, 3, 6, 9, 14], [[0, 5, 10, 14], [0, 3, 6, 9, 13]]),
        (BounceClass.MAILBOX_DISABLED, [0, 14], [[0], [0, 15]]),
    ],
)
def test_some_classes_have_a_threshold_of_their_own(
    name: BounceClass, enough: list[float], not_enough: list[list[float]]
) -> None:
    limits = SoftLimits(points=100.0)
    assert add_up(bounced(*enough, name=name), limits).enough
    assert [days for days in not_enough if add_up(bounced(*days, name=name), limits).enough] == []
