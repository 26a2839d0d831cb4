from __future__ import annotations

import math
from typing import Any

import pytest

from mailer.config import Relay
from mailer.errors import RelayDownError
from mailer.smtp.relay import STALLED_SECONDS, Access, RelayState, all_down


def line(name: str = "main", **changes: Any) -> RelayState:
    return RelayState(name, Access(Relay(host="localhost", **changes)))


DOWN = RelayDownError("relay.example: cannot be reached")


def test_attempts_on_a_relay_that_is_down_grow_apart() -> None:
    main, now, pauses = line(), 0.0, []
    for _ in range(12):
        main.fail(DOWN, now)
        pauses.append(main.delay(now, [main]))
        now = main.retry_at
    assert pauses == [0.25, 0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    main.progress(now, [main])
    assert main.delay(now, [main]) == 0


def test_failures_of_one_moment_count_once() -> None:
    main = line()
    for _ in range(10):
        main.fail(DOWN, 5.0)
    assert main.delay(5.0, [main]) == 0.25


def test_relay_that_never_worked_is_given_up_immediately() -> None:
    main = line()
    assert not main.hopeless(0, 60)
    main.fail(DOWN, 0)
    assert main.hopeless(0, 60)


def test_relay_that_worked_is_given_up_after_the_patience() -> None:
    main = line()
    main.progress(0, [main])
    main.fail(DOWN, 10)
    main.fail(DOWN, 60)
    assert not main.hopeless(69, 60)
    assert main.hopeless(70, 60)


def share(lines: list[RelayState], rounds: int) -> list[float]:
    """Let each relay take a message in turn as often as it may, and return what each took."""
    for now in range(rounds):
        for each in lines:
            if each.delay(now / 100, lines) <= 0:
                each.take(now / 100)
                each.progress(now / 100, lines)
    return [each.taken for each in lines]


def test_shares_follow_the_weights() -> None:
    one, three = share([line(weight=1), line(weight=3)], 3000)
    assert three / one == pytest.approx(3, rel=0.1)


def test_relay_that_stalls_is_not_waited_for() -> None:
    slow, fast = line(), line()
    slow.progress(0, [slow, fast])
    fast.progress(0, [slow, fast])
    fast.taken = 1000
    assert fast.delay(1, [slow, fast]) == math.inf
    fast.progress(STALLED_SECONDS, [slow, fast])
    assert fast.delay(STALLED_SECONDS + 1, [slow, fast]) == 0


def test_relay_that_comes_back_does_not_catch_up() -> None:
    back, steady = line(), line()
    steady.taken = 1000
    steady.progress(100, [back, steady])
    back.progress(100, [back, steady])
    assert back.taken == 1000


def test_relay_held_by_its_own_rate_does_not_hold_the_others() -> None:
    limited, free = line(rate_per_second=1), line()
    lines = [limited, free]
    for each in lines:
        each.take(0)
        each.progress(0, lines)
    free.taken = 1000
    assert limited.delay(0.1, lines) > 0
    assert free.delay(0.1, lines) == 0


def test_fallback_waits_for_all_others_to_be_down() -> None:
    main, other, fallback = line(), line(), line(weight=0)
    lines = [main, other, fallback]
    assert fallback.delay(0, lines) == math.inf
    main.fail(DOWN, 0)
    assert fallback.delay(0, lines) == math.inf
    other.fail(DOWN, 0)
    assert fallback.delay(0, lines) == 0


def test_error_names_what_each_relay_said() -> None:
    one, two = line(), line()
    one.fail(RelayDownError("one.example: cannot be reached"), 0)
    two.fail(RelayDownError("two.example: the server answered 421"), 0)
    assert "one.example: cannot be reached; two.example: the server answered 421" in str(all_down([one, two]))
