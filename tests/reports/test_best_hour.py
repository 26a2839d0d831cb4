"""The best hour: said only when the data tells."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.reports.best_hour import best_hour
from mailer.reports.statistics import IssueFigures

BUCHAREST = ZoneInfo("Europe/Bucharest")


def issues(sent_at: Sequence[tuple[int, int]]) -> list[IssueFigures]:
    """Return issues to 1,000 people: each started at an hour (UTC) and got that many responses."""
    first = datetime(2026, 1, 5, tzinfo=UTC)
    return [
        IssueFigures(
            issue_id=number,
            slug=f"{number}",
            title="",
            started_at=first + timedelta(days=number, hours=hour),
            audience=1000,
            sent=1000,
            failed=0,
            open=0,
            complaints=0,
            unsubscribed=0,
            opens=early,
            machine_opens=0,
            clicks=0,
            machine_clicks=0,
            tracked=0,
            openers=0,
            clickers=0,
            early=early,
        )
        for number, (hour, early) in enumerate(sent_at, 1)
    ]


def test_clear_difference_is_named_in_the_zone_of_the_newsletter() -> None:
    found = best_hour(issues([(6, 300 + n) for n in range(8)] + [(16, 100 + n) for n in range(8)]), BUCHAREST)
    assert found.hour == 8
    assert found.chance is not None
    assert found.chance < 0.01
    assert "08:00 did best" in found.verdict
    assert [(one.hour, one.issues) for one in found.hours] == [(8, 8), (18, 8)]


def test_one_hour_cannot_be_compared() -> None:
    found = best_hour(issues([(6, 300)] * 10 + [(16, 100)] * 2), BUCHAREST)
    assert (found.hour, found.chance) == (None, None)
    assert "Nothing to compare" in found.verdict


def test_without_responses_there_is_no_best_hour() -> None:
    found = best_hour(issues([(6, 0), (16, 0)] * 4), BUCHAREST)
    assert (found.hour, found.chance) == (None, None)


def test_chance_is_rarely_mistaken_for_a_difference() -> None:
    noise = random.Random(1)
    named = 0
    for _ in range(60):
        drawn = [(hour, noise.randrange(100, 300)) for hour in (6, 9, 16) for _ in range(6)]
        named += best_hour(issues(drawn), BUCHAREST).hour is not None
    assert named <= 8


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 23), st.integers(0, 1000)), max_size=12), st.randoms())
def test_order_of_the_issues_does_not_matter_much(
    drawn: list[tuple[int, int]], shuffler: random.Random
) -> None:
    found = best_hour(issues(drawn), BUCHAREST)
    assert sum(one.issues for one in found.hours) == len(drawn)
    assert all(one.lowest <= one.rate + 1e-9 and one.rate <= one.highest + 1e-9 for one in found.hours)
    assert found.hour is None or found.chance is not None
    assert found.verdict.endswith(".")
