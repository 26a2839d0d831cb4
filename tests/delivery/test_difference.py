"""How sure an A/B test is of a difference."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.delivery.difference import Count, interval, judge

COUNTS = st.integers(0, 5_000).flatmap(
    lambda readers: st.builds(Count, st.just(readers), st.integers(0, readers))
)


@pytest.mark.parametrize(
    ("of", "than", "low", "high"),
    [
        # The examples of Newcombe's paper, table II, method 10.
        (Count(70, 56), Count(80, 48), 0.0524, 0.3339),
        (Count(10, 9), Count(10, 3), 0.1705, 0.8090),
        (Count(7, 6), Count(7, 2), 0.0582, 0.8062),
        (Count(56, 5), Count(29, 0), -0.0381, 0.1926),
        (Count(10, 0), Count(20, 0), -0.1611, 0.2775),
        (Count(10, 10), Count(10, 0), 0.6075, 1.0),
    ],
)
def test_interval_is_newcombes(of: Count, than: Count, low: float, high: float) -> None:
    found = interval(of, than)
    assert (round(found.low, 4), round(found.high, 4)) == pytest.approx((low, high), abs=1e-4)


@given(COUNTS, COUNTS)
def test_interval_contains_the_difference_and_mirrors(one: Count, other: Count) -> None:
    found, mirrored = interval(one, other), interval(other, one)
    assert -1 <= found.low <= found.high <= 1
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
    if one.readers and other.readers:
        assert found.low - 1e-9 <= one.share - other.share <= found.high + 1e-9


def wins(shares: list[float], readers: int, *, tests: int = 400) -> list[int]:
    """Return how often each arm wins when readers click with these chances."""
    chance = random.Random(7)
    won = [0] * len(shares)
    for _ in range(tests):
        counts = [
            Count(readers, sum(map(share.__gt__, (chance.random() for _ in range(readers)))))
            for share in shares
        ]
        won[judge(counts, "clicked").arm] += 1
    return won


@pytest.mark.parametrize("arms", [2, 4])
def test_equal_arms_send_a_in_95_of_100_tests(arms: int) -> None:
    assert wins([0.05] * arms, 600)[0] >= 0.95 * 400


def test_better_arm_wins_in_9_of_10_tests() -> None:
    assert wins([0.04, 0.08], 1_000)[1] >= 0.9 * 400
    assert wins([0.04, 0.04, 0.09], 1_000)[2] >= 0.9 * 400
    assert wins([0.08, 0.04], 1_000)[0] == 400


@pytest.mark.parametrize(
    ("counts", "arm", "said"),
    [
        (
            [Count(1000, 40), Count(1000, 80)],
            1,
            "A: 40 of 1,000 clicked (4.0%); B: 80 of 1,000 clicked (8.0%);"
            " B has 1.9 to 6.1 points more than A; B wins",
        ),
        (
            [Count(100, 5), Count(100, 5)],
            0,
            "A: 5 of 100 clicked (5.0%); B: 5 of 100 clicked (5.0%);"
            " B has between 6.8 points fewer and 6.8 points more than A;"
            " no clear difference from A, so A is sent",
        ),
        ([Count(1000, 80), Count(1000, 40)], 0, "fewer than A; A wins"),
        ([Count(0, 0), Count(0, 0)], 0, "A: nobody agreed to tracking"),
    ],
)
def test_judgement_is_told_in_plain_words(counts: list[Count], arm: int, said: str) -> None:
    judged = judge(counts, "clicked")
    assert judged.arm == arm
    assert said in judged.said
