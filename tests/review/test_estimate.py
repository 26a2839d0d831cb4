"""The expected duration follows the narrowest of the configured limits."""

from __future__ import annotations

import pytest

from mailer.config import ProviderLimits, Relay, section
from mailer.review.estimate import estimate


def relay(**limits: float) -> Relay:
    return section(Relay, {"host": "smtp.example.org", "connections": 10, **limits})


def seconds(
    messages: int, relays: dict[str, Relay], **providers: tuple[int, ProviderLimits]
) -> tuple[float, str]:
    made = estimate(
        messages,
        {name: count for name, (count, _) in providers.items()},
        relays,
        {name: provider for name, (_, provider) in providers.items()},
    )
    return round(made.duration.total_seconds(), 1), made.bottleneck


@pytest.mark.parametrize(
    ("limits", "expected", "why"),
    [
        ({"rate_per_second": 20}, 500.0, "relay main: rate_per_second = 20"),
        # Six answers to connect for five hundred messages, one for each message, on ten connections.
        ({}, 101.2, "relay main: connections = 10"),
        ({"connections": 1, "messages_per_connection": 1}, 7000.0, "connections = 1, 1 messages each"),
        ({"rate_per_second": 1000}, 101.2, "relay main: connections = 10"),
    ],
)
def test_relay_limits_decide(limits: dict[str, float], expected: float, why: str) -> None:
    found, bottleneck = seconds(10_000, {"main": relay(**limits)})
    assert found == expected
    assert why in bottleneck


def test_provider_that_is_done_last_decides() -> None:
    relays = {"main": relay(rate_per_second=50)}
    slow = ProviderLimits(domains=("gmail.com",), rate_per_second=5)
    assert seconds(10_000, relays, gmail=(100, slow)) == (200.0, "relay main: rate_per_second = 50")
    assert seconds(10_000, relays, gmail=(6_000, slow)) == (
        1200.0,
        "provider gmail: 6,000 messages at rate_per_second = 5",
    )


def test_relays_with_rates_add_up_and_a_fallback_does_not_count() -> None:
    relays = {
        "one": relay(rate_per_second=30),
        "two": relay(rate_per_second=10),
        "spare": relay(rate_per_second=1000, weight=0),
    }
    found, bottleneck = seconds(4_000, relays)
    assert found == 100.0
    assert bottleneck == "relay two: rate_per_second = 10, 2 relays together 40 a second"


def test_relay_without_a_rate_keeps_its_share() -> None:
    relays = {
        "few": relay(connections=1, messages_per_connection=1_000_000, weight=1),
        "many": relay(connections=100, weight=3),
    }
    # Ten a second on one connection are a quarter of what both may carry.
    assert seconds(4_000, relays)[0] == pytest.approx(100.0, rel=0.01)


def test_only_fallbacks_are_used_when_there_is_nothing_else() -> None:
    assert seconds(100, {"spare": relay(rate_per_second=10, weight=0)})[0] == 10.0


def test_slower_answers_take_longer() -> None:
    fast = estimate(1_000, {}, {"main": relay()}, {}, reply_seconds=0.05)
    slow = estimate(1_000, {}, {"main": relay()}, {}, reply_seconds=0.5)
    assert slow.duration == 10 * fast.duration
