"""A run takes no other for dead right after an outage, which silenced all of them."""

from __future__ import annotations

from mailer.delivery.runs import NEVER_SECONDS, Fence


def test_no_run_is_taken_for_dead_until_the_database_has_answered_for_as_long() -> None:
    now = 100.0
    fence = Fence(lambda: now, 10.0)
    assert fence.dead_seconds(30.0) == NEVER_SECONDS
    now = 130.0
    assert fence.dead_seconds(30.0) == 30.0
    fence.close()
    now = 200.0
    fence.confirmed(199.0, 1)
    assert fence.dead_seconds(30.0) == NEVER_SECONDS
    now = 228.0
    assert fence.dead_seconds(30.0) == NEVER_SECONDS
    now = 229.0
    fence.confirmed(229.0, 2)
    assert fence.dead_seconds(30.0) == 30.0
